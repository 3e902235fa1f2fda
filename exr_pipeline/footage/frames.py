"""Chosen frames of a movie as pictures, found by seeking where that is shorter than decoding on.

Belongs here: which frames represent a movie, and reaching them. Not here: what is made of them (`render`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from exr_pipeline.errors import BadInputError
from exr_pipeline.footage.alpha import Decoder
from exr_pipeline.footage.opening import decoded, opened, packets
from exr_pipeline.footage.picture_graph import PictureGraph, kept_tags, shown_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av import VideoFrame
    from av.container import InputContainer
    from numpy.typing import NDArray

    from exr_pipeline.footage.alpha import OverBlack
    from exr_pipeline.footage.model import MediaProbe, MediaStream
    from exr_pipeline.pictures.still import Size

# Looking closer together than this, decoding on is as fast as seeking back to a key frame.
_WORTH_SEEKING_SECONDS: Final = 2.0
# Times of frames are rounded, in some containers to milliseconds.
_ROUNDING_SECONDS: Final = 0.002
# Of 8-bit RGB. Black, as encoders leave it, is not quite 0 everywhere.
_BLACK: Final = 24
_LAST: Final = 2**63 - 1


def frames_at(
    path: str,
    name: str,
    media: MediaProbe,
    stream: MediaStream,
    over_black: OverBlack,
    places: Sequence[float],
    box: Size,
) -> list[NDArray[np.uint8]]:
    """The frames that are shown at `places` (0 to 1 of the stream's length, ascending), as RGB (H, W, 3) within a box.

    Where frames cannot be decoded, the one before is taken. Raises `BadInputError` if there is none at all.
    """
    length = stream.duration_seconds or media.duration_seconds or 0.0
    found: list[NDArray[np.uint8]] = []
    with opened(path, name) as container:
        reader = _Reader(container, stream, over_black, box)
        for place in places:
            picture = reader.at(place * length)
            if picture is not None:
                found.append(picture)
            elif found:
                found.append(found[-1])
    if not found:
        raise BadInputError(name, f"no frame of stream {stream.index} can be decoded")
    return found


def representative(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The picture nearest to the middle that is not black; the middle one if all are."""
    middle = (len(pictures) - 1) / 2
    by_distance = sorted(range(len(pictures)), key=lambda index: (abs(index - middle), index))
    lit = (index for index in by_distance if int(pictures[index].max()) > _BLACK)
    return pictures[next(lit, by_distance[0])]


class _Reader:
    """A stream that is read forwards, with jumps."""

    def __init__(self, container: InputContainer, stream: MediaStream, over_black: OverBlack, box: Size) -> None:
        self._container = container
        self._stream: Any = container.streams[stream.index]
        self._facts = stream
        self._over_black = over_black
        self._box = box
        self._decoder = Decoder(self._stream)
        self._frames: Iterator[VideoFrame] = self._decoded()
        self._frame: VideoFrame | None = None
        self._next: VideoFrame | None = next(self._frames, None)
        self._start = self._next.time if self._next is not None and self._next.time is not None else 0.0
        self._seeks = True

    def at(self, seconds: float) -> NDArray[np.uint8] | None:
        """The frame that is shown so many seconds after the first one; None if it and those after are unreadable."""
        wanted = self._start + seconds + _ROUNDING_SECONDS
        if self._seeks and self._next is not None and wanted - (self._next.time or 0.0) > _WORTH_SEEKING_SECONDS:
            self._seek(wanted)
        while self._next is not None and (self._frame is None or (self._next.time or 0.0) <= wanted):
            self._frame, self._next = self._next, next(self._frames, None)
        return None if self._frame is None else self._picture(self._frame)

    def _seek(self, wanted: float) -> None:
        before = self._next.time or 0.0 if self._next is not None else 0.0
        base = float(self._stream.time_base)
        self._container.seek(min(int(wanted / base), _LAST), stream=self._stream, backward=True)
        self._frames = self._decoded()
        self._next = next(self._frames, None)
        if self._next is None or (self._next.time or 0.0) < before:
            # One key frame for a long stretch: from now on each frame is passed once only.
            self._seeks = False
        if self._next is None:
            self._container.seek(int(before / base), stream=self._stream, backward=True)
            self._frames = self._decoded()
            self._next = next(self._frames, None)

    def _decoded(self) -> Iterator[VideoFrame]:
        self._decoder.restart()
        for _, packet in packets(self._container, [self._stream]):
            yield from decoded(packet, self._decoder) or ()

    def _picture(self, frame: VideoFrame) -> NDArray[np.uint8]:
        tags = kept_tags(self._stream.codec_context)
        size = shown_size(self._facts, self._box, even_sides=False)
        graph = PictureGraph(self._facts, size, "rgb24", tags=tags, over_black=self._over_black)
        shown = [*graph.push(frame), *graph.flush()]
        return np.asarray(shown[0].to_ndarray(), np.uint8)
