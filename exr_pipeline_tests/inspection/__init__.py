"""Tests of `exr_pipeline.inspection`."""
