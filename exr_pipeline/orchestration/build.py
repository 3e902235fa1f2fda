"""`build_defs`: the definitions of a code location, assembled from the modules beside it.

Belongs here: wiring. Tests and tools build variants with it, without patching.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from exr_pipeline.orchestration.archive import archive_job, unarchive_job
from exr_pipeline.orchestration.asset_specs import MEDIA_IO, SOURCE_SPEC, TABLE_IO
from exr_pipeline.orchestration.assets import build_file_assets, build_sequence_assets
from exr_pipeline.orchestration.io_managers import MediaIOManager, TableIOManager
from exr_pipeline.orchestration.jobs import build_ingest_job, ingest_selection_job, retry_failed_files_job
from exr_pipeline.orchestration.reconcile import build_reconcile_schedule, reconcile_job
from exr_pipeline.orchestration.resources import Pipeline
from exr_pipeline.orchestration.retention import retention_job, retention_schedule
from exr_pipeline.orchestration.sensor import build_sensor
from exr_pipeline.orchestration.sequence_assets import build_sequences_job
from exr_pipeline.orchestration.sequence_sensor import build_sequence_sensor
from exr_pipeline.settings import Settings


def build_defs(
    *, settings: Settings | None = None, resource_overrides: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """The definitions: assets, jobs, sensor and resources.

    `settings` default to the environment; `resource_overrides` replace resources by key (`pipeline`, `table_io`,
    `media_io`).
    """
    settings = settings or Settings()
    overrides = dict(resource_overrides or {})
    pipeline = overrides.pop("pipeline", None) or Pipeline(settings)
    ingest_job, sequences_job = build_ingest_job(), build_sequences_job()
    defs = dg.Definitions(
        assets=[SOURCE_SPEC, build_file_assets(settings.chunk_size), build_sequence_assets()],
        jobs=[
            *(ingest_job, ingest_selection_job, retry_failed_files_job, sequences_job),
            *(archive_job, unarchive_job, reconcile_job, retention_job),
        ],
        schedules=[build_reconcile_schedule(settings), retention_schedule],
        sensors=[
            build_sensor(settings, [ingest_job, ingest_selection_job]),
            build_sequence_sensor(settings, sequences_job),
        ],
        resources={
            "pipeline": pipeline,
            TABLE_IO: TableIOManager(pipeline),
            MEDIA_IO: MediaIOManager(pipeline),
            **overrides,
        },
        executor=dg.in_process_executor,
    )
    with warnings.catch_warnings():
        # Dagster copies the sensor to give its jobs their resources, and warns of a parameter that it passes itself.
        warnings.filterwarnings("ignore", message="Parameter `owners`", category=dg.BetaWarning)
        defs.get_repository_def()
    return defs
