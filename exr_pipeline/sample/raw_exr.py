"""EXR files that the Python libraries do not write: mip levels and subsampled channels, ZIP-compressed.

Belongs here: bytes by the OpenEXR file layout specification. Not here: anything a library can write (`writers`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIXEL_TYPES: Final = {"uint32": 0, "float16": 1, "float32": 2}
_ZIP: Final = 3
_ZIP_LINES: Final = 16
_TILED_FLAG: Final = 0x200


def mip_mapped(levels: Sequence[Mapping[str, NDArray[Any]]], tile: int, attributes: Mapping[str, Any]) -> bytes:
    """A tiled file with mip levels, rounded down. `levels` holds the channels of each, full size first, 1x1 last."""
    height, width = next(iter(levels[0].values())).shape
    tiles = struct.pack("<IIB", tile, tile, 1)
    header = _header(
        {name: (pixels, 1) for name, pixels in levels[0].items()},
        (width, height),
        {**attributes, "tiles": ("tiledesc", tiles)},
        _TILED_FLAG,
    )
    chunks = []
    for level, channels in enumerate(levels):
        rows, columns = next(iter(channels.values())).shape
        for ty, tx in product(range(-(-rows // tile)), range(-(-columns // tile))):
            window = slice(ty * tile, (ty + 1) * tile), slice(tx * tile, (tx + 1) * tile)
            lines = zip(*(channels[name][window] for name in sorted(channels)), strict=True)
            data = _zip(b"".join(line.tobytes() for row in lines for line in row))
            chunks.append(struct.pack("<5i", tx, ty, level, level, len(data)) + data)
    return _assemble(header, chunks)


def halved(channels: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
    """The mip levels of a picture down to 1x1, each the mean of 2x2 pixels of the one before."""
    levels = [dict(channels)]
    while max(next(iter(levels[-1].values())).shape) > 1:
        levels.append({name: _half(pixels) for name, pixels in levels[-1].items()})
    return levels


def subsampled(channels: Mapping[str, tuple[NDArray[Any], int]], attributes: Mapping[str, Any]) -> bytes:
    """A scanline file whose channels have a sampling each (the same in x and y): name to (pixels, sampling)."""
    width, height = next((p.shape[1] * s, p.shape[0] * s) for p, s in channels.values())
    header = _header(channels, (width, height), attributes, 0)
    chunks = []
    for top in range(0, height, _ZIP_LINES):
        raw = b"".join(
            channels[name][0][y // channels[name][1]].tobytes()
            for y in range(top, min(top + _ZIP_LINES, height))
            for name in sorted(channels)
            if y % channels[name][1] == 0
        )
        data = _zip(raw)
        chunks.append(struct.pack("<ii", top, len(data)) + data)
    return _assemble(header, chunks)


def _half(pixels: NDArray[Any]) -> NDArray[Any]:
    rows, columns = max(pixels.shape[0] // 2, 1), max(pixels.shape[1] // 2, 1)
    high, wide = min(2, pixels.shape[0]), min(2, pixels.shape[1])
    cells = pixels[: rows * high, : columns * wide].astype(np.float32).reshape(rows, high, columns, wide)
    mean: NDArray[Any] = cells.mean(axis=(1, 3)).astype(pixels.dtype)
    return mean


def _assemble(header: bytes, chunks: Sequence[bytes]) -> bytes:
    offsets = len(header) + 8 * len(chunks) + np.cumsum([0, *map(len, chunks[:-1])])
    return header + offsets.astype("<u8").tobytes() + b"".join(chunks)


def _zip(raw: bytes) -> bytes:
    """ZIP as OpenEXR does it: even bytes before odd ones, differences, deflate; stored if that does not help."""
    source = np.frombuffer(raw, np.uint8)
    halves = np.concatenate([source[0::2], source[1::2]]).astype(np.int16)
    halves[1:] = halves[1:] - halves[:-1] + 128
    packed = zlib.compress((halves & 255).astype(np.uint8).tobytes(), 6)
    return packed if len(packed) < len(raw) else raw


def _header(
    channels: Mapping[str, tuple[NDArray[Any], int]],
    size: tuple[int, int],
    attributes: Mapping[str, Any],
    flags: int,
) -> bytes:
    window = struct.pack("<4i", 0, 0, size[0] - 1, size[1] - 1)
    channel_list = b"".join(
        name.encode() + b"\0" + struct.pack("<iB3xii", _PIXEL_TYPES[pixels.dtype.name], 0, sampling, sampling)
        for name, (pixels, sampling) in sorted(channels.items())
    )
    records: dict[str, tuple[str, bytes]] = {
        "channels": ("chlist", channel_list + b"\0"),
        "compression": ("compression", bytes([_ZIP])),
        "dataWindow": ("box2i", window),
        "displayWindow": ("box2i", window),
        "lineOrder": ("lineOrder", b"\0"),
        "pixelAspectRatio": ("float", struct.pack("<f", 1)),
        "screenWindowCenter": ("v2f", bytes(8)),
        "screenWindowWidth": ("float", struct.pack("<f", 1)),
    }
    records |= {name: _attribute(value) for name, value in attributes.items()}
    body = b"".join(
        name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
        for name, (kind, value) in sorted(records.items())
    )
    return struct.pack("<II", 20000630, 2 | flags) + body + b"\0"


def _attribute(value: Any) -> tuple[str, bytes]:
    """Type name and bytes of an attribute; a pair (type name, bytes) is taken as it is."""
    match value:
        case str():
            return "string", value.encode()
        case int():
            return "int", struct.pack("<i", value)
        case float():
            return "float", struct.pack("<f", value)
        case Fraction():
            return "rational", struct.pack("<iI", value.numerator, value.denominator)
        case (str(kind), bytes(raw)):
            return kind, raw
        case tuple() if len(value) == 8:
            return "chromaticities", struct.pack("<8f", *value)
    raise TypeError(f"no EXR attribute type for {type(value).__name__}")
