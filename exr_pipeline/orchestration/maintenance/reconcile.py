"""Reconcile through Dagster: a job and a schedule, the report of what was found, and the partitions of gone files.

Belongs here: partitions, configuration, the report as text. Not here: what is compared and marked (`ingest.deletions`).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import dagster as dg
from pydantic import Field

from exr_pipeline.ingest.deletions import Listener, SourceReport, Tally, reconcile, sources_to_reconcile
from exr_pipeline.orchestration.instance.console import tidy_console
from exr_pipeline.orchestration.instance.key_migration import instance_for_work
from exr_pipeline.orchestration.partitions import FILES, SEQUENCES, remove_partitions
from exr_pipeline.orchestration.sensors.files import Busy, RunsNow
from exr_pipeline.orchestration.sensors.sequences import sequences_under_way
from exr_pipeline.orchestration.steps.progress import OnStepProgress, logged
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.untrusted_text import markdown_code

RECONCILE_JOB: Final = "reconcile"
EVERY_NIGHT: Final = "0 2 * * *"

# What each part of a report is called where people read it, in this order; see `titles`.
FINDINGS: Final = {
    "deleted": "deleted at the source",
    "unconfirmed": "not listed, deletion not confirmed",
    "stale": "not listed, but present",
    "returned": "marked as deleted, present again",
    "unknown": "not ingested yet",
    "changed": "changed, not ingested again yet",
    "media": "media removed",
    "kept_media": "media of deleted files kept",
    "media_elsewhere": "media not at the place that the settings give, kept",
}


def reconcile_now(
    settings: Settings,
    urls: Sequence[str] = (),
    *,
    dry_run: bool = True,
    force: bool = False,
    on_progress: OnStepProgress = lambda *_: None,
) -> list[SourceReport]:
    """Compare these places, or all sources, with the tables, in this process. See `ingest.reconcile`."""
    with ExitStack() as opened:

        @cache
        def instance() -> dg.DagsterInstance:
            # Opened for the first file that is gone: a report of none leaves no history behind.
            return opened.enter_context(instance_for_work())

        return _reconcile_all(instance, Pipeline(settings), urls, dry_run=dry_run, force=force, on_progress=on_progress)


def _reconcile_all(
    instance: Callable[[], dg.DagsterInstance],
    pipeline: Pipeline,
    urls: Sequence[str],
    *,
    dry_run: bool,
    force: bool,
    on_progress: OnStepProgress,
) -> list[SourceReport]:
    def gone_files(locations: Sequence[Location]) -> int:
        return _retire(instance(), FILES, locations, _files_under_way, dry_run=dry_run)

    def gone_sequences(locations: Sequence[Location]) -> int:
        return _retire(instance(), SEQUENCES, locations, sequences_under_way, dry_run=dry_run)

    listener = Listener(on_progress, gone_files, gone_sequences)
    return [
        reconcile(
            source,
            pipeline.settings,
            pipeline.storage,
            pipeline.tables,
            dry_run=dry_run,
            force=force,
            listener=listener,
        )
        for source in sources_to_reconcile(pipeline.settings, urls)
    ]


def _retire(
    instance: dg.DagsterInstance,
    partitions: str,
    locations: Sequence[Location],
    under_way: Callable[[dg.DagsterInstance], frozenset[str]],
    *,
    dry_run: bool,
) -> int:
    """Remove the partitions of these, but for those that unfinished runs are at; how many, also in a dry run."""
    keys = instance.get_existing_dynamic_partitions(partitions, [location.partition_key for location in locations])
    if not keys:
        return 0
    busy = under_way(instance)
    free = sorted(key for key in keys if key not in busy)
    if not dry_run:
        remove_partitions(instance, partitions, free)
    return len(free)


def retire_files(instance: dg.DagsterInstance, locations: Sequence[Location]) -> int:
    """Remove the partitions of files that are gone, but for those that unfinished runs are at; how many."""
    return _retire(instance, FILES, locations, _files_under_way, dry_run=False)


def _files_under_way(instance: dg.DagsterInstance) -> frozenset[str]:
    return Busy.of(instance, RunsNow.of(instance, failed_since=datetime.now(UTC))).under_way


def titles(report: SourceReport) -> dict[str, str]:
    """`FINDINGS` and the partitions as this report calls them: nothing is removed in a dry run."""
    removed = "to remove" if report.dry_run else "removed"
    return {**FINDINGS, "media": f"media {removed}", "partitions": f"partitions {removed}"}


def markdown(reports: Sequence[SourceReport]) -> str:
    """The report as Dagster's page shows it: a table of each source, and the first names of each finding."""
    lines: list[str] = []
    for report in reports:
        lines += [f"## {markdown_code(report.source)}", ""]
        if report.error:
            lines += [f"**Incomplete:** {markdown_code(report.error)}", ""]
        called = titles(report)
        found: dict[str, Tally] = {called[name]: getattr(report, name) for name in FINDINGS}
        lines += [f"{report.listed} objects listed, {report.known} files in the tables.", ""]
        lines += ["| finding | count | bytes |", "|---|--:|--:|"]
        lines += [f"| {title} | {each.count} | {each.bytes or ''} |" for title, each in found.items() if each.count]
        lines += [f"| {called['partitions']} | {report.partitions} | |", ""]
        for title, each in found.items():
            lines += _names(title, each)
    if reports and reports[0].dry_run:
        lines.append("Dry run: nothing was changed.")
    return "\n".join(lines)


