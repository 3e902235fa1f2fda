"""Retention: keeps Dagster's own history and rejected events from growing without bound, statuses as they are.

Belongs here: the job and its schedule. Not here: what is removed (`orchestration.instance.purge`, `events.rejects`),
ticks of sensors and schedules, which Dagster purges by itself (`retention:` in dagster.yaml), other tables, media.
"""

import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from pydantic import Field

from exr_pipeline.events.rejects import forget_rejects
from exr_pipeline.orchestration.instance.console import tidy_console
from exr_pipeline.orchestration.instance.purge import purge
from exr_pipeline.pipeline import Pipeline

RETENTION_JOB: Final = "retention"
EVERY_NIGHT: Final = "30 3 * * *"


class Retention(dg.Config):
    """How much of Dagster's history stays."""

    days: int | None = Field(
        default=None, ge=0, description="Days to keep runs. EXR_PIPELINE_RETENTION_DAYS if not set."
    )
    most_runs: int = Field(
        default=2000, ge=1, description="Maximum number of runs to purge. The next run of the job purges more."
    )
    dry_run: bool = Field(default=False, description="Only report what would be removed.")


@dg.op(
    description="Remove Dagster's events and runs that are no longer needed. Statuses of partitions are kept.",
    required_resource_keys={"pipeline"},
)
def purge_history(context: dg.OpExecutionContext, config: Retention) -> None:
    """Purge, and report it."""
    pipeline: Pipeline = context.resources.pipeline
    tidy_console(context, pipeline.settings)
    days = pipeline.settings.retention_days if config.days is None else config.days
    started = time.monotonic()
    removed = purge(
        context.instance,
        before=datetime.now(UTC) - timedelta(days=days),
        most_runs=config.most_runs,
        dry_run=config.dry_run,
    )
    context.log.info(
        f"{'Would remove' if config.dry_run else 'Removed'} {removed.runs} runs; {removed.replaced_events} replaced "
        f"and {removed.copied_events} copied events of runs that are kept. All were older than {days} days; "
        f"{removed.runs_left} runs are left for the next time"
    )
    context.add_output_metadata(
        {
            **{name.replace("_", " "): count for name, count in asdict(removed).items()},
            "dry run": config.dry_run,
            "days": days,
            "seconds": round(time.monotonic() - started, 3),
        }
    )


@dg.op(
    description="Remove rejected events older than EXR_PIPELINE_EVENT_REJECTS_DAYS from the table event_rejects.",
    required_resource_keys={"pipeline"},
)
def forget_rejected_events(context: dg.OpExecutionContext) -> None:
    """Forget old rejects, and report it."""
    pipeline: Pipeline = context.resources.pipeline
    days, now = pipeline.settings.event_rejects_days, datetime.now(UTC)
    removed = forget_rejects(pipeline.tables, before=now - timedelta(days=days), now=now)
    context.log.info(f"Removed {removed} rejected events older than {days} days")
    context.add_output_metadata({"rejected events": removed, "days": days})


@dg.job(
    name=RETENTION_JOB,
    description=(
        "Remove Dagster's records of runs that finished long ago, and old rejected events. Statuses of partitions, "
        "other tables and media are kept."
    ),
    executor_def=dg.in_process_executor,
)
def retention_job() -> None:
    """Purge Dagster's history, and forget old rejects."""
    purge_history()
    forget_rejected_events()


retention_schedule: Final = dg.ScheduleDefinition(
    name=RETENTION_JOB,
    job=retention_job,
    cron_schedule=EVERY_NIGHT,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Nightly: remove runs and events that are older than EXR_PIPELINE_RETENTION_DAYS and no longer needed.",
)
