"""The sensor: new and changed files under the sources become partitions and runs.

Belongs here: one tick, its cursor and what is already under way. Not here: which files need work (`ingest.watch`).
It compares listing and tables anew at every sweep, so that nothing depends on an event or on the order of keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from exr_pipeline.errors import RetryableError
from exr_pipeline.ingest.watch import Candidate, Sighting, in_chunks, needs_work, settled
from exr_pipeline.orchestration.jobs import INGEST_JOB, RETRY_JOB, SELECTION_JOB, Selection
from exr_pipeline.orchestration.partitions import FILES, files_partitions
from exr_pipeline.storage.locations import Location, SourceRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.orchestration.resources import Pipeline
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.object_info import ObjectInfo

SENSOR: Final = "source_files"
SIGHTINGS_KEPT: Final = 2000

_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass
class Cursor:
    """What one tick leaves for the next: where each source's listing goes on, and files that were not yet settled."""

    after: dict[str, str] = field(default_factory=dict)
    sightings: dict[str, Sighting] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str | None) -> Cursor:
        """The cursor that an earlier tick wrote."""
        raw: dict[str, Any] = json.loads(text) if text else {}
        sightings = {
            url: Sighting(seen["etag"], datetime.fromisoformat(seen["since"]))
            for url, seen in raw.get("sightings", {}).items()
        }
        return cls(after=raw.get("after", {}), sightings=sightings)

    def to_text(self) -> str:
        """JSON for Dagster to keep."""
        return json.dumps(asdict(self), default=datetime.isoformat)


def build_sensor(settings: Settings, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """The sensor over the configured sources."""

    def source_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        pipeline: Pipeline = context.resources.pipeline
        if not pipeline.settings.sources:
            return dg.SkipReason("No sources to watch: set EXR_PIPELINE_SOURCES, such as s3://renders/show")
        try:
            return tick(context.instance, pipeline, Cursor.from_text(context.cursor), now=datetime.now(UTC))
        except RetryableError as error:
            # Nothing was asked for and the cursor stays: the next tick starts from the same place.
            return dg.SkipReason(f"Will look again: {error}")

    # Not the decorator: it warns of a beta parameter that it passes by itself.
    return dg.SensorDefinition(
        name=SENSOR,
        evaluation_fn=source_files,
        jobs=jobs,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"pipeline"},
        description=(
            "Finds new and changed OpenEXR and DPX files under the sources (EXR_PIPELINE_SOURCES), adds a partition "
            "for each and starts runs over chunks of them."
        ),
    )


def tick(
    instance: dg.DagsterInstance, pipeline: Pipeline, cursor: Cursor, *, now: datetime
) -> dg.SensorResult | dg.SkipReason:
    """One bounded look at the sources: partitions to add and runs to start."""
    settings = pipeline.settings
    all_keys = list(instance.get_dynamic_partitions(FILES))
    # Before the tables are read: a run that ends in between has its rows there by then.
    busy = Busy.of(instance, all_keys, failed_since=now - timedelta(seconds=settings.retry_after_seconds))
    if busy.runs >= settings.sensor_max_runs:
        return dg.SkipReason(f"{busy.runs} runs are under way (EXR_PIPELINE_SENSOR_MAX_RUNS)")
    listed = _list_sources(pipeline, cursor)
    versions = pipeline.tables.current_versions([info.location for info in listed])
    candidates = needs_work(listed, versions, now=now, retry_after=timedelta(seconds=settings.retry_after_seconds))
    free = [candidate for candidate in candidates if not busy.covers(candidate)]
    ready, waiting = settled(free, cursor.sightings, now=now, settle=timedelta(seconds=settings.settle_seconds))
    room = (settings.sensor_max_runs - busy.runs) * settings.chunk_size
    known = set(all_keys)
    new = [candidate for candidate in ready if candidate.info.location.partition_key not in known]
    old = [candidate for candidate in ready if candidate.info.location.partition_key in known]
    seen_now = {info.location.url for info in listed}
    kept = {url: seen for url, seen in cursor.sightings.items() if url not in seen_now}
    cursor.sightings = dict(list({**kept, **waiting}.items())[-SIGHTINGS_KEPT:])
    requests = run_requests(new[:room], old[: max(room - len(new), 0)], settings.chunk_size)
    added = [candidate.info.location.partition_key for candidate in sorted(new[:room], key=lambda c: c.info.location)]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[files_partitions.build_add_request(added)] if added else [],
        cursor=cursor.to_text(),
        skip_reason=None
        if requests
        else f"{len(listed)} objects listed, {len(waiting)} not yet settled, nothing to do",
    )


