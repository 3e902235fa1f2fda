"""Which partitions of an asset are materialized or failed, without those that are archived.

Belongs here: Dagster's looks at an asset's partitions, which stay as quick as there are live ones. Not here: writing
events (`event_storage`). It overrides what Dagster keeps private; `test_growth.py` fails when an upgrade changes it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as db
from dagster import AssetKey, DagsterEventType
from dagster._core.storage.event_log.schema import DynamicPartitionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from exr_pipeline.storage.locations import is_partition_key

_IDS_PER_READ: Final = 1000


class LivePartitions(SqlEventLogStorage):
    """An event log that counts, of files and sequences, only partitions that are in a partition set."""

    def get_materialized_partitions(
        self, asset_key: AssetKey, before_cursor: int | None = None, after_cursor: int | None = None
    ) -> set[str]:
        """The partitions of an asset with a materialization; of files and sequences, only those that are in a set.

        Dagster drops the others once it has them, and has all of them counted whenever a key has come or gone. There
        are ever more of them: files that are archived keep their events.
        """
        if before_cursor is not None or not self._has_partitions_of_files(asset_key):
            return super().get_materialized_partitions(asset_key, before_cursor, after_cursor)
        kind = DagsterEventType.ASSET_MATERIALIZATION
        return set(self.get_latest_storage_id_by_partition(asset_key, kind, after_cursor=after_cursor))

    def _latest_event_ids_by_partition_subquery(
        self,
        asset_key: AssetKey,
        event_types: Sequence[DagsterEventType],
        asset_partitions: Any = None,
        before_cursor: int | None = None,
        after_cursor: int | None = None,
    ) -> Any:
        if asset_partitions is None and self._has_partitions_of_files(asset_key):
            asset_partitions = db.select(DynamicPartitionsTable.c.partition)
        return super()._latest_event_ids_by_partition_subquery(
            asset_key, event_types, asset_partitions, before_cursor, after_cursor
        )

    def get_latest_asset_partition_materialization_attempts_without_materializations(
        self, asset_key: AssetKey, after_storage_id: int | None = None
    ) -> Mapping[str, tuple[str, int]]:
        """The partitions whose last plan no materialization has followed, with the run and the id of that plan.

        What Dagster finds, which reads the event itself of each of both. The index alone tells all but the runs.
        """
        planned, made = (
            self.get_latest_storage_id_by_partition(asset_key, kind, after_cursor=after_storage_id)
            for kind in (DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_MATERIALIZATION)
        )
        unmade = {partition: last for partition, last in planned.items() if last > made.get(partition, 0)}
        runs = self._runs_of_events(list(unmade.values()))
        return {partition: (runs[last], last) for partition, last in unmade.items() if last in runs}

    def _runs_of_events(self, ids: Sequence[int]) -> dict[int, str]:
        table, runs = SqlEventLogStorageTable.c, dict[int, str]()
        with self.index_connection() as connection:
            for start in range(0, len(ids), _IDS_PER_READ):
                some = db.select(table.id, table.run_id).where(table.id.in_(ids[start : start + _IDS_PER_READ]))
                runs.update((event_id, run_id) for event_id, run_id in connection.execute(some))
        return runs

    def _has_partitions_of_files(self, asset_key: AssetKey) -> bool:
        """Whether the last event of an asset is about a file or a sequence: then all its partitions are such."""
        table = SqlEventLogStorageTable.c
        kinds = (DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_MATERIALIZATION)
        with self.index_connection() as connection:
            for kind in kinds:
                last = db.select(table.partition).where(
                    table.asset_key == asset_key.to_string(), table.dagster_event_type == kind.value
                )
                partition = connection.execute(last.order_by(table.id.desc()).limit(1)).scalar()
                if partition is not None:
                    return is_partition_key(partition)
        return False
