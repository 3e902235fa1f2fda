import json
import multiprocessing
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
import vastdb

from exr_pipeline.errors import MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.settings import Settings
from exr_pipeline.tables import open_table_store
from exr_pipeline.tables.specs import TABLES, arrow_schema
from exr_pipeline.tables.stores.vast import VastStore
from exr_pipeline.tables.stores.vast_session import VastConnection
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of
from exr_pipeline_tests.vast_emulator.running import RunningEmulator

ROWS = rows_of(SampleFile())


def settings_of(vast: StoreUnderTest, **changes: Any) -> Settings:
    return Settings(_env_file=None, **(vast.settings | changes))


def inspections(vast: StoreUnderTest) -> list[int]:
    return [row["inspection_count"] for row in vast.store.read("files", current_only=False).to_pylist()]


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_commit_whose_answer_is_lost_ends_as_exactly_one_write(
    vast: StoreUnderTest, emulator: RunningEmulator, drop: str
) -> None:
    vast.store.create_tables()
    emulator.fault(match="^commit", drop=drop)
    vast.store.write(ROWS, now=NOON)
    emulator.fault(match="^commit", drop=drop)
    vast.store.write(ROWS, now=NOON + timedelta(seconds=1))
    assert inspections(vast) == [2]
    assert vast.store.read("channels").num_rows == 4


