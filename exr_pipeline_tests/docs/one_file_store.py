"""The tables in one pickled file: the store that the test of the recipe adds.

Belongs here: as little as the contract of a store asks for. Not here: speed, or anything that the project ships.
"""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.conform import cast_columns, conform
from exr_pipeline.tables.merge import (
    VERSION_COLUMNS,
    FileKey,
    WritePlan,
    conform_all,
    newest_by_folder,
    plan_mark,
    plan_removal,
    plan_with_queue,
    plan_write,
    touched_files,
    versions_by_location,
)
from exr_pipeline.tables.queries import RowStream, in_memory, one_select, run_select
from exr_pipeline.tables.specs import TABLES, TableName, arrow_schema, tables_of
from exr_pipeline.tables.store import FileVersion, Mark, Queue
from exr_pipeline.tables.verbatim import WHOLE_ROWS_PER_BATCH, rows_to_put

Stored = dict[TableName, pa.Table]


class OneFileStore:
    """A `TableStore` in one file, which each write replaces whole under a lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def create_tables(self) -> None:
        """See `TableStore`."""

    def write(self, rows: Mapping[TableName, pa.Table], *, now: datetime) -> None:
        """See `TableStore`."""
        conformed = conform_all(rows)
        files = touched_files(conformed)
        if any(table.num_rows for table in conformed.values()):
            with self._locked() as stored:
                before = {name: _of_files(stored, name, files) for name in ("files", "proxy_outputs")}
                self._apply(stored, plan_write(conformed, before["files"], before["proxy_outputs"], now))

    def remove(self, table: TableName, rows: Collection[tuple[str, str]], *, now: datetime) -> None:
        """See `TableStore`."""
        with self._locked() as stored:
            self._apply(stored, plan_removal(table, rows))

    def oldest(self, queue: TableName, count: int, *, name: str | None = None) -> pa.Table:
        """See `TableStore`."""
        spec = TABLES[queue]
        found = self._load()[queue]
        if name is not None:
            found = _where(found, spec.version[:1], {(name,)})
        return found.sort_by([(spec.queued_at, "ascending"), (spec.version[1], "ascending")]).slice(0, count)

    def count(self, table: TableName) -> int:
        """See `TableStore`."""
        return int(self._load()[table].num_rows)

    def mark(
        self, versions: Mapping[Location, str], mark: Mark, *, now: datetime, queue: Queue | None = None
    ) -> set[Location]:
        """See `TableStore`."""
        meant = {FileKey(location.bucket, location.path): file_id for location, file_id in versions.items()}
        with self._locked() as stored:
            before = {name: _of_files(stored, name, meant) for name in ("files", "proxy_outputs")}
            plan, marked = plan_mark(meant, mark, before["files"], before["proxy_outputs"], now)
            self._apply(stored, plan_with_queue(plan, queue))
        return {location for location in versions if FileKey(location.bucket, location.path) in marked}

    def current_versions(self, locations: Collection[Location]) -> dict[Location, FileVersion]:
        """See `TableStore`."""
        return versions_by_location(locations, self.read("files", columns=VERSION_COLUMNS, locations=locations))

    def read(
        self,
        table: TableName,
        *,
        columns: Sequence[str] | None = None,
        locations: Collection[Location] | None = None,
        current_only: bool = True,
    ) -> pa.Table:
        """See `TableStore`."""
        stored = self._load()
        found = stored[table]
        if locations is not None:
            found = _of_files(stored, table, [FileKey(location.bucket, location.path) for location in locations])
        if current_only and table in tables_of("children"):
            files = stored["files"].to_pylist()
            current = {(row["bucket"], row["file_id"]) for row in files if row["superseded_at"] is None}
            found = _where(found, ("bucket", "file_id"), current)
        elif current_only and TABLES[table].has_versions:
            found = _where(found, ("superseded_at",), {(None,)})
        return found.select(list(columns) if columns is not None else arrow_schema(table).names)

    def scan(
        self, table: TableName, *, columns: Sequence[str], bucket: str | None = None, prefix: str = ""
    ) -> Iterator[pa.RecordBatch]:
        """See `TableStore`."""
        in_bucket, path = TABLES[table].file
        query = f"""SELECT {", ".join(columns)} FROM {table} WHERE superseded_at IS NULL
            AND ($bucket IS NULL OR {in_bucket} = $bucket) AND starts_with({path}, $prefix)"""
        yield from self.sql(query, {"bucket": bucket, "prefix": prefix}).to_batches(max_chunksize=1000)

    def folders_changed_since(self, moment: str) -> dict[Location, str]:
        """See `TableStore`."""
        query = """SELECT uri, greatest(last_inspected, coalesce(deleted_at, '')) AS changed FROM files
            WHERE superseded_at IS NULL AND greatest(last_inspected, coalesce(deleted_at, '')) > $moment"""
        return newest_by_folder((row["uri"], row["changed"]) for row in self.sql(query, {"moment": moment}).to_pylist())

    def counts_by_state(self, bucket: str | None = None, prefix: str = "") -> dict[str, int]:
        """See `TableStore`."""
        query = """SELECT state, count(*) AS files FROM latest_files
            WHERE ($bucket IS NULL OR bucket = $bucket) AND starts_with(file_path, $prefix)
            GROUP BY state ORDER BY state"""
        found = self.sql(query, {"bucket": bucket, "prefix": prefix}).to_pylist()
        return {row["state"]: row["files"] for row in found}

    def sql(self, query: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """See `TableStore`."""
        select = one_select(query)
        with in_memory() as connection:
            for name, rows in self._load().items():
                connection.register("stored", rows)
                connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM stored")
                connection.unregister("stored")
            return run_select(connection, select, parameters)

    @contextmanager
    def stream_sql(self, query: str, parameters: Mapping[str, object] | None = None) -> Iterator[RowStream]:
        """See `TableStore`."""
        yield RowStream(self.sql(query, parameters).to_reader())

    def stored_schemas(self) -> dict[TableName, pa.Schema]:
        """See `TableStore`."""
        return {name: rows.schema for name, rows in self._load().items()} if self._path.exists() else {}

    def stored_rows(self, table: TableName, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """See `TableStore`."""
        yield from self._load()[table].select(list(columns)).to_batches(max_chunksize=WHOLE_ROWS_PER_BATCH)

    def put_rows(self, table: TableName, rows: pa.Table, *, now: datetime) -> int:
        """See `TableStore`."""
        with self._locked() as stored:
            new, outdated = rows_to_put(table, conform(table, rows), stored[table])
            gone = set(outdated.to_pylist())
            kept = [place for place in range(stored[table].num_rows) if place not in gone]
            stored[table] = stored[table].take(pa.array(kept, pa.int64()))
            self._apply(stored, WritePlan({}, {table: new}))
        return int(new.num_rows)

    def _load(self) -> Stored:
        if not self._path.exists():
            return {name: arrow_schema(name).empty_table() for name in TABLES}
        stored: Stored = pickle.loads(self._path.read_bytes())
        # A pickle forgets which elements of a vector may be null.
        return {name: cast_columns(table, arrow_schema(name)) for name, table in stored.items()}

    @contextmanager
    def _locked(self) -> Iterator[Stored]:
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._load()

    def _apply(self, stored: Stored, plan: WritePlan) -> None:
        for name, versions in plan.removed.items():
            stored[name] = _where(stored[name], TABLES[name].version, set(versions), keep=False)
        for name, rows in plan.rows.items():
            stored[name] = pa.concat_tables([stored[name], cast_columns(rows, arrow_schema(name))])
        written = self._path.with_suffix(f".{os.getpid()}.new")
        written.write_bytes(pickle.dumps(stored))
        written.replace(self._path)


def _where(table: pa.Table, columns: Sequence[str], values: set[Any], *, keep: bool = True) -> pa.Table:
    found = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
    return table.filter(pa.array([(value in values) == keep for value in found], pa.bool_()))


def _of_files(stored: Stored, name: TableName, files: Collection[FileKey]) -> pa.Table:
    return _where(stored[name], TABLES[name].file, {tuple(key) for key in files})
