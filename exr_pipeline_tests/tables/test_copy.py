"""`copy_tables` leaves the same rows on both sides, from either store to either, also when it was interrupted."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from exr_pipeline.settings import Settings
from exr_pipeline.tables.copy import CopiedTable, copy_tables
from exr_pipeline.tables.specs import TABLES, TableName, arrow_schema
from exr_pipeline.tables.store import open_named_store, store_name
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline.tables.verbatim import WHOLE_ROWS_PER_BATCH, digest
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from exr_pipeline.tables import TableStore
    from exr_pipeline_tests.tables.conftest import StoreUnderTest

FILES = [SampleFile(key=f"shot/beauty.{frame}.exr", frame_number=frame) for frame in range(1001, 1006)]
LOCAL = SampleFile(key="srv/a.1001.exr", bucket="", attributes=1)
LONG = '"' + "m" * 400_000 + '"'


def copy(source: TableStore, target: TableStore) -> dict[TableName, CopiedTable]:
    copied = copy_tables(source, target, now=NOON, on_progress=lambda *_: None)
    return {each.table: each for each in copied}


def fill(store: TableStore) -> None:
    """Rows of every table, with history, marks, nulls and a text that is longer than a cell of VAST."""
    store.write(rows_of(*FILES), now=NOON)
    store.write(rows_of(FILES[0].later(60)), now=NOON + timedelta(1))
    store.mark({FILES[1].location: FILES[1].file_id}, "deleted", now=NOON)
    local = rows_of(LOCAL, SampleFile(key="bad.exr", state="rejected", reason="it is a text", header=False))
    index = local["attributes"].column_names.index("value_json")
    local["attributes"] = local["attributes"].set_column(index, "value_json", [[LONG]])
    store.write(local, now=NOON)
    sequence = {"bucket": "renders", "sequence_path": "shot/beauty.####.exr", "state": "ready", "frame_count": 5}
    store.write({"sequence_outputs": pa.Table.from_pylist([sequence])}, now=NOON)


def rows(store: TableStore, table: TableName) -> list[dict[str, Any]]:
    found = store.read(table, current_only=False).to_pylist()
    return sorted(found, key=lambda row: repr([row[key] for key in TABLES[table].row_key]))


def other(tmp_path: Path) -> DuckDBStore:
    return DuckDBStore(tmp_path / "other" / "tables.duckdb")


def test_a_copy_and_a_copy_back_have_every_row_of_every_table(tables: StoreUnderTest, tmp_path: Path) -> None:
    fill(tables.store)
    there, back = other(tmp_path), DuckDBStore(tmp_path / "back.duckdb")
    copied = copy(tables.store, there)
    assert {name: each.put for name, each in copied.items()} == {name: len(rows(tables.store, name)) for name in TABLES}
    assert [each.problem for each in copied.values()] == [None] * len(TABLES)
    assert all(rows(there, name) == rows(tables.store, name) for name in TABLES)
    assert [each.put for each in copy(there, tables.store).values()] == [0] * len(TABLES), "all of it is there"
    copy(tables.store, back)
    assert all(rows(back, name) == rows(tables.store, name) for name in TABLES)
    assert LONG in back.read("attributes").column("value_json").to_pylist()


def test_a_copy_into_vast_has_every_row_and_long_text(duckdb_file: StoreUnderTest, vast: StoreUnderTest) -> None:
    fill(duckdb_file.store)
    copied = copy(duckdb_file.store, vast.store)
    assert [each.problem for each in copied.values()] == [None] * len(TABLES)
    assert all(rows(vast.open(), name) == rows(duckdb_file.store, name) for name in TABLES)
    assert LONG in vast.store.sql("SELECT value_json FROM attributes").column(0).to_pylist()
    # What is written afterwards meets the copied rows.
    vast.store.write(rows_of(FILES[2]), now=NOON + timedelta(1))
    (row,) = vast.store.read("files", columns=["inspection_count"], locations=[FILES[2].location]).to_pylist()
    assert row["inspection_count"] == 2


def test_an_interrupted_copy_goes_on_where_it_was(tables: StoreUnderTest, tmp_path: Path) -> None:
    source, count = other(tmp_path), WHOLE_ROWS_PER_BATCH + 500
    many = [SampleFile(key=f"s/{number}.exr", header=False).files_row() for number in range(count)]
    source.put_rows("files", pa.Table.from_pylist(many, schema=arrow_schema("files")), now=NOON)

    def interrupt(what: str, done: int, total: int) -> None:
        assert (what, total) == ("copying files", count)
        assert 0 < done < count
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_tables(source, tables.store, now=NOON, on_progress=interrupt)
    begun = tables.open().read("files", columns=["file_id"]).num_rows
    assert 0 < begun < count
    copied = copy(source, tables.open())["files"]
    assert (copied.put, copied.target.rows, copied.problem) == (count - begun, count, None)


def test_a_row_that_has_changed_since_the_last_copy_takes_the_place_of_the_former(
    tables: StoreUnderTest, tmp_path: Path
) -> None:
    source = other(tmp_path)
    source.write(rows_of(*FILES), now=NOON)
    copy(source, tables.store)
    source.write(rows_of(FILES[3], outputs=False), now=NOON + timedelta(1))
    copied = copy(source, tables.open())
    assert {name: each.put for name, each in copied.items() if each.put} == {"files": 1}
    assert rows(tables.store, "files") == rows(source, "files")


def test_rows_that_only_the_target_has_stay_and_are_reported(tables: StoreUnderTest, tmp_path: Path) -> None:
    source = other(tmp_path)
    source.write(rows_of(FILES[0]), now=NOON)
    tables.store.write(rows_of(FILES[1], outputs=False), now=NOON)
    copied = copy(source, tables.store)
    assert copied["files"].problem == "files: the source has 1 rows, the target 2"
    assert copied["proxy_outputs"].problem is None
    assert len(rows(tables.store, "files")) == 2


def test_rows_with_nulls_in_their_keys_are_copied_once(tables: StoreUnderTest, tmp_path: Path) -> None:
    source = other(tmp_path)
    old = [row | {"attr_index": None, "bucket": None} for row in FILES[0].attribute_rows()]
    source.put_rows("attributes", pa.Table.from_pylist(old, schema=arrow_schema("attributes")), now=NOON)
    assert [copy(source, tables.open())["attributes"].put for _ in range(2)] == [len(old), 0]
    assert copy(source, tables.open())["attributes"].problem is None


def test_a_digest_depends_on_the_values_and_not_on_order_or_batches() -> None:
    table = rows_of(*FILES)["files"]
    whole = digest("files", table.to_batches())
    backwards = table.take(list(reversed(range(table.num_rows))))
    assert digest("files", backwards.to_batches(max_chunksize=2)) == whole
    assert whole.rows == len(FILES)
    index = table.column_names.index("reason")
    for reasons in (["", *[None] * 4], ["x", *[None] * 4]):
        assert digest("files", table.set_column(index, "reason", pa.array(reasons)).to_batches()) != whole


def test_stores_are_named_by_what_is_written_or_by_the_settings(tmp_path: Path, vast: StoreUnderTest) -> None:
    path = tmp_path.resolve() / "a.duckdb"
    settings = Settings(_env_file=None, database=path)
    assert store_name(None, settings) == store_name(str(path), settings) == store_name(f"duckdb:{path}", settings)
    assert store_name(None, settings) == f"duckdb:{path}"
    assert isinstance(open_named_store(f"duckdb:{path}", settings), DuckDBStore)
    in_vast = Settings(_env_file=None, **vast.settings)
    assert store_name(None, in_vast) == store_name("vast", settings) == "vast"
    open_named_store("vast", in_vast).create_tables()
    assert set(vast.open().stored_schemas()) == set(TABLES)
