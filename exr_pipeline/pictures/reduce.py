"""Shrinking a picture while it is read, so that it is never held at full size.

Belongs here: the mean over areas, line by line. Not here: what the numbers mean; the light must be linear.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.pictures.still import Size, resized

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GROUP: Final = 16  # Lines per product: few enough that most weights are not 0.


class AreaReducer:
    """Lines of a picture of size `source`, added in any order, to the picture of size `target`, not larger.

    Every pixel of the result is the mean of the area it covers; what is never added is 0.
    """

    def __init__(self, source: Size, target: Size, channels: int) -> None:
        self._source, self._target, self._channels = source, target, channels
        self._lines = np.zeros((target.height, source.width * channels), np.float32)
        self._scale = source.height / target.height

    def add(self, y: int, x: int, pixels: NDArray[np.float32]) -> None:
        """Lines (rows, columns, channels) whose first pixel is at `x`, `y`."""
        rows, columns = pixels.shape[:2]
        span = slice(x * self._channels, (x + columns) * self._channels)
        flat = np.ascontiguousarray(pixels).reshape(rows, -1)
        if self._source.height == self._target.height:
            self._lines[y : y + rows, span] = flat
            return
        for start in range(0, rows, _GROUP):
            group = flat[start : start + _GROUP]
            first, weights = self._weights(y + start, len(group))
            self._lines[first : first + len(weights), span] += weights @ group

    def _weights(self, y: int, rows: int) -> tuple[int, NDArray[np.float32]]:
        """The first line of the result that these lines touch, and the share of each of them in each it touches."""
        first = int(y / self._scale)
        last = min(ceil((y + rows) / self._scale), self._target.height)
        edges = np.arange(first, last + 1) * self._scale
        tops = np.arange(y, y + rows)
        overlap = np.minimum(edges[1:, np.newaxis], tops + 1) - np.maximum(edges[:-1, np.newaxis], tops)
        return first, np.asarray(np.clip(overlap, 0, 1) / self._scale, np.float32)

    def result(self) -> NDArray[np.float32]:
        """The picture (H, W, channels). No lines can be added after."""
        lines = self._lines.reshape(self._target.height, self._source.width, self._channels)
        return resized(lines, self._target)
