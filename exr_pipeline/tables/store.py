"""The contract of a table store, what every implementation of it promises, and the choice of one by the settings.

Belongs here: signatures, promises, the errors of a store. Not here: how rows are kept (`tables.stores.duckdb`,
`tables.stores.vast`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from exr_pipeline.errors import BadInputError
from exr_pipeline.extras import require

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    import pyarrow as pa

    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.tables.queries import RowStream
    from exr_pipeline.tables.specs import State, TableName


VAST: Final = "vast"
_DUCKDB: Final = "duckdb:"


class BadQueryError(BadInputError):
    """The SQL is at fault (wrong, or more than reading): correct it. Nothing was changed; a retry cannot help."""


class FileVersion(NamedTuple):
    """What the tables know of the current version of a file."""

    file_id: str
    etag: str | None
    mtime: datetime | None
    state: State
    last_inspected: datetime
    reason: str | None = None
    header_hash: str | None = None
    archived_at: datetime | None = None
    deleted_at: datetime | None = None
    retryable_since: datetime | None = None


# What `TableStore.mark` says of the current version of a file. `media_removed` is about its outputs.
Mark = Literal["archived", "unarchived", "deleted", "media_removed"]


# Rows of queues that go with rows of files.
Queue = Callable[["pa.Table"], "Mapping[TableName, pa.Table]"]


class TableStore(Protocol):
    """Where rows are kept. Thread-safe and usable from several processes at once.

    Every method may raise `RetryableError` (a lock is held, the service is down; nothing was changed) and
    `MisconfiguredError`.
    """

    def create_tables(self) -> None:
        """Make what is missing of the tables and views. Safe to repeat and to race.

        Every method that writes does it by itself; to those that read, tables that are not there are without rows.
        """

    def write(self, rows: Mapping[TableName, pa.Table], *, now: datetime) -> None:
        """Write rows, of a chunk of files or of sequences, in one transaction: all of them or none.

        Each row of a sequence takes the place of the one for the same sequence. Columns that a given table lacks count
        as null. See docs/tables.md for the rules; in short, the same rows written again change only `inspection_count`
        and `last_inspected`, and nothing at all if `now` is the same too, which says that it is the same write; and a
        file has at most one current row in `files` and in `proxy_outputs`, whatever runs at the same time.

        Raises `ValueError` for rows that contradict each other or the schema (an error of the program), and
        `StateUnknownError` if the answer to the commit was lost and the store cannot be asked either.
        """

    def remove(self, table: TableName, rows: Collection[tuple[str, str]], *, now: datetime) -> None:
        """Remove rows of a queue (`outbox`, `event_rejects`), by their `version`; those that are gone are no error."""

    def oldest(self, queue: TableName, count: int, *, name: str | None = None) -> pa.Table:
        """At most so many rows of a queue, of this sink or source if named: those that wait longest, oldest first.

        Only if none come do none wait: there may be fewer than were asked for. Of rows of the same moment, if not all
        fit, any are left out. What it costs does not grow with the rows that wait.
        """

    def count(self, table: TableName) -> int:
        """How many rows a table has, history included."""

    def mark(
        self, versions: Mapping[Location, str], mark: Mark, *, now: datetime, queue: Queue | None = None
    ) -> set[Location]:
        """Mark these versions (by file_id) in one transaction; returns the files that bear the mark afterwards.

        `queue` gives rows of queues that are written along, from the rows of files that are changed. A version that is
        no longer the current one is left alone; so is one to be archived that is `retryable`. A mark that is there
        already keeps its date. `media_removed` supersedes the outputs.

        Raises `StateUnknownError` as `write` does.
        """

    def current_versions(self, locations: Collection[Location]) -> dict[Location, FileVersion]:
        """The current versions of these files, thousands at once; files that the tables do not know are absent."""

    def read(
        self,
        table: TableName,
        *,
        columns: Sequence[str] | None = None,
        locations: Collection[Location] | None = None,
        state: State | None = None,
        current_only: bool = True,
    ) -> pa.Table:
        """Rows of a table, of these files only if given, of their current versions only unless told otherwise.

        For `sequence_outputs` a location is that of the sequence's path, and every row is current. With `state`, only
        rows of that state, of `files` or `sequence_outputs`; others are not fetched, however many there are.
        Columns come in the order asked for, types as in `arrow_schema`, rows in no particular order.
        """

    def scan(
        self, table: TableName, *, columns: Sequence[str], bucket: str | None = None, prefix: str = ""
    ) -> Iterator[pa.RecordBatch]:
        """The current rows of `files` or `proxy_outputs` below a prefix, in batches of bounded size, in no order.

        The store may be locked until the last batch was taken: take them quickly, and call nothing else meanwhile.
        """

    def folders_changed_since(self, moment: str) -> dict[Location, str]:
        """The folders that hold files inspected or marked as deleted after a moment, with the latest such moment.

        Moments are ISO 8601 in UTC, as the tables have them; an empty one means all.
        """

    def counts_by_state(self, bucket: str | None = None, prefix: str = "") -> dict[State, int]:
        """How many files that are not deleted are in each state, of one bucket and below one prefix if given."""

    def sql(self, query: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """The result of one SELECT in DuckDB's dialect over all tables and views. Raises `BadQueryError`.

        `$name` in the query stands for the parameter of that name.
        """

    def stream_sql(
        self, query: str, parameters: Mapping[str, object] | None = None
    ) -> AbstractContextManager[RowStream]:
        """The result of `sql`, in batches that are computed when they are asked for, in bounded memory.

        The store may be locked until the end of the block: take the batches quickly, and call nothing else meanwhile.
        """

    def stored_schemas(self) -> dict[TableName, pa.Schema]:
        """The tables that are there, with the columns and types that they have. Makes and changes nothing."""

    def stored_rows(self, table: TableName, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """These columns of all rows of a table that is there, history included, in batches of bounded size.

        Makes and changes nothing. The store may be locked until the last batch was taken: call nothing else meanwhile.
        """

    def put_rows(self, table: TableName, rows: pa.Table, *, now: datetime) -> int:
        """Put rows as they are, without the rules of a write, in one transaction. Returns how many were not there.

        A row takes the place of those with its `row_key`. One that is there exactly so is left alone, so it is safe to
        repeat. Raises `StateUnknownError` as `write` does.
        """


def open_table_store(settings: Settings) -> TableStore:
    """The store that the settings name: VAST DataBase if `VAST_DB_BUCKET` is set, else the embedded DuckDB.

    Connects to nothing yet. Raises `MisconfiguredError` if a setting or the VAST client is missing.
    """
    if settings.vast_db_bucket is None:
        from exr_pipeline.tables.stores.duckdb import DuckDBStore

        return DuckDBStore(settings.database_path)

    return _open_vast(settings)


def _open_vast(settings: Settings) -> TableStore:
    require("vast")
    from exr_pipeline.tables.stores.vast import VastStore
    from exr_pipeline.tables.stores.vast_session import VastConnection

    return VastStore(VastConnection.from_settings(settings))


def store_name(text: str | None, settings: Settings) -> str:
    """One name for each store: `vast`, or `duckdb:` and an absolute path.

    `text` is `vast`, `duckdb:PATH` or a path; None stands for the store that the settings name.
    """
    if text == VAST or (text is None and settings.vast_db_bucket is not None):
        return VAST
    path = settings.database_path if text is None else Path(text.removeprefix(_DUCKDB))
    return f"{_DUCKDB}{path.resolve()}"


def open_named_store(name: str, settings: Settings) -> TableStore:
    """The store of a `store_name`. Connects to nothing yet.

    Raises `MisconfiguredError` if the client or a setting of VAST DataBase is missing.
    """
    if name == VAST:
        return _open_vast(settings)
    from exr_pipeline.tables.stores.duckdb import DuckDBStore

    return DuckDBStore(Path(name.removeprefix(_DUCKDB)))


def missing_tables(settings: Settings) -> str | None:
    """Which database is not there yet, in a sentence for whoever reads the tables; None if it may be there."""
    path = settings.database_path.absolute()
    if settings.vast_db_bucket is not None or path.exists():
        return None
    return f"database {path} does not exist: nothing has been ingested with these settings (EXR_PIPELINE_STATE_DIR)"
