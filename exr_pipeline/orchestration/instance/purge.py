"""Removal of what nobody needs any more from Dagster's own history, with every partition's status as it is.

Belongs here: which events and runs those are. Not here: the job and schedule (`orchestration.maintenance.retention`).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import dagster as dg
import sqlalchemy as db
from dagster import DagsterEventType, DagsterRunStatus
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

_FINISHED: Final = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
_MATERIALIZATION: Final = DagsterEventType.ASSET_MATERIALIZATION.value

_LATEST_COUNTS: Final = (
    _MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION.value,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
)
_events: Final = SqlEventLogStorageTable.c
# An index of which this much is empty is written anew.
_EMPTY_SHARE: Final = 0.25


@dataclass
class Removed:
    """What a purge removed, or would remove.

    `runs` with all they have; of runs that stay, `replaced_events` and `copied_events` (SQLite notes each event
    about an asset twice, once for the page of its run). `runs_left`: those beyond the number that was asked for.
    """

    runs: int = 0
    replaced_events: int = 0
    copied_events: int = 0
    runs_left: int = 0


def purge(instance: dg.DagsterInstance, *, before: datetime, most_runs: int, dry_run: bool = False) -> Removed:
    """Remove what finished runs have left that were last heard of before a time; at most so many runs are touched.

    The latest materialization of each asset and partition stays, and the latest observation and announcement (planned
    materialization) if no materialization came after them: all that Dagster makes a partition's status and page from.
    A run stays, with its log, as long as one of its events does: a failed one gives its partitions their status.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"{type(storage).__name__} is not one of Dagster's SQL event logs")
    removed, touched = Removed(), 0
    for run_id in instance.get_run_ids(dg.RunsFilter(statuses=_FINISHED, updated_before=before)):
        replaced, needed = _events_of(storage, run_id)
        copied = _copies_of(storage, run_id) if needed else 0
        if needed and not replaced and not copied:
            continue
        if touched == most_runs:
            removed.runs_left += 1
            continue
        touched += 1
        removed.runs += not needed
        removed.replaced_events += replaced if needed else 0
        removed.copied_events += copied
        if not dry_run:
            _remove(instance, storage, run_id, whole=not needed)
    if not dry_run and touched and isinstance(storage, SqliteEventLogStorage):
        _give_back_space(storage.path_for_shard("index"))
    return removed


def _events_of(storage: SqlEventLogStorage, run_id: str) -> tuple[int, int]:
    """How many of a run's events about assets newer ones replace, and how many others it has."""
    count = db.select(db.func.count()).select_from(SqlEventLogStorageTable).where(*_about_assets(run_id))
    with storage.index_connection() as connection:
        total = connection.execute(count).scalar_one()
        replaced = connection.execute(count.where(_is_replaced())).scalar_one()
    return replaced, total - replaced


def _copies_of(storage: SqlEventLogStorage, run_id: str) -> int:
    if not isinstance(storage, SqliteEventLogStorage) or not Path(storage.path_for_shard(run_id)).exists():
        return 0
    count = db.select(db.func.count()).select_from(SqlEventLogStorageTable).where(*_about_assets(run_id))
    with storage.run_connection(run_id) as connection:
        return int(connection.execute(count).scalar_one())


def _about_assets(run_id: str) -> tuple[Any, Any]:
    return _events.run_id == run_id, _events.asset_key.is_not(None)


def _is_replaced() -> Any:
    newer = SqlEventLogStorageTable.alias("newer")
    return db.and_(
        _events.partition.is_not(None),
        _events.dagster_event_type.in_(_LATEST_COUNTS),
        db.exists().where(
            newer.c.asset_key == _events.asset_key,
            newer.c.partition == _events.partition,
            newer.c.dagster_event_type.in_([_MATERIALIZATION, _events.dagster_event_type]),
            newer.c.id > _events.id,
        ),
    )


def _remove(instance: dg.DagsterInstance, storage: SqlEventLogStorage, run_id: str, *, whole: bool) -> None:
    if whole:
        instance.delete_run(run_id)
    else:
        with storage.index_transaction() as connection:
            ids = db.select(_events.id).where(*_about_assets(run_id), _is_replaced())
            for some in _in_groups([event_id for (event_id,) in connection.execute(ids)]):
                connection.execute(SqlEventLogStorageTable.delete().where(_events.id.in_(some)))
                connection.execute(AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(some)))
    if not isinstance(storage, SqliteEventLogStorage):
        return
    own_file = Path(storage.path_for_shard(run_id))
    if whole:
        for path in own_file.parent.glob(f"{run_id}.db*"):
            path.unlink(missing_ok=True)
    elif own_file.exists():
        with storage.run_connection(run_id) as connection:
            connection.execute(SqlEventLogStorageTable.delete().where(*_about_assets(run_id)))
        _give_back_space(str(own_file))


def _in_groups(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), 500):
        yield ids[start : start + 500]


def _give_back_space(database: str) -> None:
    """SQLite keeps what was removed as empty pages; PostgreSQL cleans up after itself."""
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        empty, pages = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
        if empty > pages * _EMPTY_SHARE:
            connection.execute("VACUUM")
            # Else the log beside it holds all of it a second time for as long as anybody has the database open.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
