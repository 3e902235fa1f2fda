import errno
import fcntl
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from exr_pipeline.cli.results import save_result
from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.settings import Settings
from exr_pipeline.tables import open_table_store
from exr_pipeline.tables.specs import TableName, arrow_schema
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tables.duckdb"


def hold_open(path: Path, held: Any, let_go: Any) -> None:
    connection = duckdb.connect(path)
    held.set()
    let_go.wait(60)
    connection.close()


Start = Callable[..., multiprocessing.context.ForkProcess]


def test_the_settings_without_vast_name_the_embedded_database(tmp_path: Path) -> None:
    store = open_table_store(Settings(_env_file=None, state_dir=tmp_path / "state"))
    store.create_tables()
    assert (tmp_path / "state" / "tables.duckdb").is_file()


def test_a_held_lock_is_reported_with_the_process_that_holds_it(path: Path, start: Start) -> None:
    store = DuckDBStore(path, lock_wait_seconds=0.3)
    store.create_tables()
    context = multiprocessing.get_context("fork")
    held, let_go = context.Event(), context.Event()
    holder = start(hold_open, path, held, let_go)
    assert held.wait(60)
    for attempt in (lambda: store.write(rows_of(SampleFile()), now=NOON), lambda: store.sql("SELECT 1")):
        with pytest.raises(RetryableError, match=f"process {holder.pid} .* is using the database; waited 0.3 s"):
            attempt()
    let_go.set()
    DuckDBStore(path).write(rows_of(SampleFile()), now=NOON)
    assert store.counts_by_state() == {"ready": 1}


def test_a_connection_that_the_process_itself_keeps_open_is_reported(path: Path) -> None:
    store = DuckDBStore(path, lock_wait_seconds=0.1)
    store.create_tables()
    with duckdb.connect(path, read_only=True), pytest.raises(RetryableError, match=rf"this process \({os.getpid()}\)"):
        store.write(rows_of(SampleFile()), now=NOON)
    store.write(rows_of(SampleFile()), now=NOON)


def test_the_file_is_free_for_others_between_operations(path: Path) -> None:
    store = DuckDBStore(path)
    store.write(rows_of(SampleFile()), now=NOON)
    with duckdb.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM latest_parts").fetchone() == (1,)
    store.write(rows_of(SampleFile(key="b.exr")), now=NOON)


