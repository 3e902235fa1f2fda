"""The tables in VAST DataBase: one transaction per write, ordered by locks because VAST has no unique keys.

Belongs here: VAST's tables, locks, selects and inserts. Not here: the session (`vast_session`), the rules
(`tables.merge`).
"""

from __future__ import annotations

import hashlib
import operator
import random
import time
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager
from datetime import UTC, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import ExrPipelineError, MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.tables.conform import cast_columns, conform
from exr_pipeline.tables.merge import (
    CHILD_TABLES,
    VERSION_COLUMNS,
    FileKey,
    conform_all,
    newest_by_folder,
    plan_mark,
    plan_removal,
    plan_with_queue,
    plan_write,
    touched_files,
    versions_by_location,
)
from exr_pipeline.tables.planned_reads import planned_reads
from exr_pipeline.tables.queries import BOUNDED, RowStream, in_memory, one_select, run_select, stream_select
from exr_pipeline.tables.specs import TABLES, State, TableName, arrow_schema, tables_of
from exr_pipeline.tables.stores.vast_long_values import (
    REFERENCE_PREFIX,
    cut,
    pieces_schema,
    put_back,
    references,
    take_out,
    texts_by_reference,
)
from exr_pipeline.tables.stores.vast_session import ConflictError
from exr_pipeline.tables.stores.vast_sql import LazyRows, fetched_name, fetched_table_statements, predicate
from exr_pipeline.tables.verbatim import WHOLE_ROWS_PER_BATCH, rows_to_put

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    import duckdb
    import pyarrow as pa

    from exr_pipeline.storage.locations import Location
    from exr_pipeline.tables.merge import VersionId, WritePlan
    from exr_pipeline.tables.planned_reads import Condition, Read
    from exr_pipeline.tables.store import FileVersion, Mark, Queue
    from exr_pipeline.tables.stores.vast_session import VastConnection

# Tables that only VAST needs.
LOCKS: Final = "write_locks"
WRITES: Final = "writes"
LONG_VALUES: Final = "long_values"

LOCK_SLOTS: Final = 64
# How long a write or the making of tables waits for others.
CONFLICT_WAIT_SECONDS: Final = 60.0
# A request may have 5 MiB; what the columns' types add is small.
REQUEST_BYTES: Final = 4 << 20
# How long a write can be asked for; what asks is the write itself, within minutes.
WRITES_KEPT: Final = timedelta(days=1)
KEYS_PER_SELECT: Final = 1000
# Each may have megabytes.
LONG_TEXTS_PER_SELECT: Final = 20

_ROW_ID: Final = "$row_id"
_PARENTS: Final = tables_of("versions", "latest")


