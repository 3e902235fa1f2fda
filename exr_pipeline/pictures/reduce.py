"""Shrinking a picture while it is read, so that it is never held at full size.

Belongs here: the mean over areas, line by line. Not here: what the numbers mean; the light must be linear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.pictures.still import Size, resized

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GROUP: Final = 16  # Lines per product: few enough that most weights are not 0.


class AreaReducer:
    """Lines of a picture of size `source`, added in any order, to `result`, the picture of size `target`, not larger.

    Every pixel of the result is the mean of the area it covers; what is never added is 0.
    """

    def __init__(self, source: Size, target: Size, channels: int) -> None:
        self.result = np.zeros((target.height, target.width, channels), np.float32)
        self._source, self._target = source, target
        self._scale = source.height / target.height

    def add(self, y: int, x: int, pixels: NDArray[np.float32]) -> None:
        """Lines (rows, columns, channels) whose first pixel is at `x`, `y`."""
        rows, columns, channels = pixels.shape
        if columns < self._source.width:
            pixels = np.pad(pixels, ((0, 0), (x, self._source.width - columns - x), (0, 0)))
        first, last = self._touched(y, rows)
        size = Size(self._target.width, last - first)
        if self._is_edge(y) and self._is_edge(y + rows):
            # No other line is part of these of the result, as with most sizes of 16:9: both directions at once.
            resized(pixels, size, self.result[first:last])
            return
        flat = np.ascontiguousarray(pixels).reshape(rows, -1)
        lower = np.zeros((last - first, self._source.width, channels), np.float32)
        for start in range(0, rows, _GROUP):
            group = flat[start : start + _GROUP]
            top, bottom = self._touched(y + start, len(group))
            share = self._shares(top, bottom, y + start, len(group)) @ group
            lower[top - first : bottom - first] += share.reshape(bottom - top, -1, channels)
        self.result[first:last] += resized(lower, size)

    def _is_edge(self, y: int) -> bool:
        """Whether a line of the result begins or ends exactly where this line begins."""
        return y * self._target.height % self._source.height == 0

    def _touched(self, y: int, rows: int) -> tuple[int, int]:
        """The range of lines of the result that these lines are part of."""
        height, whole = self._target.height, self._source.height
        return y * height // whole, -(-(y + rows) * height // whole)

    def _shares(self, first: int, last: int, y: int, rows: int) -> NDArray[np.float32]:
        """The share (last - first, rows) of each line in each of the result."""
        edges = np.arange(first, last + 1) * self._scale
        tops = np.arange(y, y + rows)
        overlap = np.minimum(edges[1:, np.newaxis], tops + 1) - np.maximum(edges[:-1, np.newaxis], tops)
        return np.asarray(np.clip(overlap, 0, 1) / self._scale, np.float32)
