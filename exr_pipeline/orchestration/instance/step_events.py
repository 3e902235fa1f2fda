"""What a step logs of files and sequences: materializations, observations and announcements, as one batch each.

Belongs here: logging them, and reading what a run has logged. Not here: how they are stored (`event_storage`). It makes
what Dagster makes, with what Dagster keeps private; `test_event_storage.py` fails when an upgrade changes it.
"""

import logging
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import dagster as dg
import sqlalchemy as db
from dagster import AssetKey, DagsterEventType, EventLogEntry
from dagster._core.definitions.metadata import normalize_metadata_value
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.events import (
    AssetMaterializationPlannedData,
    AssetObservationData,
    DagsterEvent,
    DagsterEventBatchMetadata,
    StepMaterializationData,
)
from dagster._core.execution.context.system import StepExecutionContext
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from exr_pipeline.orchestration.instance.event_storage import BatchedEvents

_EVENTS_PER_READ: Final = 1000

AssetEvent = dg.AssetMaterialization | dg.AssetObservation


def materialization(
    asset_key: AssetKey, *, partition: str, metadata: Mapping[str, Any], tags: Mapping[str, str]
) -> dg.AssetMaterialization:
    """What `dg.AssetMaterialization` makes of these, without the checks that take most of its time."""
    normalized = {
        label: _normalized(value) if type(value) in _PLAIN else normalize_metadata_value(value)
        for label, value in metadata.items()
    }
    return _unpartitioned(asset_key)._replace(partition=partition, metadata=normalized, tags=tags)


_PLAIN: Final = frozenset({str, int, float, bool})


@lru_cache(maxsize=1000)
def _unpartitioned(asset_key: AssetKey) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(asset_key)


# 1 equals True, but is of another type.
@lru_cache(maxsize=10_000, typed=True)
def _normalized(value: float | str) -> dg.MetadataValue[Any]:
    return normalize_metadata_value(value)


def log_asset_events(context: dg.OpExecutionContext | dg.AssetExecutionContext, events: Iterable[AssetEvent]) -> None:
    """Log materializations or observations of one step, in as few batches as the instance's storage takes.

    What is stored is what `context.log_event` stores one by one (8-30 ms each). They do not go through Python's
    logging, where Dagster would format each of them for a console that does not show it.
    """
    step = _op_context(context)._step_execution_context
    mixed = isinstance(context.instance.event_log_storage, BatchedEvents)
    entries: dict[Any, list[EventLogEntry]] = {}
    alike: dict[Any, EventLogEntry] = {}
    for event in events:
        group = (type(event), event.asset_key)
        kind = (*group, event.description) if isinstance(event, dg.AssetMaterialization) else group
        if kind not in alike:
            alike[kind] = _entry_like_dagsters(step, event)
        entries.setdefault(None if mixed else group, []).append(_entry_about(event, alike[kind]))
    for batch in entries.values():
        batch_id = uuid.uuid4().hex
        for index, entry in enumerate(batch):
            context.instance.handle_new_event(
                entry, batch_metadata=DagsterEventBatchMetadata(batch_id, is_end=index == len(batch) - 1)
            )


def _entry_like_dagsters(step: StepExecutionContext, event: AssetEvent) -> EventLogEntry:
    """An entry as Dagster makes it of an event that a step logs."""
    made = isinstance(event, dg.AssetMaterialization)
    kind = DagsterEventType.ASSET_MATERIALIZATION if made else DagsterEventType.ASSET_OBSERVATION
    message = event.description or f"Materialized value {' '.join(event.asset_key.path)}." if made else None
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=logging.DEBUG,
        user_message=message or f"{kind} for step {step.step.key}",
        run_id=step.run_id,
        timestamp=0.0,
        step_key=step.step.key,
        job_name=step.job_name,
        dagster_event=DagsterEvent(
            event_type_value=kind.value,
            job_name=step.job_name,
            step_handle=step.step.handle,
            node_handle=step.step.node_handle,
            step_kind_value=step.step.kind.value,
            logging_tags=step.event_tags,
            event_specific_data=_data_of(event),
            message=message,
            pid=os.getpid(),
        ),
    )


def _data_of(event: AssetEvent) -> StepMaterializationData | AssetObservationData:
    if isinstance(event, dg.AssetMaterialization):
        return StepMaterializationData(event)
    return AssetObservationData(event)


def _entry_about(event: AssetEvent, like: EventLogEntry) -> EventLogEntry:
    # Named tuples: `_replace` does without the checks that every constructor of Dagster makes.
    dagster_event = like.get_dagster_event()._replace(event_specific_data=_data_of(event))
    return like._replace(timestamp=time.time(), dagster_event=dagster_event)


def announce(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, assets: Iterable[AssetKey], partition_keys: Sequence[str]
) -> None:
    """Announce what of these partitions the run has not yet announced that it will materialize.

    A partition that is announced and not materialized when the run fails is shown as failed, until then as in progress.
    Dagster announces the range of a run after the run is stored: if the daemon or the database dies in between, the run
    starts later all the same, and has announced nothing or not all. For a list of partitions it announces nothing.
    """
    step_key = _op_context(context)._step_execution_context.step.key
    done = _announced(context.instance, context.run.run_id)
    planned: list[AssetMaterializationPlannedData] = []
    for asset_key in assets:
        keys = [key for key in partition_keys if (asset_key.to_string(), key) not in done]
        if keys and isinstance(context.instance.event_log_storage, BatchedEvents):
            planned.append(
                AssetMaterializationPlannedData(asset_key, partitions_subset=DefaultPartitionsSubset(set(keys)))
            )
        else:
            planned += [AssetMaterializationPlannedData(asset_key, partition=key) for key in keys]
    batch_id = uuid.uuid4().hex
    for index, data in enumerate(planned):
        context.instance.report_dagster_event(
            DagsterEvent.build_asset_materialization_planned_event(context.job_name, step_key, data),
            context.run.run_id,
            batch_metadata=DagsterEventBatchMetadata(batch_id, is_end=index == len(planned) - 1),
        )


def announced_partitions(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    """The partitions that a run has announced, of any asset."""
    return {partition for _, partition in _announced(instance, run_id) if partition is not None}


def _announced(instance: dg.DagsterInstance, run_id: str) -> set[tuple[str, str]]:
    """Asset and partition of each planned event of a run; the events themselves take fifty times as long to read."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        # To announce a partition twice does no harm.
        return set()
    events = SqlEventLogStorageTable.c
    with storage.index_connection() as connection:
        found = connection.execute(
            db.select(events.asset_key, events.partition).where(
                events.run_id == run_id,
                events.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
            )
        )
        return {(asset_key, partition) for asset_key, partition in found}


def materializations_of_run(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetMaterialization]:
    """Every materialization that a run has logged so far, oldest first."""
    found: list[dg.AssetMaterialization] = []
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(
            run_id, cursor=cursor, of_type=DagsterEventType.ASSET_MATERIALIZATION, limit=_EVENTS_PER_READ
        )
        found += [record.asset_materialization for record in page.records if record.asset_materialization]
        if not page.has_more:
            return found
        cursor = page.cursor


def _op_context(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> dg.OpExecutionContext:
    return context.op_execution_context if isinstance(context, dg.AssetExecutionContext) else context
