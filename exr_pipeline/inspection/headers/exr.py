"""From the header of an OpenEXR file to its inspection.

Belongs here: deriving facts from attributes, in a stated order. Not here: parsing and judging attributes
(`exr_pipeline.exr`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from exr_pipeline.exr import encode_text, parse_header, refuse, validate, validate_chunk_offsets
from exr_pipeline.frame_rates import frame_rate_of
from exr_pipeline.inspection.color_space import stated_color_space
from exr_pipeline.inspection.model import HEADER_HASH_VERSION, Inspection, PartFacts

if TYPE_CHECKING:
    from exr_pipeline.exr import Header, Part
    from exr_pipeline.inspection.model import SourceFile

_STRUCTURE: Final = (
    "name",
    "view",
    "displayWindow",
    "pixelAspectRatio",
    "compression",
    "lineOrder",
    "tiles",
    "channels",
)

# By preference: what names the writing program itself, then versions that only one program stores.
_SOFTWARE: Final = ("software", "Software", "renderingProgram", "writer", "creator")
_SOFTWARE_VERSIONS: Final = (
    ("nuke/version", "Nuke"),
    ("arnold/version", "Arnold"),
    ("vrayInfo/vrayversion", "V-Ray"),
    ("rmanVersion", "RenderMan"),
    ("rs/version", "Redshift"),
    ("BlenderMultiChannel", "Blender"),
)


def inspect_exr(data: bytes, source: SourceFile) -> Inspection:
    """What the header says; raises as `inspect_bytes` does."""
    name = source.location.url
    header = parse_header(data, name=name)
    findings = validate(header, file_size=source.size_bytes)
    if not findings or findings[0].severity != "error":
        findings = validate_chunk_offsets(header, data, file_size=source.size_bytes) + findings
    refuse(header, findings, name=name)
    parts = tuple(_exr_part(index, part) for index, part in enumerate(header.parts))
    return Inspection(source, "exr", parts, header.views, header_hash(header), tuple(findings))


def _exr_part(index: int, part: Part) -> PartFacts:
    data_window, display_window, compression = part.data_window, part.display_window, part.compression
    assert data_window is not None
    assert display_window is not None
    assert compression is not None
    code = part.typed("timeCode", "timecode", None)
    return PartFacts(
        index=index,
        name=part.name,
        view=part.view,
        type=part.type,
        data_window=data_window,
        display_window=display_window,
        pixel_aspect_ratio=part.pixel_aspect_ratio,
        line_order=part.line_order,
        compression=compression,
        tiles=part.tiles if part.is_tiled else None,
        is_deep=part.is_deep,
        color_space=stated_color_space(part),
        render_software=render_software(part),
        frame_rate=None if (rate := frame_rate_of(part)) is None else rate.to_text(),
        time_code=None if code is None else code.to_text(),
        channels=part.channels,
        attributes=part.attributes,
    )


def render_software(part: Part) -> str | None:
    """The program that wrote the part: `software`, `Software`, `renderingProgram`, `writer` or `creator`.

    Else the version that Nuke, Arnold, V-Ray, RenderMan, Redshift or Blender leaves, with the program's name.
    """
    for name in _SOFTWARE:
        text = str(part.typed(name, "string", "")).strip()
        if text:
            return text
    for name, program in _SOFTWARE_VERSIONS:
        text = str(part.typed(name, "string", "")).strip()
        if text:
            return text if program.lower() in text.lower() else f"{program} {text}"
    return None


def header_hash(header: Header) -> str:
    """SHA-256 of the header's structure: the same for all frames of a sequence, another if its make-up changes.

    It covers, per part: type, name, view, display window, pixel aspect ratio, compression, line order, tile
    description, the channels with all their fields, and the names and types of all attributes regardless of order. It
    leaves out the values of other attributes (time code, dates), and the data window and its `chunkCount`: renderers
    crop to the picture's content, frame by frame.
    """
    hashed = [b"exr %d" % HEADER_HASH_VERSION]
    for part in header.parts:
        names = sorted([f"{name}\0{type_name}" for name, type_name, _, _ in part.attributes])
        stored = [b"" if (attribute := part.get(name)) is None else attribute.raw for name in _STRUCTURE]
        hashed += [encode_text("\0".join((part.type, *names))), *stored]
    # Lengths first: what belongs to which part can't be read in two ways.
    return hashlib.sha256(b"".join([b"%d " % len(item) for item in hashed] + hashed)).hexdigest()
