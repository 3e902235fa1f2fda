"""Which frames there are to show of a sequence, those without a file among them.

Belongs here: that list and its choices. Not here: reading frames (`segments`).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from exr_pipeline.sequences import Sequence
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.objects import ObjectStorage

# More missing frames than this, and ten times those there are, are a stray number rather than a movie.
_MANY_MISSING: Final = 1000


@dataclass(frozen=True, slots=True)
class PlannedFrame:
    """One frame to show. Without a location there is no file; `problem` is why it is known not to be shown."""

    number: str
    location: Location | None
    etag: str = ""
    problem: str = ""


def planned_frames(sequence: Sequence, storage: ObjectStorage) -> list[PlannedFrame]:
    """Every frame from the first to the last, in order. Raises `BadInputError` if nearly all of them are missing."""
    gaps = sequence.missing_count
    if gaps > max(_MANY_MISSING, 10 * len(sequence)):
        raise BadInputError(
            sequence.url,
            f"{gaps} frames are missing between the {len(sequence)} present: give a frame range, such as "
            f"{sequence.prefix}{sequence.first}-{sequence.last}{'#' * sequence.padding}{sequence.suffix}",
        )
    planned = []
    there = {frame.number: frame for frame in sequence.frames}
    for number in sorted([*there, *map(Decimal, sequence.missing())]):
        frame = there.get(number)
        if frame is None:
            planned.append(PlannedFrame(str(number), None))
        else:
            etag = frame.etag or storage.head(frame.location).etag
            planned.append(PlannedFrame(str(number), frame.location, etag))
    return planned
