"""H.264 frames that repeat the frame before them: a dozen bytes each, written without an encoder.

Belongs here: that one kind of slice (ITU-T H.264, 7.3.2 to 7.3.4). Not here: encoding (`held_frame`).

An encoder takes as long to find out that nothing moved as to encode a small picture, which for a held frame was most
of the time of a whole file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

_BASELINE: Final = 66
_SPS, _PPS = 7, 8
_REFERENCE_SLICE: Final = b"\x41"  # nal_ref_idc 2, nal_unit_type 1
_START: Final = b"\0\0\0\1"
_P_ONLY: Final = 5
_MACROBLOCK: Final = 16


class _Reader:
    """Bits of a NAL unit, its emulation prevention removed."""

    def __init__(self, unit: bytes) -> None:
        data = unit.replace(b"\0\0\3", b"\0\0")
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def bits(self, count: int) -> int:
        self._at += count
        return int(self._bits[self._at - count : self._at], 2)

    def number(self) -> int:
        """ue(v) of 9.1."""
        zeros = self._bits.index("1", self._at) - self._at
        self._at += zeros
        return self.bits(zeros + 1) - 1


def _number(value: int) -> str:
    """ue(v) of 9.1."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def _unit(bits: str) -> bytes:
    """A NAL unit's payload: stop bit, alignment, emulation prevention (7.4.1)."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    escaped = bytearray()
    for byte in int(bits, 2).to_bytes(len(bits) // 8, "big"):
        if byte <= 3 and escaped.endswith(b"\0\0"):
            escaped.append(3)
        escaped.append(byte)
    return bytes(escaped)


@dataclass(frozen=True, slots=True)
class RepeatedFrames:
    """Frames that repeat the intra frame of a Baseline stream with one reference frame and one slice per frame."""

    frame_number_bits: int
    has_deblocking_control: bool

    @classmethod
    def after(cls, extradata: bytes) -> Self:
        """For the stream of these parameter sets (Annex B). Raises `ValueError` for what is not such a stream."""
        units = {unit[0] & 31: unit[1:] for unit in extradata.replace(_START, b"\0\0\1").split(b"\0\0\1") if unit}
        sps, pps = _Reader(units[_SPS]), _Reader(units[_PPS])
        profile = sps.bits(24) >> 16
        sps.number()
        frame_number_bits = sps.number() + 4
        order_type = sps.number()
        pps.number(), pps.number()
        is_cabac, _ = pps.bits(1), pps.bits(1)
        slice_groups = pps.number()
        pps.number(), pps.number()
        weighted = pps.bits(1)
        pps.bits(2), pps.number(), pps.number(), pps.number()
        has_deblocking_control = bool(pps.bits(1))
        if profile != _BASELINE or order_type != 2 or is_cabac or slice_groups or weighted:
            raise ValueError("not a stream whose frames can be repeated so")
        return cls(frame_number_bits, has_deblocking_control)

    def packets(self, count: int, width: int, height: int) -> Iterator[bytes]:
        """`count` frames (Annex B), each the same as the intra frame before them."""
        macroblocks = -(-width // _MACROBLOCK) * -(-height // _MACROBLOCK)
        for index in range(1, count + 1):
            frame_number = index % (1 << self.frame_number_bits)
            header = [_number(0), _number(_P_ONLY), _number(0), f"{frame_number:0{self.frame_number_bits}b}"]
            header += ["1", _number(0)]  # one reference frame,
            header += ["0", "0"]  # which is the last one; this one takes its place
            header += [_number(0)]  # slice_qp_delta
            if self.has_deblocking_control:
                header += [_number(1)]
            yield _START + _REFERENCE_SLICE + _unit("".join([*header, _number(macroblocks)]))
