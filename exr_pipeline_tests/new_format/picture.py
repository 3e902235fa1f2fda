"""Pixels of farbfeld files: lines of 16-bit R, G, B and A.

Belongs here: nothing else. Not here: the header (`header`).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exr_pipeline.color.source_space import ImageTags
from exr_pipeline.exr import Box2i
from exr_pipeline.pictures.decode.source import Rows, Source, check_size
from exr_pipeline.pictures.layers import ShownLayer
from exr_pipeline.pictures.still import Size
from exr_pipeline_tests.new_format.header import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exr_pipeline.pictures.decode.source import PictureFile


def open_farbfeld(file: PictureFile) -> Source:
    width, height = struct.unpack(">II", file.start[8:HEADER_BYTES])
    check_size(file.name, width, height, 8, file.max_image_mb)

    def read(_level: int) -> Iterator[Rows]:
        codes = np.frombuffer(Path(file.path).read_bytes()[HEADER_BYTES:], ">u2").reshape(height, width, 4)
        yield Rows(0, 0, codes[..., :3].astype(np.float32) / np.float32(65535))

    return Source(
        file.name,
        ShownLayer(0, "rgb", ("R", "G", "B")),
        Box2i(0, 0, width - 1, height - 1),
        read,
        (Size(width, height),),
        tags=ImageTags(is_integer=True),
    )
