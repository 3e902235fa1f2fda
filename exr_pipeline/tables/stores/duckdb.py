"""The tables in one DuckDB file, which is open only during an operation so that other processes get at it too.

Belongs here: the file's lock, transactions, DuckDB's SQL. Not here: the rules of a write (`tables.merge`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.storage.private_files import make_private_folder
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
from exr_pipeline.tables.queries import (
    BOUNDED,
    LOCKED,
    ROWS_PER_BATCH,
    USE_UTC,
    Configuration,
    RowStream,
    in_memory,
    one_select,
    run_select,
    stream_select,
    table_statements,
    view_statements,
)
from exr_pipeline.tables.specs import TABLES, State, TableName, arrow_schema
from exr_pipeline.tables.verbatim import WHOLE_ROWS_PER_BATCH, rows_to_put

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    import duckdb
    import pyarrow as pa

    from exr_pipeline.storage.locations import Location
    from exr_pipeline.tables.merge import VersionId, WritePlan
    from exr_pipeline.tables.store import FileVersion, Mark, Queue

# How long an operation waits for the file while others have it.
LOCK_WAIT_SECONDS: Final = 60.0

# Enough for every new database: DuckDB looks at the first bytes of a file before it asks for the lock.
_AT_ONCE: Final = 64 << 20

_SETTING: Final = "EXR_PIPELINE_DATABASE"

# A limit on the size of files is met as a quota is.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# DuckDB lets the threads of a process share its lock on the file, but not with different rights.
_in_process: dict[tuple[int, str], threading.Lock] = {}


def _utf8(path: Path | str) -> str:
    """The path as DuckDB takes it: in UTF-8, whatever encoding the locale says names have."""
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        raise MisconfiguredError(
            _SETTING, f"{path} is not valid UTF-8", "use a folder and file whose names are"
        ) from None


class DuckDBStore:
    """A `TableStore` in a DuckDB file. DuckDB's lock on the file makes writes follow one another exactly."""

    def __init__(self, path: Path, *, lock_wait_seconds: float = LOCK_WAIT_SECONDS) -> None:
        self._path = path.absolute()
        self._lock_wait_seconds = lock_wait_seconds
        self._has_tables = False

    def create_tables(self) -> None:
        """See `TableStore`."""
        statements = [*table_statements(), *view_statements()]
        signature = hashlib.sha256("".join(statements).encode()).hexdigest()
        if not self._exists() and self._make_file(statements, signature):
            return
        with self._open(read_only=True) as connection:
            if _has_signature(connection, signature):
                return
        with self._open(read_only=False) as connection:
            if not _has_signature(connection, signature):
                _create_tables(connection, statements, signature)

    def write(self, rows: Mapping[TableName, pa.Table], *, now: datetime) -> None:
        """See `TableStore`."""
        conformed = conform_all(rows)
        files = touched_files(conformed)
        if not any(table.num_rows for table in conformed.values()):
            return
        with self._with_tables(read_only=False) as connection, _transaction(connection):
            stored = {name: _matching(connection, name, files=files) for name in ("files", "proxy_outputs")}
            _apply(connection, plan_write(conformed, stored["files"], stored["proxy_outputs"], now))

    def remove(self, table: TableName, rows: Collection[VersionId], *, now: datetime) -> None:
        """See `TableStore`."""
        if rows:
            with self._with_tables(read_only=False) as connection, _transaction(connection):
                _apply(connection, plan_removal(table, rows))

    def oldest(self, queue: TableName, count: int, *, name: str | None = None) -> pa.Table:
        """See `TableStore`."""
        spec = TABLES[queue]
        order = f"{spec.queued_at}, {spec.version[1]}"
        with self._with_tables(read_only=True) as connection:
            # By row number, so that of all other rows only what they are sorted by is read.
            found = connection.sql(
                f"""SELECT * FROM {queue} WHERE rowid IN (
                    SELECT rowid FROM {queue} WHERE $name IS NULL OR {spec.version[0]} = $name
                    ORDER BY {order} LIMIT $count
                ) ORDER BY {order}""",  # noqa: S608 - our names
                params={"name": name, "count": count},
            ).to_arrow_table()
        return conform(queue, found)

    def count(self, table: TableName) -> int:
        """See `TableStore`."""
        with self._with_tables(read_only=True) as connection:
            ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()  # noqa: S608 - our names
        return int(rows)

    def mark(
        self, versions: Mapping[Location, str], mark: Mark, *, now: datetime, queue: Queue | None = None
    ) -> set[Location]:
        """See `TableStore`."""
        if not versions:
            return set()
        wanted = {FileKey(location.bucket, location.path): file_id for location, file_id in versions.items()}
        with self._with_tables(read_only=False) as connection, _transaction(connection):
            stored = {name: _matching(connection, name, files=wanted) for name in ("files", "proxy_outputs")}
            plan, marked = plan_mark(wanted, mark, stored["files"], stored["proxy_outputs"], now)
            _apply(connection, plan_with_queue(plan, queue))
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
        state: State | None = None,
        current_only: bool = True,
    ) -> pa.Table:
        """See `TableStore`."""
        files = None if locations is None else [FileKey(location.bucket, location.path) for location in locations]
        with self._with_tables(read_only=True) as connection:
            return _matching(connection, table, columns=columns, files=files, state=state, current_only=current_only)

    def scan(
        self, table: TableName, *, columns: Sequence[str], bucket: str | None = None, prefix: str = ""
    ) -> Iterator[pa.RecordBatch]:
        """See `TableStore`."""
        bucket_column, path_column = TABLES[table].file
        selected = ", ".join(f'"{name}"' for name in columns)
        with self._with_tables(read_only=True) as connection:
            yield from connection.sql(
                f"""SELECT {selected} FROM {table} WHERE superseded_at IS NULL
                AND ($bucket IS NULL OR {bucket_column} = $bucket) AND starts_with({path_column}, $prefix)""",  # noqa: S608 - our names
                params={"bucket": bucket, "prefix": prefix},
            ).to_arrow_reader(ROWS_PER_BATCH)

    def folders_changed_since(self, moment: str) -> dict[Location, str]:
        """See `TableStore`."""
        with self._with_tables(read_only=True) as connection:
            changed = connection.execute(
                """SELECT min(uri), max(greatest(last_inspected, coalesce(deleted_at, ''))) AS changed_at
                FROM files WHERE superseded_at IS NULL AND (last_inspected > $moment OR deleted_at > $moment)
                GROUP BY bucket, regexp_replace(file_path, '[^/]*$', ''), regexp_replace(uri, '[^/]*$', '')""",
                {"moment": moment},
            ).fetchall()
        return newest_by_folder(changed)

    def counts_by_state(self, bucket: str | None = None, prefix: str = "") -> dict[State, int]:
        """See `TableStore`."""
        with self._with_tables(read_only=True) as connection:
            return dict(
                connection.execute(
                    """SELECT state, count(*) FROM latest_files
                    WHERE ($bucket IS NULL OR bucket = $bucket) AND starts_with(file_path, $prefix)
                    GROUP BY state ORDER BY state""",
                    {"bucket": bucket, "prefix": prefix},
                ).fetchall()
            )

    def sql(self, query: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """See `TableStore`."""
        select = one_select(query)
        with self._with_tables(read_only=True, configuration=LOCKED) as connection:
            connection.execute(USE_UTC)
            return run_select(connection, select, parameters)

    @contextmanager
    def stream_sql(self, query: str, parameters: Mapping[str, object] | None = None) -> Iterator[RowStream]:
        """See `TableStore`."""
        select = one_select(query)
        with self._with_tables(read_only=True, configuration=LOCKED | BOUNDED) as connection:
            connection.execute(USE_UTC)
            yield stream_select(connection, select, parameters)

    def stored_schemas(self) -> dict[TableName, pa.Schema]:
        """See `TableStore`."""
        if not self._exists():
            return {}
        with self._open(read_only=True) as connection:
            present = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
            return {
                name: connection.sql(f"FROM {name} LIMIT 0").to_arrow_table().schema
                for name in TABLES
                if name in present
            }

    def stored_rows(self, table: TableName, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """See `TableStore`."""
        selected = ", ".join(f'"{name}"' for name in columns)
        with self._open(read_only=True, configuration=BOUNDED) as connection:
            yield from connection.sql(f"SELECT {selected} FROM {table}").to_arrow_reader(WHOLE_ROWS_PER_BATCH)  # noqa: S608 - our names

    def put_rows(self, table: TableName, rows: pa.Table, *, now: datetime) -> int:
        """See `TableStore`."""
        conformed = conform(table, rows)
        with self._with_tables(read_only=False) as connection, _transaction(connection):
            stored = _of_same_versions(connection, table, conformed)
            new, outdated = rows_to_put(table, conformed, stored)
            connection.register("outdated", stored.select(["row_number"]).take(outdated))
            connection.execute(f"DELETE FROM {table} WHERE rowid IN (SELECT row_number FROM outdated)")  # noqa: S608 - our names
            _insert(connection, table, new)
        return int(new.num_rows)

    def copy_to(self, target: Path) -> None:
        """Copy the database to a new file, as it is between two writes; writers wait as long as that takes.

        Raises `MisconfiguredError` if there is no database.
        """
        if not self._exists():
            raise MisconfiguredError(
                _SETTING, f"{self._path} does not exist", "set it to the database, or ingest something"
            )
        log = self._path.with_name(f"{self._path.name}.wal")
        # Open for reading, DuckDB's lock keeps writers out and nothing is changed.
        with self._open(read_only=True):
            if log.exists():
                shutil.copyfile(log, target.with_name(f"{target.name}.wal"))
            shutil.copyfile(self._path, target)

    def _exists(self) -> bool:
        """Whether there is a database; an empty file is none yet, but the beginning of one."""
        log = self._path.with_name(f"{self._path.name}.wal")
        # In this order: a log is only ever begun beside its database.
        has_log = log.exists()
        exists = self._path.exists() and self._path.stat().st_size > 0
        if has_log and not exists:
            raise MisconfiguredError(
                _SETTING, f"{log} exists, but its database does not", "restore the database, or delete the log too"
            )
        return exists

    def _make_file(self, statements: Sequence[str], signature: str) -> bool:
        """Put a database in place whole, for others open what they find. False if another process has done so."""
        import duckdb

        try:
            make_private_folder(self._path.parent)
        except OSError as error:
            if typed := self._of_disk(error):
                raise typed from error
            raise
        try:
            with TemporaryDirectory(prefix=f".{self._path.name}.", dir=self._path.parent) as folder:
                new = Path(folder) / "new.duckdb"
                with duckdb.connect(_utf8(new)) as connection:
                    _create_tables(connection, statements, signature)
                    # Closing does so too, but says nothing if it fails: the tables stay in the log.
                    connection.execute("CHECKPOINT")
                if new.with_name("new.duckdb.wal").exists():
                    raise RetryableError(f"{self._path}: DuckDB left a log next to the new database")
                try:
                    # Unlike renaming, it does nothing if another process has made one meanwhile.
                    os.link(new, self._path)
                except OSError:
                    # One is there, if only an empty file, or the file system has no links.
                    return self._fill_if_empty(new)
        except (duckdb.OperationalError, duckdb.FatalException) as error:
            reason = str(error).splitlines()[0]
            raise self._of_disk(error) or RetryableError(f"{self._path} could not be created: {reason}") from error
        except OSError as error:
            raise self._of_disk(error) or MisconfiguredError(
                _SETTING, f"{self._path} cannot be created: {error.strerror}", "use a writable folder"
            ) from error
        return True

    def _fill_if_empty(self, new: Path) -> bool:
        """Copy a new database to its place under DuckDB's own lock, so that nobody opens the beginning of it.

        DuckDB itself creates a file before it locks it. Whoever locks the empty file in between keeps it from going on,
        and no DuckDB opens an empty file.
        """
        deadline = time.monotonic() + self._lock_wait_seconds
        with self._alone_in_process(), self._path.open("ab") as file, new.open("rb") as source:
            for _ in _pauses_until(deadline):
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._path.stat().st_size:
                        return False
            else:
                raise RetryableError(
                    f"{self._path}: another process is creating it; waited {self._lock_wait_seconds:g} s"
                )
            if self._path.stat().st_size:
                return False
            try:
                shutil.copyfileobj(source, file, _AT_ONCE)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), 0)
                raise
        return True

    @contextmanager
    def _with_tables(
        self, *, read_only: bool, configuration: Configuration | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        if read_only and not self._exists():
            # Whoever only looks leaves nothing behind.
            with in_memory(**(configuration or {})) as connection:
                yield connection
            return
        if not (self._has_tables and self._exists()):
            self.create_tables()
            self._has_tables = True
        with self._open(read_only=read_only, configuration=configuration) as connection:
            yield connection

    @contextmanager
    def _open(
        self, *, read_only: bool, configuration: Configuration | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, alone in this process, waiting while another process has it. What DuckDB raises is typed here.

        The configuration `LOCKED` is for SQL of users.
        """
        import duckdb

        deadline = time.monotonic() + self._lock_wait_seconds
        with self._alone_in_process():
            try:
                connection = self._connect(deadline, read_only=read_only, configuration=configuration or {})
                try:
                    yield connection
                finally:
                    connection.close()
            except (duckdb.OperationalError, duckdb.FatalException) as error:
                # Closing the connection has rolled back.
                reason = str(error).splitlines()[0]
                raise self._of_disk(error) or RetryableError(f"{self._path}: the database failed: {reason}") from error

    @contextmanager
    def _alone_in_process(self) -> Iterator[None]:
        """Keep the process's other threads from the file: the first of them to close it would end the lock of all."""
        lock = _in_process.setdefault((os.getpid(), str(self._path)), threading.Lock())
        if not lock.acquire(timeout=self._lock_wait_seconds):
            raise RetryableError(f"{self._path}: another thread of this process is using the database")
        try:
            yield
        finally:
            lock.release()

    def _connect(self, deadline: float, *, read_only: bool, configuration: Configuration) -> duckdb.DuckDBPyConnection:
        import duckdb

        reason, cause = "", None
        for _ in _pauses_until(deadline):
            try:
                return duckdb.connect(_utf8(self._path), read_only=read_only, config=configuration)
            except duckdb.ConnectionException as error:
                # A connection of this process that is not ours, such as a notebook's.
                reason, cause = f"this process ({os.getpid()}) has the database open elsewhere", error
            except duckdb.IOException as error:
                reason, cause = self._lock_holder(error), error
        raise RetryableError(f"{self._path}: {reason}; waited {self._lock_wait_seconds:g} s") from cause

    def _lock_holder(self, error: duckdb.IOException) -> str:
        """Who holds the lock, or a typed error if that is not what the error is about."""
        # A path may hold any words.
        message = str(error).replace(str(self._path), "")
        if not message.startswith("IO Error: Could not set lock on file"):
            reason = str(error).splitlines()[0]
            raise self._of_disk(error) or MisconfiguredError(
                _SETTING, f"{self._path} cannot be opened: {reason}", "use a DuckDB file or a new one"
            ) from error
        holder = re.search(r"held in (.*?)\(PID (\d+)\)", message)
        return (
            f"process {holder[2]} ({holder[1].strip()}) is using the database" if holder else "the database is locked"
        )

    def _of_disk(self, error: duckdb.Error | OSError) -> RetryableError | MisconfiguredError | None:
        """The typed error if it is about the disk: that it is full, or only to be read."""
        code = _system_error(error)
        if code in _FULL:
            return RetryableError(f"{self._path}: cannot write to the database: {os.strerror(code)}")
        if code == errno.EROFS:
            return MisconfiguredError(
                _SETTING,
                f"cannot write to {self._path}: {os.strerror(code)}",
                "use a writable folder (by default EXR_PIPELINE_STATE_DIR)",
            )
        return None


def _pauses_until(deadline: float) -> Iterator[None]:
    """Turns of trying something, with growing pauses between them, the last one before the deadline."""
    pause = 0.005
    while True:
        yield
        if time.monotonic() + pause > deadline:
            return
        time.sleep(pause)
        pause = min(pause * 1.4, 0.25)


def _system_error(error: duckdb.Error | OSError) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    # DuckDB gives no number, but ends with the system's words.
    message = str(error).splitlines()[0]
    return next((code for code in (*_FULL, errno.EROFS) if message.endswith(os.strerror(code))), None)


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    import duckdb

    connection.execute("BEGIN")
    yield
    try:
        connection.execute("COMMIT")
    except duckdb.FatalException as error:
        # Only what follows a large transaction failed: moving it from the log into the file, as is tried again later.
        if "COMMIT succeeded and is durable" not in str(error):
            raise StateUnknownError(f"the database failed during a commit: {str(error).splitlines()[0]}") from error


def _create_tables(connection: duckdb.DuckDBPyConnection, statements: Sequence[str], signature: str) -> None:
    with _transaction(connection):
        for statement in statements:
            connection.execute(statement)
        connection.execute("CREATE TABLE IF NOT EXISTS tables_signature (signature VARCHAR)")
        connection.execute("DELETE FROM tables_signature")
        connection.execute("INSERT INTO tables_signature VALUES (?)", [signature])


def _has_signature(connection: duckdb.DuckDBPyConnection, signature: str) -> bool:
    import duckdb

    try:
        found = connection.execute("SELECT signature FROM tables_signature").fetchall()
    except duckdb.CatalogException:
        return False
    return bool(found == [(signature,)])


def _matching(
    connection: duckdb.DuckDBPyConnection,
    table: TableName,
    *,
    columns: Sequence[str] | None = None,
    files: Collection[FileKey] | None = None,
    state: State | None = None,
    current_only: bool = False,
) -> pa.Table:
    import pyarrow as pa

    names = list(columns) if columns is not None else arrow_schema(table).names
    bucket, path = TABLES[table].file
    conditions = []
    if files is not None:
        keys = pa.table(
            [
                pa.array([key.bucket for key in files], pa.string()),
                pa.array([key.file_path for key in files], pa.string()),
            ],
            ["bucket", "file_path"],
        )
        connection.register("wanted_files", keys)
        conditions.append(f"({bucket}, {path}) IN (SELECT bucket, file_path FROM wanted_files)")  # noqa: S608 - our names
    if state is not None:
        conditions.append("state = $state")
    if current_only and table in CHILD_TABLES:
        conditions.append("(bucket, file_id) IN (SELECT bucket, file_id FROM files WHERE superseded_at IS NULL)")
    elif current_only and TABLES[table].has_versions:
        conditions.append("superseded_at IS NULL")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    selected = ", ".join(f'"{name}"' for name in names)
    query = f"SELECT {selected} FROM {table} {where}"  # noqa: S608 - our names
    result = connection.sql(query, params=None if state is None else {"state": state}).to_arrow_table()
    return cast_columns(result, pa.schema([arrow_schema(table).field(name) for name in names]))


def _of_same_versions(connection: duckdb.DuckDBPyConnection, table: TableName, rows: pa.Table) -> pa.Table:
    """The rows of the versions of these rows, in whichever bucket, with `row_number`, DuckDB's own for each."""
    version = TABLES[table].version[1]
    connection.register("wanted", rows.select([version]))
    query = f"SELECT *, rowid AS row_number FROM {table} WHERE {version} IN (SELECT {version} FROM wanted)"  # noqa: S608 - our names
    return connection.sql(query).to_arrow_table()


def _apply(connection: duckdb.DuckDBPyConnection, plan: WritePlan) -> None:
    for name, versions in plan.removed.items():
        _delete(connection, name, versions)
    for name, rows in plan.rows.items():
        _insert(connection, name, rows)


def _delete(connection: duckdb.DuckDBPyConnection, table: TableName, versions: list[VersionId]) -> None:
    import pyarrow as pa

    if not versions:
        return
    buckets, ids = zip(*versions, strict=True)
    connection.register("removed", pa.table([pa.array(buckets, pa.string()), pa.array(ids, pa.string())], ["a", "b"]))
    first, second = TABLES[table].version
    connection.execute(f"DELETE FROM {table} WHERE ({first}, {second}) IN (SELECT a, b FROM removed)")  # noqa: S608 - our names


def _insert(connection: duckdb.DuckDBPyConnection, table: TableName, rows: pa.Table) -> None:
    if rows.num_rows:
        connection.register("incoming", rows)
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")  # noqa: S608 - our names
