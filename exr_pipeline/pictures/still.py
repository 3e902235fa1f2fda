"""Sizes, resizing and encoding.

Belongs here: geometry of outputs and still encoding. Not here: color (`color.config`) or video (`held_frame`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

StillFormat = Literal["jpeg", "png", "webp"]
JPEG_QUALITY: Final = 92
_WEBP_QUALITY: Final = 92
PREVIEW_WIDTH: Final = 160
PREVIEW_BYTES: Final = 4096
# Dagster's page shows Markdown of less than 1000 characters in line; in base64, with its frame, this much fits.
ICON_BYTES: Final = 700
_ICONS: Final = ((128, 40), (128, 20), (128, 8), (112, 8), (96, 5), (64, 5), (48, 1), (32, 1), (16, 1))
_PREVIEW_QUALITIES: Final = (80, 70, 60, 50, 40, 30, 20)


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


def fitted(width: int, height: int, pixel_aspect: float, box: Size) -> Size:
    """The size with square pixels that fits into a box, never larger than the picture in any direction.

    Wide pixels (aspect above 1) lower the height, narrow ones the width, so that nothing is invented.
    """
    square_width = width * min(pixel_aspect, 1.0)
    square_height = height / max(pixel_aspect, 1.0)
    scale = min(1.0, box.width / square_width, box.height / square_height)
    return Size(
        min(max(1, round(square_width * scale)), box.width), min(max(1, round(square_height * scale)), box.height)
    )


def even(size: Size, box: Size) -> Size:
    """The nearest size with even sides inside the box, not larger than `size`; 2 is the least."""
    return Size(*(min(max(2, side // 2 * 2), limit // 2 * 2) for side, limit in zip(size, box, strict=True)))


def resized(pixels: NDArray[np.float32], size: Size, result: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Pixels (H, W, channels) averaged by area to a smaller size; the light must be linear for a right average.

    `result`, if given, is filled; its lines must be contiguous.
    """
    import cv2

    if pixels.shape[:2] == (size.height, size.width):
        if result is None:
            return pixels
        result[:] = pixels
        return result
    cv2.setNumThreads(1)
    shape = (size.height, size.width, pixels.shape[2])
    if result is None:
        result = np.empty(shape, np.float32)
    cv2.resize(np.ascontiguousarray(pixels), size, dst=result, interpolation=cv2.INTER_AREA)
    return result


def evened(pixels: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Pixels of an even size: an odd last row or column is cut off, a single one is doubled; nothing is resampled."""
    cut = pixels[: size.height, : size.width]
    missing = (size.height - cut.shape[0], size.width - cut.shape[1])
    return np.pad(cut, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else cut


def oriented(pixels: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Pixels as they should be seen, from the way they are stored (1 to 8, as in TIFF and EXIF)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
        orientation = {5: 1, 6: 2, 7: 3, 8: 4}[orientation]
    rows, columns = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1)}[orientation]
    return pixels[::rows, ::columns]


def jpeg_encoder(quality: int = JPEG_QUALITY, subsampling: str = "444") -> str:
    """What `jpeg` does with these, for records."""
    return f"libjpeg-turbo, quality {quality}, {':'.join(subsampling)}"


def jpeg(rgb: NDArray[np.uint8], *, quality: int = JPEG_QUALITY, subsampling: str = "444") -> bytes:
    """A JPEG of 8-bit RGB (H, W, 3)."""
    import simplejpeg

    encode: Any = simplejpeg.encode_jpeg
    return bytes(encode(np.ascontiguousarray(rgb), quality=quality, colorspace="RGB", colorsubsampling=subsampling))


def encoded(rgb: NDArray[np.uint8], file_format: StillFormat) -> bytes:
    """A still of 8-bit RGB (H, W, 3) as the bytes of a file: JPEG, PNG (without loss) or WebP."""
    if file_format == "jpeg":
        return jpeg(rgb)
    import cv2

    options = [cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY] if file_format == "webp" else []
    return bytes(cv2.imencode(f".{file_format}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)[1].tobytes())


def encoder(file_format: StillFormat) -> str:
    """What `encoded` does, for records."""
    return {"jpeg": jpeg_encoder(), "png": "libpng", "webp": f"libwebp, quality {_WEBP_QUALITY}"}[file_format]


def icon(rgb: NDArray[np.uint8]) -> bytes:
    """A WebP of at most 128 x 128 pixels in at most `ICON_BYTES`: what Dagster's page shows in line, unasked."""
    import cv2

    data = b""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    for side, quality in _ICONS:
        size = fitted(rgb.shape[1], rgb.shape[0], 1.0, Size(side, side))
        small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
        data = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        if len(data) <= ICON_BYTES:
            break
    return data


def preview(rgb: NDArray[np.uint8]) -> bytes:
    """A JPEG at most 160 pixels wide and high, small enough (about 4 KB) to be embedded in a page."""
    import cv2

    size = fitted(rgb.shape[1], rgb.shape[0], 1.0, Size(PREVIEW_WIDTH, PREVIEW_WIDTH))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    data = b""
    for quality in _PREVIEW_QUALITIES:
        data = jpeg(small, quality=quality, subsampling="420")
        if len(data) <= PREVIEW_BYTES:
            break
    return data
