"""Pixels of DPX files.

Belongs here: reading them through OpenImageIO. Not here: their header (`exr_pipeline.dpx`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.exr import Box2i
from exr_pipeline.pictures.layers import ShownLayer
from exr_pipeline.pictures.sources import Rows, Source, check_size, failure, opened, valid_aspect
from exr_pipeline.pictures.still import Size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exr_pipeline.dpx import DpxHeader

# SMPTE 268M scan order to the orientation of TIFF and EXIF.
_ORIENTATIONS: Final = (1, 2, 4, 3, 5, 6, 8, 7)


def open_dpx(path: str, name: str, header: DpxHeader, *, max_image_mb: int) -> Source:
    """The picture of a DPX file: R, G and B, or one channel as luminance."""
    reader = opened(path, name, "dpx")
    try:
        spec = reader.spec()
    finally:
        reader.close()
    width, height, count = int(spec.width), int(spec.height), 3 if spec.nchannels >= 3 else 1
    check_size(name, width, height, 4 * spec.nchannels, max_image_mb)

    def read(_level: int) -> Iterator[Rows]:
        # DPX has no chunks to read one by one; the library reads whole elements anyway.
        reader = opened(path, name, "dpx")
        try:
            pixels = reader.read_image(0, 0, 0, count, "float")
            if pixels is None:
                raise failure(reader, path, name, "damaged pixels")
        finally:
            reader.close()
        yield Rows(0, 0, np.asarray(pixels, np.float32).reshape(height, width, count))

    return Source(
        name,
        ShownLayer(0, "rgb" if count == 3 else "luminance", tuple(spec.channelnames[:count])),
        Box2i(0, 0, width - 1, height - 1),
        read,
        (Size(width, height),),
        pixel_aspect=valid_aspect(header.pixel_aspect_ratio),
        orientation=_ORIENTATIONS[header.orientation or 0],
        frame_rate=header.frame_rate,
        time_code=None if header.time_code is None else header.time_code.to_text(),
        dpx=header,
    )
