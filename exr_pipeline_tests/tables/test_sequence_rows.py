"""Rows of sequence_outputs: one per sequence, in place of the one before."""

from datetime import UTC, datetime
from typing import get_args

import pyarrow as pa
import pytest

from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import State, arrow_schema
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

NOON = datetime(2026, 4, 2, 12, tzinfo=UTC)


def rows(*sequences: tuple[str, str], **columns: object) -> pa.Table:
    made = [{"bucket": bucket, "sequence_path": path, "state": "ready", **columns} for bucket, path in sequences]
    return pa.Table.from_pylist(made)


def test_a_sequence_has_one_row_however_often_it_is_written(tables: StoreUnderTest) -> None:
    tables.store.write(
        {"sequence_outputs": rows(("renders", "a.####.exr"), ("other", "a.####.exr"), frame_count=10)}, now=NOON
    )
    tables.store.write({"sequence_outputs": rows(("renders", "a.####.exr"), frame_count=12)}, now=NOON)

    found = tables.store.read("sequence_outputs")

    assert found.schema == arrow_schema("sequence_outputs")
    counts = {row["bucket"]: row["frame_count"] for row in found.to_pylist()}
    assert counts == {"renders": 12, "other": 10}
    assert found.num_rows == 2


def test_a_sequence_is_read_by_the_location_of_its_pattern(tables: StoreUnderTest) -> None:
    tables.store.write({"sequence_outputs": rows(("renders", "a.####.exr"), ("renders", "b.####.exr"))}, now=NOON)

    found = tables.store.read("sequence_outputs", locations=[Location("s3", "renders", "b.####.exr")])

    assert found.column("sequence_path").to_pylist() == ["b.####.exr"]
    assert tables.store.sql("SELECT count(*) AS n FROM sequence_outputs").to_pylist() == [{"n": 2}]


def test_rows_without_a_name_or_twice_are_refused(tables: StoreUnderTest) -> None:
    with pytest.raises(ValueError, match="must not be null"):
        tables.store.write({"sequence_outputs": pa.Table.from_pylist([{"bucket": "b", "state": "ready"}])}, now=NOON)
    with pytest.raises(ValueError, match="several rows"):
        tables.store.write({"sequence_outputs": rows(("b", "a.#.exr"), ("b", "a.#.exr"))}, now=NOON)
    with pytest.raises(ValueError, match="unknown table"):
        tables.store.write({"sequences": rows(("b", "a.#.exr"))}, now=NOON)  # type: ignore[dict-item]


def test_rows_of_files_and_of_sequences_are_written_together_or_not_at_all(tables: StoreUnderTest) -> None:
    written = rows_of(SampleFile(channels=1)) | {"sequence_outputs": rows(("renders", "a.####.exr"))}
    twice = {"sequence_outputs": rows(("renders", "b.####.exr"), ("renders", "b.####.exr"))}
    with pytest.raises(ValueError, match="several rows"):
        tables.store.write(written | twice, now=NOON)
    assert tables.store.read("files").num_rows == 0

    tables.store.write(written, now=NOON)

    assert [tables.store.read(name).num_rows for name in ("files", "sequence_outputs")] == [1, 1]


def test_rows_of_one_state_are_read_alone(tables: StoreUnderTest) -> None:
    for state in get_args(State):
        written = rows(("renders", f"{state}.#.exr")).to_pylist()[0] | {"state": state}
        tables.store.write({"sequence_outputs": pa.Table.from_pylist([written])}, now=NOON)
        file = SampleFile(key=f"{state}.1.exr", state=state)
        tables.store.write(rows_of(file, outputs=False), now=NOON)

    for state in get_args(State):
        found = tables.store.read("sequence_outputs", columns=["sequence_path"], state=state)
        assert found.column("sequence_path").to_pylist() == [f"{state}.#.exr"]
        found = tables.store.read("files", columns=["file_path"], state=state)
        assert found.column("file_path").to_pylist() == [f"{state}.1.exr"]
    other = Location("s3", "renders", "ready.#.exr")
    assert tables.store.read("sequence_outputs", state="retryable", locations=[other]).num_rows == 0
