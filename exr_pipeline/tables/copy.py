"""All rows of one store copied to another, so that an interrupted copy can be repeated, and then compared.

Belongs here: the order of the work, and its result. Not here: comparing rows (`verbatim`), or putting them (`stores`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exr_pipeline.tables.specs import TABLES, TableName, arrow_schema
from exr_pipeline.tables.verbatim import Digest, digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import pyarrow as pa

    from exr_pipeline.tables.store import TableStore


# What is being done, how many rows of a table are done, and how many it has.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """What became of one table: the rows that this copy put, and the digests of both sides afterwards."""

    table: TableName
    put: int
    source: Digest
    target: Digest

    @property
    def problem(self) -> str | None:
        """How the two sides differ; None if they hold the same rows."""
        if self.source == self.target:
            return None
        if self.source.rows != self.target.rows:
            return f"{self.table}: the source has {self.source.rows} rows, the target {self.target.rows}"
        return f"{self.table}: both sides have {self.source.rows} rows, but their checksums differ"


def copy_tables(source: TableStore, target: TableStore, *, now: datetime, on_progress: Progress) -> list[CopiedTable]:
    """Put all rows of the source, history included, into the target, and compare the two.

    Both are brought up to date first. Rows that the target has already stay; those that it has with other values are
    replaced; those that only the target has are left alone, and make the sides differ. Repeating an interrupted copy
    resumes it. A table is read in batches of bounded size. Nothing may write to either side meanwhile, or they differ.
    """
    source.create_tables()
    target.create_tables()
    put = {table: _copy_table(table, source, target, now=now, on_progress=on_progress) for table in TABLES}
    return [
        CopiedTable(
            table,
            put[table],
            digest(table, _watched(source, table, "comparing", on_progress)),
            digest(table, _watched(target, table, "comparing", on_progress)),
        )
        for table in TABLES
    ]


def _copy_table(
    table: TableName, source: TableStore, target: TableStore, *, now: datetime, on_progress: Progress
) -> int:
    import pyarrow as pa

    batches = _watched(source, table, "copying", on_progress)
    return sum(target.put_rows(table, pa.Table.from_batches([batch]), now=now) for batch in batches)


def _watched(store: TableStore, table: TableName, what: str, on_progress: Progress) -> Iterator[pa.RecordBatch]:
    """The rows of a table, with progress of how many were taken."""
    total = sum(batch.num_rows for batch in store.stored_rows(table, [TABLES[table].version[1]]))
    done = 0
    for batch in store.stored_rows(table, arrow_schema(table).names):
        yield batch
        done += batch.num_rows
        on_progress(f"{what} {table}", done, total)
