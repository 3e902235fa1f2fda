"""The examples are loaded by Dagster and run on real files."""
