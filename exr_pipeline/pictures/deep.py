"""Deep pixels to flat ones.

Belongs here: compositing samples in depth. Not here: reading files (`decode`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


def in_order(deep: Any, flat: NDArray[np.float32]) -> None:
    """Correct `flat` (H, W, channels), OpenImageIO's flattening of the deep image `deep`, where it is wrong.

    The library composites samples as they are stored; where they are not stored front to back, they are sorted by Z
    and composited anew (premultiplied, channel by channel, as in "Interpreting OpenEXR Deep Pixels").
    """
    samples = deep.deepdata()
    depth, alpha = samples.Z_channel, samples.A_channel
    if depth < 0 or alpha < 0:
        return
    pixels = flat.reshape(-1, flat.shape[2])
    for pixel in range(samples.pixels):
        count = samples.samples(pixel)
        if count < 2:
            continue
        depths = [samples.deep_value(pixel, depth, sample) for sample in range(count)]
        if all(near <= far for near, far in pairwise(depths)):
            continue
        samples.sort(pixel)
        pixels[pixel] = _composited(samples, pixel, count, flat.shape[2], alpha)


def _composited(samples: Any, pixel: int, count: int, channels: int, alpha: int) -> list[float]:
    total = [0.0] * channels
    for sample in range(count):
        behind = 1.0 - total[alpha]
        for channel in range(channels):
            total[channel] += behind * samples.deep_value(pixel, channel, sample)
        if total[alpha] >= 1.0:
            break
    return total
