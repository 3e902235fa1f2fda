"""A user's SQL reaches the tables and nothing else, in either store and by every way in, and fails before it looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from exr_pipeline.orchestration.jobs import Selection, select_partitions
from exr_pipeline.orchestration.partitions import FILES
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.tables import BadQueryError
from exr_pipeline.tables.queries import LOCKED, in_memory, one_select
from exr_pipeline.tables.similar import similar_files
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of
from exr_pipeline_tests.tables.sql_attacks import MARKER, Traps, traps

if TYPE_CHECKING:
    from exr_pipeline_tests.tables.conftest import StoreUnderTest

in_this_module = pa.table({"a": [MARKER]})


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traps]:
    """The process stands in a folder of traps, its home is in there, and the way to the network ends in a trap."""
    folder = tmp_path / "traps"
    (folder / ".duckdb" / "stored_secrets").mkdir(parents=True)
    with traps(folder) as set_up:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("HTTP_PROXY", set_up.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        set_up.database = tmp_path / "state" / "tables.duckdb"
        yield set_up


def _refused(attacks: list[str], run: Callable[[str], object]) -> None:
    in_this_frame = pa.table({"a": [MARKER]})
    for attack in attacks:
        with pytest.raises(BadQueryError) as caught:
            pytest.fail(f"{attack} gave {run(attack)}")
        assert MARKER not in str(caught.value), attack
    assert in_this_frame.num_rows


def _nothing_noticed(set_up: Traps) -> None:
    # The watcher's thread is a moment behind.
    time.sleep(0.1)
    assert set_up.noticed == []


def test_no_query_reaches_beyond_the_tables(tables: StoreUnderTest, trapped: Traps) -> None:
    tables.store.write(rows_of(SampleFile()), now=NOON)
    _refused(trapped.statements(), tables.store.sql)
    _nothing_noticed(trapped)
    assert tables.store.sql("SELECT file_id FROM files").num_rows == 1


def test_no_condition_of_similar_reaches_beyond_the_tables(tables: StoreUnderTest, trapped: Traps) -> None:
    def similar(condition: str) -> pa.Table:
        return similar_files(tables.store, [1.0] + [0.0] * 383, 1, without="", where=condition)

    tables.store.write(rows_of(SampleFile()), now=NOON)
    _refused(trapped.conditions(), similar)
    _nothing_noticed(trapped)
    assert similar("width = 1920").num_rows == 1


def test_no_condition_of_a_job_reaches_beyond_the_tables(tables: StoreUnderTest, trapped: Traps) -> None:
    file = SampleFile()
    pipeline = Pipeline(Settings(_env_file=None, **tables.settings))
    pipeline.tables.write(rows_of(file), now=NOON)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(FILES, [file.location.partition_key])

        def select(condition: str) -> list[str]:
            return select_partitions(Selection(where=condition), pipeline, instance)

        _refused(trapped.conditions(), select)
        _nothing_noticed(trapped)
        assert select("state = 'ready'") == [file.location.partition_key]


def test_the_locked_connection_reaches_nothing_even_with_sql_that_was_not_checked(trapped: Traps) -> None:
    """The other layer: whatever the check might miss, but for the files of the database itself."""
    own = str(trapped.database)
    with in_memory() as connection:
        for attack in trapped.statements():
            if own in attack:
                continue
            try:
                answer = str(connection.execute(attack).fetchall())
            except duckdb.Error as error:
                answer = str(error)
            assert MARKER not in answer.replace(f"'{MARKER}'", ""), attack
            connection.interrupt()
    _nothing_noticed(trapped)


def test_the_traps_notice_what_looks_at_them(trapped: Traps) -> None:
    with duckdb.connect() as connection:
        assert MARKER in str(connection.execute(f"FROM read_text('{trapped.folder}/.env')").fetchall())
    with duckdb.connect(config={"autoinstall_known_extensions": True}) as connection, pytest.raises(duckdb.Error):
        connection.execute(f"FROM read_csv('{trapped.url}/rows.csv')")
    time.sleep(0.1)
    assert any(".env" in event for event in trapped.noticed)
    assert any("a connection" in event for event in trapped.noticed)
    with duckdb.connect(config=LOCKED) as connection, pytest.raises(duckdb.Error, match="locked"):
        connection.execute("SET lock_configuration = false")


READING = (
    "FROM files",
    "TABLE files",
    "DESCRIBE files",
    "SUMMARIZE SELECT state FROM files",
    "SHOW TABLES",
    "VALUES (1)",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM duckdb_columns() WHERE table_name = 'files'",
    "SELECT unnest(range(3)), * FROM generate_series(1, 2) AS t(i), json_each('[1]')",
    "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t WHERE i < 3) FROM t",
    'WITH "the files" AS MATERIALIZED (FROM latest_files) SELECT count(*) FROM "the files"',
    "SELECT f.* FROM main.files f LEFT JOIN parts USING (file_id) WHERE f.uri LIKE 's3://%' -- a comment; not another",
    "FROM (UNPIVOT (SELECT size_bytes, frame_number FROM files) ON size_bytes, frame_number)",
    "FROM files PIVOT (count(*) FOR state IN ('ready', 'rejected'))",
    "SELECT count(*) OVER (PARTITION BY state) FROM files QUALIFY true;",
    "(SELECT 1) UNION (SELECT 2) EXCEPT (SELECT 3) ORDER BY 1 LIMIT 1",
)


def test_every_way_to_read_the_tables_is_still_open(tables: StoreUnderTest) -> None:
    tables.store.write(rows_of(SampleFile()), now=NOON)
    for query in READING:
        assert tables.store.sql(query).num_columns, query


def test_a_query_nested_without_end_is_refused() -> None:
    assert one_select("SELECT " + " || ".join(["'x'"] * 200))
    for count in (700, 20_000):
        with pytest.raises(BadQueryError, match=r"deep|depth"):
            one_select("SELECT " + " || ".join(["'x'"] * count))
