"""PostgreSQL as Dagster's storage: batches as on SQLite; and on both, what a killed worker and a failed batch leave."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
from dagster import DagsterEventType
from dagster._core.event_api import EventLogCursor
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.event_log.schema import AssetEventTagsTable, AssetKeyTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster_postgres import PostgresEventLogStorage

from exr_pipeline.orchestration.instance import postgres
from exr_pipeline.orchestration.instance.event_storage import BatchedEvents, BatchingSqliteEventLogStorage, is_outage
from exr_pipeline.orchestration.instance.live_events import SECONDS_BETWEEN_LOOKS
from exr_pipeline.orchestration.instance.postgres import BatchingPostgresEventLogStorage, BatchingPostgresStorage
from exr_pipeline.orchestration.instance.step_events import log_asset_events
from exr_pipeline_tests.orchestration.batched_steps import (
    ASSETS,
    asset_events,
    listening,
    make_all,
    named,
    run_over,
    run_selection,
    statuses,
    varied_events,
)
from exr_pipeline_tests.orchestration.dagster_homes import instance_at, postgres_instance_at
from exr_pipeline_tests.services.postgres import PostgresServer

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def postgres_instance(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dg.DagsterInstance]:
    with postgres_instance_at(tmp_path_factory.mktemp("home"), postgres_server.new_database()) as opened:
        yield opened


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    if request.param == "SQLite":
        opening = instance_at(tmp_path / "home")
    else:
        opening = postgres_instance_at(tmp_path / "home", request.getfixturevalue("postgres_url"))
    with opening as opened:
        yield opened


@contextmanager
def counted_inserts() -> Iterator[Counter[str]]:
    """Statements that add events."""
    counts: Counter[str] = Counter()

    def executed(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO event_logs"):
            counts["inserts"] += 1

    with listening(sqlalchemy.Engine, "before_cursor_execute", executed):
        yield counts


def content(storage: SqlEventLogStorage) -> list[Sequence[Any]]:
    """What is in the tables of events, but for ids and the time of their making."""
    found: list[Sequence[Any]] = []
    with storage.index_connection() as connection:
        for table in (SqlEventLogStorageTable, AssetEventTagsTable, AssetKeyTable):
            columns = [column for column in table.c if column.name not in {"id", "create_timestamp", "event_id"}]
            found += connection.execute(sqlalchemy.select(*columns).order_by(table.c.id)).fetchall()
    return found


def test_a_run_over_many_files_takes_no_more_statements_than_one_over_few(
    postgres_instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    with counted_inserts() as few:
        assert run_over(postgres_instance, named("few", 10)).success
    with counted_inserts() as many:
        assert run_over(postgres_instance, named("many", 50)).success

    assert many == few
    assert "Falling back" not in capfd.readouterr().err


def test_events_need_no_connection_each(postgres_instance: dg.DagsterInstance) -> None:
    storage = postgres_instance.event_log_storage
    events = asset_events(postgres_instance, run_over(postgres_instance, named("kept", 1)).run_id)
    opened: list[Any] = []

    def connected(connection: Any, _record: Any) -> None:
        opened.append(connection)

    with listening(sqlalchemy.Pool, "connect", connected):
        for event in events:
            storage.store_event(event)
        # The runs' storage has the same connection.
        assert postgres_instance.get_runs_count() > 0

    assert opened == []


def test_a_connection_that_the_server_ended_is_replaced(postgres_server: PostgresServer) -> None:
    storage = BatchingPostgresEventLogStorage(postgres_server.new_database())
    assert list(storage.get_dynamic_partitions("any")) == []
    postgres_server.stop()
    postgres_server.start()

    storage.add_dynamic_partitions("any", ["one"])

    assert list(storage.get_dynamic_partitions("any")) == ["one"]


def test_a_database_that_goes_away_in_mid_batch_is_an_outage_and_leaves_nothing(
    postgres_instance: dg.DagsterInstance, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = run_over(postgres_instance, named("away", 2)).run_id
    events = asset_events(postgres_instance, run_id)
    storage = BatchingPostgresEventLogStorage(postgres_server.new_database())

    def ended(value: Any) -> str:
        name = sqlalchemy.make_url(storage.postgres_url).database
        with sqlalchemy.create_engine(storage.postgres_url).connect() as other:
            found = "FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
            other.execute(sqlalchemy.text(f"SELECT pg_terminate_backend(pid) {found}"), {"name": name})
        return str(value)

    with monkeypatch.context() as patched:
        patched.setattr("exr_pipeline.orchestration.instance.postgres._copied", ended)
        with pytest.raises(sqlalchemy.exc.DBAPIError) as gone:
            storage.store_event_batch(events)

    assert is_outage(gone.value)
    assert storage.get_logs_for_run(run_id) == []
    storage.store_event_batch(events)
    assert storage.get_logs_for_run(run_id) == events


def test_exactly_the_bad_files_of_one_asset_show_as_failed(postgres_instance: dg.DagsterInstance) -> None:
    keys = named("exact", 40)
    bad = [keys[7], keys[39]]

    result = run_over(postgres_instance, keys, lambda context, chosen: make_all(context, chosen, without=bad))

    assert not result.success
    good = [key for key in keys if key not in bad]
    assert statuses(postgres_instance, ASSETS[0], "exact") == {"materialized": good, "failed": bad}
    assert statuses(postgres_instance, ASSETS[4], "exact") == {"materialized": keys}


def test_a_batch_leaves_in_the_tables_what_stock_dagster_leaves_event_by_event(
    postgres_instance: dg.DagsterInstance, postgres_server: PostgresServer
) -> None:
    def both_kinds(context: Any, keys: Sequence[str]) -> None:
        observed = [dg.AssetObservation(ASSETS[0], partition=key, tags={"dagster/data_version": key}) for key in keys]
        log_asset_events(context, observed)
        # Partitions too may hold what COPY reads as something else.
        log_asset_events(context, varied_events('tab\t back\\slash \\N\r\nnew "line"'))
        make_all(context, keys)

    events = asset_events(postgres_instance, run_over(postgres_instance, named("same", 6), both_kinds).run_id)
    stock = PostgresEventLogStorage(postgres_server.new_database())
    batching = BatchingPostgresEventLogStorage(postgres_server.new_database())

    for event in events:
        stock.store_event(event)
    batching.store_event_batch(events)

    assert content(batching) == content(stock)
    # And either goes on with what the other wrote.
    again = PostgresEventLogStorage(batching.postgres_url)
    assert again.get_logs_for_run(events[0].run_id) == events
    again.store_event(events[-1])
    batching.store_event_batch(events[:2])
    assert len(batching.get_logs_for_run(events[0].run_id)) == len(events) + 3


def test_writers_commit_in_the_order_of_their_ids(
    postgres_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise Dagster, which remembers up to which id it has counted partitions, would never count the later one.
    storage = postgres_instance.event_log_storage
    assert isinstance(storage, BatchingPostgresEventLogStorage)
    events = asset_events(postgres_instance, run_over(postgres_instance, named("order", 2)).run_id)
    inserted, may_commit = threading.Event(), threading.Event()
    ended: list[str] = []
    whole = BatchedEvents._store_about_assets

    def slow(*arguments: Any) -> None:
        if threading.current_thread().name == "first":
            inserted.set()
            may_commit.wait(60)
        whole(*arguments)

    monkeypatch.setattr(BatchedEvents, "_store_about_assets", slow)

    def write(single: bool) -> None:
        storage.store_event(events[0]) if single else storage.store_event_batch(events)
        ended.append(threading.current_thread().name)

    first = threading.Thread(target=write, args=[False], name="first")
    first.start()
    assert inserted.wait(60)
    others = [threading.Thread(target=write, args=[single], name="later") for single in (False, True)]
    for other in others:
        other.start()
        other.join(0.5)
    assert ended == []
    may_commit.set()
    for thread in (first, *others):
        thread.join(60)
    assert ended == ["first", "later", "later"]


def impatient_storage(instance: dg.DagsterInstance, **waits: int) -> BatchingPostgresEventLogStorage:
    """The event log of an instance once more, with other waits."""
    storage = instance.event_log_storage
    assert isinstance(storage, BatchingPostgresEventLogStorage)
    another = BatchingPostgresEventLogStorage(storage.postgres_url, should_autocreate_tables=False, **waits)
    another.register_instance(instance)
    return another


@pytest.mark.parametrize(("owner", "name"), [(postgres, "_copied"), (BatchedEvents, "_store_about_assets")])
def test_a_writer_that_stands_still_is_ended_and_the_others_go_on(
    postgres_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    storage = impatient_storage(postgres_instance, idle_seconds=1)
    run_id = run_over(postgres_instance, named("still", 2)).run_id
    events = asset_events(postgres_instance, run_id)
    has_lock, goes_on = threading.Event(), threading.Event()
    whole = getattr(owner, name)

    def stopped(*arguments: Any) -> Any:
        if threading.current_thread().name.startswith("stopped") and not has_lock.is_set():
            has_lock.set()
            goes_on.wait(20)
        return whole(*arguments)

    monkeypatch.setattr(owner, name, stopped)
    with ThreadPoolExecutor(1, thread_name_prefix="stopped") as pool:
        writing = pool.submit(storage.store_event_batch, events)
        assert has_lock.wait(60)
        before = len(storage.get_logs_for_run(run_id))
        storage.store_event_batch(events)
        goes_on.set()
        error = writing.exception(60)

    assert len(storage.get_logs_for_run(run_id)) == before + len(events)
    assert error is not None
    assert is_outage(error), repr(error)


def test_a_lock_that_is_never_let_go_is_an_outage(postgres_instance: dg.DagsterInstance) -> None:
    storage = impatient_storage(postgres_instance, lock_wait_seconds=1)
    events = asset_events(postgres_instance, run_over(postgres_instance, named("held", 1)).run_id)
    with sqlalchemy.create_engine(storage.postgres_url).begin() as other:
        other.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(postgres._WRITERS_LOCK)))
        with pytest.raises(sqlalchemy.exc.OperationalError) as late:
            storage.store_event_batch(events)
    assert is_outage(late.value)
    storage.store_event_batch(events)


def test_a_batch_that_fails_leaves_nothing_and_its_events_are_then_stored_one_by_one(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = BatchedEvents._store_about_assets

    def only_small_ones(self: Any, connection: Any, events: Any, *others: Any) -> None:
        if len(events) > 1:
            raise RuntimeError("no batches today")
        whole(self, connection, events, *others)

    monkeypatch.setattr(BatchedEvents, "_store_about_assets", only_small_ones)
    keys = named("single", 4)
    result = run_over(instance, keys, lambda context, chosen: make_all(context, chosen, without=keys[:1]))

    assert "no batches today" in capfd.readouterr().err
    logged = Counter(
        (entry.dagster_event_type, entry.get_dagster_event().asset_key, entry.get_dagster_event().partition)
        for entry in asset_events(instance, result.run_id)
    )
    assert set(logged.values()) == {1}
    assert len(logged) == 2 * len(ASSETS) * len(keys) - 1
    assert statuses(instance, ASSETS[0], "single") == {"materialized": keys[1:], "failed": keys[:1]}


def test_a_worker_killed_in_mid_chunk_leaves_the_rest_failed_and_nothing_in_progress(
    instance: dg.DagsterInstance,
) -> None:
    keys = named("killed", 20)
    command = [sys.executable, "-W", "ignore", "-m", "exr_pipeline_tests.orchestration.half_a_chunk", *keys]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as worker:
        assert worker.stdout is not None
        run_id = worker.stdout.readline().strip()
        run = instance.get_run_by_id(run_id)
        assert run is not None
        made, under_way = keys[:10], keys[10:]
        assert statuses(instance, ASSETS[0], "killed") == {"materialized": made, "materializing": under_way}
        assert instance.run_launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
        worker.kill()
    checked = instance.run_launcher.check_run_worker_health(run)
    assert checked.status == WorkerStatus.FAILED
    # What the run monitor does then.
    instance.report_run_failed(run, checked.msg)

    for asset in ASSETS:
        assert statuses(instance, asset, "killed") == {"materialized": made, "failed": under_way}


def test_an_instance_is_opened_by_every_way_to_say_where_the_database_is(postgres_server: PostgresServer) -> None:
    url = sqlalchemy.make_url(postgres_server.new_database())
    bare = url.set(drivername="postgresql").render_as_string(hide_password=False)
    parts = {"username": url.username, "hostname": url.host, "port": url.port, "db_name": url.database}

    for config in ({"postgres_url": bare}, {"postgres_db": parts}):
        storage = BatchingPostgresStorage.from_config_value(None, config)
        assert isinstance(storage.event_log_storage, BatchingPostgresEventLogStorage)
        assert storage.event_log_storage.get_event_log_table_data("no run", 0) is None


def test_other_processes_get_the_same_storage(postgres_instance: dg.DagsterInstance) -> None:
    # Dagster hands an instance to workers as text.
    reference = InstanceRef.from_dict(postgres_instance.get_ref().to_dict())  # type: ignore[no-untyped-call]
    with dg.DagsterInstance.from_ref(reference) as opened:
        assert isinstance(opened.event_log_storage, BatchingPostgresEventLogStorage)
        assert isinstance(opened.event_log_storage, BatchedEvents)


def test_observations_of_scattered_files_are_found(postgres_instance: dg.DagsterInstance) -> None:
    keys = named("scattered", 7)[::2]

    def observe(context: Any, chosen: Sequence[str]) -> None:
        log_asset_events(context, [dg.AssetObservation(ASSETS[1], partition=key, description=key) for key in chosen])

    run_id = run_selection(postgres_instance, keys, observe).run_id

    found = postgres_instance.all_logs(run_id, of_type=DagsterEventType.ASSET_OBSERVATION)
    assert [entry.asset_observation.partition for entry in found if entry.asset_observation] == keys


def test_whoever_watches_a_run_gets_each_event_after_a_cursor_once_until_told_to_stop(
    instance: dg.DagsterInstance,
) -> None:
    run = run_over(instance, named("watched", 3))
    first, *others = instance.get_records_for_run(run.run_id).records
    seen: list[str] = []
    all_seen = threading.Event()

    def handler(_event: dg.EventLogEntry, cursor: str) -> None:
        seen.append(cursor)
        if len(seen) == len(others) + 1:
            all_seen.set()

    watchers = threading.active_count()
    with dg.DagsterInstance.get() as watching:
        watching.watch_event_logs(run.run_id, str(EventLogCursor.from_storage_id(first.storage_id)), handler)
        instance.report_engine_event("something more", run.dagster_run)
        assert all_seen.wait(60)
        later = instance.get_records_for_run(run.run_id).records[-1]
        expected = [str(EventLogCursor.from_storage_id(each.storage_id)) for each in (*others, later)]
        assert seen == expected
        watching.end_watch_event_logs(run.run_id, handler)
        # Whoever watches next sees it, who no longer does will not.
        instance.report_engine_event("and more", run.dagster_run)
        again = threading.Event()
        watching.watch_event_logs(run.run_id, seen[-1], lambda *_: again.set())
        assert again.wait(60)
    assert seen == expected
    assert threading.active_count() == watchers


def test_a_watched_run_goes_on_after_its_database_was_away(
    postgres_instance: dg.DagsterInstance, postgres_server: PostgresServer
) -> None:
    run = run_over(postgres_instance, named("outage", 1))
    cursor = postgres_instance.get_records_for_run(run.run_id).cursor
    heard = threading.Event()
    postgres_server.stop()
    postgres_instance.watch_event_logs(run.run_id, cursor, lambda *_: heard.set())
    time.sleep(2 * SECONDS_BETWEEN_LOOKS)
    postgres_server.start()

    postgres_instance.report_engine_event("back again", run.dagster_run)

    assert heard.wait(60)


def test_to_watch_a_run_that_was_deleted_makes_no_database_for_it(tmp_path: Path) -> None:
    with instance_at(tmp_path / "home") as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, BatchingSqliteEventLogStorage)
        instance.watch_event_logs("gone", None, lambda *_: None)
        time.sleep(2 * SECONDS_BETWEEN_LOOKS)
        assert not Path(storage.path_for_shard("gone")).exists()
