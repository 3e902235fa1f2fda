"""Rows: the schema's columns, filled from many files at once."""

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exr_pipeline.exr import Attribute, Box2i, Channel, Header, Rational, TileDescription
from exr_pipeline.inspection import (
    EMBEDDING_VERSION,
    FileState,
    Inspection,
    rows,
    unread_rows,
)
from exr_pipeline.tables.specs import arrow_schema, tables_of
from exr_pipeline_tests.exr.headers import any_attribute, attributes
from exr_pipeline_tests.inspection.files import inspected, inspected_header, source
from exr_pipeline_tests.inspection.matrices import channel_fingerprints, metadata_embeddings

NOW = datetime(2026, 5, 1, 8, 0, 0, tzinfo=UTC)


def columns(inspection: Inspection, table: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = rows([inspection], inspected_at=NOW)[table].to_pylist()  # type: ignore[index]
    return listed


def two_parts() -> Inspection:
    part: dict[str, Any] = {"type": "scanlineimage", "chunkCount": 2}
    layer = (Channel("diffuse.R", "HALF"), Channel("id", "UINT", x_sampling=1, y_sampling=1))
    return inspected_header(
        Header.build([attributes(name="rgb", **part), attributes(name="aov", channels=layer, **part)]), key="b.7.exr"
    )


def test_every_table_has_the_schema_of_the_store() -> None:
    made = rows([inspected(), two_parts()], inspected_at=NOW)
    assert set(made) == {*tables_of("versions", "children")} - {"media_streams"}
    for name, table in made.items():
        assert table.schema == arrow_schema(name)
    assert {name: table.num_rows for name, table in made.items()} == {
        "files": 2,
        "parts": 3,
        "channels": 3 + 3 + 2,
        "attributes": 8 + 11 + 11,
    }
    assert rows([], inspected_at=NOW)["files"].schema == arrow_schema("files")


def test_no_column_of_a_ready_file_is_forgotten() -> None:
    full = inspected(
        Attribute.of("Software", "string", "x"),
        Attribute.of("framesPerSecond", "rational", Rational(24, 1)),
        Attribute.of("timeCode", "timecode", (0, 0)),
        Attribute.of("colorspace", "string", "ACEScg"),
        name="rgb",
        view="left",
        type="tiledimage",
        tiles=TileDescription(16, 8),
    )
    for name, table in rows([full], inspected_at=NOW).items():
        empty = {column for column in table.column_names if table[column].null_count == table.num_rows}
        later = (
            {"reason", "superseded_at", "archived_at", "deleted_at", "retryable_since"} if name == "files" else set()
        )
        later |= {"xxh3_128", "sha256"} if name == "files" else set()  # of the bytes, which a header does not tell
        assert empty == later, name


def test_the_row_of_a_file() -> None:
    (row,) = columns(inspected(), "files")
    assert row["file_path"] == "renders/beauty.1001.exr"
    assert row["file_id"] == source().file_id
    assert (row["mtime"], row["frame_number"]) == ("2026-04-02T10:11:12+00:00", 1001)
    assert (row["multipart_count"], row["is_deep"], row["format"]) == (1, False, "exr")
    assert (row["bucket"], row["uri"], row["etag"]) == ("show", "s3://show/renders/beauty.1001.exr", "etag")
    assert (row["state"], row["reason"], row["superseded_at"], row["warnings"]) == ("ready", None, None, "[]")
    assert row["inspection_timestamp"] == row["last_inspected"] == "2026-05-01T08:00:00+00:00"
    assert row["inspection_count"] == 1
    assert row["embedding_version"] == EMBEDDING_VERSION
    assert row["metadata_embedding"] == metadata_embeddings([inspected()])[0].tolist()


def test_the_row_of_a_part() -> None:
    (row,) = columns(inspected(dataWindow=Box2i(-4, 2, 9, 11)), "parts")
    assert (row["width"], row["height"], row["data_x_offset"], row["data_y_offset"]) == (14, 10, -4, 2)
    assert (row["display_width"], row["display_height"]) == (64, 32)
    assert json.loads(row["data_window"]) == {"min": {"x": -4, "y": 2}, "max": {"x": 9, "y": 11}}
    assert (row["compression"], row["line_order"], row["is_tiled"], row["tile_width"]) == (
        "zip",
        "increasingY",
        False,
        None,
    )
    (tiled,) = columns(inspected(type="tiledimage", tiles=TileDescription(16, 8)), "parts")
    assert (tiled["is_tiled"], tiled["tile_width"], tiled["tile_height"], tiled["tile_depth"]) == (True, 16, 8, 1)


def test_channels_are_in_file_order_and_all_carry_the_fingerprint() -> None:
    listed = columns(two_parts(), "channels")
    assert [(row["part_index"], row["channel_index"], row["channel_name"]) for row in listed] == [
        (0, 0, "B"),
        (0, 1, "G"),
        (0, 2, "R"),
        (1, 0, "diffuse.R"),
        (1, 1, "id"),
    ]
    assert (listed[3]["layer_name"], listed[3]["component_name"]) == ("diffuse", "R")
    assert (listed[4]["layer_name"], listed[4]["channel_type"]) == ("", "UINT")
    fingerprint = channel_fingerprints([two_parts()])[0].tolist()
    assert all(row["channel_fingerprint"] == fingerprint for row in listed)


@pytest.mark.parametrize(
    ("attribute", "text", "integer", "number"),
    [
        (Attribute.of("a", "string", "hello"), "hello", None, None),
        (Attribute.of("a", "string", "b\udcff"), r"b\xff", None, None),
        (Attribute.of("a", "int", -3), None, -3, -3.0),
        (Attribute.of("a", "float", 0.5), None, None, 0.5),
        (Attribute.of("a", "rational", Rational(24000, 1001)), "24000/1001", None, 24000 / 1001),
        (Attribute.of("a", "rational", Rational(1, 0)), "1/0", None, None),
        (Attribute.of("a", "envmap", 1), "cube", 1, None),
        (Attribute.of("a", "envmap", 77), None, 77, None),
        (Attribute.of("a", "custom", b"x"), None, None, None),
    ],
)
def test_values_are_also_text_integer_or_number(
    attribute: Attribute, text: str | None, integer: int | None, number: float | None
) -> None:
    row = columns(inspected(attribute), "attributes")[-1]
    assert (row["attr_name"], row["attr_type"], row["attr_index"]) == ("a", attribute.type, 8)
    assert (row["value_text"], row["value_int"], row["value_float"]) == (text, integer, number)


@given(st.lists(any_attribute, max_size=4))
def test_attributes_of_any_kind_become_rows_of_valid_json(extra: list[Attribute]) -> None:
    extra = [attribute for attribute in extra if attribute.name not in {"name", "type"}]
    listed = columns(inspected(*extra), "attributes")
    assert len(listed) == 8 + len(extra)
    for row in listed:
        json.loads(row["value_json"])


def test_a_value_of_any_length_is_in_its_row_whole() -> None:
    text = "é" * 1_000_000
    frames = [inspected(Attribute.of("a", "string", text), key=f"a.{frame}.exr") for frame in (1, 2)]
    listed = rows(frames, inspected_at=NOW)["attributes"].to_pylist()
    for row in (listed[8], listed[17]):
        assert row["value_text"] == text
        assert json.loads(row["value_json"]) == text


def test_long_values_of_the_same_bytes_and_different_types_are_told_apart() -> None:
    (text, other) = columns(
        inspected(Attribute.of("a", "string", "7" * 5000), Attribute.of("b", "custom", b"7" * 5000)), "attributes"
    )[-2:]
    assert text["value_text"] == "7" * 5000
    assert json.loads(other["value_json"])["encoding"] == "base64"


def test_a_file_without_a_header_has_a_row_of_files_only() -> None:
    made = unread_rows([(source(), FileState("rejected", "the file is empty"))], inspected_at=NOW)
    (row,) = made["files"].to_pylist()
    assert (row["state"], row["reason"], row["file_id"]) == ("rejected", "the file is empty", source().file_id)
    assert row["metadata_embedding"] is None
    assert row["header_hash"] is None
    assert {name: table.num_rows for name, table in made.items()} == {
        "files": 1,
        "parts": 0,
        "channels": 0,
        "attributes": 0,
    }
    for name, table in made.items():
        assert table.schema == arrow_schema(name)


def test_a_file_whose_pixels_are_bad_is_rejected_with_its_header() -> None:
    made = rows([inspected()], inspected_at=NOW, states=[FileState("rejected", "chunk 3 is damaged")])
    (row,) = made["files"].to_pylist()
    assert (row["state"], row["reason"]) == ("rejected", "chunk 3 is damaged")
    assert made["channels"].num_rows == 3
    assert np.linalg.norm(row["metadata_embedding"]) == pytest.approx(1)
