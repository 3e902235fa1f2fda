"""The sensor: new and changed files under the sources become partitions and runs.

Belongs here: one tick, its cursor, what is already under way, and what follows for files however they were found. Not
here: where it looks (`ingest.discovery.sweep`), which files need work (`ingest.discovery.needs_work`). It compares
listing and tables anew at every sweep, so that nothing depends on an event or on the order of keys.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.ingest.discovery.cursor import Cursor
from exr_pipeline.ingest.discovery.needs_work import (
    Candidate,
    Sighting,
    finished_elsewhere,
    in_chunks,
    needs_work,
    settled,
)
from exr_pipeline.ingest.discovery.sweep import hot_folders, list_sources
from exr_pipeline.orchestration.instance.key_migration import migrate_for_a_while
from exr_pipeline.orchestration.jobs import ASSET_NAMES, INGEST_JOB, RETRY_JOB, SELECTION_JOB, Selection
from exr_pipeline.orchestration.partitions import FILES, files_partitions
from exr_pipeline.orchestration.sensors.watched_ticks import watched_tick
from exr_pipeline.orchestration.steps.run_tags import FINISHED_ELSEWHERE_TAG, TRACE_TAG, only_trace
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.storage.shows import shows
from exr_pipeline.telemetry.instruments import SENSOR_WAITING, UNFINISHED_RUNS
from exr_pipeline.telemetry.recording import record, stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.object_info import ObjectInfo

SENSOR: Final = "source_files"
SIGHTINGS_KEPT: Final = 2000
FAILED_RUNS_KEPT: Final = 100
SHOW_TAG: Final = "exr_pipeline/show"

_LOG = logging.getLogger(__name__)
_PRIORITY_TAG = "dagster/priority"

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_OUR_JOBS = frozenset({INGEST_JOB, SELECTION_JOB, RETRY_JOB, "__ASSET_JOB"})
ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def build_sensor(settings: Settings, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """The sensor over the configured sources."""

    def source_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        pipeline: Pipeline = context.resources.pipeline
        if not pipeline.settings.sources:
            return dg.SkipReason(
                "No sources are configured: set EXR_PIPELINE_SOURCES to URLs such as s3://renders/show"
            )
        if migrating := migrate_for_a_while(context.instance):
            return dg.SkipReason(migrating)
        try:
            with watched_tick(SENSOR, pipeline):
                cursor = Cursor.from_text(context.cursor)
                return tick(context.instance, pipeline, cursor, now=datetime.now(UTC), log=context.log)
        except RetryableError as error:
            # Nothing was asked for and the cursor stays: the next tick starts from the same place.
            return dg.SkipReason(f"Cannot check the sources, trying again at the next tick: {error}")

    # Not the decorator: it warns of a beta parameter that it passes by itself.
    return dg.SensorDefinition(
        name=SENSOR,
        evaluation_fn=source_files,
        jobs=jobs,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"pipeline"},
        description=(
            "Finds new and changed files below the sources (EXR_PIPELINE_SOURCES, EXR_PIPELINE_SOURCE_KINDS), adds "
            "a partition for each, and starts runs that ingest them in chunks."
        ),
    )


def tick(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    cursor: Cursor,
    *,
    now: datetime,
    log: logging.Logger = _LOG,
) -> dg.SensorResult | dg.SkipReason:
    """One bounded look at the sources: partitions to add and runs to start. `log` is told of unavailable sources."""
    settings = pipeline.settings
    room = settings.sensor_max_runs - unfinished_runs(instance)
    record(UNFINISHED_RUNS, "files", value=settings.sensor_max_runs - room)
    if room <= 0:
        runs = settings.sensor_max_runs - room
        return dg.SkipReason(f"{runs} runs are in progress, no more are started (EXR_PIPELINE_SENSOR_MAX_RUNS)")
    # Before the tables are read: a run that ends in between has its rows there by then.
    runs_now = RunsNow.of(instance, failed_since=now - timedelta(seconds=settings.retry_after_seconds))
    with stage("list"):
        look = list_sources(pipeline.settings, pipeline.storage, cursor, now=now)
    listed = look.files
    unavailable = [f"{url} is skipped: {error}" for url, error in look.unavailable.items()]
    for message in unavailable:
        log.warning(message)
    work = find_work(instance, pipeline, listed, cursor.sightings, runs_now, now=now)
    cursor.hot = hot_folders(cursor.hot, work.candidates, now=now)
    seen_now = {info.location.url for info in listed}
    kept = {url: seen for url, seen in cursor.sightings.items() if url not in seen_now}
    cursor.sightings = dict(list({**kept, **work.waiting}.items())[-SIGHTINGS_KEPT:])
    record(SENSOR_WAITING, SENSOR, value=len(cursor.sightings))
    for message in work.closed:
        log.warning(message)
    # Another sensor may have added some of them meanwhile, and a range would not hold those.
    known = work.known | existing_partitions(instance, [each.info.location.partition_key for each in work.ready])
    added, requests = run_requests([*work.ready, *work.elsewhere], known, settings, room=room)
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[files_partitions.build_add_request(added)] if added else [],
        cursor=cursor.to_text(),
        skip_reason=None
        if requests
        else "; ".join(
            [
                f"{len(listed)} objects listed, {len(work.waiting)} not settled yet, nothing to ingest",
                *unavailable,
                *work.closed,
            ]
        ),
    )


@dataclass(frozen=True)
class Work:
    """What is to be done about files that a sensor has looked up: which `candidates` need work, and which of them now.

    `ready`: those that nobody writes or works on and whose media can be stored. `waiting`: those that have not settled.
    `elsewhere`: files that something else has finished and that no run was ever asked for. `known`: the partition keys
    of these files that exist. `closed`: what is wrong with places that take no media.
    """

    candidates: list[Candidate]
    ready: list[Candidate]
    waiting: dict[str, Sighting]
    elsewhere: list[Candidate]
    known: set[str]
    closed: list[str]


def find_work(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    files: Sequence[ObjectInfo],
    sightings: Mapping[str, Sighting],
    runs: RunsNow,
    *,
    now: datetime,
    never_asked: Collection[str] = (),
) -> Work:
    """Compare files as they are in their store with the tables. `runs` were looked up before the files were.

    `never_asked` are URLs of files that have a partition although no run was ever asked for.
    """
    settings = pipeline.settings
    # Before the tables too: what is archived in between has its mark before it loses its partition.
    known = existing_partitions(instance, [info.location.partition_key for info in files])
    versions = pipeline.tables.current_versions([info.location for info in files])
    candidates = needs_work(files, versions, now=now, retry_after=timedelta(seconds=settings.retry_after_seconds))
    busy = Busy.of(instance, runs if candidates else RunsNow())
    free = [candidate for candidate in candidates if not busy.covers(candidate)]
    ready, waiting = settled(free, sightings, now=now, settle=timedelta(seconds=settings.settle_seconds))
    ready, closed = with_writable_outputs(ready, pipeline)
    waits = {candidate.info.location for candidate in candidates}
    unknown = [
        info
        for info in files
        if info.location not in waits and (info.location.partition_key not in known or info.location.url in never_asked)
    ]
    return Work(candidates, ready, waiting, finished_elsewhere(unknown, versions), known, closed)


def with_writable_outputs(ready: Sequence[Candidate], pipeline: Pipeline) -> tuple[list[Candidate], list[str]]:
    """The candidates whose media can be stored, and what is wrong with the places of the others.

    One place of each source is tried, or of each folder of outputs below a root. Without a look at it, files whose
    media can't be stored would be asked for again and again. Raises what the first place is refused with, if all are.
    """
    settings = pipeline.settings
    sources = [Location.from_url(url).as_folder() for url in settings.sources]
    place = OutputPlace.from_settings(settings)
    tried: set[Location] = set()
    wrong: dict[Location, MisconfiguredError | RetryableError] = {}
    kept = []
    for candidate in ready:
        location = candidate.info.location
        source = max((each for each in sources if each.holds(location)), key=lambda each: len(each.key), default=None)
        source = source or location.folder
        if source not in tried:
            # A name that the store does not take is the trouble of one file.
            with suppress(BadInputError):
                try:
                    pipeline.storage.check_writable(place.at(location, "").folder)
                except (MisconfiguredError, RetryableError) as error:
                    wrong[source] = error
                tried.add(source)
        if source not in wrong:
            kept.append(candidate)
    if wrong and not kept:
        raise next(iter(wrong.values()))
    return kept, [f"{source.url} is skipped: {error}" for source, error in wrong.items()]


def existing_partitions(instance: dg.DagsterInstance, keys: Sequence[str]) -> set[str]:
    """Which of these keys are in the partition set; reads no more of it, however large it is."""
    return set(instance.get_existing_dynamic_partitions(FILES, keys)) if keys else set()


def run_requests(
    candidates: Sequence[Candidate],
    known: Collection[str],
    settings: Settings,
    *,
    room: int | None = None,
    assets: Sequence[str] = ASSET_NAMES,
    traces: Mapping[str, str] = MappingProxyType({}),
) -> tuple[list[str], list[dg.RunRequest]]:
    """The partitions to add, and at most `room` runs: over ranges of those, and over lists of `known` ones.

    Those over lists make these `assets`. No run has files of two shows, or both files to work on and files to show that
    were finished elsewhere. Shows take turns, those of higher priority first, so that a flood of one delays no other
    for long. `traces` has the traceparent, by URL, of files that an event with a trace has named.
    """
    chunks: list[tuple[int, _Kind, int, str, list[str]]] = []
    by_show: dict[tuple[str, _Kind], list[Candidate]] = defaultdict(list)
    show_of = shows(settings)
    for candidate in candidates:
        by_show[show_of(candidate.info.location), _kind(candidate, known)].append(candidate)
    for (show, kind), files in by_show.items():
        for turn, chunk in enumerate(in_chunks(files, settings.chunk_size)):
            keys = [candidate.info.location.partition_key for candidate in chunk]
            chunks.append((-settings.priorities.get(show, 0), kind, turn, show, keys))
    added: list[str] = []
    requests: list[dg.RunRequest] = []
    for priority, kind, _, show, keys in sorted(chunks)[:room]:
        tags = {SHOW_TAG: show} | ({_PRIORITY_TAG: str(-priority)} if priority else {})
        tags |= {FINISHED_ELSEWHERE_TAG: "true"} if kind is _Kind.ELSEWHERE else {}
        if all(key in known for key in keys):
            of_files = _traces_of(keys, traces)
            selection = Selection(partitions=keys, assets=list(assets), traces=of_files)
            tags |= {TRACE_TAG: trace_id} if (trace_id := only_trace(of_files.values())) else {}
            config = dg.RunConfig(ops={"ingest_selected_files": selection})
            requests.append(dg.RunRequest(job_name=SELECTION_JOB, run_config=config, tags=tags))
        else:
            added += keys
            tags |= {RANGE_START: keys[0], RANGE_END: keys[-1]}
            requests.append(dg.RunRequest(job_name=INGEST_JOB, tags=tags))
    return added, requests


def _traces_of(keys: Iterable[str], traces: Mapping[str, str]) -> dict[str, str]:
    """The traces of these partition keys."""
    if not traces:
        return {}
    found = {key: traces.get(Location.from_partition_key(key).url) for key in keys}
    return {key: trace for key, trace in found.items() if trace is not None}


class _Kind(IntEnum):
    """What a run is asked for; a show's new files come before those that are done again, and work before mere show."""

    NEW = 0
    KNOWN = 1
    ELSEWHERE = 2


