"""Pictures of what is no color: depth and other numbers as grey, identifiers as colors.

Belongs here: values to display-encoded RGB. Not here: color management (`color.config`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Renderers write "nothing there" as a huge number rather than infinity.
FARTHEST: Final = 1e9
_SAMPLES: Final = 1 << 18


def grey_of_values(values: NDArray[np.float32], *, near_is_bright: bool) -> tuple[NDArray[np.float32], str]:
    """Values (H, W) between their 1st and 99th percentile as grey 0..1, shape (H, W, 3), and a sentence on the range.

    NaN, infinite and huge values are black and don't count. With `near_is_bright` small values are white; positive
    ones are spread by their reciprocal, so that a far background leaves room for what stands before it.
    """
    usable = np.isfinite(values) & (np.abs(values) < FARTHEST)
    sample = values[usable]
    if not sample.size:
        return np.zeros((*values.shape, 3), np.float32), "no usable value"
    sample = sample[:: max(1, sample.size // _SAMPLES)]
    low, high = (float(value) for value in np.percentile(sample, (1, 99)))
    if high <= low:
        grey = np.full(values.shape, 0.5)
    else:
        clipped = np.clip(np.where(usable, values, low), low, high)
        if not near_is_bright:
            grey = (clipped - low) / (high - low)
        elif low > 0:
            grey = (1 / clipped - 1 / high) / (1 / low - 1 / high)
        else:
            grey = (high - clipped) / (high - low)
    if near_is_bright:
        grey = 0.1 + 0.9 * grey  # The farthest surface stays brighter than nothing.
    grey = np.where(usable, grey, 0).astype(np.float32)
    ends = "white to dark" if near_is_bright else "black to white"
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2), f"{low:.6g} to {high:.6g} shown as {ends}"


def color_of_identifiers(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """One color 0..1 per distinct value, shape (H, W, 3), the same in every file; zero is black.

    The bits of the values are scattered by the finaliser of MurmurHash3 (public domain).
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).copy()
    bits ^= bits >> np.uint32(16)
    bits *= np.uint32(0x85EBCA6B)
    bits ^= bits >> np.uint32(13)
    bits *= np.uint32(0xC2B2AE35)
    bits ^= bits >> np.uint32(16)
    channels = np.stack([(bits >> np.uint32(shift)) & np.uint32(0xFF) for shift in (0, 8, 16)], axis=2)
    colors = 0.15 + channels.astype(np.float32) * np.float32(0.8 / 255)
    colors[values == 0] = 0
    return colors
