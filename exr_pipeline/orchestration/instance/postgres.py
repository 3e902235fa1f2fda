"""Dagster's PostgreSQL storage with events written in batches; plugged in by `storage: custom:` in dagster.yaml.

Belongs here: what PostgreSQL needs of that. Not here: which events are batched (`event_storage`).
It needs the extra `postgres`, and like `event_storage` it overrides what Dagster keeps private.
"""

from __future__ import annotations

import io
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import sqlalchemy as db
from dagster import EventLogEntry
from dagster._core.storage.event_log.schema import DynamicPartitionsTable, SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config

from exr_pipeline.orchestration.instance.event_storage import EVENTS_PER_WRITE, BatchedEvents

# Any number that nobody else uses: "exr events" in ASCII, shortened to 63 bits.
_WRITERS_LOCK = int.from_bytes(b"exrevent", "big") >> 1

# A writer that was stopped in mid-batch is ended by the server long before the others give up.
_IDLE_SECONDS = 60
_LOCK_WAIT_SECONDS = 300

_LOCK_WRITERS = db.text(
    """SELECT set_config('lock_timeout', :wait, true), set_config('idle_in_transaction_session_timeout', :idle, true),
    pg_advisory_xact_lock(:lock)"""
)

_NEW_IDS = db.text("SELECT nextval(pg_get_serial_sequence('event_logs', 'id')) FROM generate_series(1, :count)")

_NEW_PARTITIONS = db.text(
    """INSERT INTO dynamic_partitions (partitions_def_name, partition)
    SELECT :name, key FROM unnest(CAST(:keys AS text[])) WITH ORDINALITY AS new (key, place) ORDER BY place
    ON CONFLICT DO NOTHING"""
)

# Makes texts of events smaller in less time than what PostgreSQL does of itself.
_HAS_LZ4 = db.text("SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'")
_USE_LZ4 = db.text("SET LOCAL default_toast_compression = 'lz4'")


class BatchingPostgresEventLogStorage(BatchedEvents, PostgresEventLogStorage):
    """Dagster's PostgreSQL event log, with batches that are one transaction for any asset events.

    Stock Dagster batches only materializations of one asset, and writes each planned event by itself.
    """

    def __init__(
        self,
        *args: Any,
        lock_wait_seconds: int = _LOCK_WAIT_SECONDS,
        idle_seconds: int = _IDLE_SECONDS,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._lock_wait_seconds, self._idle_seconds = lock_wait_seconds, idle_seconds
        # Dagster reads it at each event; without it the framework never forms a batch.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(EVENTS_PER_WRITE))
        # Dagster connects anew for each statement, which takes longer than most of them.
        self._engine = create_pg_engine(
            self.postgres_url,
            self._token_provider,
            isolation_level="AUTOCOMMIT",
            pool_size=1,
            max_overflow=-1,
            pool_pre_ping=True,
        )

    def dispose(self) -> None:
        """Close what is open."""
        super().dispose()
        self._engine.dispose()

    def _store_one(self, event: EventLogEntry) -> None:
        # An asset event in the order of its id, see `_store_asset_events`.
        if self._are_batchable([event]):
            self._store_asset_events([event])
        else:
            super()._store_one(event)

    def add_dynamic_partitions(self, partitions_def_name: str, partition_keys: Sequence[str]) -> None:
        """Add keys to a partition set, in their order; one that is there already is no error."""
        self._check_partitions_table()
        with self.index_connection() as connection:
            # Dagster has SQLAlchemy write out a statement of as many values as there are keys.
            connection.execute(_NEW_PARTITIONS, {"name": partitions_def_name, "keys": list(partition_keys)})

    def _state_of_partitions(self, connection: db.Connection, partitions_def_name: str) -> Hashable:
        # Ids are never used again. A seventh of the time of all keys.
        table = DynamicPartitionsTable.c
        query = db.select(db.func.count(), db.func.max(table.id), db.func.sum(table.id)).where(
            table.partitions_def_name == partitions_def_name
        )
        return tuple(connection.execute(query).one())

    def _store_asset_events(self, events: Sequence[EventLogEntry]) -> None:
        rows = self._rows(events)
        with self.index_transaction() as connection:
            # Dagster remembers up to which id it has counted an asset's partitions. Were two writers to commit in
            # another order than that of their ids, what came late would never be counted.
            limits = {"wait": f"{self._lock_wait_seconds}s", "idle": f"{self._idle_seconds}s"}
            connection.execute(_LOCK_WRITERS, {"lock": _WRITERS_LOCK, **limits})
            if self._remembered("lz4", lambda: bool(connection.execute(_HAS_LZ4).scalar())):
                connection.execute(_USE_LZ4)
            ids = [int(event_id) for event_id in connection.execute(_NEW_IDS, {"count": len(rows)}).scalars()]
            numbered = [{"id": event_id, **row} for event_id, row in zip(ids, rows, strict=True)]
            self._append(connection, SqlEventLogStorageTable, numbered)
            self._store_about_assets(connection, events, rows, ids)

    def _append(self, connection: db.Connection, table: db.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        # An INSERT of such texts takes client and server several times as long.
        lines = ("\t".join(map(_copied, row.values())) + "\n" for row in rows)
        statement = f"COPY {table.name} ({', '.join(rows[0])}) FROM STDIN"
        cursor = connection.connection.cursor()
        try:
            cursor.copy_expert(statement, io.StringIO("".join(lines)))
        except connection.dialect.loaded_dbapi.OperationalError as error:
            # As SQLAlchemy would call it, which is passed by here.
            raise db.exc.OperationalError(statement, None, error) from error
        finally:
            cursor.close()


def _copied(value: Any) -> str:
    """A value in the text format of COPY."""
    if value is None:
        return "\\N"
    text = str(value)
    if "\\" in text or "\n" in text or "\r" in text or "\t" in text:
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return text


class BatchingPostgresStorage(DagsterPostgresStorage):
    """The PostgreSQL storage of a Dagster instance. Configured as Dagster's own: `postgres_url` or `postgres_db`."""

    def __init__(self, postgres_url: str, should_autocreate_tables: bool = True, **options: Any) -> None:
        # Since SQLAlchemy 2.1 a bare scheme asks for another driver than the one that dagster-postgres brings.
        url = db.make_url(postgres_url)
        if url.drivername in {"postgresql", "postgres"}:
            postgres_url = url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
        super().__init__(postgres_url, should_autocreate_tables, **options)
        self._event_log_storage = BatchingPostgresEventLogStorage(
            postgres_url, should_autocreate_tables, token_provider=options.get("token_provider")
        )
        # One connection for both.
        self._run_storage._engine = self._event_log_storage._engine

    @classmethod
    def from_config_value(  # the base class names itself here
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> BatchingPostgresStorage:
        """Build the storage from dagster.yaml."""
        return cls(
            pg_url_from_config(config_value),
            config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
            token_provider=get_token_provider_from_config(config_value),
        )