def _kind(candidate: Candidate, known: Collection[str]) -> _Kind:
    if candidate.need == "elsewhere":
        return _Kind.ELSEWHERE
    return _Kind.KNOWN if candidate.info.location.partition_key in known else _Kind.NEW


def unfinished_runs(instance: dg.DagsterInstance) -> int:
    """How many runs of ours are under way, counted by the database."""
    return sum(instance.get_runs_count(dg.RunsFilter(job_name=job, statuses=UNFINISHED)) for job in sorted(_OUR_JOBS))


@dataclass(frozen=True)
class RunsNow:
    """Runs of ours that are under way, and some that have just failed."""

    unfinished: Sequence[dg.RunRecord] = ()
    failed: Sequence[dg.RunRecord] = ()

    @classmethod
    def of(cls, instance: dg.DagsterInstance, *, failed_since: datetime) -> RunsNow:
        """What the instance knows, by whoever started them; the latest `FAILED_RUNS_KEPT` of each job that failed."""
        unfinished: list[dg.RunRecord] = []
        failed: list[dg.RunRecord] = []
        for job in sorted(_OUR_JOBS):
            unfinished += instance.get_run_records(dg.RunsFilter(job_name=job, statuses=UNFINISHED))
            just_failed = dg.RunsFilter(job_name=job, statuses=ENDED_BADLY, updated_after=failed_since)
            failed += instance.get_run_records(just_failed, limit=FAILED_RUNS_KEPT)
        return cls(unfinished, failed)


