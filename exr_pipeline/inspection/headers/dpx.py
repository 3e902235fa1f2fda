"""From the headers of a DPX file to its inspection.

Belongs here: deriving facts from fields. Not here: parsing them (`exr_pipeline.dpx`).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from exr_pipeline.dpx import parse_dpx_header
from exr_pipeline.exr import Attribute, Box2i, Channel
from exr_pipeline.inspection.color_space import stated_dpx_color_space
from exr_pipeline.inspection.model import HEADER_HASH_VERSION, Inspection, PartFacts

if TYPE_CHECKING:
    from exr_pipeline.dpx import DpxHeader
    from exr_pipeline.inspection.model import SourceFile


def inspect_dpx(data: bytes, source: SourceFile) -> Inspection:
    """What the headers say; raises as `inspect_bytes` does."""
    header = parse_dpx_header(data, name=source.location.url, file_size=source.size_bytes)
    window = Box2i(0, 0, header.width - 1, header.height - 1)
    rate, code = header.frame_rate, header.time_code
    part = PartFacts(
        index=0,
        name=None,
        view=None,
        type="dpx",
        data_window=window,
        display_window=window,
        pixel_aspect_ratio=header.pixel_aspect_ratio or 1.0,
        line_order=None if header.orientation is None else _dpx_line_order(header.orientation),
        compression=header.elements[0].encoding or f"unknown ({header.elements[0].value('encoding')})",
        tiles=None,
        is_deep=False,
        color_space=stated_dpx_color_space(header),
        render_software=header.value("creator"),
        frame_rate=None if rate is None else f"{rate.numerator}/{rate.denominator}",
        time_code=None if code is None else code.to_text(),
        channels=_dpx_channels(header),
        attributes=_dpx_attributes(header),
    )
    structure: list[Any] = [header.byte_order, window, header.orientation, part.channels]
    structure += [[element.descriptor, element.transfer, element.encoding] for element in header.elements]
    text = json.dumps(["dpx", HEADER_HASH_VERSION, structure], separators=(",", ":"))
    hashed = hashlib.sha256(text.encode()).hexdigest()
    return Inspection(source, "dpx", (part,), (), hashed, ())


def _dpx_line_order(orientation: int) -> str:
    return "decreasingY" if orientation in {2, 3} else "increasingY"


def _dpx_channels(header: DpxHeader) -> tuple[Channel, ...]:
    channels: list[Channel] = []
    for element in header.elements:
        subsampled = element.descriptor in {"CbYCrY", "CbYACrYA"}
        for component in element.components:
            sampling = 2 if subsampled and component in {"Cb", "Cr"} else 1
            channels.append(Channel(component, element.sample_format, x_sampling=sampling))
    return tuple(channels)


def _dpx_attributes(header: DpxHeader) -> tuple[Attribute, ...]:
    named = [(field.name, field) for field in header.fields]
    named += [
        (f"element{index}.{field.name}", field)
        for index, element in enumerate(header.elements)
        for field in element.fields
    ]
    return tuple(Attribute(name, field.type, field.value, b"") for name, field in named)
