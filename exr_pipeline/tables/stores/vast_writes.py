"""The rows of `writes`, by which a write whose commit was not answered is found to have happened or not.

Belongs here: making, finding and forgetting these rows. Not here: what else a write changes.
"""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from exr_pipeline.tables.stores.vast_rows import ROW_ID
from exr_pipeline.tables.stores.vast_schemas import WRITES, schemas

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from exr_pipeline.tables.stores.vast_rows import VastRows

# How long a write can be asked for; what asks is the write itself, within minutes.
WRITES_KEPT: Final = timedelta(days=1)


def write_row(write_id: str, now: datetime) -> pa.Table:
    """The row of a write."""
    import pyarrow as pa

    return pa.table([[write_id], [now.astimezone(UTC).isoformat()]], schema=schemas()[WRITES])


def has_written(rows: VastRows, write_id: str) -> bool:
    """Whether the write with this row was committed."""
    column = rows.table(WRITES)["write_id"]
    return bool(rows.select(WRITES, ["write_id"], column == write_id).num_rows)


def forget_writes(rows: VastRows, now: datetime) -> None:
    """Remove the rows of writes of days before. Two transactions that remove the same ones conflict."""
    table = rows.table(WRITES)
    oldest = (now.astimezone(UTC) - WRITES_KEPT).isoformat()
    old = rows.select(WRITES, ["write_id"], table["written_at"] < oldest, with_row_ids=True)
    if old.num_rows:
        table.delete(old.select([ROW_ID]))
