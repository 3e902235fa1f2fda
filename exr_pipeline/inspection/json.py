"""The JSON form of an inspection: lossless, and the same for the same bytes.

Belongs here: how values and facts are written as JSON. Not here: finding them.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import (
    CODE_NAMES,
    Box2f,
    Box2i,
    Bytes,
    Channel,
    HeaderError,
    Matrix,
    Preview,
    TileDescription,
    TimeCode,
    V2f,
    V2i,
    V3f,
    V3i,
    encode_text,
)

if TYPE_CHECKING:
    from exr_pipeline.exr import Attribute
    from exr_pipeline.inspection.model import Inspection, PartFacts, SourceFile

SCHEMA_VERSION: Final = 1

_LEVEL_MODES: Final = {0: "one level", 1: "mipmap", 2: "ripmap"}


def printable(text: str) -> str:
    r"""Text as valid Unicode: bytes that weren't UTF-8 become `\xNN`."""
    return text if text.isascii() else encode_text(text).decode("utf-8", "backslashreplace")


def _bytes(data: bytes) -> dict[str, str]:
    return {"encoding": "base64", "data": base64.b64encode(data).decode("ascii")}


def _text(text: str) -> str | dict[str, str]:
    readable = printable(text)
    return readable if readable == text else _bytes(encode_text(text))


def _float(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "name": _text(channel.name),
        "type": channel.type,
        "x_sampling": channel.x_sampling,
        "y_sampling": channel.y_sampling,
        "p_linear": channel.p_linear,
    }


def _box(box: Box2i | Box2f) -> dict[str, Any]:
    return {
        "min": {"x": _float(box.min_x), "y": _float(box.min_y)},
        "max": {"x": _float(box.max_x), "y": _float(box.max_y)},
    }


def _tuple_value(value: tuple[Any, ...]) -> Any:
    match value:
        case Box2i() | Box2f():
            return _box(value)
        case Matrix():
            return [[_float(number) for number in row] for row in value.rows]
        case V2i() | V2f() | V3i() | V3f():
            return [_float(number) for number in value]
        case Preview():
            return {"width": value.width, "height": value.height, "pixels": _bytes(value.pixels)}
        case Bytes():
            return {"type_hint": _text(value.type_hint), **_bytes(value.data)}
        case TimeCode():
            return {"text": value.to_text(), **value._asdict()}
        case TileDescription():
            level_mode = _LEVEL_MODES.get(value.level_mode, value.level_mode)
            return {**value._asdict(), "level_mode": level_mode, "round_up": value.round_up}
        case _ if hasattr(value, "_asdict"):
            return {name: _float(number) for name, number in value._asdict().items()}
        case _:
            return [_item(item) for item in value]


def _item(item: Any) -> Any:
    if isinstance(item, Channel):
        return _channel(item)
    return _text(item) if isinstance(item, str) else _float(item)


def json_value(attribute: Attribute) -> Any:
    """The attribute's value as JSON, without loss.

    Codes are their names (unknown ones numbers); numbers that JSON lacks are "NaN", "Infinity" and "-Infinity"; bytes
    and text that is not UTF-8 are `{"encoding": "base64", "data"}`; None is a field that the file leaves undefined.
    """
    value = attribute.value
    names = CODE_NAMES.get(attribute.type)
    if names is not None:
        return names.get(value, value)
    if isinstance(value, tuple):
        return _tuple_value(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return _bytes(value)
    return _float(value) if isinstance(value, float) else value


def _attribute(attribute: Attribute) -> dict[str, Any]:
    result = {"name": printable(attribute.name), "type": printable(attribute.type), "value": json_value(attribute)}
    for field, text in (("name_bytes", attribute.name), ("type_bytes", attribute.type)):
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
        "path": printable(source.location.key),
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
        "attributes": {
            "parts": [[_attribute(attribute) for attribute in part.attributes] for part in inspection.parts]
        },
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
