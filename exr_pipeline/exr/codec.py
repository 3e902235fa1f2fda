"""The bytes of attribute values: decoding and encoding of every type of the format.

Belongs here: one value at a time. Not here: the sequence of attributes that makes a header (`parse`, `header`).
Numbers are little-endian. Source: "OpenEXR File Layout", "Predefined Attribute Types"; ImfBytesAttribute for `bytes`.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

from exr_pipeline.exr.values import (
    PIXEL_TYPES,
    Box2f,
    Box2i,
    Bytes,
    Channel,
    Chromaticities,
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
)

MAX_CHANNELS: Final = 1 << 16
MAX_ITEMS: Final = 1 << 18
MAX_NAME_BYTES: Final = 255

_U32: Final = struct.Struct("<I")
_CHANNEL: Final = struct.Struct("<iB3xii")
_PIXEL_CODES: Final = {name: code for code, name in PIXEL_TYPES.items()}


class DecodeError(ValueError):
    """A value's bytes don't fit its type; `position` is where, from the value's start."""

    def __init__(self, problem: str, position: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.position = position


def decode_text(raw: bytes) -> str:
    """UTF-8 text; bytes that are not UTF-8 stay recoverable as lone surrogates (PEP 383)."""
    return raw.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """The bytes that `decode_text` was given."""
    return text.encode("utf-8", "surrogateescape")


def _scalar(value: Any) -> Any:
    return value


def _matrix(*elements: float) -> Matrix:
    return Matrix(elements)


# Types of fixed size: their layout, how the numbers become a value.
_FIXED: Final[dict[str, tuple[struct.Struct, Callable[..., Any]]]] = {
    "box2i": (struct.Struct("<4i"), Box2i),
    "box2f": (struct.Struct("<4f"), Box2f),
    "chromaticities": (struct.Struct("<8f"), Chromaticities),
    "compression": (struct.Struct("<B"), _scalar),
    "deepImageState": (struct.Struct("<B"), _scalar),
    "double": (struct.Struct("<d"), _scalar),
    "envmap": (struct.Struct("<B"), _scalar),
    "float": (struct.Struct("<f"), _scalar),
    "int": (struct.Struct("<i"), _scalar),
    "keycode": (struct.Struct("<7i"), KeyCode),
    "lineOrder": (struct.Struct("<B"), _scalar),
    "m33d": (struct.Struct("<9d"), _matrix),
    "m33f": (struct.Struct("<9f"), _matrix),
    "m44d": (struct.Struct("<16d"), _matrix),
    "m44f": (struct.Struct("<16f"), _matrix),
    "rational": (struct.Struct("<iI"), Rational),
    "tiledesc": (struct.Struct("<IIB"), TileDescription),
    "timecode": (struct.Struct("<II"), TimeCode),
    "v2d": (struct.Struct("<2d"), V2f),
    "v2f": (struct.Struct("<2f"), V2f),
    "v2i": (struct.Struct("<2i"), V2i),
    "v3d": (struct.Struct("<3d"), V3f),
    "v3f": (struct.Struct("<3f"), V3f),
    "v3i": (struct.Struct("<3i"), V3i),
}

FIXED_SIZES: Final[dict[str, int]] = {name: layout.size for name, (layout, _) in _FIXED.items()}
FLOAT_TYPES: Final = frozenset({"float", "double"})


def _decode_channels(raw: bytes) -> tuple[Channel, ...]:
    channels: list[Channel] = []
    position = 0
    while True:
        end = raw.find(b"\0", position, position + MAX_NAME_BYTES + 1)
        if end < 0:
            raise DecodeError("channel name without an end", position)
        if end == position:
            break
        if end + 17 > len(raw):
            raise DecodeError("channel list cut short", end)
        if len(channels) == MAX_CHANNELS:
            raise DecodeError(f"more than {MAX_CHANNELS} channels", position)
        code, p_linear, x_sampling, y_sampling = _CHANNEL.unpack_from(raw, end + 1)
        pixel_type = PIXEL_TYPES.get(code) or f"TYPE_{code}"
        channels.append(Channel(decode_text(raw[position:end]), pixel_type, p_linear != 0, x_sampling, y_sampling))
        position = end + 17
    if end + 1 != len(raw):
        raise DecodeError("bytes after the end of the channel list", end + 1)
    return tuple(channels)


def _encode_channels(channels: tuple[Channel, ...]) -> bytes:
    out = bytearray()
    for channel in channels:
        code = _PIXEL_CODES.get(channel.type)
        if code is None:
            code = int(channel.type.removeprefix("TYPE_"))
        out += encode_text(channel.name) + b"\0"
        out += _CHANNEL.pack(code, channel.p_linear, channel.x_sampling, channel.y_sampling)
    return bytes(out + b"\0")


def _decode_strings(raw: bytes) -> tuple[str, ...]:
    strings: list[str] = []
    position = 0
    while position < len(raw):
        start = position + 4
        if start > len(raw):
            raise DecodeError("string vector cut short", position)
        end = start + int(_U32.unpack_from(raw, position)[0])
        if end > len(raw):
            raise DecodeError("string longer than its attribute", position)
        if len(strings) == MAX_ITEMS:
            raise DecodeError(f"more than {MAX_ITEMS} strings", position)
        strings.append(decode_text(raw[start:end]))
        position = end
    return tuple(strings)


def _encode_strings(strings: tuple[str, ...]) -> bytes:
    encoded = [encode_text(string) for string in strings]
    return b"".join(_U32.pack(len(string)) + string for string in encoded)


def _decode_floats(raw: bytes) -> tuple[float, ...]:
    count, rest = divmod(len(raw), 4)
    if rest:
        raise DecodeError("size of a float vector is not a multiple of 4")
    if count > MAX_ITEMS:
        raise DecodeError(f"more than {MAX_ITEMS} floats")
    return struct.unpack(f"<{count}f", raw)


def _encode_floats(floats: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(floats)}f", *floats)


def _decode_preview(raw: bytes) -> Preview:
    if len(raw) < 8:
        raise DecodeError("preview without its size")
    width, height = struct.unpack_from("<II", raw)
    if 8 + 4 * width * height != len(raw):
        raise DecodeError(f"preview of {width}x{height} pixels in {len(raw)} bytes")
    return Preview(width, height, raw[8:])


def _encode_preview(preview: Preview) -> bytes:
    return struct.pack("<II", preview.width, preview.height) + preview.pixels


def _decode_bytes(raw: bytes) -> Bytes:
    if len(raw) < 4:
        raise DecodeError("bytes without the length of their hint")
    end = 4 + int(_U32.unpack_from(raw)[0])
    if end > len(raw):
        raise DecodeError("hint longer than its attribute")
    return Bytes(decode_text(raw[4:end]), raw[end:])


def _encode_bytes(value: Bytes) -> bytes:
    hint = encode_text(value.type_hint)
    return _U32.pack(len(hint)) + hint + value.data


_VARIABLE: Final[dict[str, tuple[Callable[[bytes], Any], Callable[[Any], bytes]]]] = {
    "bytes": (_decode_bytes, _encode_bytes),
    "chlist": (_decode_channels, _encode_channels),
    "floatvector": (_decode_floats, _encode_floats),
    "preview": (_decode_preview, _encode_preview),
    "string": (decode_text, encode_text),
    "stringvector": (_decode_strings, _encode_strings),
}

KNOWN_TYPES: Final = frozenset(_FIXED) | frozenset(_VARIABLE)


def decode_value(type_name: str, raw: bytes) -> Any:
    """The value of an attribute of this type; `raw` itself for a type that the format does not define.

    Raises `DecodeError` if the bytes don't fit the type.
    """
    fixed = _FIXED.get(type_name)
    if fixed is not None:
        layout, make = fixed
        if len(raw) != layout.size:
            raise DecodeError(f"{len(raw)} bytes for a {type_name}, which has {layout.size}")
        return make(*layout.unpack(raw))
    variable = _VARIABLE.get(type_name)
    return raw if variable is None else variable[0](raw)


def encode_value(type_name: str, value: Any) -> bytes:
    """The bytes of a value; for a type that the format does not define, the value must be bytes."""
    fixed = _FIXED.get(type_name)
    if fixed is not None:
        numbers = value.elements if isinstance(value, Matrix) else value if isinstance(value, tuple) else (value,)
        return fixed[0].pack(*numbers)
    variable = _VARIABLE.get(type_name)
    return bytes(value) if variable is None else variable[1](value)
