"""The outbox: events wait in the tables, written with the rows that they tell of, until every sink has them.

Belongs here: the rows of waiting events, and delivering them. Not here: what is published (`outgoing`), or how a sink
takes it (`kafka_sink`, `webhooks`). At least once: a drainer that is killed after a delivery delivers again, with the
same `event_id`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.events.outgoing import events_of
from exr_pipeline.events.sinks import Published, Sink, WaitingEvent, open_sinks, sink_names, topic_of
from exr_pipeline.tables.specs import arrow_schema
from exr_pipeline.telemetry.instruments import EVENTS_PUBLISHED
from exr_pipeline.telemetry.recording import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from exr_pipeline.events.outgoing import OutgoingEvent
    from exr_pipeline.settings import Settings
    from exr_pipeline.tables.specs import TableName
    from exr_pipeline.tables.store import Queue, TableStore

EVENTS_AT_ONCE: Final = 1000
# How long whoever has written rows spends on the events of them.
SECONDS_AFTER_WORK: Final = 2.0
# Whoever finds that an event had waited for so long before the work leaves all to the sensor: a sink is away, and work
# must not wait for it.
TROUBLE_AFTER_SECONDS: Final = 30.0

_CONTENT_KEPT: Final = 4096
Traces = Mapping[str, str]
_NO_TRACES: Final[Traces] = MappingProxyType({})


@dataclass(slots=True)
class Drained:
    """What was delivered and rejected, what still waits, since when (UTC), and what is wrong with sinks, by name."""

    delivered: int = 0
    rejected: int = 0
    waiting: int = 0
    oldest: datetime | None = None
    problems: dict[str, str] = field(default_factory=dict)


def with_events(
    rows: Mapping[TableName, pa.Table], settings: Settings, *, now: datetime, traces: Traces = _NO_TRACES
) -> Mapping[TableName, pa.Table]:
    """The rows of a write, and those of the events that tell of them: nothing more if nothing is published.

    `traces` has the traceparent of the URLs of files and sequences whose events belong to a trace.
    """
    if not sink_names(settings):
        return rows
    events = events_of(rows, now=now, output_root=settings.output_root, compatibility=settings.compatibility)
    return {**rows, "outbox": outbox_rows(events, settings, now=now, traces=traces)}


def outbox_rows(
    events: Iterable[OutgoingEvent], settings: Settings, *, now: datetime, traces: Traces = _NO_TRACES
) -> pa.Table:
    """The rows of events: one for each sink, of the types that are published."""
    import pyarrow as pa

    waiting = [
        {
            "sink": sink,
            "event_id": event.event_id,
            "type": event.type,
            "topic": topic_of(event.type, settings),
            "key": event.key,
            "subject": event.subject,
            "payload": json.dumps(event.payload),
            "created_at": now.astimezone(UTC).isoformat(),
            "traceparent": traces.get(event.subject),
        }
        for event in events
        if not settings.publish_types or event.type in settings.publish_types
        for sink in sink_names(settings)
    ]
    return pa.Table.from_pylist(waiting, schema=arrow_schema("outbox"))


def events_of_marked(settings: Settings, *, now: datetime, traces: Traces = _NO_TRACES) -> Queue | None:
    """What `TableStore.mark` writes along with a mark: the events of files that are marked as deleted."""
    if not sink_names(settings):
        return None
    return lambda files: {"outbox": with_events({"files": files}, settings, now=now, traces=traces)["outbox"]}


def drain(tables: TableStore, settings: Settings, *, seconds: float) -> Drained:
    """Deliver what waits, oldest first, for at most about this long, of which each sink has its share.

    Raises `RetryableError` if the tables are not available, and `MisconfiguredError` for a sink that can't be used.
    """
    drained = Drained()
    with open_sinks(settings) as sinks:
        for name, sink in sinks.items():
            _drain_sink(tables, name, sink, drained, time.monotonic() + seconds / len(sinks))
    drained.waiting, drained.oldest = waiting(tables)
    return drained


def drain_after_work(tables: TableStore, settings: Settings, *, began: datetime) -> Drained | None:
    """Deliver what waits in two seconds at most, unless a sink has been away for a while; None if nothing is published.

    It was away if an event had been waiting for long when the work `began` (aware). What is left is delivered by the
    sensor `events_out`. Raises as `drain` does.
    """
    if not sink_names(settings):
        return None
    count, oldest = waiting(tables)
    if oldest is not None and (began - oldest).total_seconds() > TROUBLE_AFTER_SECONDS:
        return Drained(waiting=count, oldest=oldest)
    return drain(tables, settings, seconds=SECONDS_AFTER_WORK)


def publish_after_work(tables: TableStore, settings: Settings, log: logging.Logger, *, began: datetime) -> None:
    """`drain_after_work` for those whose work is done whatever becomes of the events: troubles are logged."""
    try:
        drained = drain_after_work(tables, settings, began=began)
    except (MisconfiguredError, RetryableError, StateUnknownError) as error:
        log.warning("Events were not published, and wait in the table outbox: %s", error)
        return
    for sink, problem in (drained.problems if drained is not None else {}).items():
        log.warning("Events wait in the table outbox: %s: %s", sink, problem)


def waiting(tables: TableStore) -> tuple[int, datetime | None]:
    """How many events wait, and since when the oldest does (UTC). An event for two sinks is two."""
    oldest = tables.oldest("outbox", 1).column("created_at").to_pylist()
    return (tables.count("outbox"), datetime.fromisoformat(oldest[0])) if oldest else (0, None)


def _drain_sink(tables: TableStore, name: str, sink: Sink, drained: Drained, deadline: float) -> None:
    while (left := deadline - time.monotonic()) > 0:
        batch = _oldest(tables, name)
        if not batch:
            return
        published = sink.publish(batch, seconds=left)
        _settle(tables, name, batch, published)
        drained.delivered += len(published.delivered)
        drained.rejected += len(published.rejected)
        # Each webhook has a name of its own, so that one that is away can be told from the others.
        record(EVENTS_PUBLISHED, name, "delivered", value=len(published.delivered))
        record(EVENTS_PUBLISHED, name, "rejected", value=len(published.rejected))
        if published.problem is not None:
            drained.problems[name] = published.problem
            return


def _oldest(tables: TableStore, sink: str) -> list[WaitingEvent]:
    rows = tables.oldest("outbox", EVENTS_AT_ONCE, name=sink).drop_columns(["sink"]).to_pylist()
    # Two writers may have queued the same event at once.
    return list({row["event_id"]: WaitingEvent(**row) for row in rows}.values())


def _settle(tables: TableStore, sink: str, batch: Sequence[WaitingEvent], published: Published) -> None:
    """Remove what is done with. What can never be delivered is kept, with the reason, where somebody can look at it."""
    now = datetime.now(UTC)
    if published.rejected:
        refused = [event for event in batch if event.event_id in published.rejected]
        rejects = [_reject(sink, event, published.rejected[event.event_id], now) for event in refused]
        tables.write({"event_rejects": _table(rejects)}, now=now)
    done = [*published.delivered, *published.rejected]
    tables.remove("outbox", [(sink, event_id) for event_id in done], now=now)


def _reject(sink: str, event: WaitingEvent, reason: str, now: datetime) -> dict[str, Any]:
    return {
        "source": sink,
        "position": event.event_id,
        "reason": reason,
        "content": event.payload[:_CONTENT_KEPT],
        "rejected_at": now.isoformat(),
    }


def _table(rejects: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rejects, schema=arrow_schema("event_rejects"))
