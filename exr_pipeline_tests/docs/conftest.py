"""Fixtures of the command line's tests, for the examples in the documents."""

from exr_pipeline_tests.cli.conftest import cli, home, in_ingested, ingested

__all__ = ["cli", "home", "in_ingested", "ingested"]
