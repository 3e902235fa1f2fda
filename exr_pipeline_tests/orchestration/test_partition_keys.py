"""Partition keys on both databases: remembered while nobody changes them, removed many at once, then not counted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster_postgres import PostgresEventLogStorage

from exr_pipeline.orchestration.instance.event_storage import BatchedEvents, BatchingSqliteEventLogStorage
from exr_pipeline.orchestration.instance.postgres import BatchingPostgresEventLogStorage
from exr_pipeline.orchestration.partitions import FILES, remove_partitions, restore_partitions
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.orchestration.batched_steps import SET, counted_commits, listening, named, rows_of
from exr_pipeline_tests.orchestration.dagster_homes import instance_at, postgres_instance_at
from exr_pipeline_tests.services.postgres import PostgresServer


def test_the_keys_of_a_partition_set_are_those_that_stock_dagster_reads_in_its_order(tmp_path: Path) -> None:
    stock, batching = SqliteEventLogStorage(str(tmp_path)), BatchingSqliteEventLogStorage(str(tmp_path))
    keys = ["s3://renders/b.exr", "s3://renders/a.exr", "s3://renders/ünïcödé 火.exr", "odd\nkey\t'quoted'"]
    stock.add_dynamic_partitions(SET, keys[:3])
    stock.add_dynamic_partitions("another set", keys[:1])
    batching.add_dynamic_partitions(SET, keys[3:])

    assert batching.get_dynamic_partitions(SET) == list(stock.get_dynamic_partitions(SET)) == keys
    assert batching.get_dynamic_partitions("never there") == []


def assert_that_keys_are_read_again(
    changes: Sequence[Callable[[], None]], ours: BatchedEvents, stock: SqlEventLogStorage
) -> None:
    """After each change the keys are those that stock Dagster reads, read once however often they are asked for."""
    read: list[str] = []

    def executed(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT dynamic_partitions"):
            read.append(statement)

    for change in changes:
        change()
        read.clear()
        with listening(sqlalchemy.Engine, "before_cursor_execute", executed):
            found = ours.get_dynamic_partitions(SET)
            found.append("what a caller adds to its own list")
            assert ours.get_dynamic_partitions(SET) == found[:-1]
        assert len(read) == 1
        assert found[:-1] == list(stock.get_dynamic_partitions(SET))
        assert ours.get_dynamic_partitions("another set") == []


def test_the_keys_of_a_partition_set_are_read_again_whenever_anybody_may_have_changed_them(tmp_path: Path) -> None:
    ours, others = BatchingSqliteEventLogStorage(str(tmp_path)), BatchingSqliteEventLogStorage(str(tmp_path))
    keys = named("known", 6)
    changes: list[Callable[[], None]] = [
        lambda: ours.add_dynamic_partitions(SET, keys[:4]),
        lambda: others.add_dynamic_partitions(SET, keys[4:]),
        lambda: ours.delete_dynamic_partition(SET, keys[0]),
        # SQLite gives the last key's id again.
        lambda: others.delete_dynamic_partitions(SET, keys[5:]),
        lambda: others.add_dynamic_partitions(SET, ["another"]),
        lambda: ours.delete_dynamic_partitions(SET, ["another"]),
        lambda: ours.add_dynamic_partitions(SET, ["one more"]),
        lambda: SqliteEventLogStorage(str(tmp_path)).add_dynamic_partitions(SET, ["of stock Dagster"]),
        ours.wipe,
        lambda: ours.add_dynamic_partitions(SET, keys),
        others.wipe,
    ]
    assert_that_keys_are_read_again(changes, ours, SqliteEventLogStorage(str(tmp_path)))


def test_removing_many_partitions_takes_a_transaction_per_thousand_and_leaves_what_dagster_leaves(
    tmp_path: Path,
) -> None:
    # Fails when an upgrade of Dagster makes more of a removed key than `delete_dynamic_partitions` does.
    keys = named("removed", 2500)
    removed = [*keys[::5], "never there", *keys[1::2]]
    stock, batching = SqliteEventLogStorage(str(tmp_path / "a")), BatchingSqliteEventLogStorage(str(tmp_path / "b"))
    for storage in (stock, batching):
        storage.add_dynamic_partitions(SET, keys)
        storage.add_dynamic_partitions("another set", keys[:3])

    for key in removed[:40]:
        stock.delete_dynamic_partition(SET, key)
    batching.delete_dynamic_partitions(SET, removed[:40])
    assert rows_of(tmp_path / "b" / "index.db") == rows_of(tmp_path / "a" / "index.db")
    with counted_commits() as commits:
        batching.delete_dynamic_partitions(SET, removed)
        batching.delete_dynamic_partitions(SET, [])

    assert commits["index.db"] == 2
    assert batching.get_dynamic_partitions(SET) == [key for key in keys if key not in set(removed)]
    assert batching.get_dynamic_partitions("another set") == keys[:3]


def test_partitions_are_removed_from_a_storage_that_is_none_of_ours() -> None:
    keys = named("plain", 4)
    with dg.DagsterInstance.ephemeral() as plain:
        plain.add_dynamic_partitions(SET, keys)

        remove_partitions(plain, SET, [*keys[:2], "never there"])

        assert plain.get_dynamic_partitions(SET) == keys[2:]


def test_many_partitions_are_removed_at_once_and_no_others(tmp_path: Path, postgres_url: str) -> None:
    keys = named("removed", 1200)
    with postgres_instance_at(tmp_path, postgres_url) as instance:
        instance.add_dynamic_partitions("first set", keys)
        instance.add_dynamic_partitions("second set", keys[:2])

        remove_partitions(instance, "first set", [*keys[:1150], "never there"])

        assert instance.get_dynamic_partitions("first set") == keys[1150:]
        assert instance.get_dynamic_partitions("second set") == keys[:2]


def assert_that_only_what_is_in_a_set_is_counted(instance: dg.DagsterInstance) -> None:
    storage, made = instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
    keys = [Location("s3", "renders", f"shot/beauty.{number}.exr").partition_key for number in range(4)]
    of_files, of_others = dg.AssetKey("of_files"), dg.AssetKey("of_others")
    instance.add_dynamic_partitions(FILES, keys)
    for asset, partitions in ((of_files, keys), (of_others, ["2026-01-01", "shot~beauty"])):
        for partition in partitions:
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition))
    ids = storage.get_latest_storage_id_by_partition(of_files, made)
    assert set(ids) == storage.get_materialized_partitions(of_files) == set(keys)

    remove_partitions(instance, FILES, keys[1:3])

    assert storage.get_materialized_partitions(of_files) == {keys[0], keys[3]}
    assert storage.get_materialized_partitions(of_files, after_cursor=ids[keys[0]]) == {keys[3]}
    assert set(storage.get_latest_storage_id_by_partition(of_files, made)) == {keys[0], keys[3]}
    assert storage.get_latest_storage_id_by_partition(of_files, made, {keys[1]}) == {keys[1]: ids[keys[1]]}
    assert storage.get_materialized_partitions(of_others) == {"2026-01-01", "shot~beauty"}
    assert storage.get_materialized_partitions(dg.AssetKey("never made")) == set()
    restore_partitions(instance, FILES, keys[1:2])
    assert storage.get_materialized_partitions(of_files) == {keys[0], keys[1], keys[3]}


def test_events_of_removed_partitions_are_not_read_when_an_asset_is_counted(tmp_path: Path) -> None:
    with instance_at(tmp_path) as instance:
        assert_that_only_what_is_in_a_set_is_counted(instance)


def test_events_of_removed_partitions_are_not_read_when_an_asset_is_counted_on_postgres(
    tmp_path: Path, postgres_url: str
) -> None:
    with postgres_instance_at(tmp_path, postgres_url) as instance:
        assert_that_only_what_is_in_a_set_is_counted(instance)


def test_the_keys_of_a_partition_set_are_read_again_whenever_anybody_changed_them(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.new_database()
    ours, others = BatchingPostgresEventLogStorage(url), BatchingPostgresEventLogStorage(url)
    stock = PostgresEventLogStorage(url)
    keys = named("known", 6)

    def replace(old: str, new: str) -> None:
        others.delete_dynamic_partition(SET, old)
        others.add_dynamic_partitions(SET, [new])

    changes: list[Callable[[], None]] = [
        lambda: ours.add_dynamic_partitions(SET, keys[:4]),
        lambda: others.add_dynamic_partitions(SET, keys[4:]),
        lambda: ours.delete_dynamic_partition(SET, keys[0]),
        lambda: others.delete_dynamic_partitions(SET, keys[5:]),
        lambda: stock.add_dynamic_partitions(SET, ["of stock Dagster"]),
        lambda: replace("of stock Dagster", "as many as before"),
        lambda: replace(keys[1], keys[1]),
        others.wipe,
        lambda: ours.add_dynamic_partitions(SET, keys[:5]),
        lambda: ours.add_dynamic_partitions(SET, [keys[4], "after one that is there", keys[0]]),
    ]
    ours.add_dynamic_partitions(SET, [])
    assert_that_keys_are_read_again(changes, ours, stock)


def test_a_key_that_comes_while_the_keys_are_read_and_goes_again_is_not_remembered(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.new_database()
    ours, others = BatchingPostgresEventLogStorage(url), BatchingPostgresEventLogStorage(url)
    ours.add_dynamic_partitions("set", ["stays"])

    def executing(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT dynamic_partitions") and not others.has_dynamic_partition("set", "passing"):
            others.add_dynamic_partitions("set", ["passing"])

    with listening(ours._engine, "before_cursor_execute", executing):
        assert ours.get_dynamic_partitions("set") == ["stays", "passing"]
    others.delete_dynamic_partition("set", "passing")

    assert ours.get_dynamic_partitions("set") == ["stays"]
