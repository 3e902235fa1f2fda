"""Headers that consist of as many small things as fit: where memory and time would go if nothing limited them.

Belongs here: one header of a given size per kind of thing. Not here: the limits (`exr_pipeline.exr.parse`).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from exr_pipeline.exr import Attribute, Channel, Header, TileDescription
from fuzz.seeds import attributes

if TYPE_CHECKING:
    from collections.abc import Callable

_SINGLE: Final = b"\x76\x2f\x31\x01\x02\0\0\0"
_MULTI: Final = b"\x76\x2f\x31\x01\x02\x10\0\0"


def _repeated(start: bytes, item: bytes, size: int, end: bytes) -> bytes:
    return start + item * ((size - len(start) - len(end) - 1) // len(item)) + end


def _value(kind: str, raw: bytes) -> bytes:
    return b"value\0" + kind.encode() + b"\0" + struct.pack("<i", len(raw)) + raw


def _names(count: int) -> list[str]:
    return [f"{number:05x}" for number in range(count)]


def _channels(size: int, count: int) -> tuple[Channel, ...]:
    return tuple(Channel(name, "HALF") for name in _names(min(count, max(1, (size - 600) // 22))))


def many_attributes(size: int) -> bytes:
    """Attributes without a value."""
    return _repeated(_SINGLE, b"a\0b\0\0\0\0\0", size, b"\0")


def many_parts(size: int) -> bytes:
    """Parts of one attribute."""
    return _repeated(_MULTI, b"a\0b\0\0\0\0\0\0", size, b"\0")


def many_strings(size: int) -> bytes:
    """A vector of short strings."""
    return _SINGLE + _value("stringvector", b"\x02\0\0\0ab" * ((size - 64) // 6)) + b"\0"


def many_floats(size: int) -> bytes:
    """A vector of numbers."""
    return _SINGLE + _value("floatvector", bytes((size - 64) // 4 * 4)) + b"\0"


def one_string(size: int) -> bytes:
    """A long text that is not UTF-8."""
    return _SINGLE + _value("string", b"\xff" * (size - 64)) + b"\0"


def one_type(size: int) -> bytes:
    """A part whose type is a long text, in a file that lets the part say it."""
    kind = "\udcff" * (size - 1024)
    return Header.build([attributes(type=kind, name=kind[:100], chunkCount=16)], flags=0x1000).to_bytes()


def channels_of_many_levels(size: int) -> bytes:
    """Raw channels in tiles with as many levels as there can be: the size of all pixels is a sum of many terms."""
    channels = _channels(size, 60_000)
    window = (0, 0, (1 << 17) - 1, (1 << 17) - 1)
    changes = {"dataWindow": window, "displayWindow": window, "compression": 0, "channels": channels}
    tiles = TileDescription(1 << 17, 1 << 17, 2)
    return Header.build([attributes(type="tiledimage", tiles=tiles, **changes)]).to_bytes() + bytes(64)


def channels_in_disorder(size: int) -> bytes:
    """Channels of an unknown type: each is a finding."""
    channels = tuple(channel._replace(type="TYPE_9") for channel in reversed(_channels(size, 60_000)))
    return Header.build([attributes(channels=channels)]).to_bytes()


def parts_of_one_name(size: int) -> bytes:
    """Parts that are all called the same, with a long name: each is a finding."""
    part = tuple(attributes(name="n" * 2000, type="scanlineimage", chunkCount=16))
    stored = b"".join(attribute.to_bytes() for attribute in part) + b"\0"
    return _repeated(_MULTI, stored, size, b"\0")


def long_names(size: int) -> bytes:
    """Attributes with names of 255 bytes that are not UTF-8, in a file without the flag for them: each is a finding."""
    listed = [Attribute.of("\udcff" * 250 + name, "int", 1) for name in _names(max(1, (size - 600) // 270))]
    return Header.build([attributes(*listed)], flags=0).to_bytes()


FLOODS: Final[dict[str, Callable[[int], bytes]]] = {
    flood.__name__: flood
    for flood in (
        many_attributes,
        many_parts,
        many_strings,
        many_floats,
        one_string,
        one_type,
        channels_of_many_levels,
        channels_in_disorder,
        parts_of_one_name,
        long_names,
    )
}
