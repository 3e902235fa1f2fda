"""Dagster events written in batches: the embedded event log storage, and logging from within a step.

The only module that touches what Dagster keeps private; `test_event_batching.py` fails when an upgrade changes it.
Figures and reasons: docs/decisions/0003-batched-events.md.
"""

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import dagster as dg
import sqlalchemy as db
from dagster import AssetKey, DagsterEventType, EventLogEntry
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    DagsterEventBatchMetadata,
)
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, _event_logs_directory
from dagster._serdes import ConfigurableClassData

_BATCHABLE: Final = {
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
}
BATCH_SIZE: Final = 1000


def are_batchable(events: Sequence[EventLogEntry]) -> bool:
    """Whether all of these are events about assets that may be written together."""
    return all(
        event.is_dagster_event and event.dagster_event_type in _BATCHABLE and event.get_dagster_event().asset_key
        for event in events
    )


def newest_by_asset(events: Sequence[EventLogEntry], ids: Sequence[int]) -> Iterable[tuple[EventLogEntry, int]]:
    """The last event of each asset and kind with its id, oldest first: all that Dagster's table of assets keeps."""
    newest = {
        (event.get_dagster_event().asset_key, event.dagster_event_type): (event, event_id)
        for event, event_id in zip(events, ids, strict=True)
    }
    return sorted(newest.values(), key=lambda pair: pair[1])


class BatchingSqliteEventLogStorage(SqliteEventLogStorage):
    """Dagster's SQLite event log, with a `store_event_batch` that is one transaction per database file.

    Files stay readable by stock Dagster, both ways.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        # Dagster reads it at each event; without it the framework never forms a batch.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH_SIZE))

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events of one run: asset events in two transactions, anything else one by one."""
        if not are_batchable(events):
            super().store_event_batch(events)
            return
        rows = [self._event_to_row(event) for event in events]
        # The index first: it is what statuses are read from, and if it fails Dagster stores the events one by one.
        with self.index_transaction() as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
            last_id = connection.execute(db.text("select last_insert_rowid()")).scalar_one()
            # One writer at a time holds the database, so the ids of an executemany are contiguous.
            ids = range(last_id - len(rows) + 1, last_id + 1)
            self._store_asset_event_tags(connection, events, ids)
            for event, event_id in newest_by_asset(events, ids):
                self._store_asset_event(connection, event, event_id)
        with self.run_connection(events[0].run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)


class BatchingSqliteStorage(DagsterSqliteStorage):
    """The embedded storage of a Dagster instance; plugged in by `storage: custom:` in dagster.yaml.

    A relative `base_dir` is taken from `$DAGSTER_HOME`, or from the working folder if that is not set, so that
    `dagster dev`, `make ui` and the command line see one history.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        folder = Path(os.environ.get("DAGSTER_HOME", "."), base_dir).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(str(folder), inst_data)
        self._event_log_storage = BatchingSqliteEventLogStorage(_event_logs_directory(str(folder)))

    @classmethod
    def from_config_value(  # the base class names itself here
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "BatchingSqliteStorage":
        """Build the storage from dagster.yaml."""
        return cls(base_dir=config_value["base_dir"], inst_data=inst_data)


AssetEvent = dg.AssetMaterialization | dg.AssetObservation


def log_asset_events(context: dg.OpExecutionContext | dg.AssetExecutionContext, events: Iterable[AssetEvent]) -> None:
    """Log materializations or observations of one step, in batches of one asset key and kind.

    `context.log_event` writes each event by itself (8-30 ms); this is the same in batches (0.3-0.7 ms).
    """
    groups: dict[tuple[type[AssetEvent], AssetKey], list[AssetEvent]] = {}
    for event in events:
        groups.setdefault((type(event), event.asset_key), []).append(event)
    step = _op_context(context)._step_execution_context
    for group in groups.values():
        batch_id = uuid.uuid4().hex
        for index, event in enumerate(group):
            batch = DagsterEventBatchMetadata(batch_id, is_end=index == len(group) - 1)
            if isinstance(event, dg.AssetMaterialization):
                DagsterEvent.asset_materialization(step, event, batch)
            else:
                DagsterEvent.asset_observation(step, event, batch)


def log_planned_materializations(context: dg.OpExecutionContext, keys: Mapping[AssetKey, Sequence[str]]) -> None:
    """Announce that this run will materialize partitions, as Dagster itself does for a run with a partition range.

    For jobs whose partitions are no contiguous range: a key that is announced and not materialized when the run
    fails is shown as failed, until then as in progress.
    """
    for asset_key, partition_keys in keys.items():
        batch_id = uuid.uuid4().hex
        for index, partition_key in enumerate(partition_keys):
            event = DagsterEvent.build_asset_materialization_planned_event(
                context.job_name,
                _op_context(context)._step_execution_context.step.key,
                AssetMaterializationPlannedData(asset_key, partition=partition_key),
            )
            context.instance.report_dagster_event(
                event,
                context.run.run_id,
                batch_metadata=DagsterEventBatchMetadata(batch_id, is_end=index == len(partition_keys) - 1),
            )


def materializations_of_run(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetMaterialization]:
    """Every materialization that a run has logged so far, oldest first."""
    found: list[dg.AssetMaterialization] = []
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(
            run_id, cursor=cursor, of_type=DagsterEventType.ASSET_MATERIALIZATION, limit=BATCH_SIZE
        )
        found += [record.asset_materialization for record in page.records if record.asset_materialization]
        if not page.has_more:
            return found
        cursor = page.cursor


def _op_context(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> dg.OpExecutionContext:
    return context.op_execution_context if isinstance(context, dg.AssetExecutionContext) else context