def test_a_commit_that_answers_after_the_timeout_ends_as_exactly_one_write(
    vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    connection = replace(VastConnection.from_settings(settings_of(vast)), read_timeout_seconds=0.5, _sessions={})
    store = VastStore(connection)
    store.create_tables()
    emulator.fault(match="^commit", delay=1.0)
    store.write(ROWS, now=NOON)
    assert inspections(vast) == [1]


def test_a_lost_commit_in_a_server_that_stays_away_is_state_unknown_and_converges_later(
    vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    vast.store.create_tables()
    emulator.fault(match="^commit", drop="after")
    emulator.fault(match="^rollback", status=500)
    emulator.fault(match="^begin", status=500, skip=1)
    with pytest.raises(StateUnknownError, match="answer to a commit was lost"):
        vast.store.write(ROWS, now=NOON)
    vast.store.write(ROWS, now=NOON)
    assert inspections(vast) == [1]


@pytest.mark.parametrize(("status", "error"), [(500, RetryableError), (502, RetryableError), (400, MisconfiguredError)])
def test_a_commit_that_is_refused_twice_tells_what_the_server_answered_and_has_written_nothing(
    vast: StoreUnderTest, emulator: RunningEmulator, status: int, error: type[Exception]
) -> None:
    vast.store.create_tables()
    # After each the store looks whether something was written, which is a transaction too.
    emulator.fault(match="^commit", status=status)
    emulator.fault(match="^commit", status=status, skip=1)
    with pytest.raises(error, match=f"answered {status}|refused a request"):
        vast.store.write(ROWS, now=NOON)
    assert inspections(vast) == []


@pytest.mark.parametrize(
    "fault",
    [
        {"match": "^insert", "status": 503, "code": "ServiceUnavailable"},
        {"match": "^insert", "status": 500, "skip": 3},
        {"match": "^insert", "status": 429},
        {"match": "^insert", "drop": "before", "skip": 2},
        {"match": "^insert", "drop": "after"},
        {"match": "^begin", "status": 502},
        {"match": "^query", "status": 500},
    ],
)
def test_a_server_in_trouble_is_retryable_and_nothing_is_changed(
    vast: StoreUnderTest, emulator: RunningEmulator, fault: dict[str, Any]
) -> None:
    vast.store.create_tables()
    emulator.fault(**fault)
    with pytest.raises(RetryableError):
        vast.store.write(ROWS, now=NOON)
    assert all(vast.store.read(name).num_rows == 0 for name in TABLES)
    vast.store.write(ROWS, now=NOON)
    assert inspections(vast) == [1]


def test_a_server_that_asks_to_slow_down_is_asked_again(vast: StoreUnderTest, emulator: RunningEmulator) -> None:
    vast.store.create_tables()
    emulator.fault(match="^insert", status=503, code="SlowDown", count=2)
    vast.store.write(ROWS, now=NOON)
    assert inspections(vast) == [1]


def test_a_server_that_hangs_is_given_up(vast: StoreUnderTest, emulator: RunningEmulator) -> None:
    connection = replace(VastConnection.from_settings(settings_of(vast)), read_timeout_seconds=0.5, _sessions={})
    store = VastStore(connection)
    store.create_tables()
    emulator.fault(match="^insert", delay=1.5)
    with pytest.raises(RetryableError, match=r"did not answer in time. Fix: .* VAST_DB_ENDPOINT"):
        store.write(ROWS, now=NOON)


def test_a_folder_that_another_transaction_keeps_locked_is_retryable(
    vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    store = VastStore(VastConnection.from_settings(settings_of(vast)), conflict_wait_seconds=0.2)
    store.create_tables()
    schema = vast.settings["vast_db_schema"]
    session = vastdb.connect(endpoint=emulator.url, access="test", secret="test")
    with session.transaction() as transaction:
        locks = transaction.bucket("vastdb").schema(schema).table("write_locks")
        locks.update(locks.select(internal_row_id=True).read_all())
        with pytest.raises(RetryableError, match="other writers"):
            store.write(ROWS, now=NOON)
    store.write(ROWS, now=NOON)


def test_writes_to_different_folders_do_not_hinder_each_other(vast: StoreUnderTest, emulator: RunningEmulator) -> None:
    vast.store.create_tables()
    conflicts = emulator.admin("log")["transactions"].get("conflicts", 0)
    for shot in range(6):
        vast.store.write(rows_of(SampleFile(key=f"shot_{shot}/a.exr")), now=NOON)
    assert emulator.admin("log")["transactions"].get("conflicts", 0) == conflicts
    holders = {row["holder"] for row in emulator.rows("write_locks", vast.settings["vast_db_schema"])["rows"]}
    assert len(holders - {None}) > 1


def test_a_chunk_of_files_is_one_transaction_on_the_one_session(
    vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    vast.store.create_tables()
    emulator.admin("log/reset", {})
    vast.store.write(rows_of(*(SampleFile(key=f"s/{i}.exr") for i in range(50))), now=NOON)
    vast.store.read("files")
    log = emulator.admin("log")
    assert log["transactions"]["committed_with_writes"] == 1
    assert (log["commands"]["begin"], log["commands"].get("version", 0)) == (2, 0)


def write_in_child(vast: StoreUnderTest) -> None:
    vast.store.write(rows_of(SampleFile(key="child.exr")), now=NOON)


def test_a_forked_process_opens_a_session_of_its_own(
    vast: StoreUnderTest, emulator: RunningEmulator, start: Callable[..., multiprocessing.context.ForkProcess]
) -> None:
    vast.store.write(ROWS, now=NOON)
    emulator.admin("log/reset", {})
    child = start(write_in_child, vast)
    vast.store.write(ROWS, now=NOON + timedelta(1))
    child.join()
    assert child.exitcode == 0
    assert emulator.admin("log")["commands"]["version"] == 1
    assert sorted(inspections(vast)) == [1, 2]


def test_tables_of_an_existing_installation_get_the_columns_they_lack(
    vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    older = arrow_schema("files")
    older = pa.schema([older.field(index) for index in range(12)])
    session = vastdb.connect(endpoint=emulator.url, access="test", secret="test")
    with session.transaction() as transaction:
        files = transaction.bucket("vastdb").create_schema(vast.settings["vast_db_schema"]).create_table("files", older)
        row = {"file_id": "0123456789abcdef", "file_path": "old.exr", "mtime": NOON.isoformat()}
        files.insert(pa.Table.from_pylist([row], schema=older))
    vast.store.write(ROWS, now=NOON)
    paths = vast.store.read("files", columns=["file_path", "state"]).to_pylist()
    assert sorted(row["file_path"] for row in paths) == ["old.exr", "shot/beauty.1001.exr"]


def test_a_table_of_other_types_is_a_wrong_schema(vast: StoreUnderTest, emulator: RunningEmulator) -> None:
    session = vastdb.connect(endpoint=emulator.url, access="test", secret="test")
    with session.transaction() as transaction:
        schema = transaction.bucket("vastdb").create_schema(vast.settings["vast_db_schema"])
        schema.create_table("parts", pa.schema([("file_id", pa.int64())]))
    with pytest.raises(MisconfiguredError, match=r"VAST_DB_SCHEMA.*file_id has the type int64 instead of string"):
        vast.store.create_tables()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_no_server_at_all_is_retryable(vast: StoreUnderTest) -> None:
    settings = settings_of(vast, vast_db_endpoint=f"http://127.0.0.1:{free_port()}")
    store = VastStore(replace(VastConnection.from_settings(settings), sdk_seconds=0.5))
    with pytest.raises(RetryableError, match="cannot be reached"):
        store.counts_by_state()


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"vast_db_access_key": "nobody"}, "VAST_DB_ACCESS_KEY"),
        ({"vast_db_bucket": "nowhere"}, "VAST_DB_BUCKET"),
        ({"vast_db_endpoint": "ftp:/x"}, "VAST_DB_ENDPOINT"),
        ({"vast_db_endpoint": "http://somebody:a secret@127.0.0.1"}, "VAST_DB_ENDPOINT"),
        ({"vast_db_endpoint": None}, "VAST_DB_ENDPOINT"),
        ({"vast_db_access_key": None}, "VAST_DB_ACCESS_KEY"),
        ({"vast_db_secret_key": None}, "VAST_DB_SECRET_KEY"),
    ],
)
def test_a_wrong_setting_is_named_without_its_secrets(
    vast: StoreUnderTest, changes: dict[str, Any], setting: str
) -> None:
    with pytest.raises(MisconfiguredError) as caught:
        open_table_store(settings_of(vast, s3_endpoint=None, **changes)).create_tables()
    assert caught.value.setting == setting
    assert "a secret" not in json.dumps([str(caught.value), repr(caught.value), repr(caught.value.__cause__)])


def test_endpoint_and_keys_fall_back_to_those_of_object_storage(
    vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    nothing = {"vast_db_endpoint": None, "vast_db_access_key": None, "vast_db_secret_key": None}
    own = {"s3_endpoint": emulator.url, "s3_access_key": "test", "s3_secret_key": "a secret"}
    open_table_store(settings_of(vast, **nothing, **own)).write(ROWS, now=NOON)
    assert inspections(vast) == [1]


def test_a_missing_client_says_what_to_install(vast: StoreUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vastdb", None)
    with pytest.raises(MisconfiguredError, match=r"pip install 'exr-pipeline\[vast\]'"):
        open_table_store(settings_of(vast))


def test_the_connection_shows_no_secret(vast: StoreUnderTest) -> None:
    assert "a secret" not in repr(VastConnection.from_settings(settings_of(vast)))


def test_frames_of_a_sequence_share_their_long_texts(vast: StoreUnderTest, emulator: RunningEmulator) -> None:
    manifest = '"' + "m" * 300_000 + '"'
    for frame in range(3):
        written = rows_of(SampleFile(key=f"s/a.{frame}.exr", attributes=1), outputs=False)
        index = written["attributes"].column_names.index("value_json")
        written["attributes"] = written["attributes"].set_column(index, "value_json", [[manifest]])
        vast.store.write(written, now=NOON)
    assert emulator.rows("long_values", vast.settings["vast_db_schema"])["count"] == 3
    assert vast.store.read("attributes").column("value_json").to_pylist() == [manifest] * 3


def test_the_first_write_of_a_process_forgets_the_writes_of_days_before(
    vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    for hours in (0, 2, 25):
        vast.open().write(ROWS, now=NOON + timedelta(hours=hours))
    left = emulator.rows("writes", vast.settings["vast_db_schema"])["rows"]
    hours_left = [(NOON + timedelta(hours=hours)).isoformat() for hours in (2, 25)]
    assert sorted(row["written_at"] for row in left) == hours_left
    assert inspections(vast) == [3]
