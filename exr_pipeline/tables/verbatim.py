"""Rows taken as they are: which of them a table lacks, and a checksum that does not depend on their order.

Belongs here: comparing rows, as functions of Arrow tables. Not here: the rules of a write (`merge`), or stores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exr_pipeline.tables.conform import conform
from exr_pipeline.tables.specs import TABLES, TableName, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

# Rows with all columns: of those with long texts, so many take tens of megabytes.
WHOLE_ROWS_PER_BATCH: Final = 2_048
_CHECKSUM_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Digest:
    """The number of rows and the sum of their hashes, the same in whatever order the rows come.

    Digests of two tables can be compared if one process computed both: the hash is DuckDB's, which may change.
    """

    rows: int = 0
    checksum: int = 0


def digest(table: TableName, batches: Iterable[pa.RecordBatch]) -> Digest:
    """The digest of rows of a table. Columns that lack count as null."""
    import duckdb
    import pyarrow as pa

    columns = ", ".join(f'"{name}"' for name in arrow_schema(table).names)
    rows = checksum = 0
    with duckdb.connect() as connection:
        for batch in batches:
            connection.register("batch", conform(table, pa.Table.from_batches([batch])))
            ((found,),) = connection.execute(f"SELECT sum(hash({columns})::HUGEINT) FROM batch").fetchall()  # noqa: S608 - our names
            rows, checksum = rows + batch.num_rows, checksum + int(found or 0)
    return Digest(rows, checksum % (1 << _CHECKSUM_BITS))


def rows_to_put(table: TableName, rows: pa.Table, stored: pa.Table) -> tuple[pa.Table, pa.Array]:
    """The rows that are not stored exactly so, and the places in `stored` of those whose place they take.

    `stored` has at least all rows with the `row_key` of one of `rows`, and may have more columns. Rows with a null in
    their key, as earlier versions wrote them, take no other row's place.
    """
    import duckdb
    import pyarrow as pa

    names = ", ".join(f'"{name}"' for name in rows.column_names)
    keys = " AND ".join(f'stored."{key}" = new."{key}"' for key in TABLES[table].row_key)
    places = pa.array(range(stored.num_rows), pa.int64())
    with duckdb.connect() as connection:
        connection.register("incoming", rows)
        connection.register("stored", stored.append_column("place", places))
        # By hash: to compare every column takes five times as long.
        is_stored = f"hash({names}) IN (SELECT hash({names}) FROM stored)"  # noqa: S608 - our names
        new = connection.sql(f"SELECT * FROM incoming WHERE NOT {is_stored}").to_arrow_table()  # noqa: S608 - our names
        connection.register("new", new)
        outdated = connection.sql(f"SELECT place FROM stored SEMI JOIN new ON {keys} ORDER BY place").fetchall()  # noqa: S608 - our names
    return conform(table, new), pa.array([place for (place,) in outdated], pa.int64())
