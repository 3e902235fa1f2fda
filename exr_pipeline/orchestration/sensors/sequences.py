"""The sensor of sequences: those that have settled and are new, have changed or are due again get partitions and runs.

Belongs here: ticks, and what is under way. Not here: which sequences need work (`ingest.discovery.settled_sequences`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import dagster as dg

from exr_pipeline.errors import RetryableError
from exr_pipeline.orchestration.assets.sequences import SEQUENCES_JOB, SEQUENCES_PER_RUN
from exr_pipeline.orchestration.instance.key_migration import migrate_for_a_while
from exr_pipeline.orchestration.partitions import SEQUENCES, sequences_partitions
from exr_pipeline.orchestration.sensors.files import ENDED_BADLY, FAILED_RUNS_KEPT, RANGE_END, RANGE_START, UNFINISHED
from exr_pipeline.orchestration.sensors.watched_ticks import watched_tick
from exr_pipeline.storage.locations import Location
from exr_pipeline.telemetry.instruments import UNFINISHED_RUNS
from exr_pipeline.telemetry.recording import record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import Any

    from exr_pipeline.ingest.discovery.settled_sequences import Watermark
    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.settings import Settings

SEQUENCE_SENSOR: Final = "settled_sequences"
FOLDERS_PER_TICK: Final = 50
MAX_RUNS: Final = 20
RETRIED_PER_TICK: Final = SEQUENCES_PER_RUN
FAILED_RUNS_PER_TICK: Final = 5
_JOBS: Final = (SEQUENCES_JOB, "__ASSET_JOB")


def build_sequence_sensor(settings: Settings, job: Any) -> dg.SensorDefinition:
    """The sensor over the tables."""

    def settled_sequences(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        pipeline: Pipeline = context.resources.pipeline
        if migrating := migrate_for_a_while(context.instance):
            return dg.SkipReason(migrating)
        try:
            with watched_tick(SEQUENCE_SENSOR, pipeline):
                return tick(context.instance, pipeline, context.cursor, now=datetime.now(UTC))
        except RetryableError as error:
            return dg.SkipReason(f"Cannot check the sequences, trying again at the next tick: {error}")

    # Not the decorator: it warns of a beta parameter that it passes by itself.
    return dg.SensorDefinition(
        name=SEQUENCE_SENSOR,
        evaluation_fn=settled_sequences,
        jobs=[job],
        minimum_interval_seconds=settings.sequence_sensor_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"pipeline"},
        description=(
            "Finds frame sequences that have not changed for a while (EXR_PIPELINE_SEQUENCE_QUIET_SECONDS) and are "
            "new, changed, or retryable and due (EXR_PIPELINE_RETRY_AFTER_SECONDS), adds a partition for each, and "
            "starts runs that render movie, contact sheet and filmstrip."
        ),
    )


def tick(
    instance: dg.DagsterInstance, pipeline: Pipeline, cursor: str | None, *, now: datetime
) -> dg.SensorResult | dg.SkipReason:
    """One bounded look at what has changed in the tables: partitions to add and runs to start."""
    from exr_pipeline.ingest.discovery.settled_sequences import (
        Watermark,
        due_again,
        outdated,
        sequences_in,
        settled_folders,
    )

    settings = pipeline.settings
    unfinished = _unfinished_runs(instance)
    record(UNFINISHED_RUNS, "sequences", value=len(unfinished))
    if len(unfinished) >= MAX_RUNS:
        return dg.SkipReason(f"{len(unfinished)} runs of sequences are in progress")
    mark = Watermark(**json.loads(cursor)) if cursor else Watermark()
    quiet = timedelta(seconds=settings.sequence_quiet_seconds)
    retry_after = timedelta(seconds=settings.retry_after_seconds)
    folders = settled_folders(pipeline.tables, mark, now=now, quiet=quiet, limit=FOLDERS_PER_TICK)
    left_behind = _left_by_failed_runs(instance, pipeline, mark, until=now - retry_after)
    found: dict[str, str] = {}
    for folder in dict.fromkeys([*folders, *left_behind]):
        sequences = sequences_in(pipeline.tables, Location.from_url(folder), udim=settings.udim_hint)
        due = outdated(pipeline.tables, sequences, now=now, retry_after=retry_after)
        found |= {sequence.key: folder for sequence in due}
    retryable = due_again(pipeline.tables, now=now, quiet=quiet, retry_after=retry_after)
    known = list(instance.get_dynamic_partitions(SEQUENCES)) if found or retryable else []
    busy = {key for run in unfinished for key in _keys_of(run, known)}
    # A run that failed before it came to a sequence has changed nothing: the next one is not to follow at once.
    failed = _failed_runs(instance, FAILED_RUNS_KEPT, after=now - retry_after) if retryable else []
    waiting = busy | {key for record in failed for key in _keys_of(record.dagster_run, known)}
    # A run that is at a sequence may have listed it before its latest frame came: its folder is looked at again.
    mark.again = sorted({folder for key, folder in found.items() if key in busy})
    # The others come with the next ticks: they stay in the tables.
    retried = [key for location in retryable if (key := location.partition_key) not in waiting][:RETRIED_PER_TICK]
    free = (set(found) - busy) | set(retried)
    new = sorted(free - set(known))
    return dg.SensorResult(
        run_requests=list(requests(new, free, known)),
        cursor=json.dumps(asdict(mark)),
        dynamic_partitions_requests=[sequences_partitions.build_add_request(new)] if new else [],
    )


def requests(new: Sequence[str], wanted: Collection[str], known: Sequence[str]) -> Iterator[dg.RunRequest]:
    """Runs over sequences: `new` ones, partitions about to be added in that order, and those `wanted` of the known.

    Runs are over ranges of partitions. A known one without a wanted neighbor has a run of its own.
    """
    for start in range(0, len(new), SEQUENCES_PER_RUN):
        chunk = new[start : start + SEQUENCES_PER_RUN]
        yield dg.RunRequest(job_name=SEQUENCES_JOB, tags={RANGE_START: chunk[0], RANGE_END: chunk[-1]})
    chunk = []
    for key in (*known, ""):
        if key in wanted and len(chunk) < SEQUENCES_PER_RUN:
            chunk.append(key)
            continue
        if len(chunk) == 1:
            yield dg.RunRequest(job_name=SEQUENCES_JOB, partition_key=chunk[0])
        elif chunk:
            yield dg.RunRequest(job_name=SEQUENCES_JOB, tags={RANGE_START: chunk[0], RANGE_END: chunk[-1]})
        chunk = [key] if key in wanted else []


def sequences_under_way(instance: dg.DagsterInstance) -> frozenset[str]:
    """The partition keys of the sequences that unfinished runs are at, by whoever started them."""
    unfinished = _unfinished_runs(instance)
    known = list(instance.get_dynamic_partitions(SEQUENCES)) if unfinished else []
    return frozenset(key for run in unfinished for key in _keys_of(run, known))


def unfinished_sequence_runs(instance: dg.DagsterInstance) -> int:
    """How many runs over sequences are under way, by whoever started them."""
    return len(_unfinished_runs(instance))


def _left_by_failed_runs(
    instance: dg.DagsterInstance, pipeline: Pipeline, mark: Watermark, *, until: datetime
) -> list[str]:
    """URLs of the folders of sequences that a few runs have left without an outcome; moves the mark on.

    Those are runs that failed or were canceled before `until`, for whatever reason, such as tables that were away.
    """
    since = datetime.fromisoformat(mark.runs) if mark.runs else until
    mark.runs = max(since, until).isoformat()
    records = _failed_runs(instance, FAILED_RUNS_PER_TICK, after=since, before=until)
    records = sorted(records, key=lambda record: record.update_timestamp)[:FAILED_RUNS_PER_TICK]
    if len(records) == FAILED_RUNS_PER_TICK:
        mark.runs = records[-1].update_timestamp.astimezone(UTC).isoformat()
    if not records:
        return []
    known = list(instance.get_dynamic_partitions(SEQUENCES))
    asked = {key: record.create_timestamp for record in records for key in _keys_of(record.dagster_run, known)}
    # A run over files has keys of files.
    locations = {Location.from_partition_key(key): asked[key] for key in asked.keys() & set(known)}
    columns = ("bucket", "sequence_path", "generated_timestamp")
    rows = pipeline.tables.read("sequence_outputs", columns=columns, locations=list(locations)).to_pylist()
    ended_at = {(row["bucket"], row["sequence_path"]): row["generated_timestamp"] for row in rows}
    left = {
        location.folder.url
        for location, asked_at in locations.items()
        if (at := ended_at.get((location.bucket, location.path))) is None or datetime.fromisoformat(at) < asked_at
    }
    return sorted(left)


def _failed_runs(
    instance: dg.DagsterInstance, limit: int, *, after: datetime, before: datetime | None = None
) -> list[dg.RunRecord]:
    """Runs that failed or were canceled within a time, at most `limit` of each job: the latest if `before` is None."""
    return [
        record
        for job in _JOBS
        for record in instance.get_run_records(
            dg.RunsFilter(job_name=job, statuses=ENDED_BADLY, updated_after=after, updated_before=before),
            limit,
            order_by="update_timestamp",
            ascending=before is not None,
        )
    ]


def _unfinished_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    return [run for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)) if run.job_name in _JOBS]


def _keys_of(run: dg.DagsterRun, known: Sequence[str]) -> Sequence[str]:
    if key := run.tags.get("dagster/partition"):
        return [key]
    start, end = run.tags.get(RANGE_START), run.tags.get(RANGE_END)
    if start in known and end in known:
        return known[known.index(start) : known.index(end) + 1]
    return []
