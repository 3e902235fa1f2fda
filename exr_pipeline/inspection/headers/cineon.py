"""From the headers of a Cineon file to its inspection.

Belongs here: deriving facts from fields. Not here: parsing them (`exr_pipeline.cineon`).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from exr_pipeline.cineon import parse_cineon_header
from exr_pipeline.exr import Attribute, Box2i, Channel
from exr_pipeline.inspection.model import HEADER_HASH_VERSION, Inspection, PartFacts

if TYPE_CHECKING:
    from exr_pipeline.cineon import CineonHeader
    from exr_pipeline.inspection.model import SourceFile


def inspect_cineon(data: bytes, source: SourceFile) -> Inspection:
    """What the headers say; raises as `inspect_bytes` does.

    The format has no field for the program that wrote a file, nor for its color space: printing density is what it is
    for.
    """
    header = parse_cineon_header(data, name=source.location.url, file_size=source.size_bytes)
    window = Box2i(0, 0, header.width - 1, header.height - 1)
    rate = header.frame_rate
    part = PartFacts(
        index=0,
        name=None,
        view=None,
        type="cineon",
        data_window=window,
        display_window=window,
        pixel_aspect_ratio=1.0,
        line_order=None if header.orientation is None else _line_order(header.orientation),
        compression="none",
        tiles=None,
        is_deep=False,
        color_space=None,
        render_software=None,
        frame_rate=None if rate is None else f"{rate.numerator}/{rate.denominator}",
        time_code=None,
        channels=tuple(Channel(name, f"UINT{header.bit_depth}") for name in header.components),
        attributes=_attributes(header),
    )
    structure: list[Any] = [header.byte_order, window, header.orientation, part.channels]
    structure += [header.interleave, header.packing]
    text = json.dumps(["cineon", HEADER_HASH_VERSION, structure], separators=(",", ":"))
    return Inspection(source, "cineon", (part,), (), hashlib.sha256(text.encode()).hexdigest(), ())


def _line_order(orientation: int) -> str:
    return "decreasingY" if orientation in {2, 3} else "increasingY"


def _attributes(header: CineonHeader) -> tuple[Attribute, ...]:
    named = [(field.name, field) for field in header.fields]
    named += [
        (f"element{index}.{field.name}", field) for index, element in enumerate(header.elements) for field in element
    ]
    return tuple(Attribute(name, field.type, field.value, b"") for name, field in named)