def test_a_file_that_is_no_database_is_a_wrong_setting(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(MisconfiguredError, match="EXR_PIPELINE_DATABASE"):
        DuckDBStore(path).create_tables()


def test_a_path_that_speaks_of_locks_is_not_taken_for_a_held_one(tmp_path: Path) -> None:
    path = tmp_path / "block Could not set lock on file held in (PID 1)" / "tables.duckdb"
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(MisconfiguredError, match="not a valid DuckDB database file"):
        DuckDBStore(path).create_tables()


def make_tables_as_others_do(folder: Path, barrier: Any, times: int) -> None:
    for turn in range(times):
        barrier.wait()
        DuckDBStore(folder / f"{turn}.duckdb").create_tables()


def test_a_new_database_appears_with_its_tables_or_not_at_all(tmp_path: Path, start: Start) -> None:
    barrier = multiprocessing.get_context("fork").Barrier(5)
    others = [start(make_tables_as_others_do, tmp_path, barrier, 5) for _ in range(4)]
    for turn in range(5):
        path = tmp_path / f"{turn}.duckdb"
        barrier.wait()
        while not path.exists():
            pass
        copy = tmp_path / "copy"
        copy.write_bytes(path.read_bytes())
        with duckdb.connect(copy, read_only=True) as connection:
            assert connection.execute("SELECT count(*) FROM latest_files").fetchone() == (0,)
    for other in others:
        other.join()
        assert other.exitcode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{turn}.duckdb" for turn in range(5)] + ["copy"]


def test_a_file_system_without_links_gets_its_database_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    DuckDBStore(path).write(rows_of(SampleFile()), now=NOON)
    assert DuckDBStore(path).counts_by_state() == {"ready": 1}


def write_as_others_do(folder: Path, barrier: Any, times: int) -> None:
    for turn in range(times):
        barrier.wait()
        DuckDBStore(folder / str(turn) / "tables.duckdb").write(rows_of(SampleFile()), now=datetime.now(UTC))


def test_processes_that_make_the_same_new_database_where_there_are_no_links_wait_for_each_other(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    barrier = multiprocessing.get_context("fork").Barrier(4)
    writers = [start(write_as_others_do, tmp_path, barrier, 4) for _ in range(4)]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    for turn in range(4):
        (row,) = DuckDBStore(tmp_path / str(turn) / "tables.duckdb").read("files").to_pylist()
        assert row["inspection_count"] == 4


def begin_a_file(path: Path, held: Any, let_go: Any) -> None:
    with path.open("ab") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        held.set()
        let_go.wait(60)


def test_the_beginning_of_a_database_is_waited_for_and_finished_if_its_process_is_gone(
    path: Path, start: Start
) -> None:
    path.parent.mkdir()
    context = multiprocessing.get_context("fork")
    held, let_go = context.Event(), context.Event()
    holder = start(begin_a_file, path, held, let_go)
    assert held.wait(60)
    assert DuckDBStore(path).counts_by_state() == {}, "who only reads finds no rows yet"
    with pytest.raises(RetryableError, match=r"another process is creating it; waited 0\.3 s"):
        DuckDBStore(path, lock_wait_seconds=0.3).write(rows_of(SampleFile()), now=NOON)
    let_go.set()
    holder.join()
    assert path.stat().st_size == 0
    DuckDBStore(path).write(rows_of(SampleFile()), now=NOON)
    assert DuckDBStore(path).counts_by_state() == {"ready": 1}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No file of this process may grow beyond it, as on a disk that is full then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 5_000, 60_000, 120_000, 300_000])
def test_a_disk_too_full_for_a_new_database_gets_none_and_the_same_store_makes_one_later(path: Path, size: int) -> None:
    store = DuckDBStore(path)
    with files_at_most(size), pytest.raises(RetryableError, match="cannot write to the database"):
        store.write(rows_of(SampleFile()), now=NOON)
    assert list(path.parent.iterdir()) == []
    store.write(rows_of(SampleFile()), now=NOON)
    assert store.counts_by_state() == {"ready": 1}


def test_whoever_only_reads_a_database_that_is_not_there_finds_no_rows_and_makes_none(path: Path) -> None:
    store = DuckDBStore(path)
    assert store.counts_by_state() == {}
    assert store.sql("FROM latest_files").num_rows == 0
    assert store.current_versions([SampleFile().location]) == {}
    assert list(store.scan("files", columns=["uri"])) == []
    assert not path.parent.exists()


def long_rows(key: str, count: int) -> dict[TableName, pa.Table]:
    """Rows of a file with so many attributes of a MiB each, which compression makes half as large at best."""
    file = SampleFile(key, attributes=count)
    attributes = [row | {"value_text": os.urandom(1 << 19).hex()} for row in file.attribute_rows()]
    return rows_of(file) | {"attributes": pa.Table.from_pylist(attributes, schema=arrow_schema("attributes"))}


def test_a_write_that_finds_the_disk_full_changes_nothing_and_can_be_retried(path: Path) -> None:
    store = DuckDBStore(path)
    store.write(rows_of(SampleFile()), now=NOON)
    rows = long_rows("large.exr", 3)
    with (
        files_at_most(2 << 20),
        pytest.raises(RetryableError, match="cannot write to the database"),
    ):
        store.write(rows, now=NOON)
    assert store.counts_by_state() == {"ready": 1}
    store.write(rows, now=NOON)
    assert store.counts_by_state() == {"ready": 2}


