"""Rows of VAST's tables within one transaction: selected, inserted and deleted, long texts put back.

Belongs here: selects, and requests of a size that the server takes. Not here: which tables there are (`vast_tables`),
who may write at once (`vast_locks`), or the rules of a write (`tables.merge`).
"""

from __future__ import annotations

import operator
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.tables.conform import cast_columns
from exr_pipeline.tables.merge import FileKey
from exr_pipeline.tables.specs import TABLES, State, TableName, arrow_schema
from exr_pipeline.tables.stores.vast_long_values import cut, pieces_schema, put_back
from exr_pipeline.tables.stores.vast_schemas import LONG_VALUES, schemas
from exr_pipeline.tables.verbatim import rows_to_put

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from exr_pipeline.tables.merge import VersionId, WritePlan

# A request may have 5 MiB; what the columns' types add is small.
REQUEST_BYTES: Final = 4 << 20
KEYS_PER_SELECT: Final = 1000

# The column by which the server knows a row.
ROW_ID: Final = "$row_id"


class VastRows:
    """The rows of our tables as one transaction sees them. `metadata` is what the server said of each table."""

    def __init__(self, transaction: Any, metadata: Mapping[str, Any], endpoint: str) -> None:
        self._transaction = transaction
        self._metadata = metadata
        self._endpoint = endpoint

    def table(self, name: str) -> Any:
        """The SDK's table, whose columns predicates are made of."""
        return self._transaction.table_from_metadata(self._metadata[name])

    def reader(
        self,
        name: str,
        columns: Sequence[str],
        predicate: Any,
        *,
        with_row_ids: bool = False,
        limit_rows: int = 0,
    ) -> pa.RecordBatchReader:
        """Rows as they arrive, of types as the server has them. Exhaust it before the transaction ends."""
        from vastdb.config import QueryConfig

        return self.table(name).select(
            columns=list(columns),
            predicate=predicate,
            config=QueryConfig(num_splits=1, data_endpoints=[self._endpoint]),
            internal_row_id=with_row_ids,
            limit_rows=limit_rows,
        )

    def select(
        self,
        name: str,
        columns: Sequence[str],
        *predicates: Any,
        with_row_ids: bool = False,
        limit_rows: int = 0,
    ) -> pa.Table:
        """The rows that meet all predicates, of our types; any so many of them if there is a limit."""
        import pyarrow as pa

        predicate = reduce(operator.and_, predicates) if predicates else None
        reader = self.reader(name, columns, predicate, with_row_ids=with_row_ids, limit_rows=limit_rows)
        rows = reader.read_all()
        schema = schemas()[name]
        fields = [schema.field(column) for column in columns]
        if with_row_ids:
            fields.append(rows.schema.field(ROW_ID))
        return cast_columns(rows, pa.schema(fields))

    def count(self, name: str, predicate: Any = None) -> int:
        """How many rows meet a predicate. The server sends no value of them."""
        return sum(batch.num_rows for batch in self.reader(name, [], predicate))

    def matching(
        self,
        name: TableName,
        *,
        columns: Sequence[str] | None = None,
        files: Collection[FileKey] | None = None,
        state: State | None = None,
        current_only: bool = False,
    ) -> pa.Table:
        """Rows of these files, or of all; where the table keeps versions, of the current one only if asked."""
        import pyarrow as pa

        names = list(columns) if columns is not None else arrow_schema(name).names
        table = self.table(name)
        has_versions = TABLES[name].has_versions
        conditions = [table["superseded_at"].isnull()] if current_only and has_versions else []
        if state is not None:
            conditions.append(table["state"] == state)
        if files is None:
            return self.select(name, names, *conditions)
        bucket, path = TABLES[name].file
        needed = list(dict.fromkeys([*names, bucket, path]))
        found = [
            self.select(name, needed, table[path].isin(paths), *conditions)
            for paths in in_pieces(sorted({file.file_path for file in files}), KEYS_PER_SELECT)
        ]
        rows = pa.concat_tables([arrow_schema(name).empty_table().select(needed), *found]).combine_chunks()
        return only(rows, (bucket, path), set(files)).select(names)

    def apply(self, plan: WritePlan) -> None:
        """Carry out what a write changes."""
        for name, versions in plan.removed.items():
            self.delete(name, versions)
        for name, rows in plan.rows.items():
            self.insert(name, rows)

    def insert(self, name: str, rows: pa.Table) -> None:
        """Insert rows, in as many requests as they take."""
        table = self.table(name)
        for piece in requests(rows):
            # Chunks that are not combined lose rows on the way.
            table.insert(piece.combine_chunks())

    def delete(self, name: TableName, versions: Collection[VersionId]) -> None:
        """Delete the rows of these versions; those that are not there are no error."""
        key = TABLES[name].version
        column = self.table(name)[key[1]]
        for ids in in_pieces(sorted({version[1] for version in versions}), KEYS_PER_SELECT):
            rows = self.select(name, list(key), column.isin(ids), with_row_ids=True)
            rows = only(rows, key, set(versions))
            if rows.num_rows:
                self.table(name).delete(rows.select([ROW_ID]))

    def rows_to_put(self, name: TableName, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        """The rows that are not stored exactly so, and the row ids of those whose place they take."""
        import pyarrow as pa

        version = TABLES[name].version[1]
        column = self.table(name)[version]
        ids = sorted(set(rows.column(version).drop_null().to_pylist()))
        found = [
            self.select(name, rows.column_names, column.isin(some), with_row_ids=True)
            for some in in_pieces(ids, KEYS_PER_SELECT)
        ]
        if not found:
            return rows, pa.table({ROW_ID: pa.array([], pa.uint64())})
        stored = pa.concat_tables(found)
        new, outdated = rows_to_put(name, rows, stored)
        return new, stored.select([ROW_ID]).take(outdated).combine_chunks()

    def put_back(self, rows: pa.Table) -> pa.Table:
        """The rows with the long texts that their cells refer to."""
        return put_back(rows, self.pieces)

    def pieces(self, hashes: list[str]) -> pa.Table:
        """The pieces of the long texts with these hashes."""
        import pyarrow as pa

        column = self.table(LONG_VALUES)["hash"]
        found = [
            self.select(LONG_VALUES, pieces_schema().names, column.isin(some))
            for some in in_pieces(hashes, KEYS_PER_SELECT)
        ]
        return pa.concat_tables(found)

    def insert_long_values(self, values: Mapping[str, bytes]) -> None:
        """Insert the pieces of those long texts, by their hashes, that are not there yet."""
        if not values:
            return
        column = self.table(LONG_VALUES)["hash"]
        known: set[str] = set()
        for hashes in in_pieces(sorted(values), KEYS_PER_SELECT):
            known |= set(self.select(LONG_VALUES, ["hash"], column.isin(hashes)).column(0).to_pylist())
        new = {digest: value for digest, value in values.items() if digest not in known}
        self.insert(LONG_VALUES, cut(new))


def slices(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """The rows of batches in tables of at most so many."""
    import pyarrow as pa

    for batch in batches:
        for start in range(0, batch.num_rows, size):
            yield pa.Table.from_batches([batch.slice(start, size)])


def requests(rows: pa.Table) -> Iterator[pa.Table]:
    """The rows in slices that fit into one request each."""
    if rows.num_rows <= 1 or rows.nbytes <= REQUEST_BYTES:
        if rows.num_rows:
            yield rows
        return
    half = rows.num_rows // 2
    yield from requests(rows.slice(0, half))
    yield from requests(rows.slice(half))


def in_pieces(values: list[str], size: int) -> Iterator[list[str]]:
    """The values in lists of at most so many."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def pairs(table: pa.Table, first: str, second: str) -> list[tuple[str, str]]:
    """The values of two columns, row by row."""
    return list(zip(table.column(first).to_pylist(), table.column(second).to_pylist(), strict=True))


def only(rows: pa.Table, columns: tuple[str, str], wanted: set[tuple[str, str]]) -> pa.Table:
    """The rows whose pair of columns is wanted."""
    import pyarrow as pa

    return rows.filter(pa.array([pair in wanted for pair in pairs(rows, *columns)], pa.bool_()))
