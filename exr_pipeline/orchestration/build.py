"""`build_defs`: the definitions of a code location, assembled from the modules beside it.

Belongs here: wiring. Tests and tools build variants with it, without patching.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from exr_pipeline.events.sinks import sink_names
from exr_pipeline.events.source import has_sources
from exr_pipeline.orchestration.assets.definitions import build_file_assets, build_sequence_assets
from exr_pipeline.orchestration.assets.sequences import build_sequences_job
from exr_pipeline.orchestration.assets.specs import MEDIA_IO, SOURCE_SPEC, TABLE_IO
from exr_pipeline.orchestration.instance.console import print_reasons_without_stack_traces
from exr_pipeline.orchestration.io_managers import MediaIOManager, TableIOManager
from exr_pipeline.orchestration.jobs import build_ingest_job, ingest_selection_job, retry_failed_files_job
from exr_pipeline.orchestration.maintenance.archive import archive_job, build_archive_schedules, unarchive_job
from exr_pipeline.orchestration.maintenance.reconcile import build_reconcile_schedule, reconcile_job
from exr_pipeline.orchestration.maintenance.retention import retention_job, retention_schedule
from exr_pipeline.orchestration.s3_resource import with_s3_resource
from exr_pipeline.orchestration.sensors.events_in import build_events_sensor
from exr_pipeline.orchestration.sensors.events_out import build_events_out_sensor
from exr_pipeline.orchestration.sensors.files import build_sensor
from exr_pipeline.orchestration.sensors.sequences import build_sequence_sensor
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings

if TYPE_CHECKING:
    from dagster_aws.s3 import S3Resource


def _resources(pipeline: Pipeline) -> dict[str, dg.ResourceDefinition]:
    """The resources, with descriptions that the page shows: what they are, and which places they lead to."""
    tables, media = TableIOManager(pipeline), MediaIOManager(pipeline)

    # Dagster shows the name of the function that makes a resource as its type.
    def settings_and_clients(_: dg.InitResourceContext) -> Pipeline:
        return pipeline

    def rows_in_tables(_: dg.InitResourceContext) -> TableIOManager:
        return tables

    def media_in_storage(_: dg.InitResourceContext) -> MediaIOManager:
        return media

    settings = pipeline.settings
    sources = ", ".join(settings.sources) or "none configured"
    outputs = settings.output_root or "next to the files, in .proxies/"
    return {
        "pipeline": dg.ResourceDefinition(
            settings_and_clients,
            description=f"Settings and clients. Sources: {sources}. Chunks of {settings.chunk_size} files, "
            f"{settings.workers} picture workers.",
        ),
        TABLE_IO: dg.IOManagerDefinition(rows_in_tables, description=f"Rows in the tables: {_tables_in(settings)}."),
        MEDIA_IO: dg.IOManagerDefinition(media_in_storage, description=f"Media in object storage: {outputs}."),
    }


def _tables_in(settings: Settings) -> str:
    """Where the tables are, for people."""
    if settings.vast_db_bucket is not None:
        return f"VAST DataBase, bucket {settings.vast_db_bucket}, schema {settings.vast_db_schema}"
    return f"DuckDB, {settings.database_path}"


def build_defs(
    *,
    settings: Settings | None = None,
    s3: S3Resource | None = None,
    resource_overrides: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """The definitions: assets, jobs, sensor and resources.

    `settings` default to the environment. `s3`, a resource of dagster-aws, replaces their endpoint and credentials
    (`with_s3_resource`); it is read now, environment variables included. `resource_overrides` replace resources by key
    (`pipeline`, `table_io`, `media_io`).
    """
    print_reasons_without_stack_traces()
    settings = settings or Settings()
    if s3 is not None:
        settings = with_s3_resource(settings, s3)
    overrides = dict(resource_overrides or {})
    pipeline = overrides.pop("pipeline", None) or Pipeline(settings)
    ingest_job, sequences_job = build_ingest_job(), build_sequences_job()
    defs = dg.Definitions(
        assets=[SOURCE_SPEC, build_file_assets(settings.chunk_size), build_sequence_assets()],
        jobs=[
            *(ingest_job, ingest_selection_job, retry_failed_files_job, sequences_job),
            *(archive_job, unarchive_job, reconcile_job, retention_job),
        ],
        schedules=[*build_archive_schedules(settings), build_reconcile_schedule(settings), retention_schedule],
        sensors=[
            build_sensor(settings, [ingest_job, ingest_selection_job]),
            *([build_events_sensor(settings, [ingest_selection_job, sequences_job])] if has_sources(settings) else []),
            build_sequence_sensor(settings, sequences_job),
            *([build_events_out_sensor()] if sink_names(settings) else []),
        ],
        resources={**_resources(pipeline), **overrides},
        executor=dg.in_process_executor,
    )
    with warnings.catch_warnings():
        # Dagster copies the sensor to give its jobs their resources, and warns of a parameter that it passes itself.
        warnings.filterwarnings("ignore", message="Parameter `owners`", category=dg.BetaWarning)
        defs.get_repository_def()
    return defs
