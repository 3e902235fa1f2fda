"""The tables in VAST DataBase: one transaction per write, ordered by locks because VAST has no unique keys.

Belongs here: what each call of a store means in transactions. Not here: the session (`vast_session`), tables
(`vast_tables`), rows (`vast_rows`), locks (`vast_locks`), SQL (`vast_queries`), the rules (`tables.merge`).
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, get_args

from exr_pipeline.errors import ExrPipelineError, StateUnknownError
from exr_pipeline.tables.conform import conform
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
from exr_pipeline.tables.queries import BOUNDED, RowStream, one_select, run_select, stream_select
from exr_pipeline.tables.specs import TABLES, State, TableName, arrow_schema
from exr_pipeline.tables.stores.vast_locks import CONFLICT_WAIT_SECONDS, attempts, lock_folders
from exr_pipeline.tables.stores.vast_long_values import references, take_out
from exr_pipeline.tables.stores.vast_queries import LONG_TEXTS_PER_SELECT, rows_for
from exr_pipeline.tables.stores.vast_queues import oldest
from exr_pipeline.tables.stores.vast_rows import only, pairs, slices
from exr_pipeline.tables.stores.vast_schemas import WRITES
from exr_pipeline.tables.stores.vast_session import ConflictError
from exr_pipeline.tables.stores.vast_tables import VastTables
from exr_pipeline.tables.stores.vast_writes import forget_writes, has_written, write_row
from exr_pipeline.tables.verbatim import WHOLE_ROWS_PER_BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa

    from exr_pipeline.storage.locations import Location
    from exr_pipeline.tables.merge import VersionId
    from exr_pipeline.tables.store import FileVersion, Mark, Queue
    from exr_pipeline.tables.stores.vast_rows import VastRows
    from exr_pipeline.tables.stores.vast_session import VastConnection


class VastStore:
    """A `TableStore` in VAST DataBase. Writes to one folder exclude each other, by `vast_locks`."""

    def __init__(self, connection: VastConnection, *, conflict_wait_seconds: float = CONFLICT_WAIT_SECONDS) -> None:
        self._conflict_wait_seconds = conflict_wait_seconds
        self._tables = VastTables(connection, conflict_wait_seconds)
        self._has_forgotten = False

    def create_tables(self) -> None:
        """See `TableStore`."""
        self._tables.make(again=True)

    def write(self, rows: Mapping[TableName, pa.Table], *, now: datetime) -> None:
        """See `TableStore`."""
        conformed = conform_all(rows)
        files = touched_files(conformed)
        if not any(table.num_rows for table in conformed.values()):
            return
        long_texts: dict[str, bytes] = {}
        conformed = {name: take_out(table, long_texts) for name, table in conformed.items()}

        def change(stored: VastRows) -> None:
            former = {name: stored.matching(name, files=files) for name in ("files", "proxy_outputs")}
            stored.apply(plan_write(conformed, former["files"], former["proxy_outputs"], now))
            stored.insert_long_values(long_texts)

        self._change(files, change, now)

    def remove(self, table: TableName, rows: Collection[VersionId], *, now: datetime) -> None:
        """See `TableStore`."""
        if rows:
            self._change([], lambda stored: stored.apply(plan_removal(table, rows)), now)

    def oldest(self, queue: TableName, count: int, *, name: str | None = None) -> pa.Table:
        """See `TableStore`."""
        with self._reading() as rows:
            return rows.put_back(oldest(rows, queue, count, name))

    def count(self, table: TableName) -> int:
        """See `TableStore`."""
        with self._reading() as rows:
            return rows.count(table)

    def mark(
        self, versions: Mapping[Location, str], mark: Mark, *, now: datetime, queue: Queue | None = None
    ) -> set[Location]:
        """See `TableStore`."""
        if not versions:
            return set()
        wanted = {FileKey(location.bucket, location.path): file_id for location, file_id in versions.items()}
        marked: set[FileKey] = set()

        def change(stored: VastRows) -> None:
            former = {name: stored.matching(name, files=wanted) for name in ("files", "proxy_outputs")}
            plan, bearing = plan_mark(wanted, mark, former["files"], former["proxy_outputs"], now)
            marked.clear()
            marked.update(bearing)
            stored.apply(plan_with_queue(plan, queue))

        self._change(list(wanted), change, now)
        return {location for location in versions if FileKey(location.bucket, location.path) in marked}

    def _change(self, files: Collection[FileKey], change: Callable[[VastRows], None], now: datetime) -> None:
        """Change what is stored of these files in one transaction, again after each conflict."""
        self._tables.make()
        write_id = uuid.uuid4().hex
        was_lost = False
        for _ in attempts(self._conflict_wait_seconds, "other writers keep changing the same folders"):
            try:
                with self._tables.transaction() as rows:
                    lock_folders(rows, files, write_id)
                    change(rows)
                    # Once per process, for it conflicts with others that do so.
                    if not self._has_forgotten:
                        forget_writes(rows, now)
                    rows.insert(WRITES, write_row(write_id, now))
            except ConflictError:
                continue
            except StateUnknownError as error:
                if not self._has_written(write_id, error):
                    if was_lost:
                        # Nothing was changed, twice: what the server answered is all that is to be told.
                        raise error.__cause__ or error from None
                    was_lost = True
                    continue
            self._has_forgotten = True
            return

    def _has_written(self, write_id: str, cause: StateUnknownError) -> bool:
        try:
            with self._tables.transaction() as rows:
                return has_written(rows, write_id)
        except ExrPipelineError as error:
            raise StateUnknownError(f"{cause}; checking whether it happened failed as well: {error}") from error

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
        with self._reading() as rows:
            if current_only and table in CHILD_TABLES:
                found = _current_children(rows, table, names, files)
            else:
                found = rows.matching(table, columns=names, files=files, state=state, current_only=current_only)
            return rows.put_back(found)

    def scan(
        self, table: TableName, *, columns: Sequence[str], bucket: str | None = None, prefix: str = ""
    ) -> Iterator[pa.RecordBatch]:
        """See `TableStore`."""
        bucket_column, path_column = TABLES[table].file
        with self._reading() as rows:
            stored = rows.table(table)
            predicate = stored["superseded_at"].isnull()
            if bucket is not None:
                predicate &= stored[bucket_column] == bucket
            if prefix:
                predicate &= stored[path_column].startswith(prefix)
            yield from rows.reader(table, columns, predicate)

    def folders_changed_since(self, moment: str) -> dict[Location, str]:
        """See `TableStore`."""
        changed: list[tuple[str, str]] = []
        with self._reading() as rows:
            files = rows.table("files")
            # The server takes no OR across columns.
            for column in ("last_inspected", "deleted_at"):
                predicate = files["superseded_at"].isnull() & (files[column] > moment)
                for batch in rows.reader("files", ["uri", column], predicate):
                    changed += zip(batch.column("uri").to_pylist(), batch.column(column).to_pylist(), strict=True)
        return newest_by_folder(changed)

    def counts_by_state(self, bucket: str | None = None, prefix: str = "") -> dict[State, int]:
        """See `TableStore`."""
        with self._reading() as rows:
            files = rows.table("files")
            predicate = files["superseded_at"].isnull() & files["deleted_at"].isnull()
            if bucket is not None:
                predicate &= files["bucket"] == bucket
            if prefix:
                predicate &= files["file_path"].startswith(prefix)
            states: list[State] = sorted(get_args(State))
            counts = {state: rows.count("files", predicate & (files["state"] == state)) for state in states}
        return {state: count for state, count in counts.items() if count}

    @contextmanager
    def _reading(self) -> Iterator[VastRows]:
        self._tables.make()
        with self._tables.transaction() as rows:
            yield rows

    def sql(self, query: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """See `TableStore`. DuckDB runs the query over the rows and columns that it needs, as they arrive."""
        select = one_select(query)
        with rows_for(self._tables, planned_reads(select, parameters)) as connection:
            return run_select(connection, select, parameters)

    @contextmanager
    def stream_sql(self, query: str, parameters: Mapping[str, object] | None = None) -> Iterator[RowStream]:
        """See `TableStore`."""
        select = one_select(query)
        with rows_for(self._tables, planned_reads(select, parameters), **BOUNDED) as connection:
            yield stream_select(connection, select, parameters)

    def stored_schemas(self) -> dict[TableName, pa.Schema]:
        """See `TableStore`."""
        return self._tables.find()

    def stored_rows(self, table: TableName, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """See `TableStore`. Long texts are put back."""
        if not self._tables.are_known:
            self._tables.find()
        with self._tables.transaction() as rows:
            for some in slices(rows.reader(table, columns, None), WHOLE_ROWS_PER_BATCH):
                size = LONG_TEXTS_PER_SELECT if references(some) else WHOLE_ROWS_PER_BATCH
                for fewer in slices(some.to_batches(), size):
                    yield from rows.put_back(fewer).to_batches()

    def put_rows(self, table: TableName, rows: pa.Table, *, now: datetime) -> int:
        """See `TableStore`."""
        long_texts: dict[str, bytes] = {}
        conformed = take_out(conform(table, rows), long_texts)
        with self._reading() as stored:
            new, _ = stored.rows_to_put(table, conformed)
        if not new.num_rows:
            return 0

        def change(stored: VastRows) -> None:
            missing, outdated = stored.rows_to_put(table, conformed)
            if outdated.num_rows:
                stored.table(table).delete(outdated)
            stored.insert(table, missing)
            stored.insert_long_values(long_texts)

        self._change([FileKey(*key) for key in set(pairs(new, *TABLES[table].file))], change, now)
        return int(new.num_rows)


def _current_children(
    rows: VastRows, table: TableName, names: Sequence[str], files: Collection[FileKey] | None
) -> pa.Table:
    needed = list(dict.fromkeys([*names, "bucket", "file_id"]))
    found = rows.matching(table, columns=needed, files=files)
    current = rows.matching("files", columns=["bucket", "file_id"], files=files, current_only=True)
    return only(found, ("bucket", "file_id"), set(pairs(current, "bucket", "file_id"))).select(names)
