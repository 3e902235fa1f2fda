"""The outbox: events wait in the tables, written with the rows that they tell of, until every sink has them.

Belongs here: the rows of waiting events, and delivering them. Not here: what is published (`outgoing`), or how a sink
takes it (`kafka_sink`, `webhooks`). At least once: a drainer that is killed after a delivery delivers again, with the
same `event_id`.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.events.outgoing import COMPLETED, events_of
from exr_pipeline.events.sinks import Published, Sink, WaitingEvent, open_sinks, sink_names
from exr_pipeline.tables.specs import arrow_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from exr_pipeline.events.outgoing import EventType, OutgoingEvent
    from exr_pipeline.settings import Settings
    from exr_pipeline.tables.specs import TableName
    from exr_pipeline.tables.store import Queue, TableStore

EVENTS_AT_ONCE: Final = 1000
# How long whoever has written rows spends on the events of them.
SECONDS_AFTER_WORK: Final = 2.0
# Whoever finds an event as old as this leaves all to the sensor: a sink is away, and work must not wait for it.
TROUBLE_AFTER_SECONDS: Final = 30.0

_CONTENT_KEPT: Final = 4096


@dataclass(slots=True)
class Drained:
    """What was delivered and rejected, what still waits, since when (UTC), and what is wrong with sinks, by name."""

    delivered: int = 0
    rejected: int = 0
    waiting: int = 0
    oldest: datetime | None = None
    problems: dict[str, str] = field(default_factory=dict)


def with_events(
    rows: Mapping[TableName, pa.Table], settings: Settings, *, now: datetime
) -> Mapping[TableName, pa.Table]:
    """The rows of a write, and those of the events that tell of them: nothing more if nothing is published."""
    if not sink_names(settings):
        return rows
    events = events_of(rows, now=now, output_root=settings.output_root, compatibility=settings.compatibility)
    return {**rows, "outbox": outbox_rows(events, settings, now=now)}


def outbox_rows(events: Iterable[OutgoingEvent], settings: Settings, *, now: datetime) -> pa.Table:
    """The rows of events: one for each sink, of the types that are published."""
    import pyarrow as pa

    waiting = [
        {
            "sink": sink,
            "event_id": event.event_id,
            "type": event.type,
            "topic": _topic(event.type, settings),
            "key": event.key,
            "subject": event.subject,
            "payload": json.dumps(event.payload),
            "created_at": now.astimezone(UTC).isoformat(),
        }
        for event in events
        if not settings.publish_types or event.type in settings.publish_types
        for sink in sink_names(settings)
    ]
    return pa.Table.from_pylist(waiting, schema=arrow_schema("outbox"))


def _topic(kind: EventType, settings: Settings) -> str:
    of_others = {"proxy.generated": settings.publish_proxy_topic, COMPLETED: settings.publish_completed_topic}
    return of_others.get(kind, settings.publish_topic)


def events_of_marked(settings: Settings, *, now: datetime) -> Queue | None:
    """What `TableStore.mark` writes along with a mark: the events of files that are marked as deleted."""
    if not sink_names(settings):
        return None
    return lambda files: {"outbox": with_events({"files": files}, settings, now=now)["outbox"]}


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


def drain_after_work(tables: TableStore, settings: Settings) -> Drained | None:
    """Deliver what waits in two seconds at most, unless a sink has been away for a while; None if nothing is published.

    What is left is delivered by the sensor `events_out`. Raises as `drain` does.
    """
    if not sink_names(settings):
        return None
    count, oldest = waiting(tables)
    if oldest is not None and (datetime.now(UTC) - oldest).total_seconds() > TROUBLE_AFTER_SECONDS:
        return Drained(waiting=count, oldest=oldest)
    return drain(tables, settings, seconds=SECONDS_AFTER_WORK)


def publish_after_work(tables: TableStore, settings: Settings, log: logging.Logger) -> None:
    """`drain_after_work` for those whose work is done whatever becomes of the events: troubles are logged."""
    try:
        drained = drain_after_work(tables, settings)
    except (MisconfiguredError, RetryableError, StateUnknownError) as error:
        log.warning("Events were not published, and wait in the table outbox: %s", error)
        return
    for sink, problem in (drained.problems if drained is not None else {}).items():
        log.warning("Events wait in the table outbox: %s: %s", sink, problem)


def waiting(tables: TableStore) -> tuple[int, datetime | None]:
    """How many events wait, and since when the oldest does (UTC). An event for two sinks is two."""
    # Not as SQL: over VAST DataBase that makes three databases in memory, and this is asked at the end of all work.
    moments = tables.read("outbox", columns=["created_at"]).column("created_at").to_pylist()
    return len(moments), datetime.fromisoformat(min(moments)) if moments else None


def _drain_sink(tables: TableStore, name: str, sink: Sink, drained: Drained, deadline: float) -> None:
    while (left := deadline - time.monotonic()) > 0:
        rows = _oldest(tables, name)
        if not rows:
            return
        batch = list({row.event_id: row for row in reversed(rows)}.values())[::-1]
        published = sink.publish(batch, seconds=left)
        _settle(tables, name, batch, published)
        drained.delivered += len(published.delivered)
        drained.rejected += len(published.rejected)
        if published.problem is not None:
            drained.problems[name] = published.problem
        if published.problem is not None or len(rows) < EVENTS_AT_ONCE:
            return


def _oldest(tables: TableStore, sink: str) -> list[WaitingEvent]:
    """Fewer than `EVENTS_AT_ONCE` are all. VAST has no unique keys: an event may be there twice."""
    rows = tables.sql(
        """SELECT event_id, type, topic, key, subject, payload, created_at
        FROM outbox WHERE sink = $sink ORDER BY created_at, event_id LIMIT $count""",
        {"sink": sink, "count": EVENTS_AT_ONCE},
    )
    return [WaitingEvent(**row) for row in rows.to_pylist()]


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
