"""Everything that knows Dagster: assets, partitions, sensor, jobs, IO managers and the instance's own parts.

The work itself is done by `exr_pipeline.ingest` and the packages below it, which know nothing of Dagster.
"""
