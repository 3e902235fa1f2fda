"""Tests of `exr_pipeline.events`."""
