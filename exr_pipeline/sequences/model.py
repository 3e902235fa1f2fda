"""A sequence of frames as a value: its pattern, its frames in order, what is missing.

Belongs here: what follows from the members alone. Not here: finding them (`find`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

from exr_pipeline.storage.locations import Location

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

_VIEW: Final = re.compile(r"(?:^|[._/-])(left|right|l|r)(?=[._/-]|$)", re.IGNORECASE)
_VIEW_NAMES: Final = {"l": "left", "r": "right"}


class Listed(Protocol):
    """A file that somebody has listed, with its entity tag: of a store, or of the tables."""

    @property
    def location(self) -> Location:
        """Where it is."""

    @property
    def etag(self) -> str:
        """Its entity tag, without quotes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One file of a sequence. `number` is exact, with its fraction; `etag` is empty where nobody has asked for it."""

    number: Decimal
    location: Location
    etag: str = ""


@dataclass(frozen=True)
class Sequence:
    """Files whose names differ in their frame number only, in ascending order of it; there is at least one.

    `prefix` and `suffix` are the file name before and behind the number, `padding` the digits that the number has at
    least, a minus sign not counted (1: as many as it needs).
    """

    folder: Location
    prefix: str
    padding: int
    suffix: str
    frames: tuple[Frame, ...]

    @property
    def pattern(self) -> str:
        """The name with one `#` per digit: `beauty.####.exr`."""
        return f"{self.prefix}{'#' * self.padding}{self.suffix}"

    @property
    def location(self) -> Location:
        """Where the sequence is: its folder and pattern, as if it were one object."""
        return self.folder.child(self.pattern)

    @property
    def url(self) -> str:
        """The URL of its pattern, which `resolve_sequence` understands. `#` stays readable."""
        return self.location.url.replace("%23", "#")

    @property
    def key(self) -> str:
        """The Dagster partition key: the same for the same folder, pattern and padding, whatever frames there are.

        `Location.from_partition_key` gives back the location, which `resolve_sequence` understands.
        """
        return self.location.partition_key

    @property
    def view(self) -> str:
        """The stereo view that the name, else a folder, states: `left`, `right`, or empty."""
        for text in (self.prefix, self.folder.key):
            found = _VIEW.findall(text)
            if found:
                word = str(found[-1]).lower()
                return _VIEW_NAMES.get(word, word)
        return ""

    @property
    def first(self) -> Decimal:
        """The lowest frame number."""
        return self.frames[0].number

    @property
    def last(self) -> Decimal:
        """The highest frame number."""
        return self.frames[-1].number

    @cached_property
    def has_sub_frames(self) -> bool:
        """Whether a frame number has a fraction: the frames then follow each other, and none counts as missing."""
        return any(frame.number != frame.number.to_integral_value() for frame in self.frames)

    @property
    def missing_count(self) -> int:
        """How many whole numbers between the first and the last frame have no file."""
        if self.has_sub_frames:
            return 0
        return int(self.last - self.first) + 1 - len(self.frames)

    def missing(self) -> Iterator[int]:
        """Those numbers, in order."""
        if self.has_sub_frames:
            return
        expected = int(self.first)
        for frame in self.frames:
            yield from range(expected, int(frame.number))
            expected = int(frame.number) + 1

    @property
    def frame_range(self) -> str:
        """The frames there are, in the notation of the trade: `1001-1010,1015`."""
        from fileseq.frameset import FrameSet

        return str(FrameSet([frame.number for frame in self.frames]).frange)

    def name_of(self, number: Decimal | int) -> str:
        """The file name that a frame of this number has, or would have."""
        whole, dot, fraction = f"{abs(number)}".partition(".")
        sign = "-" if number < 0 else ""
        return f"{self.prefix}{sign}{whole.zfill(self.padding)}{dot}{fraction}{self.suffix}"

    def __len__(self) -> int:
        return len(self.frames)

    def __str__(self) -> str:
        return f"{self.url} ({self.frame_range})"
