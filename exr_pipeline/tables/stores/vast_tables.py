"""VAST's tables: made where they are missing, brought up to date, and what the server says of each.

Belongs here: schema, tables, columns, and rows of earlier versions. Not here: reading and writing rows (`vast_rows`).
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import MisconfiguredError, StateUnknownError
from exr_pipeline.tables.specs import TABLES, TableName, tables_of
from exr_pipeline.tables.stores.vast_locks import LOCK_SLOTS, attempts, lock_rows, lock_slots
from exr_pipeline.tables.stores.vast_rows import ROW_ID, VastRows, requests
from exr_pipeline.tables.stores.vast_schemas import LOCKS, schemas
from exr_pipeline.tables.stores.vast_session import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from exr_pipeline.tables.stores.vast_session import VastConnection

_PARENTS: Final = tables_of("versions", "latest")


class VastTables:
    """The tables of one schema. What the server says of them is learned once per process."""

    def __init__(self, connection: VastConnection, conflict_wait_seconds: float) -> None:
        self._connection = connection
        self._conflict_wait_seconds = conflict_wait_seconds
        self._metadata: dict[str, Any] = {}
        self._are_made = False

    @contextmanager
    def transaction(self) -> Iterator[VastRows]:
        """The rows, in a transaction of `VastConnection`. `make` first, or `find`."""
        with self._connection.transaction() as transaction:
            yield self._rows(transaction)

    def _rows(self, transaction: Any) -> VastRows:
        return VastRows(transaction, self._metadata, self._connection.endpoint)

    def make(self, *, again: bool = False) -> None:
        """Make what is missing; nothing if this process has done so, unless `again`."""
        if self._are_made and not again:
            return
        for _ in attempts(self._conflict_wait_seconds, "other processes keep making the same tables"):
            try:
                with self._connection.transaction() as transaction:
                    metadata = self._make_tables(transaction)
            except (ConflictError, StateUnknownError):
                continue
            self._metadata = metadata
            self._root_local_paths()
            self._are_made = True
            return

    @property
    def are_known(self) -> bool:
        """Whether it is known which tables there are, so that a transaction can read them."""
        return bool(self._metadata)

    def find(self) -> dict[TableName, pa.Schema]:
        """The tables that are there, with the columns and types that they have. Makes nothing."""
        with self._connection.transaction() as transaction:
            present = self._present(transaction)
        if not self._are_made:
            self._metadata = present
        return {name: present[name].arrow_schema for name in TABLES if name in present}

    def _make_tables(self, transaction: Any) -> dict[str, Any]:
        import pyarrow as pa
        from vastdb.table_metadata import TableMetadata, TableType

        bucket = transaction.bucket(self._connection.bucket)
        schema = bucket.create_schema(self._connection.schema, fail_if_exists=False)
        metadata = self._present(transaction)
        for name, columns in schemas().items():
            if name in metadata:
                if missing := _missing_columns(name, metadata[name].arrow_schema, columns):
                    schema.table(name).add_column(pa.schema(missing))
                    metadata[name].load(transaction)
                continue
            table = schema.create_table(name, columns)
            metadata[name] = TableMetadata(self._reference(name), columns, TableType.Regular)
            if name == LOCKS:
                table.insert(lock_rows())
        return metadata

    def _present(self, transaction: Any) -> dict[str, Any]:
        """What the server says of each of our tables that is there."""
        from vastdb.table_metadata import TableMetadata

        schema = transaction.bucket(self._connection.bucket).schema(self._connection.schema, fail_if_missing=False)
        present = set() if schema is None else set(schema.tablenames())
        metadata = {}
        for name in schemas():
            if name in present:
                # An existing table may be sorted or have a vector index, which changes how it is written.
                metadata[name] = TableMetadata(self._reference(name))
                metadata[name].load(transaction)
        return metadata

    def _reference(self, name: str) -> Any:
        from vastdb.table_metadata import TableRef

        return TableRef(self._connection.bucket, self._connection.schema, name)

    def _root_local_paths(self) -> None:
        """Make paths of local files absolute, which earlier versions wrote without their first slash."""
        for _ in attempts(self._conflict_wait_seconds, "other writers keep changing the same folders"):
            try:
                with self.transaction() as rows:
                    # Children, pictures and their file were written together.
                    if any(_unrooted(rows, name, "bucket", TABLES[name].paths["bucket"][0]) for name in _PARENTS):
                        lock_slots(rows, range(LOCK_SLOTS), uuid.uuid4().hex)
                        _root_all(rows)
            except (ConflictError, StateUnknownError):
                continue
            return


def _missing_columns(name: str, stored: pa.Schema, columns: pa.Schema) -> list[pa.Field]:
    types = {field.name: field.type for field in stored}
    for field in columns:
        if types.get(field.name, field.type) != field.type:
            problem = (
                f"in its table {name}, column {field.name} has the type {types[field.name]} instead of {field.type}"
            )
            raise MisconfiguredError("VAST_DB_SCHEMA", problem, "use another schema, or rename the table")
    return [field for field in columns if field.name not in types]


def _root_all(rows: VastRows) -> None:
    for name, spec in TABLES.items():
        for bucket, columns in spec.paths.items():
            for column in columns:
                for found in _unrooted(rows, name, bucket, column):
                    _root(rows, name, column, found)


def _unrooted(rows: VastRows, name: str, bucket: str, column: str) -> list[pa.Table]:
    """The rows whose local path begins with no slash: it sorts before or behind all that do."""
    table = rows.table(name)
    ranges = (table[column] < "/", table[column] >= "0")
    found = [rows.select(name, [column], (table[bucket] == "") & outside, with_row_ids=True) for outside in ranges]
    return [some for some in found if some.num_rows]


def _root(rows: VastRows, name: str, column: str, found: pa.Table) -> None:
    import pyarrow as pa

    rooted = pa.array([f"/{path}" for path in found.column(column).to_pylist()], pa.string())
    changed = pa.table({ROW_ID: found.column(ROW_ID), column: rooted})
    for piece in requests(changed):
        rows.table(name).update(piece.combine_chunks())
