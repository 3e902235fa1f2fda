"""Retiring the partitions of finished work, and bringing them back; the jobs that do it from the page.

Belongs here: marks in the tables and partition keys, in the order that can be killed anywhere. Not here: which files
are finished (`ingest.finished_work`). Reasons and figures: docs/decisions/0010-archive.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from pydantic import Field

from exr_pipeline.ingest.finished_work import (
    Scope,
    age_limit,
    live_files,
    require_criterion,
    require_files,
    to_archive,
    to_unarchive,
    with_frames_among,
)
from exr_pipeline.orchestration.instance.console import tidy_console
from exr_pipeline.orchestration.partitions import (
    FILES,
    SEQUENCES,
    locations_of,
    remove_partitions,
    restore_partitions,
)
from exr_pipeline.orchestration.sensors.files import UNFINISHED, Busy, RunsNow
from exr_pipeline.orchestration.sensors.sequences import sequences_under_way
from exr_pipeline.orchestration.steps.failures import stated_failure
from exr_pipeline.orchestration.steps.progress import OnStepProgress, logged
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.shows import shows
from exr_pipeline.tables.specs import RETRYABLE

ARCHIVE_JOB: Final = "archive"
UNARCHIVE_JOB: Final = "unarchive"

# Files at a time: in memory, in one transaction of the tables, and between two looks at the runs.
BATCH: Final = 5000

# Not at the full hour, when everything else begins.
EVERY_HOUR: Final = "17 * * * *"

# What is being done, how much of it is done, of how much if that is known.


@dataclass
class Archived:
    """What an archive did, or would do: files archived now, those left and why, partitions removed.

    `recent`: touched within the age that was asked for. `unfinished`: retryable. `in_runs`: a run is at them, or has
    just failed at them. `archived_before` were archived already.
    """

    archived: int = 0
    archived_before: int = 0
    recent: int = 0
    unfinished: int = 0
    in_runs: int = 0
    partitions_removed: int = 0
    sequences_removed: int = 0


@dataclass
class Unarchived:
    """What an un-archive did: files that are live again, and the partitions of sequences brought back for them."""

    unarchived: int = 0
    sequences_restored: int = 0


def scope_of(url_prefix: str, show: str, pipeline: Pipeline) -> Scope:
    """The files below a URL prefix and of a show, as the sensor tells shows; empty texts narrow nothing.

    Raises `BadInputError` if the tables hold no such file.
    """
    show_of = shows(pipeline.settings)
    in_show = (lambda location: show_of(location) == show) if show else None
    text = " of ".join([*([url_prefix] if url_prefix else ()), *([f"show {show}"] if show else ())])
    scope = Scope(Location.from_url(url_prefix) if url_prefix else None, in_show, text or "every file")
    require_files(pipeline.tables, scope)
    return scope


def archive(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    scope: Scope,
    *,
    older_than: timedelta | None = None,
    most_live: int | None = None,
    dry_run: bool = False,
    on_progress: OnStepProgress = lambda *_: None,
    batch_size: int = BATCH,
) -> Archived:
    """Mark the finished files of a scope as archived, and remove the partitions of all its files that bear the mark.

    `older_than` and `most_live` choose among them as `finished_work.age_limit` says.
    Rows and media stay, and so do Dagster's events. Marks come first: whatever a killed call has left undone is done
    by the next one over the same scope. Files of runs under way keep their partitions.
    """
    report = Archived()
    now = datetime.now(UTC)
    age = age_limit(pipeline.tables, scope, older_than=older_than, most_live=most_live, now=now)
    with to_archive(pipeline.tables, scope, older_than=age, now=now) as found:
        report.archived_before, report.recent, report.unfinished = found.archived, found.recent, found.unfinished
        done = 0
        for batch in found.batches(batch_size):
            busy = _files_in_runs(instance, pipeline.settings)
            free = {location: file_id for location, file_id in batch.items() if location.partition_key not in busy}
            report.in_runs += len(batch) - len(free)
            if dry_run:
                report.archived += len(free)
            else:
                report.archived += len(pipeline.tables.mark(free, "archived", now=datetime.now(UTC)))
            done += len(batch)
            on_progress("marking", done, found.chosen)
    if not dry_run:
        report.partitions_removed = _remove_files(instance, pipeline, scope, on_progress, batch_size)
        report.sequences_removed = _remove_sequences(instance, pipeline, scope)
    return report


def unarchive(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    scope: Scope,
    *,
    on_progress: OnStepProgress = lambda *_: None,
    batch_size: int = BATCH,
) -> Unarchived:
    """Bring back the partitions of archived files of a scope, with the statuses that they had, and take off the mark.

    Partitions come first: what a killed call has left undone is done by the next one over the same scope.
    """
    report = Unarchived()
    with to_unarchive(pipeline.tables, scope) as found:
        rows = pipeline.tables.read("sequence_outputs", columns=["uri"]) if found.chosen else None
        made = [Location.from_url(uri) for uri in rows.column("uri").to_pylist()] if rows else []
        sequences = {sequence.partition_key for sequence in with_frames_among(made, found.locations())}
        new = sorted(sequences - set(instance.get_existing_dynamic_partitions(SEQUENCES, sorted(sequences))))
        restore_partitions(instance, SEQUENCES, new)
        report.sequences_restored = len(new)
        for batch in found.batches(batch_size):
            keys = [location.partition_key for location in batch]
            restore_partitions(instance, FILES, keys)
            report.unarchived += len(pipeline.tables.mark(batch, "unarchived", now=datetime.now(UTC)))
            # An archive at the same time may have seen the mark, and removed what was added before that.
            there = instance.get_existing_dynamic_partitions(FILES, keys)
            restore_partitions(instance, FILES, [key for key in keys if key not in there])
            on_progress("restoring partitions", report.unarchived, found.chosen)
    return report


def _remove_files(
    instance: dg.DagsterInstance, pipeline: Pipeline, scope: Scope, on_progress: OnStepProgress, batch_size: int
) -> int:
    removed = seen = 0
    for page in _pages(instance, FILES, batch_size):
        # To spell a key takes as long as to look it up.
        of_page = {location: key for key, location in zip(page, locations_of(page), strict=True)}
        of_page = {location: key for location, key in of_page.items() if scope.holds(location)}
        # Runs before tables: one that ends in between has its rows there by then.
        busy = _files_in_runs(instance, pipeline.settings)
        found = {location: key for location, key in _marked(pipeline, of_page).items() if key not in busy}
        keys = sorted(found.values())
        if keys:
            remove_partitions(instance, FILES, keys)
            # Meanwhile a run may have been started over some, or have ended, or somebody has un-archived them.
            busy = _files_in_runs(instance, pipeline.settings)
            back = sorted(set(keys) - (set(_marked(pipeline, found).values()) - busy))
            if back:
                restore_partitions(instance, FILES, back)
            removed += len(keys) - len(back)
        seen += len(page)
        on_progress("removing partitions", seen, None)
    return removed


def _remove_sequences(instance: dg.DagsterInstance, pipeline: Pipeline, scope: Scope) -> int:
    """Remove the partitions of sequences that are made and of which every frame is archived or gone."""
    known = list(instance.get_dynamic_partitions(SEQUENCES))
    in_scope = [location for location in locations_of(known) if scope.holds(location)]
    rows = pipeline.tables.read("sequence_outputs", columns=["uri", "state"], locations=in_scope) if in_scope else None
    made = [Location.from_url(row["uri"]) for row in (rows.to_pylist() if rows else ()) if row["state"] != RETRYABLE]
    live = with_frames_among(made, live_files(pipeline.tables, scope.prefix)) if made else set()
    keys = sorted({sequence.partition_key for sequence in made if sequence not in live} - sequences_under_way(instance))
    if keys:
        remove_partitions(instance, SEQUENCES, keys)
    return len(keys)


def _pages(instance: dg.DagsterInstance, name: str, size: int) -> Iterator[Sequence[str]]:
    cursor: str | None = None
    while True:
        page = instance.get_paginated_dynamic_partitions(name, limit=size, ascending=True, cursor=cursor)
        yield page.results
        if not page.has_more:
            return
        cursor = page.cursor


def _marked(pipeline: Pipeline, keys: Mapping[Location, str]) -> dict[Location, str]:
    """Those of these files, with their partition keys, that bear the mark and need no other try."""
    columns = ["bucket", "file_path", "state", "archived_at"]
    rows = pipeline.tables.read("files", columns=columns, locations=list(keys))
    # Most are not archived: they need not become objects of Python.
    archived = rows.filter(rows.column("archived_at").is_valid()).to_pylist()
    marked = {(row["bucket"], row["file_path"]) for row in archived if row["state"] != RETRYABLE}
    return {location: key for location, key in keys.items() if (location.bucket, location.path) in marked}


def _files_in_runs(instance: dg.DagsterInstance, settings: Settings) -> frozenset[str]:
    """Partition keys that a run is at, whatever its job, or that one of ours has just failed at.

    The latter may be run again, over the range or the list that they are in.
    """
    just_now = datetime.now(UTC) - timedelta(seconds=settings.retry_after_seconds)
    runs = RunsNow(
        instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED)), RunsNow.of(instance, failed_since=just_now).failed
    )
    busy = Busy.of(instance, runs)
    return busy.under_way | busy.just_failed.keys()


class Files(dg.Config):
    """Which files; conditions narrow one another, and one is needed."""

    url_prefix: str = Field(
        default="", description="Only files whose URL begins with this, such as s3://renders/shot_010/."
    )
    show: str = Field(default="", description="Only files of this show, as in the run tag exr_pipeline/show.")


class Archive(Files):
    """Which files to archive; conditions narrow one another, and one is needed."""

    older_than_days: float | None = Field(
        default=None, ge=0, description="Only files neither modified nor inspected for this many days."
    )
    most_live: int | None = Field(
        default=None, ge=0, description="Only so many of the files touched longest ago that at most this many stay."
    )
    dry_run: bool = Field(default=False, description="Only report what would be archived.")


@dg.op(
    description="Mark finished files as archived and remove their partitions. Rows, media and events are kept.",
    required_resource_keys={"pipeline"},
)
def archive_files(context: dg.OpExecutionContext, config: Archive) -> None:
    """Archive, and report it."""
    pipeline: Pipeline = context.resources.pipeline
    tidy_console(context, pipeline.settings)
    with stated_failure():
        has_limit = config.older_than_days is not None or config.most_live is not None
        require_criterion("url_prefix", config.url_prefix, config.show, has_limit)
        is_narrowed = config.url_prefix or config.show
        scope = scope_of(config.url_prefix, config.show, pipeline) if is_narrowed else Scope()
    report = archive(
        context.instance,
        pipeline,
        scope,
        older_than=None if config.older_than_days is None else timedelta(days=config.older_than_days),
        most_live=config.most_live,
        dry_run=config.dry_run,
        on_progress=logged(context),
    )
    _report(context, asdict(report) | {"dry_run": config.dry_run})


@dg.op(
    description="Restore the partitions of archived files, with their statuses.",
    required_resource_keys={"pipeline"},
)
def unarchive_files(context: dg.OpExecutionContext, config: Files) -> None:
    """Un-archive, and report it."""
    pipeline: Pipeline = context.resources.pipeline
    tidy_console(context, pipeline.settings)
    with stated_failure():
        require_criterion("url_prefix", config.url_prefix, config.show)
        scope = scope_of(config.url_prefix, config.show, pipeline)
    _report(context, asdict(unarchive(context.instance, pipeline, scope, on_progress=logged(context))))


def _report(context: dg.OpExecutionContext, counts: dict[str, int]) -> None:
    context.log.info(", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items()))
    context.add_output_metadata({name.replace("_", " "): count for name, count in counts.items()})


@dg.job(
    name=ARCHIVE_JOB,
    description="Retire the partitions of finished files by URL prefix, show or age. Rows and media are kept.",
    executor_def=dg.in_process_executor,
)
def archive_job() -> None:
    """Archive files."""
    archive_files()


@dg.job(
    name=UNARCHIVE_JOB,
    description="Restore the partitions of archived files by URL prefix or show.",
    executor_def=dg.in_process_executor,
)
def unarchive_job() -> None:
    """Un-archive files."""
    unarchive_files()


def build_archive_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Every hour: finished files of an age, or beyond a number. None unless a setting says what is to be archived."""
    days, most_live = settings.archive_after_days, settings.archive_most_live
    if days is None and most_live is None:
        return []
    schedule = dg.ScheduleDefinition(
        name=ARCHIVE_JOB,
        job=archive_job,
        cron_schedule=EVERY_HOUR,
        run_config=dg.RunConfig(ops={"archive_files": Archive(older_than_days=days, most_live=most_live)}),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            "Hourly: retire the partitions of finished files that are older than EXR_PIPELINE_ARCHIVE_AFTER_DAYS, or "
            "beyond the latest EXR_PIPELINE_ARCHIVE_MOST_LIVE."
        ),
    )
    return [schedule]
