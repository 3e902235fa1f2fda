"""The bytes of attribute values: decoding and encoding of every type of the format.

Belongs here: one value at a time. Not here: the sequence of attributes that makes a header (`parse`, `header`).
Numbers are little-endian. Source: "OpenEXR File Layout", "Predefined Attribute Types"; ImfBytesAttribute for `bytes`.
"""

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

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
_MOST_CHANNELS: Final = 4096

# Of a named tuple and its fields in one: half the time of calling the class.
new: Final = tuple.__new__

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
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """The bytes that `decode_text` was given."""
    return text.encode("utf-8", "surrogateescape")


class _Channels(dict[bytes, Channel]):
    """Channels by their bytes, kept for the next header as long as they are not too many: few are in use."""

    def __missing__(self, stored: bytes) -> Channel:
        name, _, kind = stored.partition(b"\0")
        code, p_linear, x_sampling, y_sampling = _CHANNEL.unpack(kind)
        pixel_type = PIXEL_TYPES.get(code) or f"TYPE_{code}"
        channel = Channel(decode_text(name), pixel_type, p_linear != 0, x_sampling, y_sampling)
        if len(self) < _MOST_CHANNELS:
            self[stored] = channel
        return channel


_channels: Final = _Channels()


def _decode_channels(raw: bytes) -> tuple[Channel, ...]:
    channels: list[Channel] = []
    position, size = 0, len(raw)
    find, known = raw.find, _channels
    while (end := find(b"\0", position, position + MAX_NAME_BYTES + 1)) > position:
        after = end + 17
        if after > size:
            raise DecodeError("channel list is truncated", end)
        if len(channels) == MAX_CHANNELS:
            raise DecodeError(f"more than {MAX_CHANNELS} channels", position)
        channels.append(known[raw[position:after]])
        position = after
    if end < 0:
        raise DecodeError("channel name is not terminated", position)
    if end + 1 != size:
        raise DecodeError("extra bytes after the channel list", end + 1)
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
            raise DecodeError("string vector is truncated", position)
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
        raise DecodeError("preview has no size")
    width, height = struct.unpack_from("<II", raw)
    if 8 + 4 * width * height != len(raw):
        raise DecodeError(f"a preview of {width}x{height} pixels does not fit {len(raw)} bytes")
    return Preview(width, height, raw[8:])


def _encode_preview(preview: Preview) -> bytes:
    return struct.pack("<II", preview.width, preview.height) + preview.pixels


def _decode_bytes(raw: bytes) -> Bytes:
    if len(raw) < 4:
        raise DecodeError("bytes have no length of the type hint")
    end = 4 + int(_U32.unpack_from(raw)[0])
    if end > len(raw):
        raise DecodeError("type hint longer than its attribute")
    return Bytes(decode_text(raw[4:end]), raw[end:])


def _encode_bytes(value: Bytes) -> bytes:
    hint = encode_text(value.type_hint)
    return _U32.pack(len(hint)) + hint + value.data


class ValueType(NamedTuple):
    """A type of the format: its name, the size of its values in bytes (None if they differ), and both directions.

    Where sizes differ, `decode` gives a value, or raises `DecodeError` if its bytes don't make sense, and
    `UnicodeDecodeError` for text that is to be had of `decode_text`. Else it gives a tuple, the fields of a `make`; if
    that is None, the value is its only item.
    """

    name: str
    size: int | None
    decode: Callable[[bytes], Any]
    make: type[tuple[Any, ...]] | None
    encode: Callable[[Any], bytes]


def _sized(name: str, numbers: str, make: type[tuple[Any, ...]] | None = None) -> ValueType:
    """A type of so many numbers."""
    layout = struct.Struct("<" + numbers)
    if make is None:
        return ValueType(name, layout.size, layout.unpack, None, layout.pack)
    return ValueType(name, layout.size, layout.unpack, make, lambda value: layout.pack(*value))


def _matrix(name: str, numbers: str) -> ValueType:
    layout = struct.Struct("<" + numbers)
    return ValueType(
        name, layout.size, lambda raw: (layout.unpack(raw),), Matrix, lambda value: layout.pack(*value.elements)
    )


def _unsized(name: str, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]) -> ValueType:
    return ValueType(name, None, decode, None, encode)


TYPES: Final[dict[str, ValueType]] = {
    type_.name: type_
    for type_ in (
        _sized("box2i", "4i", Box2i),
        _sized("box2f", "4f", Box2f),
        _unsized("bytes", _decode_bytes, _encode_bytes),
        _unsized("chlist", _decode_channels, _encode_channels),
        _sized("chromaticities", "8f", Chromaticities),
        _sized("compression", "B"),
        _sized("deepImageState", "B"),
        _sized("double", "d"),
        _sized("envmap", "B"),
        _sized("float", "f"),
        _unsized("floatvector", _decode_floats, _encode_floats),
        _sized("int", "i"),
        _sized("keycode", "7i", KeyCode),
        _sized("lineOrder", "B"),
        _matrix("m33d", "9d"),
        _matrix("m33f", "9f"),
        _matrix("m44d", "16d"),
        _matrix("m44f", "16f"),
        _unsized("preview", _decode_preview, _encode_preview),
        _sized("rational", "iI", Rational),
        _unsized("string", bytes.decode, encode_text),
        _unsized("stringvector", _decode_strings, _encode_strings),
        _sized("tiledesc", "IIB", TileDescription),
        _sized("timecode", "II", TimeCode),
        _sized("v2d", "2d", V2f),
        _sized("v2f", "2f", V2f),
        _sized("v2i", "2i", V2i),
        _sized("v3d", "3d", V3f),
        _sized("v3f", "3f", V3f),
        _sized("v3i", "3i", V3i),
    )
}
KNOWN_TYPES: Final = frozenset(TYPES)


def value_type(name: str) -> ValueType:
    """The type of this name; values of one that the format does not define are their bytes."""
    return TYPES.get(name) or _unsized(name, bytes, bytes)
