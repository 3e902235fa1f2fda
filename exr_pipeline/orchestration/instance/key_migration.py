"""Partition keys that an earlier version wrote into Dagster's database, brought to the form that this version writes.

Belongs here: where Dagster keeps partition keys, and going through it so that a call can be ended anywhere and the next
one goes on. Not here: how keys are spelled (`storage.partition_keys`).
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import Any, Final

import dagster as dg
import sqlalchemy as db
from dagster._core.storage.event_log.schema import AssetKeyTable, DynamicPartitionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage
from dagster._core.storage.runs.schema import BackfillTagsTable, BulkActionsTable, RunsTable, RunTagsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS

from exr_pipeline.formats import format_of_name
from exr_pipeline.orchestration.instance.event_storage import KEYS_PER_WRITE
from exr_pipeline.orchestration.instance.home import open_instance
from exr_pipeline.orchestration.partitions import FILES, SEQUENCES, forget_statuses
from exr_pipeline.storage.locations import Location

_LOG = logging.getLogger(__name__)

ROWS_AT_ONCE: Final = 2000
SECONDS_PER_TICK: Final = 20.0
_SECONDS_BETWEEN_LINES: Final = 10.0
# In the store of keys and values that Dagster has for the daemon's own use.
_STATE: Final = "exr_pipeline/partition_keys"
_DONE: Final = "labels"
# All keys of files and sequences hold a slash and an extension.
_KEY: Final = re.compile(r"[A-Za-z0-9_.~-]*~[A-Za-z0-9_.~-]*\.[A-Za-z0-9]+")
# A whole string in JSON, or in JSON in a string in JSON.
_STRING: Final = re.compile(rf'(?<="){_KEY.pattern}(?=\\*")')

_MIGRATING: Final = Lock()

_Connect = Callable[[], AbstractContextManager[db.Connection]]


def is_migrated(instance: dg.DagsterInstance) -> bool:
    """Whether `migrate_keys` has nothing to do: one small look at the database."""
    return instance.run_storage.get_cursor_values({_STATE}).get(_STATE) == _DONE


def migrate_keys(instance: dg.DagsterInstance) -> None:
    """Bring all partition keys of an earlier version to today's form: partitions, events, runs and backfills.

    Statuses and history stay what they are, also those of archived files. If interrupted, the next call resumes. No run
    of an earlier version may be under way. The log says how far it is.
    """
    told: float | None = None
    for step in migration(instance):
        if told is None:
            _LOG.warning("Migrating the partition keys of an earlier version; this happens once")
        elif time.monotonic() - told >= _SECONDS_BETWEEN_LINES:
            _LOG.warning("%s", step)
        else:
            continue
        told = time.monotonic()


def migrate_for_a_while(instance: dg.DagsterInstance) -> str | None:
    """As much of `migrate_keys` as a sensor's tick has time for; what it is at, or None once nothing is left."""
    started = time.monotonic()
    # Sensors tick side by side: whoever comes second finds nothing left to do, or goes on.
    with _MIGRATING:
        for step in migration(instance):
            if time.monotonic() - started > SECONDS_PER_TICK:
                return f"Migrating the partition keys of an earlier version: {step}"
    return None


def migration(instance: dg.DagsterInstance, *, rows_at_once: int = ROWS_AT_ONCE) -> Iterator[str]:
    """`migrate_keys` in steps of some thousand rows, each of which says what it has done."""
    events, runs = instance.event_log_storage, instance.run_storage
    if is_migrated(instance):
        return
    if _has_history(instance) and isinstance(events, SqlEventLogStorage) and isinstance(runs, SqlRunStorage):
        state = json.loads(runs.get_cursor_values({_STATE}).get(_STATE) or '{"place": "", "after": 0}')
        for name in (FILES, SEQUENCES):
            yield f"{_replace_partitions(events, name)} partitions of {name}"
        for place, connect, table, columns in _places(events, runs):
            if place < state["place"]:
                continue
            start = state["after"] if place == state["place"] else 0
            for last, read in _rewritten(connect, table, columns, start, rows_at_once):
                runs.set_cursor_values({_STATE: json.dumps({"place": place, "after": last})})
                yield f"{read} rows of {table.name}"
        forget_statuses(instance)
    runs.set_cursor_values({_STATE: _DONE})


@contextmanager
def instance_for_work() -> Iterator[dg.DagsterInstance]:
    """The instance of this process with its partition keys in today's form: for all that starts runs or adds keys."""
    with open_instance() as instance:
        migrate_keys(instance)
        yield instance


def _has_history(instance: dg.DagsterInstance) -> bool:
    sets = (instance.get_dynamic_partitions(name) for name in (FILES, SEQUENCES))
    return instance.get_runs_count() > 0 or bool(instance.all_asset_keys()) or any(sets)


