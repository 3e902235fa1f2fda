"""Frames per second as headers state them, as exact fractions.

Belongs here: what a stated number stands for. Not here: how formats store it (`exr`, `dpx`).
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from exr_pipeline.exr import Rational

if TYPE_CHECKING:
    from exr_pipeline.exr import Part

# Rates that a 32-bit float can't hold exactly.
_NTSC_RATES: Final = tuple(Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120))


def frame_rate_of(part: Part) -> Rational | None:
    """`framesPerSecond` as a fraction, exactly as stored; of a rounded number, the rate that it stands for."""
    attribute = part.get("framesPerSecond")
    value = None if attribute is None else attribute.value
    if isinstance(value, Rational):
        return value if value.numerator > 0 and value.denominator > 0 else None
    if isinstance(value, int | float) and 0.001 <= value < 10_000:
        return Rational(*nominal_frame_rate(value).as_integer_ratio())
    return None


def nominal_frame_rate(value: float) -> Fraction:
    """The rate that a rounded one stands for: 23.976 and 23.98 are 24000/1001, 24 is 24."""
    near = (rate for rate in _NTSC_RATES if abs(float(rate) - value) < 0.005)
    return next(near, Fraction(value).limit_denominator(1000))
