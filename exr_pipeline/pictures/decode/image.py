"""Pixels of TIFF, PNG and JPEG files.

Belongs here: reading them through OpenImageIO. Not here: which colors their numbers mean (`color.source_space`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from exr_pipeline.color.source_space import ImageTags
from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import Box2i
from exr_pipeline.formats import format_of_bytes
from exr_pipeline.pictures.decode.source import (
    BLOCK_LINES,
    Rows,
    Source,
    check_size,
    failure,
    oiio,
    opened,
    valid_aspect,
    valid_orientation,
)
from exr_pipeline.pictures.layers import ShownLayer
from exr_pipeline.pictures.still import Size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exr_pipeline.pictures.decode.source import PictureFile

_FLOATS: Final = ("float", "half", "double")
_JPEG_END: Final = b"\xff\xd9"
_JPEG_TAIL: Final = 1 << 16


def open_image(file: PictureFile) -> Source:
    """The picture of a TIFF (its first page), PNG or JPEG: R, G and B, or one channel as luminance.

    Straight alpha is always read, because color must be multiplied by it; alpha of premultiplied TIFFs if asked for.
    """
    path, name, max_image_mb = file.path, file.name, file.max_image_mb
    found = format_of_bytes(file.start)
    assert found is not None
    format_name = found.name
    hints = oiio().ImageSpec()
    hints.attribute("oiio:UnassociatedAlpha", 1)
    reader = opened(path, name, format_name, hints)
    try:
        spec = reader.spec()
    finally:
        reader.close()
    if format_name == "jpeg":
        _check_end(path, name)
    check_size(name, spec.width, spec.height, spec.nchannels * spec.format.size(), max_image_mb)
    display = Box2i(spec.full_x, spec.full_y, spec.full_x + spec.full_width - 1, spec.full_y + spec.full_height - 1)
    check_size(name, display.width, display.height, 4 * spec.nchannels, max_image_mb)

    straight = bool(spec.get_int_attribute("oiio:UnassociatedAlpha", 0)) and spec.alpha_channel >= 0
    colors = [index for index in range(spec.nchannels) if index not in {spec.alpha_channel, spec.z_channel}]
    colors = colors[: 3 if len(colors) >= 3 else 1]
    picks = [*colors, spec.alpha_channel] if spec.alpha_channel >= 0 and (straight or file.with_alpha) else colors
    names = tuple(spec.channelnames[index] for index in colors)
    return Source(
        name,
        ShownLayer(0, "rgb" if len(colors) == 3 else "luminance", names),
        display,
        lambda _level: _rows(path, name, format_name, hints, picks),
        (Size(display.width, display.height),),
        has_alpha=len(picks) > len(colors),
        straight_alpha=straight,
        pixel_aspect=valid_aspect(spec.getattribute("PixelAspectRatio")),
        orientation=valid_orientation(spec.getattribute("Orientation")),
        tags=_tags(spec),
    )


def _tags(spec: Any) -> ImageTags:
    return ImageTags(
        is_integer=str(spec.format) not in _FLOATS,
        icc=str(spec.getattribute("ICCProfile:profile_description") or "").strip(),
        color_space=str(spec.getattribute("oiio:ColorSpace") or "").strip(),
    )


def _check_end(path: str, name: str) -> None:
    """A JPEG whose end is missing is filled with grey by the library, which only warns."""
    with open(path, "rb") as file:  # noqa: PTH123 - from the end, which `Path` has no word for
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _JPEG_TAIL))
        if _JPEG_END not in file.read():
            raise BadInputError(name, "truncated: the JPEG has no end marker")


def _rows(path: str, name: str, format_name: str, hints: Any, picks: list[int]) -> Iterator[Rows]:
    """The lines in blocks, which need little memory; whole where the library reads blocks wrongly or not at all."""
    reader = opened(path, name, format_name, hints)
    low, high = min(picks), max(picks) + 1
    try:
        spec = reader.spec()
        y, end = spec.y, spec.y + spec.height
        lines = BLOCK_LINES
        if spec.tile_height:
            lines = max(lines // spec.tile_height, 1) * spec.tile_height
        # Of 64-bit numbers, OpenImageIO 3.2 reads any strip wrongly that is not read whole, without saying so.
        while y < end and str(spec.format) != "double":
            stop = min(y + lines, end)
            if spec.tile_height:
                edges = (spec.x, spec.x + spec.width, y, stop, 0, 1)
                pixels = reader.read_tiles(0, 0, *edges, low, high, "float")
            else:
                pixels = reader.read_scanlines(0, 0, y, stop, 0, low, high, "float")
            if pixels is None:
                break
            yield _picked(pixels, spec, y, stop, picks)
            y = stop
    finally:
        reader.close()
    if y < end:
        yield _whole(path, name, format_name, hints, picks, y)


def _whole(path: str, name: str, format_name: str, hints: Any, picks: list[int], first: int) -> Rows:
    """The lines from `first` on of an image that is read at once: it may need as much memory as `check_size` allows."""
    reader = opened(path, name, format_name, hints)
    try:
        spec = reader.spec()
        pixels = reader.read_image(0, 0, min(picks), max(picks) + 1, "float")
        if pixels is None:
            raise failure(reader, path, name, "damaged pixels")
    finally:
        reader.close()
    y, _, lines = _picked(pixels, spec, spec.y, spec.y + spec.height, picks)
    return Rows(first, spec.x, lines[first - y :])


def _picked(pixels: Any, spec: Any, y: int, stop: int, picks: list[int]) -> Rows:
    low, high = min(picks), max(picks) + 1
    block = np.asarray(pixels, np.float32).reshape(stop - y, spec.width, high - low)
    return Rows(y, spec.x, block[:, :, [pick - low for pick in picks]])
