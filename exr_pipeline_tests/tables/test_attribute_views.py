"""Views over attributes, of rows made from headers, on each store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from exr_pipeline.exr import Attribute, Header
from exr_pipeline.inspection import Inspection, inspect_bytes, rows
from exr_pipeline.tables.specs import TableName
from exr_pipeline_tests.exr.headers import attributes
from exr_pipeline_tests.inspection.files import inspected, inspected_header, source
from exr_pipeline_tests.test_dpx import made_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from exr_pipeline_tests.tables.conftest import StoreUnderTest

NOW = datetime(2026, 5, 1, 8, 0, 0, tzinfo=UTC)


@pytest.fixture
def view(tables: StoreUnderTest) -> Callable[..., list[tuple[Any, ...]]]:
    """Write these files and return columns of a view over them."""

    def show(query: str, *files: Inspection) -> list[tuple[Any, ...]]:
        tables.store.write(rows(files, inspected_at=NOW), now=NOW)
        return [tuple(row.values()) for row in tables.store.sql(query).to_pylist()]

    return show


def text(name: str, value: str) -> Attribute:
    return Attribute.of(name, "string", value)


def test_cameras_come_from_the_first_attribute_of_the_order(view: Any) -> None:
    found = view(
        "SELECT file_path, camera_name, camera_make, camera_model, camera_serial_number FROM cameras",
        inspected(text("cameraLabel", "A"), text("vrayInfo/camera", "RenderCam"), text("camera", " "), key="1.exr"),
        inspected(
            text("exr/cameraModel", "passed on"),
            text("com.arri.camera.CameraModel", "ALEXA"),
            text("cameraMake", "ARRI"),
            text("cameraSerialNumber", "2719"),
            key="2.exr",
        ),
        inspected(text("exr/cameraModel", "passed on"), text("cameraModel", "stated"), key="3.exr"),
        inspected(text("cameraAperture", "35"), key="4.exr"),
        inspect_bytes(made_up(device=(1556, "32s", b"Scanner 7")), source("5.dpx")),
    )
    assert found == [
        ("1.exr", "RenderCam", None, None, None),
        ("2.exr", None, "ARRI", "passed on", "2719"),
        ("3.exr", None, None, "stated", None),
        ("5.dpx", None, None, "Scanner 7", None),
    ]


def test_cryptomatte_layers_say_whether_they_have_a_manifest(view: Any) -> None:
    found = view(
        "SELECT layer_id, layer_name, has_manifest, manifest_file, hash, conversion FROM cryptomatte_layers",
        inspected(
            text("cryptomatte/28322e4/name", "CryptoObject"),
            text("cryptomatte/28322e4/hash", "MurmurHash3_32"),
            text("cryptomatte/28322e4/conversion", "uint32_to_float32"),
            text("cryptomatte/28322e4/manifest", "{}" + " " * 200_000),
            text("cryptomatte/bda530a/name", "CryptoMaterial"),
            text("cryptomatte/bda530a/manif_file", "materials.json"),
            text("exr/cryptomatte/0000001/name", "passed on by Nuke"),
            text("my/cryptomatte/2/name", "another thing"),
        ),
        inspected(key="plain.exr"),
    )
    assert found == [
        ("0000001", "passed on by Nuke", False, None, None, None),
        ("28322e4", "CryptoObject", True, None, "MurmurHash3_32", "uint32_to_float32"),
        ("bda530a", "CryptoMaterial", False, "materials.json", None, None),
    ]


def test_file_views_are_those_of_parts_then_those_that_are_listed(view: Any) -> None:
    part: dict[str, Any] = {"type": "scanlineimage", "chunkCount": 2}
    named = [("a", "right"), ("b", "right"), ("c", "left")]
    parts = Header.build([attributes(name=name, view=shown, **part) for name, shown in named])
    stereo = inspected(Attribute.of("multiView", "stringvector", ("left", "centre", "right")), key="listed.exr")
    files = [inspected_header(parts, key="parts.exr"), stereo, inspected(key="mono.exr")]
    found = view("SELECT file_path, view_index, view_name, part_index FROM file_views", *files)
    assert found == [
        ("listed.exr", 0, "left", 0),
        ("listed.exr", 1, "centre", 0),
        ("listed.exr", 2, "right", 0),
        ("parts.exr", 0, "right", 0),
        ("parts.exr", 1, "left", 2),
    ]
    assert files[0].views + files[1].views == tuple(row[2] for row in found[3:] + found[:3])


def test_undefined_fields_of_dpx_are_null_in_every_table(tables: StoreUnderTest) -> None:
    dpx = inspect_bytes(made_up(), source("a.dpx"))
    tables.store.write(rows([dpx], inspected_at=NOW), now=NOW)
    defined = {row["attr_name"]: row["value_json"] for row in tables.store.read("attributes").to_pylist()}
    assert defined["gamma"] == defined["frame_rate"] == defined["x_offset"] == defined["creator"] == "null"
    values = tables.store.sql("SELECT * FROM attributes WHERE value_json = 'null'")
    for name in ("value_text", "value_int", "value_float"):
        assert values.column(name).null_count == values.num_rows > 40
    (part,) = tables.store.read("parts").to_pylist()
    assert [part[name] for name in ("render_software", "frame_rate", "time_code", "line_order")] == [None] * 4
    assert (part["width"], part["pixel_aspect_ratio"], part["color_space"]) == (4, 1.0, "printing density")
    names: tuple[TableName, ...] = ("files", "parts", "channels", "attributes")
    for table in names:
        for column in tables.store.read(table).itercolumns():
            if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
                assert not any(number and abs(number) > 2e9 for number in column.to_pylist())
