"""Batched events: as few transactions as promised, and to everybody else the same events as one by one."""

import inspect
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
from dagster import DagsterEventType
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._serdes import serialize_value

from exr_pipeline.orchestration.instance import event_texts
from exr_pipeline.orchestration.instance.event_storage import BatchedEvents, BatchingSqliteEventLogStorage
from exr_pipeline.orchestration.instance.step_events import (
    announce,
    log_asset_events,
    materialization,
    materializations_of_run,
)
from exr_pipeline_tests.orchestration.batched_steps import (
    ASSETS,
    RANGE_END,
    RANGE_START,
    SET,
    asset_events,
    counted_commits,
    database_of,
    defs,
    listening,
    make_all,
    named,
    rows_of,
    run_over,
    run_selection,
    statuses,
    varied_events,
)
from exr_pipeline_tests.orchestration.dagster_homes import instance_at


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with instance_at(tmp_path_factory.mktemp("home")) as opened:
        yield opened


def folder_of(instance: dg.DagsterInstance) -> Path:
    storage = instance.event_log_storage
    assert isinstance(storage, BatchingSqliteEventLogStorage)
    return Path(storage.path_for_shard("index")).parent


@pytest.fixture(autouse=True)
def no_batch_falls_apart(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """A batch that fails is stored all the same by Dagster, event by event: right, but not what is tested here."""
    yield
    assert "Falling back" not in capfd.readouterr().err


def test_a_run_over_many_files_takes_no_more_transactions_than_one_over_few(instance: dg.DagsterInstance) -> None:
    # With its first run, a process has Dagster make the database that those of runs are copies of.
    run_over(instance, named("warm", 1))
    with counted_commits() as few:
        assert run_over(instance, named("few", 10)).success
    with counted_commits() as many:
        assert run_over(instance, named("many", 50)).success

    assert many == few
    # One for the planned events, one for all materializations, the rest for the run's own state.
    assert many["index.db"] < 30
    assert many["run"] < 30


def test_the_index_is_not_opened_for_each_statement(instance: dg.DagsterInstance) -> None:
    run_over(instance, named("warm", 1))
    opened: Counter[str] = Counter()

    def connected(connection: Any, _record: Any) -> None:
        (_, _, path), *_ = connection.execute("PRAGMA database_list").fetchall()
        opened[database_of(path)] += 1

    with listening(sqlalchemy.Pool, "connect", connected):
        run_over(instance, named("open", 20))

    assert opened["index.db"] == 0
    # It is made while it is open.
    assert 1 <= opened["run"] <= 3


def test_new_databases_have_pages_into_which_several_events_fit(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    assert isinstance(storage, BatchingSqliteEventLogStorage)
    run_id = run_over(instance, named("pages", 2)).run_id

    for shard in ("index", run_id):
        with closing(sqlite3.connect(storage.path_for_shard(shard))) as connection:
            assert connection.execute("PRAGMA page_size").fetchone() == (16_384,)


def test_the_database_of_a_run_is_as_dagster_makes_one_and_made_once_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, batching = SqliteEventLogStorage(str(tmp_path / "a")), BatchingSqliteEventLogStorage(str(tmp_path / "b"))
    made_by_dagster: list[str] = []
    initdb = SqliteEventLogStorage._initdb

    def counted(storage: SqliteEventLogStorage, engine: sqlalchemy.Engine, for_index_shard: bool = False) -> None:
        made_by_dagster.append(str(engine.url.database))
        initdb(storage, engine, for_index_shard)

    def made(storage: SqliteEventLogStorage, run_id: str) -> list[list[Any]]:
        with storage.run_connection(run_id), closing(sqlite3.connect(storage.path_for_shard(run_id))) as connection:
            schema = "SELECT type, name, sql FROM sqlite_master"
            asked = (schema, "SELECT * FROM alembic_version", "PRAGMA journal_mode")
            return [sorted(connection.execute(question).fetchall()) for question in asked]

    monkeypatch.setattr(SqliteEventLogStorage, "_initdb", counted)
    assert made(batching, "one") == made(batching, "two") == made(stock, "one")
    assert [path for path in made_by_dagster if path.startswith(str(tmp_path / "b"))] == []
    assert len(made_by_dagster) == 2
    assert {path.suffix for path in (tmp_path / "b").iterdir()} <= {".db", ".db-wal", ".db-shm"}

    # One that another process has made meanwhile is left as it is.
    with sqlite3.connect(batching.path_for_shard("two")) as connection:
        connection.execute("CREATE TABLE of_another (one)")
    again = BatchingSqliteEventLogStorage(str(tmp_path / "b"))
    assert ("table", "of_another", "CREATE TABLE of_another (one)") in made(again, "two")[0]


def test_exactly_the_bad_files_of_one_asset_show_as_failed(instance: dg.DagsterInstance) -> None:
    keys = named("exact", 50)
    bad = [keys[7], keys[49]]
    seen_inside = []

    def step(context: Any, partition_keys: Sequence[str]) -> None:
        seen_inside.append(statuses(instance, ASSETS[0], "exact"))
        make_all(context, partition_keys, without=bad)

    result = run_over(instance, keys, step)

    assert seen_inside == [{"materializing": keys}]
    assert not result.success
    good = [key for key in keys if key not in bad]
    assert statuses(instance, ASSETS[0], "exact") == {"materialized": good, "failed": bad}
    for asset in ASSETS[1:]:
        assert statuses(instance, asset, "exact") == {"materialized": keys}


def test_the_log_of_the_run_has_every_event_once(instance: dg.DagsterInstance) -> None:
    keys = named("log", 30)
    result = run_over(instance, keys)

    logged = Counter(
        (entry.dagster_event_type, entry.get_dagster_event().asset_key, entry.get_dagster_event().partition)
        for entry in asset_events(instance, result.run_id)
    )

    kinds = (DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_MATERIALIZATION)
    assert logged == Counter((kind, asset, key) for kind in kinds for asset in ASSETS for key in keys)
    types = [entry.dagster_event_type for entry in instance.all_logs(result.run_id)]
    assert types.index(DagsterEventType.ASSET_MATERIALIZATION_PLANNED) < types.index(DagsterEventType.RUN_START)
    assert types[-1] == DagsterEventType.RUN_SUCCESS


def test_what_is_announced_of_each_partition_is_what_dagster_announces(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = named("announced", 5)

    def announced(run_id: str) -> list[str]:
        return sorted(
            serialize_value(entry._replace(run_id="", timestamp=0.0))
            for entry in asset_events(instance, run_id)
            if entry.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        )

    ours = announced(run_over(instance, keys).run_id)
    one_by_one = "supports_partition_subset_in_asset_materialization_planned_events"
    assert isinstance(getattr(SqlEventLogStorage, one_by_one), property)
    monkeypatch.setattr(BatchedEvents, one_by_one, False)

    assert announced(run_over(instance, keys).run_id) == ours
    assert len(ours) == len(ASSETS) * len(keys)


def test_a_single_asset_is_announced_for_each_partition(instance: dg.DagsterInstance) -> None:
    keys = named("lone", 4)
    instance.add_dynamic_partitions(SET, keys)
    tags = {RANGE_START: keys[0], RANGE_END: keys[-1]}
    job = defs.resolve_job_def("files_job")

    run = instance.create_run_for_job(job, tags=tags, asset_selection={ASSETS[2]})

    assert [entry.get_dagster_event().partition for entry in asset_events(instance, run.run_id)] == keys
    assert statuses(instance, ASSETS[2], "lone") == {"materializing": keys}


def test_a_materialization_is_what_dagster_makes_of_the_same_values() -> None:
    metadata = {
        "text": "1", "number": 1, "yes": True, "float": 1.0, "list": [1, "a"], "null": None,
        "url": dg.MetadataValue.url("s3://a/b"), "time": dg.MetadataValue.timestamp(5.0),
    }  # fmt: skip
    values: dict[str, Any] = {"partition": "a.exr", "metadata": metadata, "tags": {DATA_VERSION_TAG: "1"}}

    for key in ASSETS[:2]:
        made, theirs = materialization(key, **values), dg.AssetMaterialization(key, **values)
        assert made == theirs
        assert serialize_value(made) == serialize_value(theirs)


def test_observations_are_batched_too(instance: dg.DagsterInstance) -> None:
    def observe(context: Any, keys: Sequence[str]) -> None:
        events = [dg.AssetObservation(ASSETS[1], partition=key, metadata={"reason": f"of {key}"}) for key in keys]
        log_asset_events(context, events)

    with counted_commits() as few:
        run_selection(instance, named("seen-few", 3), observe)
    with counted_commits() as many:
        run_selection(instance, named("seen-many", 60), observe)

    assert many == few
    records = instance.fetch_observations(ASSETS[1], limit=60).records
    assert sorted(
        (record.partition_key, str(record.asset_observation.metadata["reason"].value)) for record in records
    ) == [(key, f"of {key}") for key in named("seen-many", 60)]


def test_what_is_logged_in_a_batch_is_what_dagster_stores_of_events_one_by_one(instance: dg.DagsterInstance) -> None:
    # Fails when an upgrade of Dagster makes its entries of a step's events another way.
    def both_ways(context: Any, keys: Sequence[str]) -> None:
        events = [event for key in keys for event in varied_events(key)]
        for event in events:
            context.log_event(event)
        log_asset_events(context, events)

    run_id = run_selection(instance, named("ways", 3), both_ways).run_id
    texts = [
        serialize_value(entry._replace(timestamp=0.0))
        for entry in instance.all_logs(run_id)
        if entry.is_dagster_event and entry.get_dagster_event().asset_key is not None
    ]

    assert len(texts) == 2 * 3 * len(varied_events("any"))
    assert texts[: len(texts) // 2] == texts[len(texts) // 2 :]


def test_dagster_makes_the_text_of_few_events_and_the_others_follow_it(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fails when an upgrade of Dagster writes events another way: then all of them take the slow road.
    run_id = run_over(instance, named("fast", 40)).run_id
    events = asset_events(instance, run_id)
    made = []

    def counted(value: Any) -> str:
        made.append(value)
        return serialize_value(value)

    right = [serialize_value(event) for event in events]
    monkeypatch.setattr(event_texts, "serialize_value", counted)

    assert event_texts.texts_of(events) == right
    # Two for each asset and kind: one to take apart, one to compare with.
    assert len(made) == 2 * 2 * len(ASSETS)


def test_events_that_differ_in_more_than_expected_are_written_by_dagster(instance: dg.DagsterInstance) -> None:
    run_id = run_over(instance, named("odd", 3)).run_id
    events = asset_events(instance, run_id)
    odd = [
        event._replace(dagster_event=event.get_dagster_event()._replace(message=f"message {index}"))
        for index, event in enumerate(events)
    ]

    assert event_texts.texts_of(odd) == [serialize_value(event) for event in odd]


def test_data_versions_can_be_looked_up(instance: dg.DagsterInstance) -> None:
    keys = named("tagged", 20)
    run_over(instance, keys)

    records = instance.fetch_materializations(dg.AssetRecordsFilter(ASSETS[2], asset_partitions=[keys[13]]), limit=5)
    (record,) = records.records
    indexed = instance.event_log_storage.get_event_tags_for_asset(ASSETS[2], filter_event_id=record.storage_id)

    assert [tags[DATA_VERSION_TAG] for tags in indexed] == [f"version of {keys[13]}"]


def test_a_batch_leaves_in_the_files_what_stock_dagster_leaves_event_by_event(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    # Fails when an upgrade of Dagster makes more of an event than `store_event_batch` does.
    def both_kinds(context: Any, keys: Sequence[str]) -> None:
        log_asset_events(
            context,
            [dg.AssetObservation(ASSETS[0], partition=key, tags={DATA_VERSION_TAG: f"seen {key}"}) for key in keys],
        )
        make_all(context, keys)

    run_id = run_over(instance, named("same", 12), both_kinds).run_id
    events = asset_events(instance, run_id)
    stock, batching = SqliteEventLogStorage(str(tmp_path / "a")), BatchingSqliteEventLogStorage(str(tmp_path / "b"))

    for event in events:
        stock.store_event(event)
    batching.store_event_batch(events)

    for name in ("index.db", f"{run_id}.db"):
        assert rows_of(tmp_path / "b" / name) == rows_of(tmp_path / "a" / name)
    assert len(rows_of(tmp_path / "b" / "index.db")["event_logs"]) == len(events)
    assert rows_of(tmp_path / "b" / "index.db")["asset_event_tags"]


def test_stock_dagster_goes_on_with_the_files_and_we_with_what_it_wrote(instance: dg.DagsterInstance) -> None:
    keys = named("shared", 8)
    run_id = run_over(instance, keys[:4]).run_id
    stock = SqliteEventLogStorage(str(folder_of(instance)))

    assert stock.get_logs_for_run(run_id) == instance.all_logs(run_id)
    wanted = dg.AssetRecordsFilter(ASSETS[3], asset_partitions=keys)
    assert len(stock.fetch_materializations(wanted, limit=50).records) == 4
    (entry,) = [
        event
        for event in asset_events(instance, run_id)
        if event.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION
        and event.get_dagster_event().asset_key == ASSETS[3]
        and event.get_dagster_event().partition == keys[0]
    ]
    stock.store_event(entry)
    assert run_over(instance, keys[4:]).success
    assert len(instance.fetch_materializations(wanted, limit=50).records) == 9
    assert statuses(instance, ASSETS[3], "shared") == {"materialized": keys}


def test_a_batch_with_other_events_is_stored_all_the_same(instance: dg.DagsterInstance) -> None:
    run_id = run_over(instance, named("mixed", 2)).run_id
    before = instance.all_logs(run_id)
    step_success = next(entry for entry in before if entry.dagster_event_type == DagsterEventType.STEP_SUCCESS)
    batch = [*asset_events(instance, run_id)[-2:], step_success]

    instance.event_log_storage.store_event_batch(batch)

    assert instance.all_logs(run_id)[len(before) :] == batch


def test_a_failing_index_leaves_no_half_of_a_batch(instance: dg.DagsterInstance) -> None:
    run_id = run_over(instance, named("half", 3)).run_id
    index, run = folder_of(instance) / "index.db", folder_of(instance) / f"{run_id}.db"
    before = rows_of(index), rows_of(run)
    with closing(sqlite3.connect(index)) as connection:
        # Tags come after the events within the transaction.
        connection.execute(
            "CREATE TRIGGER no_tags BEFORE INSERT ON asset_event_tags BEGIN SELECT RAISE(ABORT, 'no tags'); END"
        )
        connection.commit()
        try:
            with pytest.raises(sqlalchemy.exc.IntegrityError, match="no tags"):
                instance.event_log_storage.store_event_batch(asset_events(instance, run_id))
        finally:
            connection.execute("DROP TRIGGER no_tags")
            connection.commit()

    assert (rows_of(index), rows_of(run)) == before


def test_scattered_files_of_a_job_show_as_under_way_and_then_as_failed_or_made(instance: dg.DagsterInstance) -> None:
    keys = named("scattered", 40)
    instance.add_dynamic_partitions(SET, keys)
    chosen, bad = keys[1::4], keys[5]
    seen_inside = []

    def step(context: Any, partition_keys: Sequence[str]) -> None:
        announce(context, ASSETS, partition_keys)
        seen_inside.append(statuses(instance, ASSETS[4], "scattered"))
        make_all(context, partition_keys, without=[bad])

    assert not run_selection(instance, chosen, step).success

    others = [key for key in keys if key not in chosen]
    assert seen_inside == [{"materializing": chosen, "unmaterialized": others}]
    assert statuses(instance, ASSETS[0], "scattered") == {
        "materialized": [key for key in chosen if key != bad],
        "failed": [bad],
        "unmaterialized": others,
    }
    assert statuses(instance, ASSETS[4], "scattered") == {"materialized": chosen, "unmaterialized": others}


def test_all_materializations_of_a_large_run_are_found_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than a batch of Dagster, each more than a transaction, and more than two pages of the run's log.
    keys = named("large", 1100)
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")

    def two_assets(context: Any, partition_keys: Sequence[str]) -> None:
        events = [dg.AssetMaterialization(asset, partition=key) for asset in ASSETS[:2] for key in partition_keys]
        log_asset_events(context, events)

    with instance_at(tmp_path) as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, BatchingSqliteEventLogStorage)
        storage.events_per_write = 700
        run_id = run_selection(instance, keys, two_assets).run_id
        found = materializations_of_run(instance, run_id)
    assert [(event.asset_key, event.partition) for event in found] == [
        (asset, key) for asset in ASSETS[:2] for key in keys
    ]


def test_dagster_keeps_the_private_methods_that_batches_are_made_of() -> None:
    def parameters(method: Any) -> list[str]:
        return list(inspect.signature(method).parameters)

    assert parameters(SqlEventLogStorage._event_to_row) == ["self", "event"]
    assert parameters(SqlEventLogStorage._event_insert_timestamp) == ["self", "event"]
    assert parameters(SqlEventLogStorage._has_asset_key_col_on_connection) == ["self", "conn", "column_name"]
    assert parameters(SqlEventLogStorage.has_table) == ["self", "table_name"]
    assert parameters(SqlEventLogStorage._store_asset_event) == ["self", "conn", "event", "event_id"]
    assert parameters(SqlEventLogStorage.get_asset_tags_to_index) == ["self", "tag_keys"]
    assert parameters(SqlEventLogStorage.index_transaction) == ["self"]
    assert parameters(SqliteEventLogStorage.run_connection) == ["self", "run_id"]
    assert parameters(SqliteEventLogStorage._initdb) == ["self", "engine", "for_index_shard"]
    assert parameters(SqliteEventLogStorage.store_event_batch) == ["self", "events"]
    assert "store_event_batch" not in vars(SqliteEventLogStorage), "Dagster batches by itself now: is ours needed?"
    assert parameters(SqlEventLogStorage._check_partitions_table) == ["self"]
    assert parameters(SqlEventLogStorage.add_dynamic_partitions) == ["self", "partitions_def_name", "partition_keys"]
    assert parameters(SqlEventLogStorage.delete_dynamic_partition) == ["self", "partitions_def_name", "partition_key"]
    assert not hasattr(SqlEventLogStorage, "delete_dynamic_partitions"), "Dagster removes many now: is ours needed?"