def test_writes_for_which_only_the_log_has_room_count(path: Path) -> None:
    store = DuckDBStore(path)
    store.write(long_rows("first.exr", 45), now=NOON)
    assert path.stat().st_size > 22 << 20
    with files_at_most(path.stat().st_size + (1 << 20)):
        # Beyond 16 MiB DuckDB wants to move the log into the file at each commit.
        store.write(long_rows("second.exr", 18), now=NOON)
        store.write(rows_of(SampleFile("third.exr")), now=NOON)
        assert store.counts_by_state() == {"ready": 3}
    assert path.with_name("tables.duckdb.wal").exists()
    store.write(rows_of(SampleFile("fourth.exr")), now=NOON)
    assert store.counts_by_state() == {"ready": 4}


@pytest.mark.skipif(
    subprocess.run(["sh", "-c", "unshare -rm true"], check=False, capture_output=True).returncode != 0,
    reason="this user may not mount a file system of its own",
)
@pytest.mark.parametrize("name", ["tables.duckdb", "folder/tables.duckdb"])
def test_a_file_system_that_is_only_to_be_read_is_a_wrong_setting(tmp_path: Path, name: str) -> None:
    program = f"""from pathlib import Path
from exr_pipeline.tables.stores.duckdb import DuckDBStore
DuckDBStore(Path({str(tmp_path / name)!r})).create_tables()"""
    mounted = 'mount -t tmpfs -o ro none "$1" && exec "$2" -c "$3"'
    command = ["unshare", "-rm", "sh", "-c", mounted, "sh", str(tmp_path), sys.executable, program]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert re.search(
        r"MisconfiguredError: EXR_PIPELINE_DATABASE: cannot write to .*tables.duckdb: Read-only", ended.stderr
    ), ended.stderr


def write_and_die(path: Path) -> None:
    connection = duckdb.connect(path)
    connection.execute("CREATE TABLE mine (x INTEGER)")
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_log_of_a_database_that_is_gone_is_not_taken_for_that_of_a_new_one(path: Path, start: Start) -> None:
    path.parent.mkdir()
    start(write_and_die, path).join()
    log = path.with_name("tables.duckdb.wal")
    assert log.is_file()
    path.unlink()
    with pytest.raises(
        MisconfiguredError, match=r"tables.duckdb.wal exists, but its database does not.*delete the log"
    ):
        DuckDBStore(path).create_tables()
    log.unlink()
    assert DuckDBStore(path).counts_by_state() == {}


def test_a_database_of_an_older_version_gets_the_columns_and_views_it_lacks(path: Path) -> None:
    path.parent.mkdir()
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE files (file_id VARCHAR, file_path VARCHAR, mtime VARCHAR)")
        connection.execute("CREATE VIEW latest_files AS SELECT file_id FROM files")
    store = DuckDBStore(path)
    store.write(rows_of(SampleFile()), now=NOON)
    assert store.read("files").schema == arrow_schema("files")
    assert store.sql("SELECT state FROM latest_files").to_pylist() == [{"state": "ready"}]


def test_a_deleted_database_is_made_again(path: Path) -> None:
    store = DuckDBStore(path)
    store.write(rows_of(SampleFile()), now=datetime.now(UTC))
    path.unlink()
    assert store.counts_by_state() == {}


def test_a_notebook_that_holds_a_copy_or_parquet_does_not_stop_ingest(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "tables.duckdb", lock_wait_seconds=0.1)
    store.write(rows_of(SampleFile()), now=NOON)
    store.copy_to(tmp_path / "copy.duckdb")
    save_result(store.stream_sql("FROM latest_files"), tmp_path / "files.parquet", "parquet")
    query = "SELECT file_path, mtime FROM {} ORDER BY ALL"
    with duckdb.connect(tmp_path / "copy.duckdb", read_only=True) as copy:
        assert copy.execute(query.format("latest_files")).fetchall() == [("shot/beauty.1001.exr", NOON)]
        assert copy.execute(query.format(f"'{tmp_path}/files.parquet'")).fetchall() == [("shot/beauty.1001.exr", NOON)]
        store.write(rows_of(SampleFile("new.exr")), now=NOON)
        save_result(store.stream_sql("FROM latest_files"), tmp_path / "files.parquet", "parquet")
        assert len(copy.execute(query.format(f"'{tmp_path}/files.parquet'")).fetchall()) == 2
