"""From the first bytes of a file to its inspection: which format it is, and what each part says about itself.

Belongs here: deriving facts from headers, each from stated attributes in a stated order. Not here: reading files.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.dpx import MAGICS as DPX_MAGICS
from exr_pipeline.dpx import DpxHeader, parse_dpx_header
from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import (
    MAGIC,
    Attribute,
    Box2i,
    Channel,
    HeaderError,
    NeedMoreBytes,
    encode_text,
    parse_header,
    refuse,
    validate,
    validate_chunk_offsets,
)
from exr_pipeline.frame_rates import frame_rate_of
from exr_pipeline.inspection.color_space import stated_color_space, stated_dpx_color_space
from exr_pipeline.inspection.model import Inspection, PartFacts, SourceFile

if TYPE_CHECKING:
    from exr_pipeline.exr import Header, Part

HEADER_HASH_VERSION: Final = 2
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
_EXTENSIONS: Final = {"exr": "exr", "sxr": "exr", "mxr": "exr", "dpx": "dpx"}


def inspect_bytes(data: bytes, source: SourceFile) -> Inspection:
    """What the first bytes of a file, or all of it, say. The format is decided by them, never by the name.

    Raises `NeedMoreBytes` if the header is longer than `data` but not than the file, and `BadInputError`, named by the
    source's URL, if the file is empty, neither EXR nor DPX, not what its extension says, damaged or truncated.
    """
    name = source.location.url
    if source.size_bytes == 0:
        raise BadInputError(name, "the file is empty")
    format_ = _format(data)
    if format_ is None:
        if len(data) < 4 and len(data) < source.size_bytes:
            raise NeedMoreBytes(name, len(data), 4)
        raise BadInputError(name, f"neither EXR nor DPX: it begins with {data[:4].hex(' ')}")
    extension = source.location.name.rpartition(".")[2].lower()
    if _EXTENSIONS.get(extension, format_) != format_:
        raise BadInputError(name, f"the extension is .{extension}, the content is {format_.upper()}")
    try:
        return _inspect_exr(data, source) if format_ == "exr" else _inspect_dpx(data, source)
    except NeedMoreBytes as error:
        if error.needed <= source.size_bytes:
            raise
        problem = f"truncated: {source.size_bytes} bytes, but the header alone takes at least {error.needed}"
        raise HeaderError(name, problem, source.size_bytes) from None


def _format(data: bytes) -> str | None:
    magic = data[:4]
    if magic == MAGIC:
        return "exr"
    return "dpx" if magic in DPX_MAGICS else None


def _inspect_exr(data: bytes, source: SourceFile) -> Inspection:
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


def _inspect_dpx(data: bytes, source: SourceFile) -> Inspection:
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
