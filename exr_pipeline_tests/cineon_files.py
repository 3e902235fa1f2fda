"""Small Cineon files, written byte by byte as version 4.5 of the format has them.

Belongs here: writing them. Not here: reading (`exr_pipeline.cineon`), or what is tested of it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

HEADER_BYTES = 2048
GENERIC_BYTES = 1024
_UNDEFINED = struct.unpack(">f", b"\xff\xff\xff\xff")[0]


def cineon_bytes(codes: Any, order: str = ">", *, bits: int = 10, film: bool = True, rate: float = 24.0) -> bytes:
    """A file of the code values `codes`, height x width x channels, three of ten bits in a word of 32."""
    codes = np.asarray(codes, np.uint32)
    height, width, channels = codes.shape
    if bits == 10:
        flat = codes.reshape(-1)
        words = np.pad(flat, (0, -len(flat) % 3)).reshape(-1, 3)
        pixels = ((words[:, 0] << 22) | (words[:, 1] << 12) | (words[:, 2] << 2)).astype(f"{order}u4").tobytes()
    else:
        pixels = codes.astype(f"{order}u{bits // 8}").tobytes()
    offset = HEADER_BYTES if film else GENERIC_BYTES

    def packed(layout: str, *values: object) -> bytes:
        return struct.pack(order + layout, *values)

    data = packed(
        "6I8s100s12s12s36x",
        *(0x802A5FD7, offset, GENERIC_BYTES, 1024 if film else 0, 0, offset + len(pixels), b"V4.5"),
        *(b"scan.0001.cin", b"2024:05:17", b"19:42:10UTC"),
    )
    data += packed("BB2x", 0, channels)
    for channel in range(channels):
        designator = channel + 1 if channels == 3 else 0
        data += packed("BBBxII4f", 0, designator, bits, width, height, 0, 0, (1 << bits) - 1, 2.046)
    data += b"\xff" * 28 * (8 - channels)
    data += packed("8f200s28x", *[_UNDEFINED] * 8, b"label")
    data += packed("4B2I20x", 0, 5 if bits == 10 else 0, 0, 0, 0, 0)
    data += packed(
        "2i100s12s12s64s32s32s3f40x",
        *(-(1 << 31), 3, b"roll.tif", b"2024:05:16", b"19:42:10UTC", b"Spirit", b"4K", b"0042"),
        *(_UNDEFINED, _UNDEFINED, 1.0),
    )
    assert len(data) == GENERIC_BYTES
    if film:
        data += packed("BBBxII32sIf32s200s740x", 2, 17, 4, 123456, 789, b"Academy", 7, rate, b"0007", b"020-3")
        assert len(data) == HEADER_BYTES
    return data + pixels


def changed(data: bytes, offset: int, layout: str, value: object, order: str = ">") -> bytes:
    """The bytes with one field replaced."""
    made = bytearray(data)
    struct.pack_into(order + layout, made, offset, value)
    return bytes(made)


def write_cineon(path: Path, codes: Any, order: str = ">", **options: Any) -> Path:
    path.write_bytes(cineon_bytes(codes, order, **options))
    return path
