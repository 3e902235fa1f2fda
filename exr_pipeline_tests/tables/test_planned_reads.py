"""What a query needs of each table: no column or row that cannot matter to it, and every one that can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exr_pipeline.errors import RetryableError
from exr_pipeline.tables.planned_reads import Condition, planned_reads
from exr_pipeline.tables.stores.vast_long_values import REFERENCE_PREFIX
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of

if TYPE_CHECKING:
    from exr_pipeline_tests.tables.conftest import StoreUnderTest
    from exr_pipeline_tests.vast_emulator.running import RunningEmulator

CURRENT = {Condition("superseded_at", "is_null"), Condition("deleted_at", "is_null")}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("state = 'it''s'", {Condition("state", "=", "it's")}),
        ("state IN ('ready', 'rejected')", {Condition("state", "in", ("ready", "rejected"))}),
        ("frame_number BETWEEN 1 AND $last", {Condition("frame_number", ">=", 1), Condition("frame_number", "<=", 7)}),
        ("starts_with(uri, 's3://a/')", {Condition("uri", "starts_with", "s3://a/")}),
        (
            "reason IS NOT NULL AND size_bytes < -1",
            {Condition("reason", "is_not_null"), Condition("size_bytes", "<", -1)},
        ),
        ("state = 'ready' OR frame_number = 3", set()),
        ("lower(state) = 'ready'", set()),
        ("frame_number > 5000000000", set()),
        ("mtime::TIMESTAMPTZ > now()", set()),
    ],
)
def test_conditions_on_one_column_and_constants_are_found(condition: str, expected: set[Condition]) -> None:
    parameters = {"last": 7} if "$last" in condition else {}
    read = planned_reads(f"SELECT etag FROM files WHERE {condition}", parameters)["files"]
    assert read.conditions == expected
    assert {"etag", *(each.column for each in expected)} <= set(read.columns)


def test_views_add_their_own_conditions_and_only_columns_that_matter() -> None:
    (read,) = planned_reads("SELECT file_path FROM latest_files").values()
    assert read.conditions == CURRENT
    assert set(read.columns) == {"file_path", "superseded_at", "deleted_at"}


def test_a_table_that_is_read_twice_keeps_only_conditions_of_both() -> None:
    query = (
        "SELECT f.uri FROM latest_files f LEFT JOIN (FROM latest_files WHERE state = 'rejected') g USING (file_path)"
    )
    assert planned_reads(query)["files"].conditions == CURRENT


def test_a_query_without_tables_reads_none() -> None:
    assert planned_reads("SELECT range FROM range(3)") == {}


def test_vast_applies_conditions_and_answers_as_duckdb_does(
    duckdb_file: StoreUnderTest, vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    files = [SampleFile(key=f"s/{n:03}.exr", frame_number=n, state="ready" if n % 3 else "rejected") for n in range(30)]
    for opened in (duckdb_file, vast):
        opened.store.write(rows_of(*files, SampleFile(key="s/none.exr")), now=NOON)
        opened.store.write(rows_of(files[1].later(60)), now=NOON)
    for condition in (
        *(
            "state = 'rejected'",
            "frame_number IN (3, 4)",
            "frame_number > 25",
            "frame_number IS NULL",
            "state <> 'ready'",
        ),
        *("starts_with(uri, 's3://renders/s/00')", "file_path >= 's/028.exr'", "NOT starts_with(file_path, 's/0')"),
        *("superseded_at IS NOT NULL", "etag = 'etag-2' AND frame_number = 1", f"etag = '{REFERENCE_PREFIX}'", "false"),
    ):
        query = f"SELECT file_path, etag FROM files WHERE {condition} ORDER BY ALL"
        assert vast.store.sql(query).equals(duckdb_file.store.sql(query)), condition
    vast.store.sql("FROM failed_files")
    emulator.admin("log/reset", {})
    (row,) = vast.store.sql("SELECT count(*) AS n FROM files WHERE file_path = 's/007.exr'").to_pylist()
    assert row == {"n": 1}
    assert emulator.admin("log")["commands"]["query"] <= 2, "one for the rows, one for whether there are long texts"


def test_a_query_that_joins_a_table_with_itself_fetches_it_for_each_scan(vast: StoreUnderTest) -> None:
    vast.store.write(rows_of(*(SampleFile(key=f"s/{n}.exr") for n in range(4))), now=NOON)
    query = "SELECT count(*) AS pairs FROM files a JOIN files b ON a.file_id <> b.file_id"
    assert vast.store.sql(query).to_pylist() == [{"pairs": 12}]


def test_a_failure_while_rows_are_fetched_is_the_stores_and_not_the_querys(
    vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    vast.store.write(rows_of(SampleFile()), now=NOON)
    emulator.fault(match="^query", status=500, skip=1)
    with pytest.raises(RetryableError, match="answered 500"):
        vast.store.sql("SELECT file_path FROM files")
    emulator.admin("fault", method="DELETE")
    emulator.fault(match="^query", status=500, skip=1)
    with (
        pytest.raises(RetryableError, match="answered 500"),
        vast.store.stream_sql("SELECT file_path FROM files") as rows,
    ):
        list(rows)
