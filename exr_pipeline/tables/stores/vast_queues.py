"""The rows of a queue that have waited longest, found without reading the queue: VAST sorts no result of a select.

Belongs here: that search, within one transaction. Not here: what the rows are for (`events`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exr_pipeline.tables.specs import TABLES, TableName, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from exr_pipeline.tables.stores.vast_rows import VastRows

# Moments that are looked at to find one that few rows are older than.
_SAMPLE: Final = 1000


def oldest(rows: VastRows, queue: TableName, count: int, name: str | None) -> pa.Table:
    """At most so many rows of a queue, those that have waited longest, oldest first. See `TableStore.oldest`."""
    import pyarrow as pa

    spec, columns = TABLES[queue], arrow_schema(queue).names
    table = rows.table(queue)
    since = table[spec.queued_at]
    conditions = [] if name is None else [table[spec.version[0]] == name]
    moment = _moment(rows, queue, count, conditions)
    if moment is None:
        found = rows.select(queue, columns, *conditions)
    else:
        found = rows.select(queue, columns, *conditions, since < moment)
        if found.num_rows < count:
            room = count - found.num_rows
            of_moment = rows.select(queue, columns, *conditions, since == moment, limit_rows=room)
            found = pa.concat_tables([found, of_moment])
    return found.sort_by([(spec.queued_at, "ascending"), (spec.version[1], "ascending")])


def _moment(rows: VastRows, queue: TableName, count: int, conditions: list[object]) -> str | None:
    """A moment that at most so many rows are older than, and at which one was queued; None if there are no more rows.

    If the oldest rows come first, two looks are enough. If they come in no order, each further one halves what is left.
    """
    queued_at = TABLES[queue].queued_at
    since = rows.table(queue)[queued_at]
    moment, older, place = None, conditions, count
    while True:
        found = rows.select(queue, [queued_at], *older, limit_rows=max(count + 1, _SAMPLE))
        if found.num_rows <= count:
            return moment
        moment = sorted(found.column(0).to_pylist())[place]
        older, place = [*conditions, since < moment], count // 2
