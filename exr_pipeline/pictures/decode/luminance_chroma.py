"""RGB from luminance and subsampled chroma (Y, RY, BY).

Belongs here: that arithmetic. Source: "Technical Introduction to OpenEXR", Luminance/Chroma Images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.color.chromaticities import REC709, rgb_to_xyz

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


_BAND: Final = 64


def upsampled(plane: NDArray[np.generic], sampling: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.float32]:
    """A plane sampled every (x, y) pixels, from the first, at every pixel of `shape` (H, W): linear between samples."""
    result = np.asarray(plane, np.float32)
    for axis, step in ((0, sampling[1]), (1, sampling[0])):
        if step == 1:
            continue
        position = np.arange(shape[axis], dtype=np.float32) / step
        before = np.minimum(position.astype(np.intp), result.shape[axis] - 1)
        after = np.minimum(before + 1, result.shape[axis] - 1)
        weight = np.expand_dims(position - before, 1 - axis).astype(np.float32)
        low, high = result.take(before, axis), result.take(after, axis)
        result = low + (high - low) * weight
    return result


def rgb_from_luminance_chroma(
    luminance: NDArray[np.float32],
    red_chroma: NDArray[np.float32],
    blue_chroma: NDArray[np.float32],
    *,
    chromaticities: Sequence[float] | None,
) -> NDArray[np.float32]:
    """RGB (H, W, 3) of planes (H, W): R = (RY + 1) Y, B = (BY + 1) Y, and G from Y's definition by the primaries."""
    weights = rgb_to_xyz(chromaticities or REC709)[1].astype(np.float32)
    rgb = np.empty((*luminance.shape, 3), np.float32)
    for start in range(0, len(luminance), _BAND):
        band = slice(start, start + _BAND)
        rgb[band, :, 0] = (red_chroma[band] + 1) * luminance[band]
        rgb[band, :, 2] = (blue_chroma[band] + 1) * luminance[band]
        rest = luminance[band] - weights[0] * rgb[band, :, 0] - weights[2] * rgb[band, :, 2]
        rgb[band, :, 1] = rest / weights[1]
    return rgb
