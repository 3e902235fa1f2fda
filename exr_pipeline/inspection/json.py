"""The JSON form of an inspection: lossless, and the same for the same bytes.

Belongs here: how values and facts are written as JSON. Not here: finding them.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, Final

import orjson

from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import (
    CODE_NAMES,
    Box2f,
    Box2i,
    Bytes,
    Channel,
    Chromaticities,
    HeaderError,
    KeyCode,
    Matrix,
    Preview,
    Rational,
    TileDescription,
    TimeCode,
    V2f,
    V2i,
    V3f,
    V3i,
    encode_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from exr_pipeline.exr import Attribute
    from exr_pipeline.inspection.model import Inspection, PartFacts, SourceFile

SCHEMA_VERSION: Final = 1

_LEVEL_MODES: Final = {0: "one level", 1: "mipmap", 2: "ripmap"}


def json_text(value: Any) -> str:
    """What the functions of this module give as compact JSON: the same for the same value, all of it plain Unicode."""
    return orjson.dumps(value).decode()


def printable(text: str) -> str:
    r"""Text as valid Unicode: bytes that weren't UTF-8 become `\xNN`."""
    return text if text.isascii() else encode_text(text).decode("utf-8", "backslashreplace")


def _bytes(data: bytes) -> dict[str, str]:
    return {"encoding": "base64", "data": base64.b64encode(data).decode("ascii")}


def _text(text: str) -> str | dict[str, str]:
    if text.isascii():
        return text
    readable = printable(text)
    return readable if readable == text else _bytes(encode_text(text))