@dataclass(frozen=True)
class Busy:
    """Files that runs are dealing with, and those of runs that have just failed, with when the latest was created."""

    under_way: frozenset[str]
    just_failed: Mapping[str, datetime]

    @classmethod
    def of(cls, instance: dg.DagsterInstance, runs: RunsNow) -> Busy:
        """The files of these runs. The whole partition set is read only if some run is over a range of it."""
        ranged = any(RANGE_START in run.dagster_run.tags for run in (*runs.unfinished, *runs.failed))
        all_keys = list(instance.get_dynamic_partitions(FILES)) if ranged else []
        position = {key: index for index, key in enumerate(all_keys)}
        just_failed: dict[str, datetime] = {}
        for run in sorted(runs.failed, key=lambda run: run.create_timestamp):
            keys = _keys_of(run.dagster_run, all_keys, position)
            just_failed |= dict.fromkeys(keys, run.create_timestamp)
        under_way = (key for run in runs.unfinished for key in _keys_of(run.dagster_run, all_keys, position))
        return cls(frozenset(under_way), just_failed)

    def covers(self, candidate: Candidate) -> bool:
        """Whether this candidate must wait: a run is at it, or has failed without a word about this version of it.

        A version that came after such a run was created need not wait. Stores tell whole seconds.
        """
        key, modified = candidate.info.location.partition_key, candidate.info.last_modified
        failed = self.just_failed.get(key)
        outdated = failed is not None and candidate.need == "changed" and modified >= failed.replace(microsecond=0)
        return key in self.under_way or (failed is not None and not outdated)


def _keys_of(run: dg.DagsterRun, all_keys: Sequence[str], position: Mapping[str, int]) -> Iterable[str]:
    if key := run.tags.get("dagster/partition"):
        return [key]
    start, end = run.tags.get(RANGE_START, ""), run.tags.get(RANGE_END, "")
    if start in position and end in position:
        return all_keys[position[start] : position[end] + 1]
    config: Any = run.run_config
    try:
        return list(config["ops"]["ingest_selected_files"]["config"]["partitions"])
    except (KeyError, TypeError):
        return []
