"""The picture of a sound: its loudest sample over time.

Belongs here: measuring and drawing. Not here: encoding the picture.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.errors import BadInputError
from exr_pipeline.footage.channels import Interleaver
from exr_pipeline.footage.opening import decoded, opened, packets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from exr_pipeline.footage.model import MediaStream
    from exr_pipeline.pictures.still import Size

_MOST_BINS: Final = 4096
_BACKGROUND: Final = (24, 26, 30)
_WAVE: Final = (96, 190, 240)
_AXIS: Final = (60, 66, 76)


class Peaks:
    """The largest absolute value in each of at most 4096 equal stretches of a signal of any length."""

    def __init__(self) -> None:
        self._bins = np.zeros(_MOST_BINS, np.float32)
        self._per_bin = 1
        self.samples = 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in the next samples (one channel, full scale 1)."""
        while self.samples + len(values) > _MOST_BINS * self._per_bin:
            self._bins[: _MOST_BINS // 2] = self._bins.reshape(-1, 2).max(axis=1)
            self._bins[_MOST_BINS // 2 :] = 0
            self._per_bin *= 2
        places = (np.arange(self.samples, self.samples + len(values)) // self._per_bin).astype(np.int64)
        np.maximum.at(self._bins, places, np.abs(values))
        self.samples += len(values)

    def columns(self, count: int) -> NDArray[np.float32]:
        """The largest value in each of `count` columns, from the first sample to the last."""
        used = self._bins[: max(1, -(-self.samples // self._per_bin))]
        edges = np.linspace(0, len(used), count + 1)
        return np.array([used[int(a) : max(int(np.ceil(b)), int(a) + 1)].max() for a, b in pairwise(edges)], np.float32)


def measured(path: str, name: str, stream: MediaStream) -> Peaks:
    """The peaks of an audio stream over all its channels. Raises `BadInputError` if nothing can be decoded."""
    peaks = Peaks()
    with opened(path, name) as container:
        interleaver = Interleaver(name)
        for _, packet in packets(container, [container.streams[stream.index]]):
            for frame in decoded(packet) or ():
                values = np.nan_to_num(interleaver.samples(frame), nan=0.0, posinf=1.0, neginf=-1.0)
                peaks.add(np.abs(values).max(axis=1))
    if not peaks.samples:
        raise BadInputError(name, f"no sound of stream {stream.index} can be decoded")
    return peaks


def drawn(peaks: Peaks, size: Size) -> NDArray[np.uint8]:
    """The waveform as RGB (H, W, 3): full scale fills the height, silence is a line."""
    picture = np.full((size.height, size.width, 3), _BACKGROUND, np.uint8)
    middle = (size.height - 1) / 2
    picture[int(middle)] = _AXIS
    reach = np.minimum(peaks.columns(size.width), 1.0) * middle
    distance = np.abs(np.arange(size.height)[:, None] - middle)
    picture[(distance <= reach) & (reach >= 0.5)] = _WAVE
    return picture
