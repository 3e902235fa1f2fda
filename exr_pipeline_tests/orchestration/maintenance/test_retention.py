"""Retention: history shrinks, and no partition changes its status, on both storages."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.storage.event_log.schema import AssetEventTagsTable, AssetKeyTable, SqlEventLogStorageTable

from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.instance.purge import purge
from exr_pipeline.orchestration.instance.step_events import log_asset_events
from exr_pipeline.orchestration.maintenance.retention import RETENTION_JOB, retention_schedule
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline_tests.orchestration.batched_steps import (
    ASSETS,
    SET,
    make_all,
    named,
    run_over,
    run_selection,
)
from exr_pipeline_tests.orchestration.dagster_homes import instance_at, postgres_instance_at

KEYS = named("kept", 12)
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    if request.param == "SQLite":
        opening = instance_at(tmp_path / "home")
    else:
        opening = postgres_instance_at(tmp_path / "home", request.getfixturevalue("postgres_url"))
    with opening as opened:
        yield opened


def observe(context: Any, keys: Any) -> None:
    log_asset_events(context, [dg.AssetObservation(ASSETS[0], partition=key, description="bad") for key in keys])
    raise dg.Failure("all of them are bad", allow_retries=False)


def history(instance: dg.DagsterInstance) -> dict[str, str]:
    """Run ids by name: everything made, made again, some failed anew, one failed from the start, one made after all."""
    return {
        "first": run_over(instance, KEYS).run_id,
        "again": run_over(instance, KEYS).run_id,
        "failed": run_over(instance, KEYS[:3], observe).run_id,
        "one": run_over(instance, KEYS[:1]).run_id,
        "never": run_over(instance, named("never", 2), lambda c, keys: make_all(c, keys, without=keys[:1])).run_id,
        "job": run_selection(instance, KEYS, lambda context, keys: context.log.info("hello")).run_id,
    }


def statuses(instance: dg.DagsterInstance) -> dict[Any, Any]:
    """Of all partitions of all assets, read anew; the page's memory of them is wiped before."""
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        connection.execute(AssetKeyTable.update().values(cached_status_data=None))
    keys = list(instance.get_dynamic_partitions(SET))
    return {
        asset: instance.get_status_by_partition(asset, keys, dg.DynamicPartitionsDefinition(name=SET))
        for asset in ASSETS
    }


def latest(instance: dg.DagsterInstance) -> list[Any]:
    """The latest materialization of every asset and partition."""
    return [
        instance.fetch_materializations(dg.AssetRecordsFilter(asset, asset_partitions=[key]), limit=1).records
        for asset in ASSETS
        for key in KEYS
    ]


def counted(instance: dg.DagsterInstance, table: Any) -> int:
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        return int(connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(table)).scalar_one())


def test_what_newer_events_replaced_goes_and_every_status_stays(instance: dg.DagsterInstance) -> None:
    runs = history(instance)
    before = statuses(instance), latest(instance)
    assert {str(status.value) for found in before[0].values() for status in found.values()} == {
        "MATERIALIZED",
        "FAILED",
    }

    would = purge(instance, before=LATER, most_runs=100, dry_run=True)
    assert len(instance.get_run_ids()) == len(runs)
    removed = purge(instance, before=LATER, most_runs=100)

    assert removed == would
    assert (statuses(instance), latest(instance)) == before
    # What the failed one announced and the one after it made is all that is left of them; the job made nothing.
    assert set(instance.get_run_ids()) == {runs["again"], runs["failed"], runs["one"], runs["never"]}
    # One materialization for each asset and partition, and what two of three files failed with: a plan for each asset,
    # the reason; of the file that never was, a plan and its four other assets.
    assert counted(instance, AssetEventTagsTable) == len(KEYS) * len(ASSETS) + 9
    kinds = "ASSET_MATERIALIZATION", "ASSET_MATERIALIZATION_PLANNED", "ASSET_OBSERVATION"
    events = SqlEventLogStorageTable.select().where(SqlEventLogStorageTable.c.dagster_event_type.in_(kinds))
    assert counted(instance, events.subquery()) == len(KEYS) * len(ASSETS) + 9 + 2 * len(ASSETS) + 2 + 1
    # The page of a failed run still says why.
    assert len(instance.all_logs(runs["never"], of_type=dg.DagsterEventType.STEP_FAILURE)) == 1
    again = purge(instance, before=LATER, most_runs=100)
    assert (again.runs, again.replaced_events, again.copied_events, again.runs_left) == (0, 0, 0, 0)
    assert run_over(instance, KEYS).success
    assert statuses(instance)[ASSETS[0]][KEYS[1]].value == "MATERIALIZED"


def test_young_runs_and_those_beyond_the_number_asked_for_wait(instance: dg.DagsterInstance) -> None:
    runs = [run_over(instance, KEYS[:2]).run_id for _ in range(4)]

    assert purge(instance, before=datetime.now(UTC) - timedelta(days=1), most_runs=100).runs == 0
    removed = purge(instance, before=LATER, most_runs=1)

    assert (removed.runs, removed.runs_left) in {(1, 3), (1, 2), (0, 3)}
    for _ in range(4):
        purge(instance, before=LATER, most_runs=1)
    assert instance.get_run_ids() == runs[-1:]


def size_with_log(database: Path) -> int:
    """Bytes of a database and its write-ahead log, which is part of it as long as somebody has it open."""
    return sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*"))


def test_files_of_sqlite_get_smaller(tmp_path: Path) -> None:
    with instance_at(tmp_path / "home") as instance:
        keys = named("large", 150)
        removed_run, kept_run = (run_over(instance, keys).run_id for _ in range(2))
    # Whoever closes a database last leaves no log beside it.
    folder = next(path.parent for path in tmp_path.rglob("index.db"))
    before = {path.name: size_with_log(path) for path in folder.glob("*.db")}

    with instance_at(tmp_path / "home") as instance:
        purge(instance, before=LATER, most_runs=100)
        # While it is open, as in a daemon for weeks.
        after = {path.name: size_with_log(path) for path in folder.glob("*.db")}

    assert f"{removed_run}.db" in before
    assert f"{removed_run}.db" not in after
    for name in ("index.db", f"{kept_run}.db"):
        assert after[name] < 0.6 * before[name]
    with closing(sqlite3.connect(folder / "index.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_job_reports_what_it_removed_and_runs_every_night(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, database=tmp_path / "tables.duckdb")
    defs = build_defs(settings=settings, resource_overrides={"pipeline": Pipeline(settings)})
    assert defs.get_repository_def().get_schedule_def(RETENTION_JOB).default_status == dg.DefaultScheduleStatus.RUNNING
    assert retention_schedule.job_name == RETENTION_JOB
    with instance_at(tmp_path / "home") as instance:
        runs = [run_over(instance, KEYS[:2]).run_id for _ in range(2)]

        def reported(**config: Any) -> dict[str, Any]:
            result = defs.resolve_job_def(RETENTION_JOB).execute_in_process(
                instance=instance, run_config={"ops": {"purge_history": {"config": config}}}
            )
            (output,) = [
                event
                for event in result.filter_events(lambda event: event.is_successful_output)
                if event.step_key == "purge_history"
            ]
            return {name: value.value for name, value in output.step_output_data.metadata.items()}

        assert reported()["runs"] == 0
        assert reported(days=0, dry_run=True)["runs"] >= 1
        assert set(runs) <= set(instance.get_run_ids())
        assert reported(days=0)["runs"] >= 1
        assert set(runs) & set(instance.get_run_ids()) == {runs[1]}
