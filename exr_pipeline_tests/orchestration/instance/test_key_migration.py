"""Partition keys of an earlier version: after migration everything is where it was, under today's keys."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from exr_pipeline.ingest.finished_work import Scope
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.instance.key_migration import (
    instance_for_work,
    is_migrated,
    migrate_for_a_while,
    migrate_keys,
    migration,
)
from exr_pipeline.orchestration.maintenance.archive import archive, unarchive
from exr_pipeline.orchestration.partitions import FILES, SEQUENCES
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.orchestration.batched_steps import QUIET, RANGE_END, RANGE_START, counted_commits
from exr_pipeline_tests.orchestration.conftest import Workshop
from exr_pipeline_tests.orchestration.dagster_homes import instance_at, postgres_instance_at
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.storage.former_keys import former_key

HEADER = dg.AssetKey("exr_header")
SEQUENCE = Location("s3", "renders", "show/shot_010/plates/plate.####.exr")


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "home"
    if request.param == "SQLite":
        opening = instance_at(home)
    else:
        opening = postgres_instance_at(home, request.getfixturevalue("postgres_url"))
    with opening as opened:
        yield opened


@pytest.fixture
def shop(instance: dg.DagsterInstance, tmp_path: Path) -> Workshop:
    """Files in a folder whose name is as long as they usually are, so that keys have labels."""
    settings = Settings(_env_file=None, database=tmp_path / "tables.duckdb", state_dir=tmp_path)
    pipeline = Pipeline(settings)
    folder = Location("file", "", str(tmp_path / "renders").removeprefix("/") + "/")
    return Workshop(
        instance, pipeline, folder, build_defs(settings=settings, resource_overrides={"pipeline": pipeline})
    )


def run_headers(shop: Workshop, keys: Sequence[str]) -> Any:
    return shop.run_range(list(keys), asset_selection=[HEADER], run_config=QUIET)


def an_earlier_version_worked(shop: Workshop, patch: pytest.MonkeyPatch) -> list[Location]:
    """Three good files and a bad one, ingested and announced under the keys of that time."""
    with patch.context() as earlier:
        earlier.setattr("exr_pipeline.storage.locations.key_of", former_key)
        files = {f"shot_010/a b, #1.{frame:04}.exr": render() for frame in (1, 2, 3)}
        keys = shop.put({**files, "shot_010/no_exr.0001.exr": b"no EXR at all"})
        assert not run_headers(shop, keys).success
        shop.instance.add_dynamic_partitions(SEQUENCES, [former_key("renders/show/shot_010/plates/plate.####.exr")])
        return [Location.from_partition_key(key) for key in keys]


def everything(instance: dg.DagsterInstance, locations: Sequence[Location]) -> dict[str, Any]:
    """What Dagster knows of the files, in words that hold no key."""
    names = {key: location.name for location in locations for key in (location.partition_key, _former(location))}
    found: dict[str, Any] = {"order": [names[key] for key in instance.get_dynamic_partitions(FILES)]}
    page = instance.fetch_materializations(HEADER, limit=100, ascending=True)
    found["materializations"] = [
        (names[str(record.partition_key)], record.timestamp, record.asset_materialization.metadata)
        for record in page.records
        if record.asset_materialization is not None
    ]
    for run in instance.get_runs():
        found[f"tags {run.run_id}"] = (names[run.tags[RANGE_START]], names[run.tags[RANGE_END]])
        partitions = [entry.dagster_event.partition for entry in instance.all_logs(run.run_id) if entry.dagster_event]
        found[f"log {run.run_id}"] = [names[partition] for partition in partitions if partition is not None]
    return found


def _former(location: Location) -> str:
    return former_key(f"{location.bucket}/{location.key}")


def test_files_keep_their_statuses_history_order_and_runs_under_todays_keys(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = shop.instance
    locations = an_earlier_version_worked(shop, monkeypatch)
    before, former_statuses = everything(instance, locations), shop.statuses(HEADER.path[0])
    assert former_statuses["failed"] == {_former(locations[3])}
    instance.add_backfill(
        PartitionBackfill(
            backfill_id="earlier",
            status=BulkActionStatus.REQUESTED,
            from_failure=False,
            tags={"dagster/partition": _former(locations[0])},
            backfill_timestamp=0.0,
            asset_selection=[HEADER],
            partition_names=[_former(location) for location in locations],
        )
    )

    migrate_keys(instance)

    keys = [location.partition_key for location in locations]
    assert instance.get_dynamic_partitions(FILES) == keys
    assert instance.get_dynamic_partitions(SEQUENCES) == [SEQUENCE.partition_key]
    assert everything(instance, locations) == before
    assert shop.statuses(HEADER.path[0]) == {
        status: {Location.from_partition_key(key).partition_key for key in those}
        for status, those in former_statuses.items()
    }
    backfill = instance.get_backfill("earlier")
    assert backfill is not None
    assert backfill.partition_names == keys
    latest = instance.get_latest_materialization_event(HEADER)
    assert latest is not None
    assert latest.asset_materialization is not None
    assert latest.asset_materialization.partition in keys
    # Whoever writes a key as it was is understood, and what comes now joins what was there.
    assert shop.select(partitions=[_former(locations[1])], assets=["exr_header"]).success
    assert len(shop.materializations(HEADER.path[0])[keys[1]]) == 2


def test_a_migration_that_is_killed_anywhere_goes_on_and_is_done_once(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = shop.instance
    locations = an_earlier_version_worked(shop, monkeypatch)
    before = everything(instance, locations)
    calls = 0
    while not is_migrated(instance):
        calls += 1
        for step, _ in enumerate(migration(instance, rows_at_once=3), 1):
            if step == calls:
                break
    assert calls > 3
    assert everything(instance, locations) == before
    assert shop.statuses(HEADER.path[0])["failed"] == {locations[3].partition_key}
    with counted_commits() as commits:
        assert list(migration(instance)) == []
    assert not commits


def test_partitions_of_others_are_left_alone(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    theirs = ["2024-01-01", "shot_010", "a~b", "renders~a.exr", "plate.exr", "shots/plate.exr", "50%", "été"]
    instance.add_dynamic_partitions("theirs", theirs)
    instance.add_dynamic_partitions(FILES, theirs)
    for key in theirs:
        instance.report_runless_asset_event(dg.AssetMaterialization("theirs", partition=key, metadata={"key": key}))

    migrate_keys(instance)

    assert instance.get_dynamic_partitions("theirs") == theirs
    assert instance.get_dynamic_partitions(FILES) == theirs
    records = instance.fetch_materializations(dg.AssetKey("theirs"), limit=100, ascending=True).records
    assert [record.partition_key for record in records] == theirs


def test_keys_that_came_in_todays_form_before_the_migration_are_there_once(instance: dg.DagsterInstance) -> None:
    address = "renders/show/shot_010/beauty/shot_010_beauty.0001.exr"
    today = Location("s3", *address.split("/", 1)).partition_key
    instance.add_dynamic_partitions(FILES, [former_key(address), "renders~a.exr", today])
    migrate_keys(instance)
    assert sorted(instance.get_dynamic_partitions(FILES)) == sorted([today, "renders~a.exr"])


def test_archived_files_come_back_with_the_statuses_that_they_had(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = shop.instance
    with monkeypatch.context() as earlier:
        earlier.setattr("exr_pipeline.storage.locations.key_of", former_key)
        keys = shop.put({f"shot_010/plate.{frame:04}.exr": render() for frame in (1, 2)})
        assert run_headers(shop, keys).success
        archive(instance, shop.pipeline, Scope(shop.bucket, None))
        assert instance.get_dynamic_partitions(FILES) == []

    migrate_keys(instance)
    unarchive(instance, shop.pipeline, Scope(shop.bucket, None))

    assert shop.statuses(HEADER.path[0])["materialized"] == {
        Location.from_partition_key(key).partition_key for key in keys
    }


def test_commands_and_sensors_migrate_before_anything_else(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = shop.instance
    locations = an_earlier_version_worked(shop, monkeypatch)
    with monkeypatch.context() as slow:
        slow.setattr("exr_pipeline.orchestration.instance.key_migration.SECONDS_PER_TICK", -1.0)
        sensor = shop.defs.resolve_sensor_def("settled_sequences")
        with dg.build_sensor_context(instance, resources={"pipeline": shop.pipeline}) as context:
            tick = sensor.evaluate_tick(context)
        assert tick.skip_message is not None
        assert "Migrating the partition keys" in tick.skip_message
        assert not tick.run_requests
    assert not is_migrated(instance)
    assert migrate_for_a_while(instance) is None
    with instance_for_work() as working:
        assert working.get_dynamic_partitions(FILES) == [location.partition_key for location in locations]
