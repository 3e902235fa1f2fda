"""Filmstrips: one wide JPEG of evenly chosen frames, of movies and of sequences alike.

Belongs here: which frames, their size, and how they lie side by side. Not here: reading frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.pictures.results import Filmstrip
from exr_pipeline.pictures.still import Size, fitted, jpeg, jpeg_encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FILMSTRIP_FRAMES: Final = 24
FRAME_BOX: Final = Size(160, 90)
_QUALITY: Final = 85
_SUBSAMPLING: Final = "420"
FILMSTRIP_ENCODER: Final = jpeg_encoder(_QUALITY, _SUBSAMPLING)
_PREVIEW_BOX: Final = Size(960, 90)
_PREVIEW_QUALITY: Final = 60


def evenly(count: int, wanted: int = FILMSTRIP_FRAMES) -> list[int]:
    """Indices of at most `wanted` of `count` frames: the middle of each of as many equal stretches, in order."""
    chosen = min(count, wanted)
    return [(2 * index + 1) * count // (2 * chosen) for index in range(chosen)]


def filmstrip(frames: Sequence[NDArray[np.uint8]]) -> Filmstrip:
    """Frames (H, W, 3; 8-bit display RGB, square pixels) side by side, all in the size of the first.

    That size is the largest within 160x90 pixels: so a page divides the strip's width by it to find frame number n.
    Raises `ValueError` without frames.
    """
    import cv2

    if not frames:
        raise ValueError("a filmstrip needs at least one frame")
    height, width = frames[0].shape[:2]
    size = fitted(width, height, 1.0, FRAME_BOX)
    small = [
        frame if frame.shape[:2] == (size.height, size.width) else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        for frame in frames
    ]
    strip = np.hstack(small)
    width, height = strip.shape[1], strip.shape[0]
    preview = cv2.resize(strip, fitted(width, height, 1.0, _PREVIEW_BOX), interpolation=cv2.INTER_AREA)
    return Filmstrip(
        jpeg(strip, quality=_QUALITY, subsampling=_SUBSAMPLING),
        width,
        height,
        len(frames),
        jpeg(preview, quality=_PREVIEW_QUALITY, subsampling="420"),
    )
