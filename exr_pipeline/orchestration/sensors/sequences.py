"""The sensor of sequences: those that have settled and whose frames are new or have changed become partitions and runs.

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
from exr_pipeline.orchestration.sensors.files import RANGE_END, RANGE_START, UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.settings import Settings

SEQUENCE_SENSOR: Final = "settled_sequences"
FOLDERS_PER_TICK: Final = 50
MAX_RUNS: Final = 20


def build_sequence_sensor(settings: Settings, job: Any) -> dg.SensorDefinition:
    """The sensor over the tables."""

    def settled_sequences(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        pipeline: Pipeline = context.resources.pipeline
        if migrating := migrate_for_a_while(context.instance):
            return dg.SkipReason(migrating)
        try:
            return tick(context.instance, pipeline, context.cursor, now=datetime.now(UTC))
        except RetryableError as error:
            return dg.SkipReason(f"Will look again: {error}")

    # Not the decorator: it warns of a beta parameter that it passes by itself.
    return dg.SensorDefinition(
        name=SEQUENCE_SENSOR,
        evaluation_fn=settled_sequences,
        jobs=[job],
        minimum_interval_seconds=settings.sequence_sensor_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"pipeline"},
        description=(
            "Finds sequences of frames that have been quiet for a while (EXR_PIPELINE_SEQUENCE_QUIET_SECONDS) and are "
            "new or have changed, adds a partition for each and starts runs that make movie, contact sheet and "
            "filmstrip."
        ),
    )


def tick(
    instance: dg.DagsterInstance, pipeline: Pipeline, cursor: str | None, *, now: datetime
) -> dg.SensorResult | dg.SkipReason:
    """One bounded look at what has changed in the tables: partitions to add and runs to start."""
    from exr_pipeline.ingest.discovery.settled_sequences import Watermark, outdated, sequences_in, settled_folders
    from exr_pipeline.storage.locations import Location

    settings = pipeline.settings
    unfinished = _unfinished_runs(instance)
    if len(unfinished) >= MAX_RUNS:
        return dg.SkipReason(f"{len(unfinished)} runs of sequences are under way")
    mark = Watermark(**json.loads(cursor)) if cursor else Watermark()
    quiet = timedelta(seconds=settings.sequence_quiet_seconds)
    folders = settled_folders(pipeline.tables, mark, now=now, quiet=quiet, limit=FOLDERS_PER_TICK)
    found: dict[str, str] = {}
    for folder in folders:
        sequences = sequences_in(pipeline.tables, Location.from_url(folder), udim=settings.udim_hint)
        found |= {sequence.key: folder for sequence in outdated(pipeline.tables, sequences)}
    known = list(instance.get_dynamic_partitions(SEQUENCES)) if found else []
    busy = {key for run in unfinished for key in _keys_of(run, known)}
    # A run that is at a sequence may have listed it before its latest frame came: its folder is looked at again.
    mark.again = sorted({folder for key, folder in found.items() if key in busy})
    free = set(found) - busy
    new, old = sorted(free - set(known)), sorted(free & set(known))
    return dg.SensorResult(
        run_requests=list(requests(new, old)),
        cursor=json.dumps(asdict(mark)),
        dynamic_partitions_requests=[sequences_partitions.build_add_request(new)] if new else [],
    )


def requests(new: Sequence[str], old: Sequence[str]) -> Iterator[dg.RunRequest]:
    """Runs over sequences: new ones as ranges of the partitions about to be added in that order, others one by one."""
    for start in range(0, len(new), SEQUENCES_PER_RUN):
        chunk = new[start : start + SEQUENCES_PER_RUN]
        yield dg.RunRequest(job_name=SEQUENCES_JOB, tags={RANGE_START: chunk[0], RANGE_END: chunk[-1]})
    for key in old:
        yield dg.RunRequest(job_name=SEQUENCES_JOB, partition_key=key)


def sequences_under_way(instance: dg.DagsterInstance) -> frozenset[str]:
    """The partition keys of the sequences that unfinished runs are at, by whoever started them."""
    unfinished = _unfinished_runs(instance)
    known = list(instance.get_dynamic_partitions(SEQUENCES)) if unfinished else []
    return frozenset(key for run in unfinished for key in _keys_of(run, known))


def _unfinished_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    return [
        run
        for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
        if run.job_name in {SEQUENCES_JOB, "__ASSET_JOB"}
    ]


def _keys_of(run: dg.DagsterRun, known: Sequence[str]) -> Sequence[str]:
    if key := run.tags.get("dagster/partition"):
        return [key]
    start, end = run.tags.get(RANGE_START), run.tags.get(RANGE_END)
    if start in known and end in known:
        return known[known.index(start) : known.index(end) + 1]
    return []
