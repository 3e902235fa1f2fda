"""The multi-asset that makes everything of a chunk of files in one step.

Belongs here: what Dagster runs for backfills, the sensor and single files. Not here: the step's body
(`orchestration.steps.files`).
"""

import dagster as dg

from exr_pipeline.orchestration.assets.sequence_checks import SEQUENCE_CHECK_SPECS
from exr_pipeline.orchestration.assets.sequences import SEQUENCE_SPECS, SEQUENCES_PER_RUN, sequences_step
from exr_pipeline.orchestration.assets.specs import FILE_SPECS, MEDIA_IO, TABLE_IO
from exr_pipeline.orchestration.steps.files import ingest_step


def build_file_assets(chunk_size: int) -> dg.AssetsDefinition:
    """The assets of a file; a backfill makes runs of at most `chunk_size` files."""

    @dg.multi_asset(
        name="ingest_files",
        description=(
            "Fetch each file once, read its header, render its pictures, and store media, rows and events in that "
            "order."
        ),
        specs=FILE_SPECS,
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=chunk_size),
        required_resource_keys={"pipeline", MEDIA_IO, TABLE_IO},
    )
    def ingest_files(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]  # a generator of nothing
        ingest_step(
            context,
            context.partition_keys,
            context.selected_asset_keys,
            context.resources.pipeline,
            context.resources.media_io,
            context.resources.table_io,
        )
        yield from ()

    return ingest_files


def build_sequence_assets() -> dg.AssetsDefinition:
    """The assets of sequences, made by one step for any number of partitions."""

    @dg.multi_asset(
        name="make_sequences",
        specs=list(SEQUENCE_SPECS),
        check_specs=list(SEQUENCE_CHECK_SPECS),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=SEQUENCES_PER_RUN),
        required_resource_keys={"pipeline"},
    )
    def make_sequences(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]  # a generator of nothing
        sequences_step(context, context.partition_keys, context.selected_asset_keys, context.resources.pipeline)
        yield from ()

    return make_sequences