def _names(title: str, found: Tally) -> list[str]:
    if not found.count:
        return []
    more = [f"- … and {found.count - len(found.first)} more"] if found.count > len(found.first) else []
    return [f"### {title[0].upper()}{title[1:]}", "", *(f"- {markdown_code(name)}" for name in found.first), *more, ""]


class Reconcile(dg.Config):
    """What to compare with the tables, and whether to do something about it."""

    sources: list[str] = Field(
        default=[], description="URLs of folders, such as s3://renders/shot_010/. All sources if empty."
    )
    dry_run: bool = Field(default=True, description="Only report. Set to false to mark and remove.")
    force: bool = Field(
        default=False, description="Accept a listing without any source file although the tables have some."
    )


@dg.op(
    description=(
        "Compare sources with the tables. Mark deleted files and remove their partitions, and their media if the "
        "policy says so."
    ),
    required_resource_keys={"pipeline"},
)
def reconcile_sources(context: dg.OpExecutionContext, config: Reconcile) -> None:
    """Reconcile, and report it; fails if a source could not be compared."""
    pipeline: Pipeline = context.resources.pipeline
    tidy_console(context, pipeline.settings)
    reports = _reconcile_all(
        lambda: context.instance,
        pipeline,
        config.sources,
        dry_run=config.dry_run,
        force=config.force,
        on_progress=logged(context),
    )
    metadata: dict[str, Any] = {"report": dg.MetadataValue.md(markdown(reports)), "dry run": config.dry_run}
    for name in FINDINGS:
        metadata[name.replace("_", " ")] = sum(getattr(report, name).count for report in reports)
    metadata["partitions"] = sum(report.partitions for report in reports)
    metadata["bytes of media"] = sum(report.media.bytes for report in reports)
    for report in reports:
        context.log.info(_line(report))
    if errors := [f"{report.source}: {report.error}" for report in reports if report.error]:
        raise dg.Failure("; ".join(errors), metadata=metadata, allow_retries=False)
    context.add_output_metadata(metadata)


def _line(report: SourceReport) -> str:
    called = titles(report)
    counts = {called[name]: getattr(report, name).count for name in FINDINGS} | {
        called["partitions"]: report.partitions
    }
    found = [f"{count} {title}" for title, count in counts.items() if count]
    return f"{report.source}: {', '.join(found) or 'nothing was deleted'}"


@dg.job(
    name=RECONCILE_JOB,
    description="Find files that were deleted at their source. Reports only, unless dry_run is false.",
    executor_def=dg.in_process_executor,
)
def reconcile_job() -> None:
    """Compare sources with the tables."""
    reconcile_sources()


def build_reconcile_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Every night, once it is switched on: all sources."""
    return dg.ScheduleDefinition(
        name=RECONCILE_JOB,
        job=reconcile_job,
        cron_schedule=EVERY_NIGHT,
        run_config=dg.RunConfig(ops={"reconcile_sources": Reconcile(dry_run=settings.reconcile_dry_run)}),
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=(
            "Nightly, when turned on: find deleted files. EXR_PIPELINE_RECONCILE_DRY_RUN=false also marks them."
        ),
    )
