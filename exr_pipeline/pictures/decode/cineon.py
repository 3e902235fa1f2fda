"""Pixels of Cineon files.

Belongs here: reading them through OpenImageIO, and refusing what it reads wrongly. Not here: their header
(`exr_pipeline.cineon`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.cineon import parse_cineon_header
from exr_pipeline.color.source_space import CodeValues
from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import Box2i
from exr_pipeline.inspection.color_space import StatedColorSpace
from exr_pipeline.pictures.decode.source import SCAN_ORDERS, Rows, Source, check_size, failure, opened
from exr_pipeline.pictures.layers import ShownLayer
from exr_pipeline.pictures.still import Size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exr_pipeline.cineon import CineonHeader
    from exr_pipeline.pictures.decode.source import PictureFile

_PRINTING_DENSITY: Final = StatedColorSpace("printing density", "default (Cineon: printing density)")
_SAMPLES_PER_WORD: Final = 3
_RED_GREEN_BLUE: Final = ("R", "G", "B")


def open_cineon(file: PictureFile) -> Source:
    """The picture of a Cineon file: R, G and B, or its first channel as luminance.

    Raises `BadInputError` for what OpenImageIO 3.2 reads wrongly without saying so: signed samples, lines or channels
    one behind the other, padded lines, and lines of one channel that end within a word.
    """
    path, name = file.path, file.name
    header = parse_cineon_header(file.start, name=name, file_size=file.size_bytes)
    _check(header, name)
    width, height, count = header.width, header.height, len(header.elements)
    check_size(name, width, height, 4 * count, file.max_image_mb)
    is_color = set(_RED_GREEN_BLUE) <= set(header.components)
    channels = _RED_GREEN_BLUE if is_color else header.components[:1]
    picks = [header.components.index(channel) for channel in channels]

    def read(_level: int) -> Iterator[Rows]:
        reader = opened(path, name, "cineon")
        try:
            spec = reader.spec()
            if (spec.width, spec.height, spec.nchannels) != (width, height, count):
                raise BadInputError(
                    name, f"OpenImageIO reads {spec.width}x{spec.height}x{spec.nchannels}, which contradicts the header"
                )
            pixels = reader.read_image(0, 0, 0, count, "float")
            if pixels is None:
                raise failure(reader, path, name, "damaged pixels, or an unknown packing")
        finally:
            reader.close()
        yield Rows(0, 0, np.asarray(pixels, np.float32).reshape(height, width, count)[:, :, picks])

    return Source(
        name,
        ShownLayer(0, "rgb" if is_color else "luminance", channels),
        Box2i(0, 0, width - 1, height - 1),
        read,
        (Size(width, height),),
        orientation=SCAN_ORDERS[header.orientation or 0],
        shown_rate=header.shown_rate,
        codes=CodeValues(None, _PRINTING_DENSITY, header.bit_depth),
    )


def _check(header: CineonHeader, name: str) -> None:
    if header.interleave != "pixel":
        raise BadInputError(name, f"interleaving by {header.interleave or 'unknown'} is not supported")
    if header.value("data_sign") == 1:
        raise BadInputError(name, "signed samples are not supported")
    if header.value("line_padding"):
        raise BadInputError(name, "line padding is not supported")
    if header.bit_depth == 10 and header.width * len(header.elements) % _SAMPLES_PER_WORD:
        raise BadInputError(name, "lines that end within a word are not supported")
