"""Cryptomatte channels and manifests, as far as the sample show needs them (one layer, two objects per pixel).

Belongs here: names to ids to channels, by the Cryptomatte specification 1.2.0. Not here: rendering.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MASK = 0xFFFFFFFF


def murmur3_32(text: str) -> int:
    """MurmurHash3_x86_32 of the text's UTF-8 bytes with seed 0 (Austin Appleby, public domain)."""
    data = text.encode()
    state = 0
    whole = len(data) // 4 * 4
    for (block,) in struct.iter_unpack("<I", data[:whole]):
        state ^= _mix(block)
        state = (_rotated(state, 13) * 5 + 0xE6546B64) & _MASK
    if tail := data[whole:]:
        state ^= _mix(int.from_bytes(tail, "little"))
    state ^= len(data)
    state = ((state ^ (state >> 16)) * 0x85EBCA6B) & _MASK
    state = ((state ^ (state >> 13)) * 0xC2B2AE35) & _MASK
    return state ^ (state >> 16)


def object_id(name: str) -> int:
    """The 32 bits of a name's id: its hash, with an exponent that makes it an ordinary float."""
    hashed = murmur3_32(name)
    return hashed ^ (1 << 23) if hashed >> 23 & 255 in {0, 255} else hashed


def channels(layer: str, names: Sequence[str], ids: NDArray[np.uint32], coverage: NDArray[Any]) -> dict[str, Any]:
    """`layer`00.R/.G/.B/.A: two (id, coverage) pairs per pixel as float32.

    `ids` (indices into `names`) and `coverage` are height x width x 2. Index 0 is the background and has no id.
    """
    bits = np.array([0, *(object_id(name) for name in names[1:])], np.uint32).view(np.float32)
    matte = np.where((ids > 0) & (coverage > 0), coverage, 0).astype(np.float32)
    value = np.where(matte > 0, bits[ids], np.float32(0))
    pairs = ("R", value[..., 0]), ("G", matte[..., 0]), ("B", value[..., 1]), ("A", matte[..., 1])
    return {f"{layer}00.{name}": np.ascontiguousarray(pixels) for name, pixels in pairs}


def attributes(layer: str, names: Sequence[str]) -> dict[str, str]:
    """The header attributes that describe `channels`, manifest included."""
    prefix = f"cryptomatte/{murmur3_32(layer):08x}"[: len("cryptomatte/") + 7]
    manifest = {name: f"{object_id(name):08x}" for name in names[1:]}
    return {
        f"{prefix}/name": layer,
        f"{prefix}/hash": "MurmurHash3_32",
        f"{prefix}/conversion": "uint32_to_float32",
        f"{prefix}/manifest": json.dumps(manifest, separators=(",", ":")),
    }


def _rotated(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def _mix(block: int) -> int:
    return (_rotated((block * 0xCC9E2D51) & _MASK, 15) * 0x1B873593) & _MASK
