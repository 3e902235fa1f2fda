"""Dagster events written in batches: the embedded event log storage, and what those of all databases share.

Not here: what a step logs (`step_events`), and which partitions are live (`live_partitions`).

With `postgres` and `event_texts` it overrides what Dagster keeps private; `test_event_storage.py` fails when
an upgrade changes it.
Figures and reasons: docs/decisions/0003-batched-events.md.
"""

import os
import sys
import uuid
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import dagster as dg
import sqlalchemy as db
from dagster import AssetKey, DagsterEventType, EventLogEntry
from dagster._core.event_api import EventHandlerFn
from dagster._core.events import (
    AssetMaterializationPlannedData,
)
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.base import EventLogConnection
from dagster._core.storage.event_log.schema import (
    AssetEventTagsTable,
    DynamicPartitionsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, _event_logs_directory
from dagster._serdes import ConfigurableClassData
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from exr_pipeline.orchestration.instance.event_texts import subject_of, texts_of
from exr_pipeline.orchestration.instance.live_events import LiveEvents
from exr_pipeline.orchestration.instance.live_partitions import LivePartitions
from exr_pipeline.storage.private_files import make_private_folder

_BATCHABLE: Final = {
    kind.value
    for kind in (
        DagsterEventType.ASSET_MATERIALIZATION,
        DagsterEventType.ASSET_OBSERVATION,
        DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    )
}
# Of one transaction: more than a run over 1000 files has to write at once. Several wait for the disk several times.
EVENTS_PER_WRITE: Final = 10_000
KEYS_PER_WRITE: Final = 1000
_EVENTS_PER_READ: Final = 1000
_PAGE_BYTES: Final = 16_384


class BatchedEvents(LivePartitions):
    """What the event logs that write asset events in batches share, whatever their database."""

    events_per_write: int = EVENTS_PER_WRITE

    # Dagster asks the database for these two at every event. What is there does not go away.

    def has_table(self, table_name: str) -> bool:
        """Whether the schema has got so far."""
        return self._remembered(f"table {table_name}", lambda: super(BatchedEvents, self).has_table(table_name))  # type: ignore[safe-super]

    def _has_asset_key_col_on_connection(self, conn: Any, column_name: str) -> bool:
        return self._remembered(
            f"column {column_name}",
            lambda: super(BatchedEvents, self)._has_asset_key_col_on_connection(conn, column_name),
        )

    def _remembered(self, what: str, ask: Callable[[], bool]) -> bool:
        there: set[str] = self.__dict__.setdefault("_there", set())
        if what not in there and ask():
            there.add(what)
        return what in there

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """So that Dagster announces what a run will make in an event per asset; `_each_event` makes one per partition.

        That Dagster makes them takes a fifth of its time.
        """
        return True

    def store_event(self, event: EventLogEntry) -> None:
        """Store one event; one that stands for several as Dagster does with several: together, or else one by one."""
        if not _is_about_several(event):
            self._store_one(event)
            return
        try:
            self.store_event_batch([event])
        except Exception as error:  # noqa: BLE001 - as broad as Dagster's own, which falls back in the same words
            sys.stderr.write(f"Exception while storing event batch: {error}\nFalling back to one event at a time\n")
            for each in _each_event([event]):
                self._store_one(each)

    def _store_one(self, event: EventLogEntry) -> None:
        super().store_event(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events of one run: asset events of any kinds `events_per_write` at a time, others as Dagster does."""
        if not self._are_batchable(events):
            super().store_event_batch(events)
            return
        each = list(_each_event(events))
        for start in range(0, len(each), self.events_per_write):
            self._store_asset_events(each[start : start + self.events_per_write])

    @abstractmethod
    def _store_asset_events(self, events: Sequence[EventLogEntry]) -> None:
        """Store these asset events of one run, all or none of them."""

    def get_dynamic_partitions(self, partitions_def_name: str) -> list[str]:
        """All keys of a partition set in the order in which they were added; remembered while they can't have changed.

        Each run has Dagster ask for them seven times. They come as the driver has them, a third of SQLAlchemy's time.
        """
        self._check_partitions_table()
        table = DynamicPartitionsTable.c
        query = db.select(table.partition).where(table.partitions_def_name == partitions_def_name).order_by(table.id)
        remembered: dict[str, tuple[Hashable, list[str]]] = self.__dict__.setdefault("_partitions_known", {})
        with self.index_connection() as connection:
            state = self._state_of_partitions(connection, partitions_def_name)
            known = remembered.get(partitions_def_name)
            if known is None or known[0] != state:
                known = state, [key for (key,) in connection.execute(query).cursor.fetchall()]
                # A key that came in between, and goes again, would leave the state as it was before.
                if self._state_of_partitions(connection, partitions_def_name) == state:
                    remembered[partitions_def_name] = known
            return known[1].copy()

    @abstractmethod
    def _state_of_partitions(self, connection: db.Connection, partitions_def_name: str) -> Hashable:
        """What is another whenever the keys of a partition set are, whoever changed them; cheaper than all keys."""

    def delete_dynamic_partitions(self, partitions_def_name: str, keys: Sequence[str]) -> None:
        """Remove keys from a partition set, `KEYS_PER_WRITE` in a transaction; one that is not there is no error.

        Dagster's own `delete_dynamic_partition` is a transaction for each key.
        """
        self._check_partitions_table()
        table = DynamicPartitionsTable
        for start in range(0, len(keys), KEYS_PER_WRITE):
            some = keys[start : start + KEYS_PER_WRITE]
            with self.index_transaction() as connection:
                connection.execute(
                    table.delete().where(
                        table.c.partitions_def_name == partitions_def_name, table.c.partition.in_(some)
                    )
                )

    def watch(self, run_id: str, cursor: str | None, callback: EventHandlerFn) -> None:
        """Call `callback` with every event of a run after `cursor`, soon after it is stored, by whatever process."""
        self._live_events.watch(run_id, cursor, callback)

    def end_watch(self, run_id: str, handler: EventHandlerFn) -> None:
        """Stop calling `handler`."""
        self._live_events.end_watch(run_id, handler)

    def dispose(self) -> None:
        """End all watchers."""
        self._live_events.close()
        super().dispose()

    @cached_property
    def _live_events(self) -> LiveEvents:
        return LiveEvents(self._next_events)

    def _next_events(self, run_id: str, cursor: str | None) -> EventLogConnection | None:
        """A page of a run's events after a cursor; None while the database is away."""
        try:
            return self.get_records_for_run(run_id, cursor, limit=_EVENTS_PER_READ)
        except Exception as error:
            if is_outage(error):
                return None
            raise

    @staticmethod
    def _are_batchable(events: Sequence[EventLogEntry]) -> bool:
        """Whether all of these are events about assets, of which any mixture may be written together."""
        return all(
            entry.dagster_event is not None and entry.dagster_event.event_type_value in _BATCHABLE for entry in events
        )

    @abstractmethod
    def _append(self, connection: db.Connection, table: db.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows with the same columns; past SQLAlchemy, which would turn each value of each row."""

    def _rows(self, events: Sequence[EventLogEntry]) -> list[dict[str, Any]]:
        """What the base class's `_event_to_row` makes of each."""
        rows = []
        for entry, text in zip(events, texts_of(events), strict=True):
            event = entry.get_dagster_event()
            subject = subject_of(event)
            rows.append(
                {
                    "run_id": entry.run_id,
                    "event": text,
                    "dagster_event_type": event.event_type_value,
                    "timestamp": self._timestamp(entry),
                    "step_key": event.step_key,
                    "asset_key": _text_of(subject.asset_key),
                    "partition": subject.partition or None,
                }
            )
        return rows

    def _timestamp(self, entry: EventLogEntry) -> Any:
        """When it happened, as `_append` takes it."""
        return self._event_insert_timestamp(entry)  # type: ignore[no-untyped-call]

    def _store_about_assets(
        self,
        connection: db.Connection,
        events: Sequence[EventLogEntry],
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[int],
    ) -> None:
        """What else these events are to leave in the index: tags, and of each asset and kind the last event."""
        tags = [
            {
                "event_id": event_id,
                "asset_key": row["asset_key"],
                "key": key,
                "value": value,
                "event_timestamp": row["timestamp"],
            }
            for entry, row, event_id in zip(events, rows, ids, strict=True)
            for key, value in self._tags_to_index(entry)
        ]
        if tags and self.has_table(AssetEventTagsTable.name):
            self._append(connection, AssetEventTagsTable, tags)
        newest = {
            (row["asset_key"], row["dagster_event_type"]): (entry, event_id)
            for entry, row, event_id in zip(events, rows, ids, strict=True)
        }
        for entry, event_id in sorted(newest.values(), key=lambda pair: pair[1]):
            self._store_asset_event(connection, entry, event_id)

    def _tags_to_index(self, entry: EventLogEntry) -> list[tuple[str, str]]:
        # A plan has none.
        tags: Mapping[str, str] | None = getattr(subject_of(entry.get_dagster_event()), "tags", None)
        if not tags:
            return []
        indexed = self.get_asset_tags_to_index(set(tags))
        return [(key, value) for key, value in tags.items() if key in indexed]


def _is_about_several(entry: EventLogEntry) -> bool:
    """Whether this is a planned event about several partitions."""
    data = entry.dagster_event.event_specific_data if entry.dagster_event is not None else None
    return isinstance(data, AssetMaterializationPlannedData) and data.partitions_subset is not None


def _each_event(entries: Iterable[EventLogEntry]) -> Iterator[EventLogEntry]:
    """The entries, and in place of a planned event about several partitions what Dagster makes else: one for each."""
    for entry in entries:
        if not _is_about_several(entry):
            yield entry
            continue
        event = entry.get_dagster_event()
        planned = event.asset_materialization_planned_data
        assert planned.partitions_subset is not None
        data = planned._replace(partitions_subset=None)
        for key in sorted(planned.partitions_subset.get_partition_keys()):
            # Named tuples: `_replace` does without the checks that every constructor of Dagster makes.
            yield entry._replace(dagster_event=event._replace(event_specific_data=data._replace(partition=key)))


@lru_cache(maxsize=1000)
def _text_of(asset_key: AssetKey) -> str:
    return asset_key.to_string()


class BatchingSqliteEventLogStorage(BatchedEvents, SqliteEventLogStorage):
    """Dagster's SQLite event log, with batches that are one transaction per database file.

    Files stay readable by stock Dagster, both ways.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # The base class connects already.
        self._engines: dict[tuple[int, str], db.Engine] = {}
        self._partitions_changed = 0
        super().__init__(base_dir, inst_data)
        # Dagster reads it at each event; without it the framework never forms a batch.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(EVENTS_PER_WRITE))

    @contextmanager
    def _connect(self, shard: str) -> Iterator[db.Connection]:
        # Dagster opens the database for each statement: whoever closes it last has to tidy up the whole of it, and each
        # statement is made ready anew.
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _initdb(self, engine: db.Engine, for_index_shard: bool = False) -> None:
        if not for_index_shard and self._copy_new_run_database(Path(str(engine.url.database))):
            return
        self._initdb_by_dagster(engine, for_index_shard)

    def _initdb_by_dagster(self, engine: db.Engine, for_index_shard: bool) -> None:
        # With SQLite's usual pages, into which one event fits, writing takes a twelfth longer.
        @db.event.listens_for(engine, "connect")
        def connected(connection: Any, _record: Any) -> None:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")

        super()._initdb(engine, for_index_shard)

    @cached_property
    def _new_run_database(self) -> bytes:
        """A run's database as Dagster makes it; to have it made for each takes an eighth of the time of 1000 files."""
        with TemporaryDirectory() as folder:
            path = Path(folder, "new.db")
            # Without a pool: the last connection that closes puts everything into the one file.
            engine = db.create_engine(f"sqlite:///{path}", poolclass=db.NullPool)
            self._initdb_by_dagster(engine, for_index_shard=False)
            return path.read_bytes()

    def _copy_new_run_database(self, path: Path) -> bool:
        """Put a new database at `path`, whole or not at all; False if one is there, or the file system has no links."""
        if path.exists():
            return False
        new = path.with_suffix(f".{uuid.uuid4().hex}.new")
        try:
            with new.open("xb") as file:
                file.write(self._new_run_database)
                file.flush()
                os.fsync(file.fileno())
            # Unlike renaming, it does nothing if another process has made one meanwhile.
            os.link(new, path)
        except OSError:
            return False
        finally:
            new.unlink(missing_ok=True)
        return True

    def _engine(self, shard: str) -> db.Engine:
        """The index stays open, and of the runs' databases the one in use; not in a process that was forked."""
        here = (os.getpid(), shard)
        if here not in self._engines:
            for other in [each for each in self._engines if each[1] != INDEX_SHARD_NAME and shard != INDEX_SHARD_NAME]:
                self._engines.pop(other).dispose(close=other[0] == here[0])
            self._engines[here] = db.create_engine(
                self.conn_string_for_shard(shard),
                pool_size=1,
                max_overflow=-1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
            )
            db.event.listen(self._engines[here], "after_cursor_execute", self._notice_changed_partitions)
        return self._engines[here]

    def _notice_changed_partitions(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if DynamicPartitionsTable.name in statement and not statement.startswith("SELECT"):
            self._partitions_changed += 1

    def _state_of_partitions(self, connection: db.Connection, partitions_def_name: str) -> Hashable:
        # The data version tells of what other connections and processes commit, but not of what this one does.
        version = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        return connection.connection.dbapi_connection, version, self._partitions_changed

    def dispose(self) -> None:
        """Close the databases."""
        super().dispose()
        while self._engines:
            (process, _), engine = self._engines.popitem()
            engine.dispose(close=process == os.getpid())

    def _next_events(self, run_id: str, cursor: str | None) -> EventLogConnection | None:
        # A run that was deleted has no database, and to read from it would make one.
        return super()._next_events(run_id, cursor) if Path(self.path_for_shard(run_id)).exists() else None

    def _store_asset_events(self, events: Sequence[EventLogEntry]) -> None:
        rows = self._rows(events)
        # The index first: it is what statuses are read from, and if it fails Dagster stores the events one by one.
        with self.index_transaction() as connection:
            self._append(connection, SqlEventLogStorageTable, rows)
            last_id = connection.execute(db.text("select last_insert_rowid()")).scalar_one()
            # One writer at a time holds the database, so the ids of an executemany are contiguous.
            self._store_about_assets(connection, events, rows, range(last_id - len(rows) + 1, last_id + 1))
        with self.run_connection(events[0].run_id) as connection:
            self._append(connection, SqlEventLogStorageTable, rows)

    def _timestamp(self, entry: EventLogEntry) -> str:
        # As SQLAlchemy has SQLite keep it.
        return str(super()._timestamp(entry).isoformat(" ", "microseconds"))

    def _append(self, connection: db.Connection, table: db.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        statement, columns = _insert(table, tuple(rows[0]))
        connection.exec_driver_sql(statement, list(map(itemgetter(*columns), rows)))


@lru_cache(maxsize=10)
def _insert(table: db.Table, columns: tuple[str, ...]) -> tuple[str, list[str]]:
    """A statement, and the order in which it takes its values."""
    compiled = db.insert(table).compile(dialect=sqlite.dialect(), column_keys=columns)
    assert isinstance(compiled, SQLCompiler)
    assert compiled.positiontup is not None
    return str(compiled), compiled.positiontup


class BatchingSqliteStorage(DagsterSqliteStorage):
    """The embedded storage of a Dagster instance; plugged in by `storage: custom:` in dagster.yaml.

    A relative `base_dir` is taken from `$DAGSTER_HOME`, or from the working folder if that is not set, so that
    `dagster dev`, `make ui` and the command line see one history.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        folder = Path(os.environ.get("DAGSTER_HOME", "."), base_dir).resolve()
        make_private_folder(folder)
        # Before the base class makes one of Dagster's, whose databases would be as that makes them.
        event_log_storage = BatchingSqliteEventLogStorage(_event_logs_directory(str(folder)))
        super().__init__(str(folder), inst_data)
        self._event_log_storage = event_log_storage

    @classmethod
    def from_config_value(  # the base class names itself here
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "BatchingSqliteStorage":
        """Build the storage from dagster.yaml."""
        return cls(base_dir=config_value["base_dir"], inst_data=inst_data)


def history_folder(instance: dg.DagsterInstance) -> Path | None:
    """The folder of the instance's databases if they are SQLite's, Dagster's own storage or ours; else None."""
    log = instance.event_log_storage
    return Path(log._base_dir).parents[1] if isinstance(log, SqliteEventLogStorage) else None


def is_outage(error: BaseException) -> bool:
    """Whether an error says that Dagster's database is away, or was so in mid-statement."""
    # Having tried to connect a few times, dagster-postgres raises an error of its own from SQLAlchemy's.
    return any(isinstance(each, db.exc.OperationalError | db.exc.InterfaceError) for each in (error, error.__cause__))