def _todays(key: str) -> str:
    """The key of today for one of an earlier version; what is no key of a file or of a sequence stays as it is."""
    if not _KEY.fullmatch(key):
        return key
    location = Location.from_partition_key(key)
    return key if format_of_name(location.name) is None else location.partition_key


def _todays_text(text: str) -> str:
    return _STRING.sub(lambda match: _todays(match[0]), text)


def _replace_partitions(storage: SqlEventLogStorage, name: str) -> int:
    """Replace the keys of a partition set in one transaction; their order, by which runs have ranges, stays."""
    table = DynamicPartitionsTable
    in_set = table.c.partitions_def_name == name
    with storage.index_transaction() as connection:
        found = connection.execute(db.select(table.c.id, table.c.partition).where(in_set).order_by(table.c.id)).all()
        keys = [_todays(key) for _, key in found]
        if keys != [key for _, key in found]:
            # Not what somebody adds meanwhile.
            connection.execute(table.delete().where(in_set, table.c.id <= found[-1].id))
            there = set(connection.execute(db.select(table.c.partition).where(in_set)).scalars())
            new = [key for key in dict.fromkeys(keys) if key not in there]
            for start in range(0, len(new), KEYS_PER_WRITE):
                rows = [{"partitions_def_name": name, "partition": key} for key in new[start : start + KEYS_PER_WRITE]]
                connection.execute(table.insert(), rows)
    return len(keys)


def _places(events: SqlEventLogStorage, runs: SqlRunStorage) -> Iterator[tuple[str, _Connect, db.Table, list[str]]]:
    """Every table that holds keys, with a name by which the places are in order, and its columns of text."""
    yield "1 events", events.index_connection, SqlEventLogStorageTable, ["partition", "event"]
    yield "2 assets", events.index_connection, AssetKeyTable, ["last_materialization"]
    for number, (table, columns) in enumerate(
        [
            (RunsTable, ["partition", "run_body"]),
            (RunTagsTable, ["value"]),
            (BulkActionsTable, ["body"]),
            (BackfillTagsTable, ["value"]),
        ]
    ):
        yield f"3 runs {number}", runs.connect, table, columns
    if isinstance(events, SqliteEventLogStorage):
        for run_id in sorted(events.get_all_run_ids()):
            connect = _connect_to_run(events, run_id)
            yield f"4 run {run_id}", connect, SqlEventLogStorageTable, ["partition", "event"]


def _connect_to_run(events: SqliteEventLogStorage, run_id: str) -> _Connect:
    # Dagster goes through the schema of each database that it opens, which takes longer than all the rest.
    url = events.conn_string_for_shard(run_id)
    return lambda: db.create_engine(
        url, poolclass=db.NullPool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
    ).begin()


def _rewritten(
    connect: _Connect, table: db.Table, columns: list[str], after: int, at_once: int
) -> Iterator[tuple[int, int]]:
    """Rewrite a table from the row after this id on; yields after each part the last id and how many rows were read."""
    chosen = [table.c[name] for name in columns]
    update = (
        db.update(table)
        .where(table.c.id == db.bindparam("row_id"))
        .values({name: db.bindparam(f"new_{name}") for name in columns})
    )
    read = 0
    while True:
        query = db.select(table.c.id, *chosen).where(table.c.id > after).order_by(table.c.id).limit(at_once)
        if table is SqlEventLogStorageTable:
            query = query.where(table.c.partition.is_not(None))
        with _transaction(connect) as connection:
            rows = connection.execute(query).all()
            changed = list(filter(None, (_change(row, columns) for row in rows)))
            if changed:
                connection.execute(update, changed)
        if not rows:
            return
        after, read = rows[-1].id, read + len(rows)
        yield after, read


@contextmanager
def _transaction(connect: _Connect) -> Iterator[db.Connection]:
    with connect() as connection:
        if connection.in_transaction():
            yield connection
            return
        # Dagster's connections to PostgreSQL commit each statement.
        within = connection.execution_options(isolation_level="READ COMMITTED")
        with within.begin():
            yield within


def _change(row: Any, columns: list[str]) -> dict[str, Any] | None:
    old = [getattr(row, name) for name in columns]
    new = [_new_value(name, value) for name, value in zip(columns, old, strict=True)]
    if new == old:
        return None
    return {"row_id": row.id, **{f"new_{name}": value for name, value in zip(columns, new, strict=True)}}


def _new_value(column: str, value: str | None) -> str | None:
    if value is None:
        return None
    return _todays(value) if column in {"partition", "value"} else _todays_text(value)
