"""The sensor of events: files that events name become partitions and runs within seconds.

Belongs here: one tick and its cursor. Not here: reading events (`exr_pipeline.events`), what follows for a file once it
is looked up (`files`). An acceleration only: an event names an object, and what none names, `files` finds. So whatever
is lost here, with an event or with the cursor, costs time and nothing else.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.events.source import Message, Positions, sources_of
from exr_pipeline.ingest.discovery.cursor import sightings_of
from exr_pipeline.ingest.discovery.named import SourceFiles, look_up, named_sources
from exr_pipeline.ingest.discovery.needs_work import Candidate, Sighting
from exr_pipeline.orchestration.instance.key_migration import is_migrated
from exr_pipeline.orchestration.maintenance.reconcile import retire_files
from exr_pipeline.orchestration.partitions import FILES
from exr_pipeline.orchestration.sensors.files import (
    SIGHTINGS_KEPT,
    RunsNow,
    find_work,
    run_requests,
    unfinished_runs,
)
from exr_pipeline.orchestration.sensors.ready_folders import complete_folders, ready_folders
from exr_pipeline.orchestration.sensors.watched_ticks import watched_tick
from exr_pipeline.storage.locations import Location
from exr_pipeline.telemetry.instruments import EVENTS_READ, SENSOR_WAITING
from exr_pipeline.telemetry.recording import record
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from exr_pipeline.events.notifications import ObjectEvent
    from exr_pipeline.events.source import EventSource
    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.settings import Settings

EVENTS_SENSOR: Final = "events_in"
CONTENT_KEPT: Final = 4096

_LOG = logging.getLogger(__name__)
# A look-up is one small request, most of which is waiting. More at once took twice the processor time, and no less.
_LOOK_UPS_AT_ONCE: Final = 16
# Messages are read in turns of this many and of this long, so that partitions are added soon after their events.
_PER_TURN: Final = 5000
_TURN_SECONDS: Final = 0.2
# A turn of so many says that more are on their way, and that a pause until the next tick would be felt.
_MANY: Final = 500
_SECONDS_BETWEEN_TICKS: Final = 5.0
# Dagster ends a tick after a minute.
_LONGEST_SECONDS: Final = 20.0


@dataclass
class EventsCursor:
    """What one tick leaves for the next: where each source is, and files that were named and are not asked for yet.

    Those wait because they have not settled, could not be looked up, or because too many runs are under way.
    `never_asked` are those of them that have a partition by this sensor, and no run. `ready`: folders that a `.ready`
    object says are complete, with when its event was read. `traces`: the traceparent of files that wait, by URL.
    """

    positions: dict[str, Positions] = field(default_factory=dict)
    waiting: dict[str, Sighting] = field(default_factory=dict)
    never_asked: list[str] = field(default_factory=list)
    ready: dict[str, datetime] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str | None) -> EventsCursor:
        """The cursor that an earlier tick wrote."""
        raw: dict[str, Any] = json.loads(text) if text else {}
        ready = {url: datetime.fromisoformat(since) for url, since in raw.get("ready", {}).items()}
        waiting = sightings_of(raw.get("waiting", {}))
        return cls(raw.get("positions", {}), waiting, raw.get("never_asked", []), ready, raw.get("traces", {}))

    def to_text(self) -> str:
        """JSON for Dagster to keep."""
        return json.dumps(asdict(self), default=datetime.isoformat)


def build_events_sensor(settings: Settings, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """The sensor over the configured sources of events."""

    def events_in(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        pipeline: Pipeline = context.resources.pipeline
        if not is_migrated(context.instance):
            return dg.SkipReason("The sensor of files has not looked at the partition keys of earlier versions yet")
        try:
            with watched_tick(EVENTS_SENSOR, pipeline):
                sources = sources_of(pipeline.settings)
                cursor = EventsCursor.from_text(context.cursor)
                return tick(context.instance, pipeline, cursor, sources, log=context.log)
        except RetryableError as error:
            # The cursor stays: the same events are read again.
            return dg.SkipReason(f"Cannot deal with events, trying again at the next tick: {error}")

    # Not the decorator: it warns of a beta parameter that it passes by itself.
    return dg.SensorDefinition(
        name=EVENTS_SENSOR,
        evaluation_fn=events_in,
        jobs=jobs,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"pipeline"},
        description=(
            "Reads events of object storage (EXR_PIPELINE_EVENTS_KAFKA_BROKERS, EXR_PIPELINE_EVENTS_SQS_QUEUES, "
            "EXR_PIPELINE_EVENTS_CATALOG), looks up the objects that they name, adds a partition for each that needs "
            "work, and starts runs that ingest them. What no event names, source_files finds."
        ),
    )


def tick(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    cursor: EventsCursor,
    sources: Sequence[EventSource],
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    log: logging.Logger = _LOG,
) -> dg.SensorResult:
    """Read events for a while and add the partitions of their files as they come; then ask for runs.

    Sources are told of what the *incoming* cursor is past: by then its partitions exist, and Dagster has kept the
    cursor. Raises `RetryableError` or `MisconfiguredError` if no source is available, or the stores or tables are not.
    """
    with ExitStack() as opened:
        reader = _Reader([opened.enter_context(source) for source in sources], cursor.positions, log)
        reader.acknowledge()
        work = _Work(instance, pipeline, cursor, log)
        named = work.waiting_before()
        pace = _Pace(pipeline.settings.events_seconds)
        left = pipeline.settings.events_max_read
        while True:
            messages = reader.read(min(left, _PER_TURN))
            left -= len(messages)
            work.do(messages, named, clock())
            named = []
            if left <= 0 or not pace.goes_on(len(messages)):
                break
    return work.result(reader, clock())


class _Pace:
    """How long a tick goes on: as long as is set, and while many events come until one of the next ticks would begin.

    The daemon looks for sensors to tick every five seconds: a tick that ends just after it has looked leaves events
    lying for nearly that long.
    """

    def __init__(self, seconds: float) -> None:
        self._begun = self._turn_begun = time.monotonic()
        self._end = self._begun + seconds

    def goes_on(self, messages: int) -> bool:
        """Whether there is time for another turn that takes as long as the one that has just ended, of so many."""
        now = time.monotonic()
        next_ends, self._turn_begun = 2 * now - self._turn_begun, now
        while next_ends > self._end:
            if messages < _MANY or self._end + _SECONDS_BETWEEN_TICKS > self._begun + _LONGEST_SECONDS:
                return False
            self._end += _SECONDS_BETWEEN_TICKS
        return True


class _Reader:
    """The open sources, and how far each is. One that is unavailable holds up no other."""

    def __init__(self, sources: Sequence[EventSource], positions: dict[str, Positions], log: logging.Logger) -> None:
        self._sources = list(sources)
        self._log = log
        self.positions = dict(positions)
        self.unavailable: list[str] = []

    def acknowledge(self) -> None:
        """Tell the sources of what the cursor is past."""

        def acknowledge(source: EventSource) -> None:
            self.positions[source.name] = source.acknowledge(self.positions.get(source.name, {}))

        self._each(acknowledge)

    def read(self, limit: int) -> list[Message]:
        """What comes within a moment, from all sources."""
        messages: list[Message] = []

        def read(source: EventSource) -> None:
            batch = source.read(self.positions.get(source.name, {}), limit=limit, seconds=_TURN_SECONDS)
            self.positions[source.name] = batch.positions
            messages.extend(batch.messages)

        self._each(read)
        return messages

    def _each(self, call: Callable[[EventSource], None]) -> None:
        for source in list(self._sources):
            try:
                call(source)
            except (RetryableError, MisconfiguredError) as error:
                if len(self._sources) == 1:
                    raise
                self._sources.remove(source)
                self.unavailable.append(f"{source.name} is skipped: {error}")
                self._log.warning(self.unavailable[-1])


class _Work:
    """What a tick makes of messages: partitions at once, and what it asks for and leaves at its end."""

    def __init__(
        self, instance: dg.DagsterInstance, pipeline: Pipeline, cursor: EventsCursor, log: logging.Logger
    ) -> None:
        self._instance, self._pipeline, self._log = instance, pipeline, log
        self._before = cursor
        self._sources = SourceFiles(pipeline.settings)
        self._to_ask: dict[str, Candidate] = {}
        self._waiting: dict[str, Sighting] = {}
        self._never_asked: set[str] = set(cursor.never_asked)
        self._ready = dict(cursor.ready)
        self._traces = dict(cursor.traces)
        self._counts = dict.fromkeys(("messages", "rejected", "partitions added", "deleted"), 0)
        self._closed: dict[str, None] = {}

    def waiting_before(self) -> list[Location]:
        """The files that wait since earlier ticks; without room for a run they go on waiting, and nobody asks."""
        if unfinished_runs(self._instance) >= self._pipeline.settings.sensor_max_runs:
            self._waiting = dict(self._before.waiting)
            return []
        return [Location.from_url(url) for url in self._before.waiting]

    def do(self, messages: Sequence[Message], waiting: Iterable[Location], now: datetime) -> None:
        """Look up what is named, add partitions, mark what is gone."""
        self._counts["messages"] += len(messages)
        events = self._events(messages, now)
        self._ready |= dict.fromkeys(ready_folders(events, self._sources), now)
        # Of the form under which the object is there in the end, nobody knows yet.
        self._traces |= {
            place.url: each.traceparent
            for each in events
            if each.traceparent is not None
            for place in (each.location, each.as_written)
            if place is not None
        }
        named = {location: location for location in waiting} | named_sources(events, self._sources)
        if not named:
            return
        # Before anything is looked up: a run that ends in between has its rows in the tables by then.
        settings = self._pipeline.settings
        runs = RunsNow.of(self._instance, failed_since=now - timedelta(seconds=settings.retry_after_seconds))
        found = look_up(named, self._pipeline.storage, at_once=_LOOK_UPS_AT_ONCE)
        if len(found.failed) > SIGHTINGS_KEPT:
            raise RetryableError(next(iter(found.failed.values())))
        self._keep_failed(found.failed, now)
        self._forget(found.gone)
        files = {info.location: info for info in found.files if info.location in self._sources}
        work = find_work(
            self._instance,
            self._pipeline,
            list(files.values()),
            self._before.waiting,
            runs,
            now=now,
            never_asked=self._never_asked,
        )
        self._closed |= dict.fromkeys(work.closed)
        ready = [*work.ready, *work.elsewhere]
        for location in files:
            self._to_ask.pop(location.url, None)
            self._waiting.pop(location.url, None)
        self._to_ask |= {
            each.info.location.url: each for each in ready if each.need != "elsewhere" or self._is_ours(each)
        }
        self._waiting |= work.waiting
        self._add_partitions([each for each in work.candidates if self._is_kept(each)], work.known)

    def _is_ours(self, candidate: Candidate) -> bool:
        return candidate.info.location.url in self._never_asked

    def _is_kept(self, candidate: Candidate) -> bool:
        url = candidate.info.location.url
        return url in self._to_ask or url in self._waiting

    def _events(self, messages: Sequence[Message], now: datetime) -> list[ObjectEvent]:
        """What messages name. Those that name nothing are kept, with the reason, in the table `event_rejects`."""
        events: list[ObjectEvent] = []
        rejects: dict[tuple[str, str], dict[str, str]] = {}
        for message in messages:
            try:
                events += message.objects()
            except BadInputError as error:
                rejects[message.source, message.position] = _reject(message, error.reason, now)
        record(EVENTS_READ, "accepted", value=len(messages) - len(rejects))
        record(EVENTS_READ, "rejected", value=len(rejects))
        if rejects:
            import pyarrow as pa

            self._counts["rejected"] += len(rejects)
            self._pipeline.tables.write({"event_rejects": pa.Table.from_pylist(list(rejects.values()))}, now=now)
            self._log.warning(f"{len(rejects)} events are rejected, see the table event_rejects")
        return events

    def _keep_failed(self, failed: dict[Location, str], now: datetime) -> None:
        """Look them up again at the next ticks, for as long as a sensor waits before it tries something again."""
        for location in failed:
            seen = self._before.waiting.get(location.url) or Sighting(None, now)
            if (
                seen.etag is not None
                or (now - seen.since).total_seconds() <= self._pipeline.settings.retry_after_seconds
            ):
                self._waiting[location.url] = seen
        if failed:
            reason = visible_line(next(iter(failed.values())))
            self._log.warning(f"{len(failed)} objects could not be looked up, such as {reason}")

    def _forget(self, gone: Sequence[Location]) -> None:
        """Mark what is gone as deleted, if the tables know it, and remove its partitions: as `reconcile` does."""
        from exr_pipeline.ingest.deletions import confirm_deletions

        if not gone:
            return
        tables = self._pipeline.tables
        versions = tables.current_versions(gone)
        present = {location: known.file_id for location, known in versions.items() if known.deleted_at is None}
        with ThreadPoolExecutor(_LOOK_UPS_AT_ONCE, thread_name_prefix="deletions") as threads:
            found = confirm_deletions(
                present, self._pipeline.storage, tables, settings=self._pipeline.settings, threads=threads
            )
        self._counts["deleted"] += len(found.deleted)
        retire_files(self._instance, [each for each in gone if each not in present or each in found.deleted])

    def _add_partitions(self, candidates: Sequence[Candidate], known: set[str]) -> None:
        # In the order in which a run would have them, in one call: a range of them is of use later.
        new = sorted(each.info.location for each in candidates if each.info.location.partition_key not in known)
        if new:
            self._instance.add_dynamic_partitions(FILES, [location.partition_key for location in new])
            self._never_asked |= {location.url for location in new}
            self._counts["partitions added"] += len(new)

    def result(self, reader: _Reader, now: datetime) -> dg.SensorResult:
        """The runs to ask for, as far as there is room for them, and the cursor."""
        settings = self._pipeline.settings
        room = settings.sensor_max_runs - unfinished_runs(self._instance)
        asked = list(self._to_ask.values())
        # All have partitions by now, so that runs are over lists.
        keys = {each.info.location.partition_key for each in asked}
        _, requests = run_requests(asked, keys, settings, room=max(room, 0), traces=self._traces)
        requested = {key for request in requests for key in _keys_of(request)}
        later = {
            url: Sighting(each.info.etag, each.info.last_modified)
            for url, each in self._to_ask.items()
            if each.info.location.partition_key not in requested
        }
        waiting = dict(list({**later, **self._waiting}.items())[-SIGHTINGS_KEPT:])
        never_asked = sorted(url for url in self._never_asked if url in waiting)
        of_sequences, ready = complete_folders(self._instance, self._pipeline, self._ready, now=now)
        requests += of_sequences
        traces = {url: trace for url, trace in self._traces.items() if url in waiting}
        cursor = EventsCursor(reader.positions, waiting, never_asked, ready, traces)
        record(SENSOR_WAITING, EVENTS_SENSOR, value=len(waiting))
        counts = [f"{count} {what}" for what, count in self._counts.items()]
        texts = [", ".join([*counts, f"{len(waiting)} files wait"]), *reader.unavailable, *self._closed]
        return dg.SensorResult(
            run_requests=requests, cursor=cursor.to_text(), skip_reason=None if requests else "; ".join(texts)
        )


def _reject(message: Message, reason: str, now: datetime) -> dict[str, str]:
    content = message.content.decode("utf-8", "replace")[:CONTENT_KEPT]
    return {
        "source": message.source,
        "position": message.position,
        "reason": reason,
        "content": content,
        "rejected_at": now.astimezone(UTC).isoformat(),
    }


def _keys_of(request: dg.RunRequest) -> list[str]:
    return list(request.run_config["ops"]["ingest_selected_files"]["config"]["partitions"])
