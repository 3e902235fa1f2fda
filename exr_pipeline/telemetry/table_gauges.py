"""Metrics that follow from the tables: files by state and kind, and what waits in the outbox.

Belongs here: the queries, which count in the store and fetch no rows of files, and how often they are made. Not here:
what is counted where work is done (`recording`).
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import ExrPipelineError
from exr_pipeline.telemetry.instruments import EVENT_REJECTS, OUTBOX, OUTBOX_AGE, TABLE_FILES, TABLES_UP
from exr_pipeline.telemetry.sums import Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from exr_pipeline.tables.store import TableStore

KEPT_SECONDS: Final = 10.0
# At most a twentieth of the time is spent on them, however large the tables are.
_REST_FACTOR: Final = 20.0

_FILES: Final = (
    "SELECT state, coalesce(format, '') AS kind, count(*) AS files FROM files "
    "WHERE superseded_at IS NULL AND deleted_at IS NULL GROUP BY ALL"
)
_OUTBOX: Final = "SELECT sink, count(*) AS events, min(created_at) AS oldest FROM outbox GROUP BY ALL"


class TableGauges:
    """What the tables say now, or said a few seconds ago. Thread-safe."""

    def __init__(self, tables: TableStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tables, self._clock = tables, clock
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._until = float("-inf")

    def samples(self) -> list[Sample]:
        """All of them. If the tables are not available, only that they are not."""
        with self._lock:
            started = self._clock()
            if started >= self._until:
                self._samples = table_samples(self._tables, now=datetime.now(UTC))
                ended = self._clock()
                self._until = ended + max(KEPT_SECONDS, _REST_FACTOR * (ended - started))
            return self._samples


def table_samples(tables: TableStore, *, now: datetime) -> list[Sample]:
    """What the tables say `now` (aware). If they are not available, only that they are not."""
    try:
        files = tables.sql(_FILES).to_pylist()
        waiting = tables.sql(_OUTBOX).to_pylist()
        rejects = tables.count("event_rejects")
    except ExrPipelineError:
        return [Sample(TABLES_UP.name, {}, 0)]
    oldest = min((datetime.fromisoformat(row["oldest"]) for row in waiting), default=now)
    return [
        Sample(TABLES_UP.name, {}, 1),
        *(Sample(TABLE_FILES.name, {"state": row["state"], "kind": row["kind"]}, row["files"]) for row in files),
        *(Sample(OUTBOX.name, {"sink": row["sink"]}, row["events"]) for row in waiting),
        Sample(OUTBOX_AGE.name, {}, (now - oldest).total_seconds()),
        Sample(EVENT_REJECTS.name, {}, rejects),
    ]
