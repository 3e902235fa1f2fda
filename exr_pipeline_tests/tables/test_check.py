"""`check_tables` finds what is not as the specs have it and changes nothing; `bring_up_to_date` says what it did."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest
import vastdb

from exr_pipeline.tables.check import bring_up_to_date, check_tables
from exr_pipeline.tables.specs import TABLES, TableName, arrow_schema
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of
from exr_pipeline_tests.tables.test_former_database import load_former_database

if TYPE_CHECKING:
    from pathlib import Path

    from exr_pipeline_tests.tables.conftest import StoreUnderTest
    from exr_pipeline_tests.vast_emulator.running import RunningEmulator

FILE = SampleFile()


def findings(opened: StoreUnderTest) -> list[tuple[str, str, str]]:
    """Kind, table and column of every finding, by a store that has not seen the tables before."""
    return [(found.kind, found.table, found.column) for found in check_tables(opened.open())]


def put(opened: StoreUnderTest, table: TableName, *rows: dict[str, Any]) -> None:
    opened.store.put_rows(table, pa.Table.from_pylist(list(rows), schema=arrow_schema(table)), now=NOON)


def test_where_there_are_no_tables_each_is_missing_and_none_is_made(tables: StoreUnderTest) -> None:
    assert findings(tables) == [("missing table", name, "") for name in TABLES]
    assert tables.open().stored_schemas() == {}


def test_tables_as_a_write_leaves_them_have_no_findings(tables: StoreUnderTest) -> None:
    tables.store.write(rows_of(FILE, SampleFile(key="srv/local.exr", bucket="")), now=NOON)
    tables.store.write(rows_of(FILE.later(60)), now=NOON)
    assert findings(tables) == []


def test_rows_that_break_a_rule_are_found_with_what_to_do(tables: StoreUnderTest) -> None:
    row = FILE.files_row()
    put(tables, "files", row | {"state": None}, row | {"etag": "other", "superseded_at": NOON.isoformat()})
    put(tables, "files", row | {"file_id": "another", "file_path": "odd/a.exr"}, row | {"file_id": "current too"})
    put(tables, "sequence_outputs", {"bucket": "", "sequence_path": "srv/a.####.exr", "state": "ready"})
    found = list(check_tables(tables.open()))
    assert [(each.kind, each.table, each.column) for each in found] == [
        ("null", "files", "state"),
        ("duplicates", "files", ""),
        ("several current", "files", ""),
        ("relative paths", "sequence_outputs", "sequence_path"),
    ]
    assert f"bucket, file_id (1 such keys, the first is renders, {FILE.file_id})" in found[1].problem
    assert "renders, shot/beauty.1001.exr" in found[2].problem
    assert "tables migrate" in found[3].remedy


def test_rows_of_earlier_versions_whose_keys_have_nulls_are_no_duplicates(tables: StoreUnderTest) -> None:
    put(tables, "files", FILE.files_row())
    put(tables, "attributes", *(row | {"attr_index": None} for row in FILE.attribute_rows()))
    assert findings(tables) == []


def test_columns_of_a_duckdb_file_that_lack_or_have_another_type_are_found(duckdb_file: StoreUnderTest) -> None:
    duckdb_file.store.write(rows_of(FILE), now=NOON)
    path = duckdb_file.settings["database"]
    with duckdb.connect(path) as connection:
        connection.execute("DROP VIEW latest_files")
        connection.execute("ALTER TABLE files DROP COLUMN etag")
        connection.execute("ALTER TABLE parts ALTER width TYPE VARCHAR")
    before = path.read_bytes()
    found = list(check_tables(duckdb_file.open()))
    assert [(each.kind, each.table, each.column) for each in found] == [
        ("missing column", "files", "etag"),
        ("other type", "parts", "width"),
    ]
    assert "has the type string instead of int32" in found[1].problem
    assert path.read_bytes() == before, "a check changes nothing"


def test_columns_in_vast_that_lack_or_have_another_type_are_found(
    vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    session = vastdb.connect(endpoint=emulator.url, access="test", secret="test")
    with session.transaction() as transaction:
        schema = transaction.bucket("vastdb").create_schema(vast.settings["vast_db_schema"])
        schema.create_table("files", pa.schema([arrow_schema("files").field(index) for index in range(27)]))
        schema.create_table("parts", pa.schema([*list(arrow_schema("parts"))[:-1], pa.field("bucket", pa.int64())]))
    found = findings(vast)
    assert ("missing column", "files", "retryable_since") in found
    assert ("other type", "parts", "bucket") in found
    assert [each for each in found if each[0] == "missing table"] == [
        ("missing table", name, "") for name in TABLES if name not in {"files", "parts"}
    ]


def test_making_tables_says_which_were_made_and_then_that_none_is_missing(tables: StoreUnderTest) -> None:
    assert bring_up_to_date(tables.open()) == [f"created table {name}" for name in TABLES]
    assert bring_up_to_date(tables.open()) == []


@pytest.mark.parametrize("relative", ["a", "~"])
def test_paths_of_an_earlier_version_become_absolute_and_are_reported(tables: StoreUnderTest, relative: str) -> None:
    row = replace(FILE, bucket="").files_row() | {"file_path": f"{relative}/b.exr", "file_path_normalized": None}
    put(tables, "files", row)
    if tables.kind == "duckdb":
        with duckdb.connect(tables.settings["database"]) as connection:
            connection.execute("UPDATE tables_signature SET signature = 'of an earlier version'")
    done = bring_up_to_date(tables.open())
    assert done == ["made the local paths in column file_path of table files absolute"]
    assert tables.store.read("files", columns=["file_path"]).to_pylist() == [{"file_path": f"/{relative}/b.exr"}]
    assert findings(tables) == []


def test_a_database_of_an_earlier_version_is_migrated_and_what_was_done_is_told(tmp_path: Path) -> None:
    path = tmp_path / "tables.duckdb"
    load_former_database(path)
    before = list(check_tables(DuckDBStore(path)))
    assert {each.kind for each in before} >= {"relative paths"}
    assert len(bring_up_to_date(DuckDBStore(path))) == len(before)
    assert list(check_tables(DuckDBStore(path))) == []
