"""Frames per second as files state them, and the rate at which their frames are shown.

Belongs here: what a stated number stands for, and which rates are shown. Not here: how formats store it (`exr`, `dpx`).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple

from exr_pipeline.exr import Rational

if TYPE_CHECKING:
    from exr_pipeline.exr import Part

DEFAULT_RATE: Final = Fraction(24)
# Beyond these a stated rate is that of a clock, or nonsense.
SLOWEST: Final = Fraction(1, 60)
FASTEST: Final = Fraction(120)
# A rate in two decimals (23.98) is off by up to 0.0002 of it; that of 24 and of 24000/1001 differ by 0.001.
_ROUNDED: Final = 0.00021
# How exactly a rate is known that was found from times of frames in milliseconds.
MEASURED: Final = 0.0001
_LARGEST_TERM: Final = 120_000


class ShownRate(NamedTuple):
    """The rate at which frames are shown, and what is to be said about it: empty if it is the stated one."""

    rate: Fraction
    warning: str = ""


def frame_rate_of(part: Part) -> Rational | None:
    """`framesPerSecond` as a fraction, exactly as stored; of a rounded number, the rate that it stands for."""
    attribute = part.get("framesPerSecond")
    value = None if attribute is None else attribute.value
    if isinstance(value, Rational):
        return value if value.numerator > 0 and value.denominator > 0 else None
    if isinstance(value, int | float) and 0.001 <= value < 10_000:
        return Rational(*nominal_frame_rate(value).as_integer_ratio())
    return None


def shown_rate_of(part: Part) -> ShownRate | None:
    """The rate at which a frame with this header is shown; None if it states none."""
    attribute = part.get("framesPerSecond")
    if attribute is None:
        return None
    value = attribute.value
    if isinstance(value, Rational):
        return shown_rate(Fraction(*value) if value.denominator > 0 else None, text=value.to_text())
    if isinstance(value, float) and not math.isfinite(value):
        return shown_rate(None, text=str(value))
    return shown_rate(Fraction(value), text=str(value)) if isinstance(value, int | float) else None


def shown_rate(stated: Fraction | None, *, text: str = "", within: float = _ROUNDED) -> ShownRate:
    """The rate at which frames are shown whose file states a rate, as a number (None: it is not one) and as `text`.

    One out of bounds becomes 24. A rounded one (2997/125, 23.98) becomes the one that it stands for, if that differs by
    no more than the fraction `within` of it.
    """
    text = text or str(stated)
    if stated is None or not SLOWEST <= stated <= FASTEST:
        return ShownRate(
            DEFAULT_RATE, f"the frame rate {text} is not between {SLOWEST} and {FASTEST}: {DEFAULT_RATE} is used"
        )
    rate = _nominal(stated, within)
    # A floating-point number that cannot hold the rate any better is not worth a word.
    is_said = rate == stated or "/" not in text
    return ShownRate(rate, "" if is_said else f"the frame rate {text} is a rounded value: {rate} is used")


def nominal_frame_rate(value: float) -> Fraction:
    """The rate that a rounded one stands for: 23.976 and 23.98 are 24000/1001, 24 is 24."""
    return _nominal(Fraction(value), _ROUNDED)


def _nominal(rate: Fraction, within: float) -> Fraction:
    known = (Fraction(round(rate)), Fraction(round(rate * 1001 / 1000) * 1000, 1001))
    nearest = min(known, key=lambda candidate: abs(candidate - rate))
    if abs(nearest - rate) <= within * rate:
        return nearest
    return rate if max(rate.as_integer_ratio()) <= _LARGEST_TERM else rate.limit_denominator(1000)
