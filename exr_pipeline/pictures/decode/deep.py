"""Deep pixels to flat ones.

Belongs here: compositing samples in depth. Not here: reading files (`open_source`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from exr_pipeline.pictures.decode.source import oiio
from exr_pipeline.pictures.layers import COVERED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.pictures.layers import ShownLayer

# One alpha per color, as the format has it for colored glass.
_COLORED_ALPHAS: Final = ("AR", "AG", "AB")
_DEPTHS: Final = ("Z", "ZBack")


def alphas(layer: ShownLayer, names: Sequence[str]) -> tuple[str, ...]:
    """Which of a deep part's channels say how far the samples of a layer cover; none if nothing does."""
    if layer.kind not in COVERED and "A" not in layer.channels:
        return ()
    if layer.alpha:
        return (layer.alpha,)
    if "A" in names:
        return ("A",)
    return _COLORED_ALPHAS if set(_COLORED_ALPHAS) <= set(names) else ()


def with_only(deep: Any, layer: ShownLayer) -> Any:
    """A deep image of the layer's channels, in their order, with what it takes to composite them.

    Where nothing says how far the samples cover, each covers what is behind it.
    """
    names = list(deep.spec().channelnames)
    known = alphas(layer, names)
    order: list[Any] = [names.index(channel) for channel in layer.channels]
    chosen = list(layer.channels)
    for name in (*known, *_DEPTHS):
        if name in names and name not in chosen:
            order.append(names.index(name))
            chosen.append(name)
    if not known:
        order.append(1.0)
        chosen.append("A")
    # The library knows the alpha of the whole only by this name.
    renamed = tuple("A" if len(known) == 1 and name == known[0] else name for name in chosen)
    return oiio().ImageBufAlgo.channels(deep, tuple(order), renamed)


def in_order(deep: Any, flat: NDArray[np.float32]) -> None:
    """Correct `flat` (H, W, channels), OpenImageIO's flattening of the deep image `deep`, where it is wrong.

    The library composites samples as they are stored; where they are not stored front to back, they are sorted by Z
    and composited anew (premultiplied, channel by channel, as in "Interpreting OpenEXR Deep Pixels").
    """
    samples = deep.deepdata()
    depth = samples.Z_channel
    if depth < 0:
        return
    coverage = _coverage(list(deep.spec().channelnames))
    pixels = flat.reshape(-1, flat.shape[2])
    for pixel in range(samples.pixels):
        count = samples.samples(pixel)
        if count < 2:
            continue
        depths = [samples.deep_value(pixel, depth, sample) for sample in range(count)]
        if all(near <= far for near, far in pairwise(depths)):
            continue
        samples.sort(pixel)
        pixels[pixel] = _composited(samples, pixel, count, coverage)


def _coverage(names: Sequence[str]) -> list[int]:
    """For each channel of `with_only` the one that says how far it is covered."""
    if "A" in names:
        return [names.index("A")] * len(names)
    colored = [names.index(name) for name in _COLORED_ALPHAS]
    return [index if index in colored else colored[min(index, len(colored) - 1)] for index in range(len(names))]


def _composited(samples: Any, pixel: int, count: int, coverage: list[int]) -> list[float]:
    total = [0.0] * len(coverage)
    for sample in range(count):
        behind = [1.0 - total[alpha] for alpha in coverage]
        if max(behind) <= 0.0:
            break
        for channel, seen in enumerate(behind):
            total[channel] += seen * samples.deep_value(pixel, channel, sample)
    return total
