"""The table of rejected events: for how long what nobody could deliver or read is kept.

Belongs here: forgetting old rejects. Not here: what is rejected and why (`outbox`, and the sensor of events in).
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from exr_pipeline.tables.store import TableStore

_AT_ONCE: Final = 1000


def forget_rejects(tables: TableStore, *, before: datetime, now: datetime) -> int:
    """Remove the events that were rejected before a moment; returns how many. Safe to repeat and to race.

    Raises as `TableStore.remove` does: then some may be gone already.
    """
    oldest_kept = before.astimezone(UTC).isoformat()
    removed = 0
    while True:
        rows = tables.oldest("event_rejects", _AT_ONCE).to_pylist()
        old = [(row["source"], row["position"]) for row in rows if row["rejected_at"] < oldest_kept]
        if not old:
            return removed
        tables.remove("event_rejects", old, now=now)
        removed += len(old)
