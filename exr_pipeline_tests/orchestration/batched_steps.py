"""A step over files that logs its events in batches, runs of it, and what they leave: statuses, events, rows, commits.

Belongs here: what tests of batched events, of partition keys and of retention share. Not here: tests.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from dagster import AssetKey, EventLogEntry
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.test_utils import in_process_test_workspace
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_graphql.schema import create_schema

from exr_pipeline.orchestration.instance.step_events import log_asset_events

SET = "batched_files"
ASSETS = [AssetKey(f"asset_{number}") for number in range(5)]
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

# What the running step does: given its context and its partition keys.
Body = Callable[[Any, Sequence[str]], None]
body: list[Body] = []


def make_all(context: Any, keys: Sequence[str], without: Sequence[str] = ()) -> None:
    log_asset_events(
        context,
        [
            dg.AssetMaterialization(asset, partition=key, tags={DATA_VERSION_TAG: f"version of {key}"})
            for key in keys
            for asset in ASSETS
            if key not in without or asset != ASSETS[0]
        ],
    )
    if without:
        raise dg.Failure("some files were bad", allow_retries=False)


@dg.multi_asset(
    specs=[
        dg.AssetSpec(asset, partitions_def=dg.DynamicPartitionsDefinition(name=SET), skippable=True) for asset in ASSETS
    ],
    can_subset=True,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def files_step(context: dg.AssetExecutionContext) -> Iterator[dg.Output[None]]:
    body[-1](context, context.partition_keys)
    yield from ()


@dg.op
def selection_op(context: dg.OpExecutionContext) -> None:
    body[-1](context, context.run.tags["keys"].split(","))


@dg.job(executor_def=dg.in_process_executor)
def selection_job() -> None:
    selection_op()


defs = dg.Definitions(
    assets=[files_step],
    jobs=[dg.define_asset_job("files_job", selection=[files_step]), selection_job],
    executor=dg.in_process_executor,
)


@contextmanager
def doing(what: Body) -> Iterator[None]:
    body.append(what)
    try:
        yield
    finally:
        body.pop()


def run_over(instance: dg.DagsterInstance, keys: Sequence[str], what: Body = make_all) -> dg.ExecuteInProcessResult:
    instance.add_dynamic_partitions(SET, list(keys))
    with doing(what):
        return defs.resolve_job_def("files_job").execute_in_process(
            instance=instance, run_config=QUIET, tags={RANGE_START: keys[0], RANGE_END: keys[-1]}, raise_on_error=False
        )


def run_selection(instance: dg.DagsterInstance, keys: Sequence[str], what: Body) -> dg.ExecuteInProcessResult:
    with doing(what):
        return defs.resolve_job_def("selection_job").execute_in_process(
            instance=instance, run_config=QUIET, tags={"keys": ",".join(keys)}, raise_on_error=False
        )


def named(prefix: str, count: int) -> list[str]:
    return [f"{prefix}.{number:04}.exr" for number in range(count)]


def statuses(instance: dg.DagsterInstance, asset: AssetKey, prefix: str) -> dict[str, list[str]]:
    """The partitions of an asset by their status, as the page asks for them; those with a prefix only."""
    query = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
        assetPartitionStatuses { ... on DefaultPartitionStatuses {
            materializedPartitions failedPartitions materializingPartitions unmaterializedPartitions } } } } }"""
    with in_process_test_workspace(instance, LoadableTargetOrigin(python_file=__file__, attribute="defs")) as workspace:
        executing = create_schema().execute_async(
            query, context_value=workspace, variables={"key": {"path": asset.path}}
        )
        answer = asyncio.run(executing)
    assert not answer.errors
    found = answer.data["assetNodeOrError"]["assetPartitionStatuses"]
    names = ("materialized", "failed", "materializing", "unmaterialized")
    filtered = {name: sorted(key for key in found[f"{name}Partitions"] if key.startswith(prefix)) for name in names}
    # What failed or is under way is also counted as not there.
    others = {*filtered["failed"], *filtered["materializing"]}
    filtered["unmaterialized"] = sorted(set(filtered["unmaterialized"]) - others)
    return {name: keys for name, keys in filtered.items() if keys}


@contextmanager
def listening(to: Any, event: str, listener: Callable[..., None]) -> Iterator[None]:
    """Have a function called by all engines or pools of SQLAlchemy."""
    sqlalchemy.event.listen(to, event, listener)
    try:
        yield
    finally:
        sqlalchemy.event.remove(to, event, listener)


def database_of(path: str) -> str:
    """`run` for the events of any run."""
    return Path(path).name if Path(path).name in {"index.db", "runs.db", "schedules.db"} else "run"


@contextmanager
def counted_commits() -> Iterator[Counter[str]]:
    """Transactions by the file of the event log that they went to."""
    counts: Counter[str] = Counter()

    def committed(connection: sqlalchemy.Connection) -> None:
        name = database_of(str(connection.engine.url.database))
        if name not in {"runs.db", "schedules.db"}:
            counts[name] += 1

    with listening(sqlalchemy.Engine, "commit", committed):
        yield counts


def asset_events(instance: dg.DagsterInstance, run_id: str) -> list[EventLogEntry]:
    return [
        entry
        for entry in instance.all_logs(run_id)
        if entry.is_dagster_event and entry.get_dagster_event().asset_key is not None
    ]


def rows_of(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in a database except ids of rows, the time of their making, and its version."""
    with closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        content = {}
        for table in set(tables) - {"alembic_version", "secondary_indexes", "sqlite_sequence"}:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            compared = ", ".join(f'"{name}"' for name in columns if name not in {"create_timestamp"})
            content[table] = connection.execute(f"SELECT {compared} FROM {table} ORDER BY id").fetchall()
        return content


def varied_events(key: str) -> list[dg.AssetMaterialization | dg.AssetObservation]:
    """Events with metadata of every kind, and with texts that are hard to quote."""
    odd = f'{key} "quoted" \\ é \ue000description \n'
    metadata: dict[str, Any] = {
        "text": odd,
        'a "label"': "",
        "url": dg.MetadataValue.url(f"s3://bucket/{key}"),
        "picture": dg.MetadataValue.md(f"![]({key})"),
        "whole": len(key),
        "real": 0.1 + len(key),
        "no number": float("nan"),
        "yes": True,
        "time": dg.MetadataValue.timestamp(1.7e9),
        "list": ["b", {"z": 1, "a": None}],
        "nothing": [],
        "table": dg.MetadataValue.table([dg.TableRecord({"a": 1})]),
        "null": None,
    }
    tags = {DATA_VERSION_TAG: odd, "another": "tag"}
    return [
        dg.AssetMaterialization(ASSETS[0], partition=key, metadata=metadata, tags=tags),
        dg.AssetMaterialization(ASSETS[0], partition=key, metadata=metadata),
        dg.AssetMaterialization(ASSETS[1]),
        dg.AssetMaterialization(ASSETS[1], description=odd),
        dg.AssetObservation(ASSETS[0], partition=key, description=odd, metadata={"text": odd}, tags=tags),
        dg.AssetObservation(ASSETS[0], partition=key, metadata={"text": odd}),
    ]