class VastStore:
    """A `TableStore` in VAST DataBase.

    Transactions that only insert do not conflict, so each write first changes the lock rows of its files' folders:
    of two writes to one folder, one fails with a conflict and begins again, seeing what the other wrote.
    """

    def __init__(self, connection: VastConnection, *, conflict_wait_seconds: float = CONFLICT_WAIT_SECONDS) -> None:
        self._connection = connection
        self._conflict_wait_seconds = conflict_wait_seconds
        self._metadata: dict[str, Any] = {}
        self._has_tables = False
        self._has_forgotten = False

    def create_tables(self) -> None:
        """See `TableStore`."""
        self._has_tables = False
        self._tables()

    def write(self, rows: Mapping[TableName, pa.Table], *, now: datetime) -> None:
        """See `TableStore`."""
        conformed = conform_all(rows)
        files = touched_files(conformed)
        if not any(table.num_rows for table in conformed.values()):
            return
        long_texts: dict[str, bytes] = {}
        conformed = {name: take_out(table, long_texts) for name, table in conformed.items()}
        self._tables()

        def change(transaction: Any) -> None:
            stored = {name: self._matching(transaction, name, files=files) for name in ("files", "proxy_outputs")}
            self._apply(transaction, plan_write(conformed, stored["files"], stored["proxy_outputs"], now))
            self._insert_long_values(transaction, long_texts)

        self._change(files, change, now)

    def remove(self, table: TableName, rows: Collection[VersionId], *, now: datetime) -> None:
        """See `TableStore`."""
        if rows:
            self._tables()
            self._change([], lambda transaction: self._apply(transaction, plan_removal(table, rows)), now)

    def mark(
        self, versions: Mapping[Location, str], mark: Mark, *, now: datetime, queue: Queue | None = None
    ) -> set[Location]:
        """See `TableStore`."""
        if not versions:
            return set()
        wanted = {FileKey(location.bucket, location.path): file_id for location, file_id in versions.items()}
        marked: set[FileKey] = set()

        def change(transaction: Any) -> None:
            stored = {name: self._matching(transaction, name, files=wanted) for name in ("files", "proxy_outputs")}
            plan, bearing = plan_mark(wanted, mark, stored["files"], stored["proxy_outputs"], now)
            marked.clear()
            marked.update(bearing)
            self._apply(transaction, plan_with_queue(plan, queue))

        self._tables()
        self._change(list(wanted), change, now)
        return {location for location in versions if FileKey(location.bucket, location.path) in marked}

    def _change(self, files: Collection[FileKey], change: Callable[[Any], None], now: datetime) -> None:
        """Change what is stored of these files in one transaction, again after each conflict."""
        write_id = uuid.uuid4().hex
        for _ in _attempts(self._conflict_wait_seconds, "other writers keep changing the same folders"):
            try:
                with self._connection.transaction() as transaction:
                    self._lock(transaction, files, write_id)
                    change(transaction)
                    self._forget_writes(transaction, now)
                    self._insert(transaction, WRITES, _write_row(write_id, now))
            except ConflictError:
                continue
            except StateUnknownError as error:
                if not self._has_written(write_id, error):
                    continue
            self._has_forgotten = True
            return

    def current_versions(self, locations: Collection[Location]) -> dict[Location, FileVersion]:
        """See `TableStore`."""
        return versions_by_location(locations, self.read("files", columns=VERSION_COLUMNS, locations=locations))

    def read(
        self,
        table: TableName,
        *,
        columns: Sequence[str] | None = None,
        locations: Collection[Location] | None = None,
        state: State | None = None,
        current_only: bool = True,
    ) -> pa.Table:
        """See `TableStore`."""
        names = list(columns) if columns is not None else arrow_schema(table).names
        files = None if locations is None else [FileKey(location.bucket, location.path) for location in locations]
        self._tables()
        with self._connection.transaction() as transaction:
            if current_only and table in CHILD_TABLES:
                needed = list(dict.fromkeys([*names, "bucket", "file_id"]))
                rows = self._matching(transaction, table, columns=needed, files=files)
                current = self._matching(
                    transaction, "files", columns=["bucket", "file_id"], files=files, current_only=True
                )
                rows = _only(rows, ("bucket", "file_id"), set(_pairs(current, "bucket", "file_id"))).select(names)
            else:
                rows = self._matching(
                    transaction, table, columns=names, files=files, state=state, current_only=current_only
                )
            return self._put_back(transaction, rows)

    def scan(
        self, table: TableName, *, columns: Sequence[str], bucket: str | None = None, prefix: str = ""
    ) -> Iterator[pa.RecordBatch]:
        """See `TableStore`."""
        self._tables()
        bucket_column, path_column = TABLES[table].file
        with self._connection.transaction() as transaction:
            rows = self._table(transaction, table)
            predicate = rows["superseded_at"].isnull()
            if bucket is not None:
                predicate &= rows[bucket_column] == bucket
            if prefix:
                predicate &= rows[path_column].startswith(prefix)
            yield from self._reader(transaction, table, columns, predicate)

    def folders_changed_since(self, moment: str) -> dict[Location, str]:
        """See `TableStore`."""
        self._tables()
        changed: list[tuple[str, str]] = []
        with self._connection.transaction() as transaction:
            files = self._table(transaction, "files")
            # The server takes no OR across columns.
            for column in ("last_inspected", "deleted_at"):
                predicate = files["superseded_at"].isnull() & (files[column] > moment)
                for batch in self._reader(transaction, "files", ["uri", column], predicate):
                    changed += zip(batch.column("uri").to_pylist(), batch.column(column).to_pylist(), strict=True)
        return newest_by_folder(changed)

    def counts_by_state(self, bucket: str | None = None, prefix: str = "") -> dict[State, int]:
        """See `TableStore`."""
        self._tables()
        with self._connection.transaction() as transaction:
            files = self._table(transaction, "files")
            predicate = files["superseded_at"].isnull() & files["deleted_at"].isnull()
            if bucket is not None:
                predicate &= files["bucket"] == bucket
            if prefix:
                predicate &= files["file_path"].startswith(prefix)
            states = self._select(transaction, "files", ["state"], predicate)
        return dict(sorted(Counter(states.column("state").to_pylist()).items()))

    def sql(self, query: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """See `TableStore`. DuckDB runs the query over the rows and columns that it needs, as they arrive."""
        select = one_select(query)
        with self._rows_for(planned_reads(select, parameters)) as connection:
            return run_select(connection, select, parameters)

    @contextmanager
    def stream_sql(self, query: str, parameters: Mapping[str, object] | None = None) -> Iterator[RowStream]:
        """See `TableStore`."""
        select = one_select(query)
        with self._rows_for(planned_reads(select, parameters), **BOUNDED) as connection:
            yield stream_select(connection, select, parameters)

    def stored_schemas(self) -> dict[TableName, pa.Schema]:
        """See `TableStore`."""
        with self._connection.transaction() as transaction:
            present = self._present(transaction)
        if not self._has_tables:
            self._metadata = present
        return {name: present[name].arrow_schema for name in TABLES if name in present}

    def stored_rows(self, table: TableName, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """See `TableStore`. Long texts are put back."""
        with self._connection.transaction() as transaction:
            self._metadata = self._metadata or self._present(transaction)
            for rows in _slices(self._reader(transaction, table, columns, None), WHOLE_ROWS_PER_BATCH):
                size = LONG_TEXTS_PER_SELECT if references(rows) else WHOLE_ROWS_PER_BATCH
                for some in _slices(rows.to_batches(), size):
                    yield from self._put_back(transaction, some).to_batches()

    def put_rows(self, table: TableName, rows: pa.Table, *, now: datetime) -> int:
        """See `TableStore`."""
        long_texts: dict[str, bytes] = {}
        conformed = take_out(conform(table, rows), long_texts)
        self._tables()
        with self._connection.transaction() as transaction:
            new, _ = self._rows_to_put(transaction, table, conformed)
        if not new.num_rows:
            return 0

        def change(transaction: Any) -> None:
            missing, outdated = self._rows_to_put(transaction, table, conformed)
            if outdated.num_rows:
                self._table(transaction, table).delete(outdated)
            self._insert(transaction, table, missing)
            self._insert_long_values(transaction, long_texts)

        self._change([FileKey(*key) for key in set(_pairs(new, *TABLES[table].file))], change, now)
        return int(new.num_rows)

    def _rows_to_put(self, transaction: Any, table: TableName, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        """The rows that are not stored exactly so, and the row ids of those whose place they take."""
        import pyarrow as pa

        version = TABLES[table].version[1]
        column = self._table(transaction, table)[version]
        ids = sorted(set(rows.column(version).drop_null().to_pylist()))
        found = [
            self._select(transaction, table, rows.column_names, column.isin(some), with_row_ids=True)
            for some in _in_pieces(ids, KEYS_PER_SELECT)
        ]
        if not found:
            return rows, pa.table({_ROW_ID: pa.array([], pa.uint64())})
        stored = pa.concat_tables(found)
        new, outdated = rows_to_put(table, rows, stored)
        return new, stored.select([_ROW_ID]).take(outdated).combine_chunks()

    @contextmanager
    def _rows_for(
        self, reads: Mapping[TableName, Read], **configuration: str | bool
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB whose tables are these of the server. Rows are fetched while a query runs, and are never kept.

        Long texts are fetched once each and put in by DuckDB, only where the query wants them.
        """
        fetched: list[LazyRows] = []
        with ExitStack() as stack:
            if reads:
                self._tables()
                transaction = stack.enter_context(self._connection.transaction())
            connection = stack.enter_context(in_memory(**configuration))
            for name, read in reads.items():
                # Even a query that only counts rows needs a column to count.
                columns = read.columns or (TABLES[name].version[1],)
                fetched.append(self._lazy_rows(transaction, name, columns, read.conditions))
                connection.register(fetched_name(name), fetched[-1])
                long_texts = self._fetch_long_texts(transaction, connection, name, columns)
                for statement in fetched_table_statements(name, columns, long_texts):
                    connection.execute(statement)
            try:
                yield connection
            except Exception as error:
                if failures := [failure for rows in fetched for failure in rows.failures]:
                    raise failures[0] from error
                raise

    def _lazy_rows(
        self, transaction: Any, name: TableName, columns: Sequence[str], conditions: Iterable[Condition]
    ) -> LazyRows:
        import pyarrow as pa

        schema = pa.schema([arrow_schema(name).field(column) for column in columns])
        meant = predicate(self._table(transaction, name), name, conditions)

        def fetch() -> Iterator[pa.RecordBatch]:
            for batch in self._reader(transaction, name, columns, meant):
                yield from cast_columns(pa.Table.from_batches([batch]), schema).to_batches()

        return LazyRows(schema, fetch)

    # tables

    def _tables(self) -> None:
        """Learn what the server says of each table, once per process, after making those that are missing."""
        if not self._has_tables:
            for _ in _attempts(self._conflict_wait_seconds, "other processes keep making the same tables"):
                try:
                    with self._connection.transaction() as transaction:
                        metadata = self._make_tables(transaction)
                except (ConflictError, StateUnknownError):
                    continue
                self._metadata = metadata
                self._root_local_paths()
                self._has_tables = True
                break

    def _make_tables(self, transaction: Any) -> dict[str, Any]:
        import pyarrow as pa
        from vastdb.table_metadata import TableMetadata, TableType

        bucket = transaction.bucket(self._connection.bucket)
        schema = bucket.create_schema(self._connection.schema, fail_if_exists=False)
        metadata = self._present(transaction)
        for name, columns in _schemas().items():
            if name in metadata:
                if missing := self._missing_columns(name, metadata[name].arrow_schema, columns):
                    schema.table(name).add_column(pa.schema(missing))
                    metadata[name].load(transaction)
                continue
            table = schema.create_table(name, columns)
            metadata[name] = TableMetadata(self._reference(name), columns, TableType.Regular)
            if name == LOCKS:
                table.insert(_lock_rows())
        return metadata

    def _present(self, transaction: Any) -> dict[str, Any]:
        """What the server says of each of our tables that is there."""
        from vastdb.table_metadata import TableMetadata

        schema = transaction.bucket(self._connection.bucket).schema(self._connection.schema, fail_if_missing=False)
        present = set() if schema is None else set(schema.tablenames())
        metadata = {}
        for name in _schemas():
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
        for _ in _attempts(self._conflict_wait_seconds, "other writers keep changing the same folders"):
            try:
                with self._connection.transaction() as transaction:
                    # Children, pictures and their file were written together.
                    if any(
                        self._unrooted(transaction, name, "bucket", TABLES[name].paths["bucket"][0])
                        for name in _PARENTS
                    ):
                        self._lock_slots(transaction, range(LOCK_SLOTS), uuid.uuid4().hex)
                        for name, spec in TABLES.items():
                            for bucket, columns in spec.paths.items():
                                for column in columns:
                                    for rows in self._unrooted(transaction, name, bucket, column):
                                        self._root(transaction, name, column, rows)
            except (ConflictError, StateUnknownError):
                continue
            return

    def _unrooted(self, transaction: Any, name: str, bucket: str, column: str) -> list[pa.Table]:
        """The rows whose local path begins with no slash: it sorts before or behind all that do."""
        table = self._table(transaction, name)
        ranges = (table[column] < "/", table[column] >= "0")
        found = [
            self._select(transaction, name, [column], (table[bucket] == "") & outside, with_row_ids=True)
            for outside in ranges
        ]
        return [rows for rows in found if rows.num_rows]

    def _root(self, transaction: Any, name: str, column: str, rows: pa.Table) -> None:
        import pyarrow as pa

        rooted = pa.array([f"/{path}" for path in rows.column(column).to_pylist()], pa.string())
        changed = pa.table({_ROW_ID: rows.column(_ROW_ID), column: rooted})
        for piece in _requests(changed):
            self._table(transaction, name).update(piece.combine_chunks())

    def _missing_columns(self, name: str, stored: pa.Schema, columns: pa.Schema) -> list[pa.Field]:
        types = {field.name: field.type for field in stored}
        for field in columns:
            if types.get(field.name, field.type) != field.type:
                problem = (
                    f"in its table {name}, column {field.name} has the type {types[field.name]} instead of {field.type}"
                )
                raise MisconfiguredError("VAST_DB_SCHEMA", problem, "use another schema, or rename the table")
        return [field for field in columns if field.name not in types]

    def _table(self, transaction: Any, name: str) -> Any:
        return transaction.table_from_metadata(self._metadata[name])

    # writing

    def _lock(self, transaction: Any, files: Collection[FileKey], write_id: str) -> None:
        """Make this transaction conflict with any other that writes files of the same folders."""
        if files:
            self._lock_slots(transaction, sorted({_slot(file) for file in files}), write_id)

    def _lock_slots(self, transaction: Any, slots: Sequence[int], write_id: str) -> None:
        import pyarrow as pa

        table = self._table(transaction, LOCKS)
        rows = self._select(transaction, LOCKS, ["slot"], table["slot"].isin(list(slots)), with_row_ids=True)
        if rows.num_rows != len(slots):
            raise MisconfiguredError(
                "VAST_DB_SCHEMA",
                f"table {LOCKS} has {rows.num_rows} rows instead of {len(slots)}",
                f"drop table {LOCKS} while nothing writes; it is created again",
            )
        holders = pa.array([write_id] * rows.num_rows, pa.string())
        table.update(pa.table({_ROW_ID: rows.column(_ROW_ID), "holder": holders}))

    def _apply(self, transaction: Any, plan: WritePlan) -> None:
        for name, versions in plan.removed.items():
            self._delete(transaction, name, versions)
        for name, rows in plan.rows.items():
            self._insert(transaction, name, rows)

    def _delete(self, transaction: Any, name: TableName, versions: Collection[VersionId]) -> None:
        key = TABLES[name].version
        column = self._table(transaction, name)[key[1]]
        for ids in _in_pieces(sorted({version[1] for version in versions}), KEYS_PER_SELECT):
            rows = self._select(transaction, name, list(key), column.isin(ids), with_row_ids=True)
            rows = _only(rows, key, set(versions))
            if rows.num_rows:
                self._table(transaction, name).delete(rows.select([_ROW_ID]))

    def _insert(self, transaction: Any, name: str, rows: pa.Table) -> None:
        table = self._table(transaction, name)
        for piece in _requests(rows):
            # Chunks that are not combined lose rows on the way.
            table.insert(piece.combine_chunks())

    def _insert_long_values(self, transaction: Any, values: Mapping[str, bytes]) -> None:
        if not values:
            return
        column = self._table(transaction, LONG_VALUES)["hash"]
        known: set[str] = set()
        for hashes in _in_pieces(sorted(values), KEYS_PER_SELECT):
            known |= set(self._select(transaction, LONG_VALUES, ["hash"], column.isin(hashes)).column(0).to_pylist())
        new = {digest: value for digest, value in values.items() if digest not in known}
        self._insert(transaction, LONG_VALUES, cut(new))

    def _forget_writes(self, transaction: Any, now: datetime) -> None:
        """Remove rows of old writes, once per process: two transactions that remove the same ones conflict."""
        if self._has_forgotten:
            return
        table = self._table(transaction, WRITES)
        oldest = (now.astimezone(UTC) - WRITES_KEPT).isoformat()
        rows = self._select(transaction, WRITES, ["write_id"], table["written_at"] < oldest, with_row_ids=True)
        if rows.num_rows:
            table.delete(rows.select([_ROW_ID]))

    def _has_written(self, write_id: str, cause: StateUnknownError) -> bool:
        try:
            with self._connection.transaction() as transaction:
                column = self._table(transaction, WRITES)["write_id"]
                return bool(self._select(transaction, WRITES, ["write_id"], column == write_id).num_rows)
        except ExrPipelineError as error:
            raise StateUnknownError(f"{cause}; checking whether it happened failed as well: {error}") from error

    # reading

    def _matching(
        self,
        transaction: Any,
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
        table = self._table(transaction, name)
        has_versions = TABLES[name].has_versions
        conditions = [table["superseded_at"].isnull()] if current_only and has_versions else []
        if state is not None:
            conditions.append(table["state"] == state)
        if files is None:
            return self._select(transaction, name, names, *conditions)
        bucket, path = TABLES[name].file
        needed = list(dict.fromkeys([*names, bucket, path]))
        found = [
            self._select(transaction, name, needed, table[path].isin(paths), *conditions)
            for paths in _in_pieces(sorted({file.file_path for file in files}), KEYS_PER_SELECT)
        ]
        rows = pa.concat_tables([arrow_schema(name).empty_table().select(needed), *found]).combine_chunks()
        return _only(rows, (bucket, path), set(files)).select(names)

    def _select(
        self, transaction: Any, name: str, columns: Sequence[str], *predicates: Any, with_row_ids: bool = False
    ) -> pa.Table:
        import pyarrow as pa

        predicate = reduce(operator.and_, predicates) if predicates else None
        rows = self._reader(transaction, name, columns, predicate, with_row_ids=with_row_ids).read_all()
        schema = _schemas()[name]
        fields = [schema.field(column) for column in columns]
        if with_row_ids:
            fields.append(rows.schema.field(_ROW_ID))
        return cast_columns(rows, pa.schema(fields))

    def _reader(
        self,
        transaction: Any,
        name: str,
        columns: Sequence[str],
        predicate: Any,
        *,
        with_row_ids: bool = False,
        limit_rows: int = 0,
    ) -> pa.RecordBatchReader:
        from vastdb.config import QueryConfig

        return self._table(transaction, name).select(
            columns=list(columns),
            predicate=predicate,
            config=QueryConfig(num_splits=1, data_endpoints=[self._connection.endpoint]),
            internal_row_id=with_row_ids,
            limit_rows=limit_rows,
        )

    def _put_back(self, transaction: Any, rows: pa.Table) -> pa.Table:
        return put_back(rows, lambda hashes: self._pieces(transaction, hashes))

    def _pieces(self, transaction: Any, hashes: list[str]) -> pa.Table:
        import pyarrow as pa

        column = self._table(transaction, LONG_VALUES)["hash"]
        found = [
            self._select(transaction, LONG_VALUES, pieces_schema().names, column.isin(some))
            for some in _in_pieces(hashes, KEYS_PER_SELECT)
        ]
        return pa.concat_tables(found)

    def _fetch_long_texts(
        self, transaction: Any, connection: duckdb.DuckDBPyConnection, name: TableName, columns: Sequence[str]
    ) -> list[str]:
        """Fetch the texts that cells of these columns refer to. Returns the columns that have any."""
        referred = self._references(transaction, name, columns)
        connection.execute("CREATE TABLE IF NOT EXISTS long_texts (reference VARCHAR PRIMARY KEY, text VARCHAR)")
        for hashes in referred.values():
            for some in _in_pieces(sorted(hashes), LONG_TEXTS_PER_SELECT):
                connection.register("pieces", texts_by_reference(self._pieces(transaction, some)))
                connection.execute("INSERT OR IGNORE INTO long_texts SELECT reference, text FROM pieces")
                connection.unregister("pieces")
        return list(referred)

    def _references(self, transaction: Any, name: TableName, columns: Sequence[str]) -> dict[str, list[str]]:
        """The hashes of the long texts in each of these columns that has any."""
        table = self._table(transaction, name)
        found: dict[str, list[str]] = {}
        for column in self._columns_with_texts(transaction, name, columns):
            cells = self._select(transaction, name, [column], table[column].startswith(REFERENCE_PREFIX))
            found |= references(cells)
        return found

    def _columns_with_texts(self, transaction: Any, name: TableName, columns: Sequence[str]) -> list[str]:
        """Those of the columns that hold text, if there is any long text at all."""
        import pyarrow as pa

        pieces = self._reader(transaction, LONG_VALUES, ["hash"], None, limit_rows=1).read_all()
        schema = arrow_schema(name)
        return [column for column in columns if pa.types.is_string(schema.field(column).type) and pieces.num_rows]


def _attempts(seconds: float, what: str) -> Iterator[int]:
    """Count attempts, pausing longer and longer between them. `RetryableError` once so many seconds are over."""
    deadline, pause, attempt = time.monotonic() + seconds, 0.02, 0
    while True:
        yield attempt
        if time.monotonic() > deadline:
            raise RetryableError(f"VAST DataBase: {what}; tried for {seconds:g} s")
        # Spread, or the same writers would meet again.
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
        pause, attempt = min(pause * 1.6, 1.0), attempt + 1


def _schemas() -> dict[str, pa.Schema]:
    import pyarrow as pa

    own: dict[str, pa.Schema] = {name: arrow_schema(name) for name in TABLES}
    own[LOCKS] = pa.schema([("slot", pa.int32()), ("holder", pa.string())])
    own[WRITES] = pa.schema([("write_id", pa.string()), ("written_at", pa.string())])
    own[LONG_VALUES] = pieces_schema()
    return own


def _lock_rows() -> pa.Table:
    import pyarrow as pa

    slots = pa.array(range(LOCK_SLOTS), pa.int32())
    return pa.table([slots, pa.nulls(LOCK_SLOTS, pa.string())], schema=_schemas()[LOCKS])


def _write_row(write_id: str, now: datetime) -> pa.Table:
    import pyarrow as pa

    return pa.table([[write_id], [now.astimezone(UTC).isoformat()]], schema=_schemas()[WRITES])


def _slot(file: FileKey) -> int:
    folder = file.file_path.rpartition("/")[0]
    return hashlib.sha256(f"{file.bucket}/{folder}".encode()).digest()[0] % LOCK_SLOTS


def _slices(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """The rows of batches in tables of at most so many."""
    import pyarrow as pa

    for batch in batches:
        for start in range(0, batch.num_rows, size):
            yield pa.Table.from_batches([batch.slice(start, size)])


def _requests(rows: pa.Table) -> Iterator[pa.Table]:
    """The rows in slices that fit into one request each."""
    if rows.num_rows <= 1 or rows.nbytes <= REQUEST_BYTES:
        if rows.num_rows:
            yield rows
        return
    half = rows.num_rows // 2
    yield from _requests(rows.slice(0, half))
    yield from _requests(rows.slice(half))


def _in_pieces(values: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _pairs(table: pa.Table, first: str, second: str) -> list[tuple[str, str]]:
    return list(zip(table.column(first).to_pylist(), table.column(second).to_pylist(), strict=True))


def _only(rows: pa.Table, columns: tuple[str, str], wanted: set[tuple[str, str]]) -> pa.Table:
    """The rows whose pair of columns is wanted."""
    import pyarrow as pa

    return rows.filter(pa.array([pair in wanted for pair in _pairs(rows, *columns)], pa.bool_()))
