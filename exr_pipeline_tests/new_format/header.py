"""From the header of a farbfeld file to its inspection: eight letters, width and height.

Belongs here: nothing else. Not here: pixels (`picture`).
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from exr_pipeline.exr import Box2i, Channel, HeaderError, NeedMoreBytes
from exr_pipeline.inspection.model import Inspection, PartFacts

if TYPE_CHECKING:
    from exr_pipeline.inspection.model import SourceFile

HEADER_BYTES = 16


def inspect_farbfeld(data: bytes, source: SourceFile) -> Inspection:
    name = source.location.url
    if len(data) < HEADER_BYTES:
        raise NeedMoreBytes(name, len(data), HEADER_BYTES)
    width, height = struct.unpack(">II", data[8:HEADER_BYTES])
    if not 0 < width * height <= (source.size_bytes - HEADER_BYTES) // 8:
        raise HeaderError(name, f"farbfeld of {width}x{height} pixels in {source.size_bytes} bytes", 8)
    window = Box2i(0, 0, width - 1, height - 1)
    part = PartFacts(
        index=0,
        name=None,
        view=None,
        type="farbfeld",
        data_window=window,
        display_window=window,
        pixel_aspect_ratio=1.0,
        line_order="increasingY",
        compression="none",
        tiles=None,
        is_deep=False,
        color_space=None,
        render_software=None,
        frame_rate=None,
        time_code=None,
        channels=tuple(Channel(channel, "UINT16") for channel in "RGBA"),
        attributes=(),
    )
    return Inspection(source, "farbfeld", (part,), (), hashlib.sha256(data[:HEADER_BYTES]).hexdigest(), ())
