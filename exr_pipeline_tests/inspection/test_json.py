"""The JSON of an inspection: lossless, valid, deterministic."""

import base64
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given

from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import Attribute, Box2i, Channel, HeaderError, Matrix, Preview, Rational, TimeCode, V2f
from exr_pipeline.inspection import attributes_json, inspect_bytes, inspection_json, json_text, rejection_json
from exr_pipeline.inspection.json import json_value
from exr_pipeline_tests.exr.headers import any_attribute
from exr_pipeline_tests.inspection.files import inspected, source
from exr_pipeline_tests.test_dpx import made_up


def test_the_shape_is_that_of_the_event_format() -> None:
    made = inspection_json(inspected(Attribute.of("owner", "string", "us")))
    assert list(made) == ["schema_version", "file", "parts", "channels", "attributes", "stats", "validation", "errors"]
    assert made["schema_version"] == 1
    assert made["file"]["path"] == "renders/beauty.1001.exr"
    assert made["file"]["mtime"] == "2026-04-02T10:11:12+00:00"
    assert made["file"]["frame_number"] == 1001
    assert made["parts"][0]["data_window"] == {"min": {"x": 0, "y": 0}, "max": {"x": 63, "y": 31}}
    assert (made["parts"][0]["width"], made["parts"][0]["compression"]) == (64, "zip")
    assert made["channels"][0] == {
        "part_index": 0,
        "name": "B",
        "type": "HALF",
        "x_sampling": 1,
        "y_sampling": 1,
        "p_linear": False,
        "layer_name": "",
        "component_name": "B",
    }
    assert made["attributes"]["parts"][0][-1] == {"name": "owner", "type": "string", "value": "us"}
    assert (made["stats"], made["validation"], made["errors"]) == ({}, {}, [])


@pytest.mark.parametrize(
    ("type_name", "value", "expected"),
    [
        ("box2i", Box2i(1, 2, 3, 4), {"min": {"x": 1, "y": 2}, "max": {"x": 3, "y": 4}}),
        ("v2f", V2f(0.5, float("inf")), [0.5, "Infinity"]),
        ("m33f", Matrix((1.0, 0.0, 2.0, 0.0, 1.0, 3.0, 0.0, 0.0, 1.0)), [[1, 0, 2], [0, 1, 3], [0, 0, 1]]),
        ("rational", Rational(48, 2), {"numerator": 48, "denominator": 2}),
        (
            "timecode",
            TimeCode(0x01020304, 7),
            {"text": "01:02:03:04", "time_and_flags": 0x01020304, "user_data": 7},
        ),
        ("compression", 9, "dwab"),
        ("compression", 99, 99),
        ("envmap", 1, "cube"),
        ("float", float("nan"), "NaN"),
        ("stringvector", ("a", "b"), ["a", "b"]),
        ("floatvector", (1.0, float("-inf")), [1.0, "-Infinity"]),
        (
            "preview",
            Preview(1, 1, b"\1\2\3\4"),
            {"width": 1, "height": 1, "pixels": {"encoding": "base64", "data": "AQIDBA=="}},
        ),
        ("studio:custom", b"\0\xff", {"encoding": "base64", "data": "AP8="}),
        (
            "chlist",
            (Channel("R", "HALF"),),
            [{"name": "R", "type": "HALF", "x_sampling": 1, "y_sampling": 1, "p_linear": False}],
        ),
    ],
)
def test_values_have_their_form(type_name: str, value: Any, expected: Any) -> None:
    assert json_value(Attribute.of("x", type_name, value)) == expected


@given(any_attribute)
def test_every_attribute_is_valid_json_in_valid_utf_8(attribute: Attribute) -> None:
    made = attributes_json([[attribute]])
    assert json.loads(json_text(made).encode()) == json.loads(json.dumps(made, allow_nan=False)) == made
    assert made[0][0]["value"] == json_value(attribute)


@given(any_attribute)
def test_numbers_and_text_can_be_read_back_from_their_json(attribute: Attribute) -> None:
    read = json.loads(json_text(json_value(attribute)))
    if attribute.type == "string":
        raw = base64.b64decode(read["data"]) if isinstance(read, dict) else read.encode()
        assert raw == attribute.raw
    if attribute.type in {"float", "double"}:
        number = float(read)
        assert number == attribute.value or math.isnan(number)
        if attribute.type == "float":
            assert struct.pack("<f", number) == attribute.raw


def test_names_that_are_not_utf_8_are_readable_and_recoverable() -> None:
    made = inspection_json(inspected(Attribute.of("n\udcff", "int", 1)))
    stored = made["attributes"]["parts"][0][-1]
    assert stored["name"] == r"n\xff"
    assert base64.b64decode(stored["name_bytes"]["data"]) == b"n\xff"
    json.dumps(made, ensure_ascii=False).encode()


def test_the_same_bytes_give_the_same_json() -> None:
    first, second = (json_text(inspection_json(inspected(view="left"))) for _ in range(2))
    assert first == second


def test_undefined_fields_of_dpx_are_null() -> None:
    made = inspection_json(inspect_bytes(made_up(), source("a.dpx")))
    values = {item["name"]: item["value"] for item in made["attributes"]["parts"][0]}
    assert values["gamma"] is None
    assert values["width"] == 4
    assert values["element0.transfer"] == 1


def test_warnings_are_its_validation() -> None:
    made = inspection_json(inspected(screenWindowWidth=None))
    assert made["validation"]["findings"] == [
        {
            "code": "missing-attribute",
            "severity": "warning",
            "part_index": 0,
            "attribute": "screenWindowWidth",
            "offset": 8,
            "message": "required attribute 'screenWindowWidth' is missing",
        }
    ]


def test_a_rejected_file_has_the_same_shape_and_its_reason() -> None:
    made = rejection_json(source(), HeaderError("a", "odd", 7))
    assert list(made) == list(inspection_json(inspected()))
    assert set(made["file"]) == set(inspection_json(inspected())["file"])
    assert made["errors"] == [{"reason": "odd (at byte 7)", "offset": 7}]
    assert rejection_json(source(), BadInputError("a", "empty"))["errors"] == [{"reason": "empty"}]
