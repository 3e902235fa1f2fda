"""The demonstration finds every value that is not the same, and leaves out only what it names."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from exr_pipeline.tables.specs import TABLES
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.demo_vast.comparison import NOT_COMPARED, Difference, compare_rows, compare_stores
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of

FILES = (SampleFile(), SampleFile(key="shot/beauty.1002.exr"))


def differences(first: DuckDBStore, second: DuckDBStore) -> list[Difference]:
    return [found for compared in compare_stores(first, second) for found in compared.differences]


def stores(folder: Path) -> tuple[DuckDBStore, DuckDBStore]:
    one, other = DuckDBStore(folder / "one.duckdb"), DuckDBStore(folder / "other.duckdb")
    one.write(rows_of(*FILES), now=NOON)
    other.write(rows_of(*reversed(FILES)), now=NOON + timedelta(hours=1))
    return one, other


def test_rows_that_differ_in_order_and_time_alone_are_the_same(tmp_path: Path) -> None:
    one, other = stores(tmp_path)
    assert differences(one, other) == []
    (of_files,) = (compared for compared in compare_stores(one, other) if compared.table == "files")
    assert (of_files.rows, of_files.values) == (2, 2 * (len(TABLES["files"].columns) - len(NOT_COMPARED["files"])))


def test_one_broken_value_of_one_row_is_found_and_named(tmp_path: Path) -> None:
    one, other = stores(tmp_path)
    row = next(row for row in other.read("channels").to_pylist() if row["channel_index"] == 2)
    schema = other.read("channels").schema
    other.put_rows("channels", pa.Table.from_pylist([row | {"channel_type": "UINT"}], schema=schema), now=NOON)

    (found,) = differences(one, other)

    assert (found.table, found.column, found.first, found.second) == (
        "channels",
        "channel_type",
        row["channel_type"],
        "UINT",
    )
    assert found.key == tuple(row[column] for column in TABLES["channels"].row_key)


def test_a_row_that_is_missing_or_there_twice_is_found(tmp_path: Path) -> None:
    one, _ = stores(tmp_path)
    rows = one.read("parts").to_pylist()
    assert [(each.column, each.first, each.second) for each in compare_rows("parts", rows, rows[1:]).differences] == [
        ("rows", 1, 0)
    ]
    assert [(each.first, each.second) for each in compare_rows("parts", rows, [*rows, rows[0]]).differences] == [(1, 2)]


def test_only_times_and_durations_are_left_out() -> None:
    types = {
        column: next(each.type for each in TABLES[table].columns if each.name == column)
        for table, columns in NOT_COMPARED.items()
        for column in columns
    }
    assert {column for column, type_ in types.items() if type_ != "timestamp"} == {"processing_time_seconds"}
