"""Which writes to VAST exclude each other: lock rows by folder, and beginning again after a conflict.

Belongs here: the rows of `write_locks`, and how long to wait for others. Not here: what is written under a lock.

Transactions that only insert do not conflict, so each write first changes the lock rows of its files' folders: of two
writes to one folder, one fails with a conflict and begins again, seeing what the other wrote.
"""

from __future__ import annotations

import hashlib
import random
import time
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.tables.stores.vast_rows import ROW_ID
from exr_pipeline.tables.stores.vast_schemas import LOCKS, schemas

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import pyarrow as pa

    from exr_pipeline.tables.merge import FileKey
    from exr_pipeline.tables.stores.vast_rows import VastRows

LOCK_SLOTS: Final = 64
# How long a write or the making of tables waits for others.
CONFLICT_WAIT_SECONDS: Final = 60.0


def attempts(seconds: float, what: str) -> Iterator[int]:
    """Count attempts, pausing longer and longer between them. `RetryableError` once so many seconds are over."""
    deadline, pause, attempt = time.monotonic() + seconds, 0.02, 0
    while True:
        yield attempt
        if time.monotonic() > deadline:
            raise RetryableError(f"VAST DataBase: {what}; tried for {seconds:g} s")
        # Spread, or the same writers would meet again.
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
        pause, attempt = min(pause * 1.6, 1.0), attempt + 1


def lock_rows() -> pa.Table:
    """What the table of locks holds from its beginning on."""
    import pyarrow as pa

    slots = pa.array(range(LOCK_SLOTS), pa.int32())
    return pa.table([slots, pa.nulls(LOCK_SLOTS, pa.string())], schema=schemas()[LOCKS])


def lock_folders(rows: VastRows, files: Collection[FileKey], write_id: str) -> None:
    """Make this transaction conflict with any other that writes files of the same folders."""
    if files:
        lock_slots(rows, sorted({_slot(file) for file in files}), write_id)


def lock_slots(rows: VastRows, slots: Sequence[int], write_id: str) -> None:
    """Make this transaction conflict with any other that locks one of these slots.

    Raises `MisconfiguredError` if the table does not have each of them once.
    """
    import pyarrow as pa

    table = rows.table(LOCKS)
    found = rows.select(LOCKS, ["slot"], table["slot"].isin(list(slots)), with_row_ids=True)
    if found.num_rows != len(slots):
        raise MisconfiguredError(
            "VAST_DB_SCHEMA",
            f"table {LOCKS} has {found.num_rows} rows instead of {len(slots)}",
            f"drop table {LOCKS} while nothing writes; it is created again",
        )
    holders = pa.array([write_id] * found.num_rows, pa.string())
    table.update(pa.table({ROW_ID: found.column(ROW_ID), "holder": holders}))


def _slot(file: FileKey) -> int:
    folder = file.file_path.rpartition("/")[0]
    return hashlib.sha256(f"{file.bucket}/{folder}".encode()).digest()[0] % LOCK_SLOTS
