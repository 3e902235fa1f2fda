"""Tests of `exr_pipeline.exr`."""