def run_requests(new: Iterable[Candidate], old: Iterable[Candidate], chunk_size: int) -> list[dg.RunRequest]:
    """Runs over files: new ones as ranges of the partitions about to be added in that order, known ones as lists."""
    requests: list[dg.RunRequest] = []
    for chunk in in_chunks(new, chunk_size):
        keys = [candidate.info.location.partition_key for candidate in chunk]
        requests.append(dg.RunRequest(job_name=INGEST_JOB, tags={_RANGE_START: keys[0], _RANGE_END: keys[-1]}))
    for chunk in in_chunks(old, chunk_size):
        selection = Selection(partitions=[candidate.info.location.partition_key for candidate in chunk])
        requests.append(
            dg.RunRequest(job_name=SELECTION_JOB, run_config=dg.RunConfig(ops={"ingest_selected_files": selection}))
        )
    return requests


@dataclass(frozen=True)
class Busy:
    """Files that runs are dealing with, and those of runs that have just failed, with when the latest was created."""

    runs: int
    under_way: frozenset[str]
    just_failed: Mapping[str, datetime]

    @classmethod
    def of(cls, instance: dg.DagsterInstance, all_keys: Sequence[str], *, failed_since: datetime) -> Busy:
        """What the instance knows, by whoever started it: this sensor, the command line, a backfill."""
        unfinished = _our_runs(instance, dg.RunsFilter(statuses=_UNFINISHED))
        failed = _our_runs(instance, dg.RunsFilter(statuses=_ENDED_BADLY, updated_after=failed_since))
        position = {key: index for index, key in enumerate(all_keys)} if unfinished or failed else {}
        just_failed: dict[str, datetime] = {}
        for record in sorted(failed, key=lambda record: record.create_timestamp):
            keys = _keys_of(record.dagster_run, all_keys, position)
            just_failed |= dict.fromkeys(keys, record.create_timestamp)
        return cls(
            len(unfinished),
            frozenset(key for record in unfinished for key in _keys_of(record.dagster_run, all_keys, position)),
            just_failed,
        )

    def covers(self, candidate: Candidate) -> bool:
        """Whether this candidate must wait: a run is at it, or has failed without a word about this version of it.

        A version that came after such a run was created need not wait. Stores tell whole seconds.
        """
        key, modified = candidate.info.location.partition_key, candidate.info.last_modified
        failed = self.just_failed.get(key)
        outdated = failed is not None and candidate.need == "changed" and modified >= failed.replace(microsecond=0)
        return key in self.under_way or (failed is not None and not outdated)


def _our_runs(instance: dg.DagsterInstance, filters: dg.RunsFilter) -> list[dg.RunRecord]:
    ours = {INGEST_JOB, SELECTION_JOB, RETRY_JOB, "__ASSET_JOB"}
    return [record for record in instance.get_run_records(filters) if record.dagster_run.job_name in ours]


def _keys_of(run: dg.DagsterRun, all_keys: Sequence[str], position: Mapping[str, int]) -> Iterable[str]:
    if key := run.tags.get("dagster/partition"):
        return [key]
    start, end = run.tags.get(_RANGE_START, ""), run.tags.get(_RANGE_END, "")
    if start in position and end in position:
        return all_keys[position[start] : position[end] + 1]
    config: Any = run.run_config
    try:
        return list(config["ops"]["ingest_selected_files"]["config"]["partitions"])
    except (KeyError, TypeError):
        return []


def _list_sources(pipeline: Pipeline, cursor: Cursor) -> list[ObjectInfo]:
    """The next stretch of each source's listing; moves the cursor on, and back to the start after the last key."""
    sources = pipeline.settings.sources
    limit = max(pipeline.settings.sensor_max_listed // len(sources), 1)
    rule = SourceRule.of(pipeline.settings.source_kinds, output_root=pipeline.settings.output_root, sources=sources)
    found: list[ObjectInfo] = []
    for url in sources:
        prefix = Location.from_url(url, setting="EXR_PIPELINE_SOURCES")
        page = pipeline.storage.list_page(prefix, after=cursor.after.get(url), limit=limit)
        found += [info for info in page.objects if rule.accepts(info.location, below=prefix.key)]
        if page.done or page.last_key is None:
            cursor.after.pop(url, None)
        else:
            cursor.after[url] = page.last_key
    for gone in set(cursor.after) - set(sources):
        del cursor.after[gone]
    return found
