"""Sequences in SQL are those that `find_sequences` finds, spelled alike, and join what was made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exr_pipeline.ingest.sequence_maker import sequence_row
from exr_pipeline.inspection.identity import frame_number
from exr_pipeline.products.registry import SEQUENCE_PRODUCTS
from exr_pipeline.products.sequence_result import SequenceResult
from exr_pipeline.sequences import find_sequences
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.queries import in_memory, run_select
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of

if TYPE_CHECKING:
    from exr_pipeline_tests.tables.conftest import StoreUnderTest

NUMBERS = st.one_of(
    st.from_regex(r"\A-?0{0,3}[0-9]{1,5}\Z"),
    st.from_regex(r"\A-?[0-9]{4,6}\.[0-9]{1,3}\Z"),
    st.sampled_from(["2147483647", "2147483648", "00", "-0", "-01"]),
)
NAMES = st.builds(
    lambda folder, prefix, number, extension: f"{folder}{prefix}{number}{extension}",
    st.sampled_from(["", "s/", "s/a b#/", "s/1001.exr/"]),
    st.sampled_from(["", "a.", "a_", "a.2.", "a", "ä%23.", "a.1001.", "-"]),
    NUMBERS,
    st.sampled_from([".exr", ".EXR", ".dpx", ".jpeg", ".mov", ".wav", ".txt"]),
)


@pytest.fixture(scope="module")
def empty_tables() -> Iterator[duckdb.DuckDBPyConnection]:
    with in_memory() as connection:
        yield connection


@settings(max_examples=40, deadline=None)
@given(st.lists(NAMES, max_size=12, unique=True))
@example(["a.1.exr", "a.001.exr", "a.100.exr", "a.1000.exr"])
@example(["a.-001.exr", "a.0000.exr"])
@example(["a.-01.exr", "a.-1.exr", "a.100.exr"])
@example(["a.1001.25.exr", "a.1001.exr"])
@example(["2147483647.exr", "0.exr"])
def test_the_view_spells_sequences_as_find_sequences_does(
    empty_tables: duckdb.DuckDBPyConnection, names: list[str]
) -> None:
    locations = [Location("s3", "renders", name) for name in names]
    rows = [
        {
            "bucket": "renders",
            "file_path": one.key,
            "uri": one.url,
            "frame_number": frame_number(one.key),
            "state": "ready",
        }
        for one in locations
    ]
    empty_tables.execute("DELETE FROM files")
    if rows:
        empty_tables.register("incoming", pa.Table.from_pylist(rows))
        empty_tables.execute("INSERT INTO files BY NAME SELECT * FROM incoming")
    found = run_select(empty_tables, "FROM sequences").to_pylist()
    expected = find_sequences(locations, singles=True, udim="")
    assert [(row["sequence_path"], row["uri"]) for row in found] == sorted(
        (sequence.location.key, sequence.url) for sequence in expected
    )
    assert [(row["first_frame"], row["frames"]) for row in found] == [
        (int(sequence.first), len({int(frame.number) for frame in sequence.frames}))
        for sequence in sorted(expected, key=lambda sequence: sequence.location.key)
    ]


def test_sequences_join_what_was_made_of_them(tables: StoreUnderTest) -> None:
    files = [SampleFile(key=f"s/a#1.{frame:04}.exr", frame_number=frame) for frame in (8, 9, 1001)]
    tables.store.write(rows_of(*files), now=NOON)
    (sequence,) = find_sequences([file.location for file in files])
    row = sequence_row(SequenceResult(sequence.location, sequence=sequence), SEQUENCE_PRODUCTS, {}, now=NOON)
    tables.store.write({"sequence_outputs": pa.Table.from_pylist([row])}, now=NOON)
    joined = tables.store.sql(
        """SELECT s.uri, o.uri AS page_uri, o.partition_key, s.frames, o.frame_count,
            typeof(o.generated_timestamp) AS type
        FROM sequences s JOIN latest_sequence_outputs o USING (bucket, sequence_path)"""
    ).to_pylist()
    assert joined == [
        {
            "uri": "s3://renders/s/a#1.####.exr",
            "page_uri": sequence.url,
            "partition_key": sequence.key,
            "frames": 3,
            "frame_count": 3,
            "type": "TIMESTAMP WITH TIME ZONE",
        }
    ]
