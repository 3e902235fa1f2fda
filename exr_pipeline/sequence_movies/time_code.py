"""SMPTE time codes: from text to a count of frames and back, with drop-frame counting (SMPTE ST 12-1).

Belongs here: that arithmetic. Not here: where a time code comes from (`sequence_movie`).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_TEXT: Final = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)")
_DROPPING: Final = {Fraction(30000, 1001): 2, Fraction(60000, 1001): 4}
_COUNTED: Final = frozenset({24, 25, 30, 48, 50, 60})


def counted_rate(rate: Fraction) -> int | None:
    """Frames that a time code counts per second (24 for 24000/1001); None for a rate that time codes don't know."""
    nearest = round(rate)
    known = nearest in _COUNTED and rate in (Fraction(nearest), Fraction(nearest * 1000, 1001))
    return nearest if known else None


def can_drop(rate: Fraction) -> bool:
    """Whether drop-frame counting exists at this rate."""
    return rate in _DROPPING


def to_frames(text: str, rate: Fraction) -> int | None:
    """Frames since 00:00:00:00, of which `;` or `.` before the frames says that numbers were dropped.

    None for what is no time code at this rate: a rate that time codes don't know, and numbers that it does not have.
    """
    match = _TEXT.fullmatch(text)
    per_second = counted_rate(rate)
    if match is None or per_second is None:
        return None
    hours, minutes, seconds, frames = (int(match[group]) for group in (1, 2, 3, 5))
    if hours > 23 or minutes > 59 or seconds > 59 or frames >= per_second:
        return None
    if match[4] != ":" and seconds == 0 and minutes % 10 and frames < _DROPPING.get(rate, 0):
        return None
    count = (hours * 3600 + minutes * 60 + seconds) * per_second + frames
    if match[4] != ":" and rate in _DROPPING:
        total_minutes = hours * 60 + minutes
        count -= _DROPPING[rate] * (total_minutes - total_minutes // 10)
    return count


def to_text(count: int, rate: Fraction, *, drop: bool) -> str:
    """The time code of a count of frames since 00:00:00:00, beginning again after 24 hours (also below zero).

    Raises `ValueError` for a rate that time codes don't know.
    """
    per_second = counted_rate(rate)
    if per_second is None:
        raise ValueError(f"no time code at {rate} frames per second")
    drop = drop and rate in _DROPPING
    if drop:
        dropped = _DROPPING[rate]
        per_minute = per_second * 60 - dropped
        per_ten = per_minute * 10 + dropped
        tens, rest = divmod(count % (per_ten * 144), per_ten)
        # The first of ten minutes drops nothing.
        minutes = 0 if rest < per_second * 60 else (rest - dropped) // per_minute
        count = tens * per_ten + rest + dropped * (9 * tens + minutes)
    else:
        count %= per_second * 86400
    seconds, frames = divmod(count, per_second)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{';' if drop else ':'}{frames:02}"