def _float(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _numbers(numbers: Sequence[float]) -> list[Any]:
    # A sum is finite only if all of them are.
    return [*numbers] if math.isfinite(sum(numbers)) else [_float(number) for number in numbers]


def _channel(channel: Channel) -> dict[str, Any]:
    name, pixel_type, p_linear, x_sampling, y_sampling = channel
    return {
        "name": _text(name),
        "type": pixel_type,
        "x_sampling": x_sampling,
        "y_sampling": y_sampling,
        "p_linear": p_linear,
    }


def _box(box: Box2i) -> dict[str, Any]:
    min_x, min_y, max_x, max_y = box
    return {"min": {"x": min_x, "y": min_y}, "max": {"x": max_x, "y": max_y}}


def _box_of_floats(box: Box2f) -> dict[str, Any]:
    return _box(Box2i(*_numbers(box)))


def _fields(value: Any) -> dict[str, Any]:
    return dict(zip(value._fields, _numbers(value), strict=True))


def _matrix(value: Matrix) -> list[list[Any]]:
    numbers = _numbers(value.elements)
    if len(numbers) == 16:
        return [numbers[:4], numbers[4:8], numbers[8:12], numbers[12:]]
    return [numbers[:3], numbers[3:6], numbers[6:]]


def _preview(value: Preview) -> dict[str, Any]:
    return {"width": value.width, "height": value.height, "pixels": _bytes(value.pixels)}


def _time_code(value: TimeCode) -> dict[str, Any]:
    return {"text": value.to_text(), "time_and_flags": value.time_and_flags, "user_data": value.user_data}


def _tiles(value: TileDescription) -> dict[str, Any]:
    level_mode = _LEVEL_MODES.get(value.level_mode, value.level_mode)
    return {**value._asdict(), "level_mode": level_mode, "round_up": value.round_up}


def _items(values: tuple[Any, ...]) -> list[Any]:
    """A list of the format or an array of DPX: items of one type."""
    form = _FORMS.get(type(values[0])) if values else None
    return [*values] if form is None else [*map(form, values)]


# By the type of a value; other values are JSON themselves.
_FORMS: Final[dict[type, Callable[[Any], Any]]] = {
    Box2f: _box_of_floats,
    Box2i: _box,
    Bytes: lambda value: {"type_hint": _text(value.type_hint), **_bytes(value.data)},
    Channel: _channel,
    Chromaticities: _fields,
    KeyCode: lambda value: value._asdict(),
    Matrix: _matrix,
    Preview: _preview,
    Rational: lambda value: value._asdict(),
    TileDescription: _tiles,
    TimeCode: _time_code,
    V2f: _numbers,
    V2i: list,
    V3f: _numbers,
    V3i: list,
    bytes: _bytes,
    float: _float,
    str: _text,
    tuple: _items,
}


def json_value(attribute: Attribute) -> Any:
    """The attribute's value as JSON, without loss.

    Codes are their names (unknown ones numbers); numbers that JSON lacks are "NaN", "Infinity" and "-Infinity"; bytes
    and text that is not UTF-8 are `{"encoding": "base64", "data"}`; None is a field that the file leaves undefined.
    """
    return _attribute(attribute)["value"]


def attributes_json(parts: Iterable[Sequence[Attribute]]) -> list[list[dict[str, Any]]]:
    """The attributes of every part as JSON, made once where parts share them as they do if parsed.

    Those whose name or type is not UTF-8 have its bytes as `name_bytes` or `type_bytes` too.
    """
    listed = [*parts]
    if len(listed) == 1:
        return [[*map(_attribute, listed[0])]]
    shared = {id(attribute): attribute for part in listed for attribute in part}
    made = {key: _attribute(attribute) for key, attribute in shared.items()}
    return [[made[id(attribute)] for attribute in part] for part in listed]


def _attribute(attribute: Attribute) -> dict[str, Any]:
    name, type_name, value, _ = attribute
    form = _FORMS.get(type(value))
    if form is None:
        names = CODE_NAMES.get(type_name)
        made = value if names is None else names.get(value, value)
    elif (form is _text and value.isascii()) or (form is _float and math.isfinite(value)):
        made = value
    else:
        made = form(value)
    if name.isascii() and type_name.isascii():
        return {"name": name, "type": type_name, "value": made}
    result = {"name": printable(name), "type": printable(type_name), "value": made}
    for field, text in (("name_bytes", name), ("type_bytes", type_name)):
        if not isinstance(encoded := _text(text), str):
            result[field] = encoded
    return result


def window_json(box: Box2i) -> dict[str, Any]:
    """A window as `{"min": {"x", "y"}, "max": {"x", "y"}}`."""
    return _box(box)


def part_facts(part: PartFacts, *, multi_view: bool) -> dict[str, Any]:
    """The columns of the table `parts` (without the file's), windows as objects."""
    data, display, tiles = part.data_window, part.display_window, part.tiles
    return {
        "width": data.width,
        "height": data.height,
        "display_width": display.width,
        "display_height": display.height,
        "data_x_offset": data.min_x,
        "data_y_offset": data.min_y,
        "part_name": None if part.name is None else printable(part.name),
        "view_name": None if part.view is None else printable(part.view),
        "multi_view": multi_view,
        "data_window": window_json(data),
        "display_window": window_json(display),
        "pixel_aspect_ratio": part.pixel_aspect_ratio,
        "line_order": part.line_order,
        "compression": part.compression,
        "color_space": printable(part.color_space.name) if part.color_space else None,
        "render_software": None if part.render_software is None else printable(part.render_software),
        "is_tiled": tiles is not None,
        "tile_width": tiles.x_size if tiles else None,
        "tile_height": tiles.y_size if tiles else None,
        "tile_depth": 1 if tiles else None,
        "is_deep": part.is_deep,
        "frame_rate": part.frame_rate,
        "time_code": part.time_code,
    }


def _file(source: SourceFile) -> dict[str, Any]:
    return {
        "path": printable(source.location.path),
        "size_bytes": source.size_bytes,
        "mtime": source.mtime_text,
        "frame_number": source.frame_number,
        "file_id": source.file_id,
        "asset_id": source.asset_id,
        "bucket": source.location.bucket,
        "uri": source.location.url,
        "etag": source.etag,
    }


def inspection_json(inspection: Inspection) -> dict[str, Any]:
    """One file as JSON; see `SCHEMA_VERSION` for its shape and `json_value` for attributes."""
    findings = [
        {
            "code": finding.code,
            "severity": finding.severity,
            "part_index": finding.part_index,
            "attribute": None if finding.attribute is None else printable(finding.attribute),
            "offset": finding.offset,
            "message": printable(finding.message),
        }
        for finding in inspection.warnings
    ]
    parts = [
        {
            "index": part.index,
            "name": None if part.name is None else printable(part.name),
            "type": part.type,
            **part_facts(part, multi_view=inspection.multi_view),
            "color_space_rule": part.color_space.rule if part.color_space else None,
        }
        for part in inspection.parts
    ]
    channels = [
        {
            "part_index": part.index,
            **_channel(channel),
            "name": printable(channel.name),
            "layer_name": printable(channel.layer),
            "component_name": printable(channel.component),
        }
        for part in inspection.parts
        for channel in part.channels
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "file": {
            **_file(inspection.source),
            "format": inspection.format,
            "multipart_count": len(inspection.parts),
            "is_deep": inspection.is_deep,
            "header_hash": inspection.header_hash,
            "views": [printable(view) for view in inspection.views],
        },
        "parts": parts,
        "channels": channels,
        "attributes": {"parts": attributes_json([part.attributes for part in inspection.parts])},
        "stats": {},
        "validation": {"findings": findings} if findings else {},
        "errors": [],
    }


def rejection_json(source: SourceFile, error: BadInputError) -> dict[str, Any]:
    """The same shape for a file that was rejected: nothing but what its store knows, and the reason."""
    reason: dict[str, Any] = {"reason": printable(error.reason)}
    if isinstance(error, HeaderError):
        reason["offset"] = error.offset
    return {
        "schema_version": SCHEMA_VERSION,
        "file": {
            **_file(source),
            "format": None,
            "multipart_count": 0,
            "is_deep": False,
            "header_hash": None,
            "views": [],
        },
        "parts": [],
        "channels": [],
        "attributes": {"parts": []},
        "stats": {},
        "validation": {},
        "errors": [reason],
    }
