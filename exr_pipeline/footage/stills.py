"""What a TIFF, PNG or JPEG file says of itself: its pictures as parts, their channels and attributes.

Belongs here: reading it through OpenImageIO. Not here: pixels (`pictures`). Runs in a worker process: these decoders
meet files of nobody's.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import Attribute, Box2i, Channel, TileDescription
from exr_pipeline.formats import LONGEST_MAGIC, format_of_bytes, labels
from exr_pipeline.inspection import Inspection, PartFacts, StatedColorSpace

if TYPE_CHECKING:
    from exr_pipeline.inspection import SourceFile

HASH_VERSION: Final = 1
# Pages beyond this are not listed.
MOST_PARTS: Final = 256


def inspect_still(path: str, source: SourceFile) -> Inspection:
    """The inspection of the TIFF, PNG or JPEG file at the local `path`, whatever its extension says.

    Each page of a TIFF is a part. Raises `BadInputError`, named by the source's URL.
    """
    import OpenImageIO as Oiio

    name = source.location.url
    with Path(path).open("rb") as file:
        start = file.read(LONGEST_MAGIC)
    if not start:
        raise BadInputError(name, "the file is empty")
    found = format_of_bytes(start)
    if found is None or found.category != "still":
        raise BadInputError(name, f"not a {labels('still')} file: it begins with {start.hex(' ')}")
    format_ = found.name
    reader = Oiio.ImageInput.open(path)
    if reader is None or reader.format_name() != format_:
        problem = Oiio.geterror() or "it cannot be opened"
        raise BadInputError(name, f"damaged {found.label} header: {' '.join(problem.replace(path, '').split())}")
    parts: list[PartFacts] = []
    while len(parts) < MOST_PARTS and reader.seek_subimage(len(parts), 0):
        parts.append(_part(len(parts), reader.spec(), format_))
    reader.close()
    structure = [[part.compression, part.display_window, part.channels] for part in parts]
    text = json.dumps([format_, HASH_VERSION, structure], separators=(",", ":"))
    return Inspection(source, format_, tuple(parts), (), hashlib.sha256(text.encode()).hexdigest(), ())


def _part(index: int, spec: Any, format_: str) -> PartFacts:
    data = Box2i(spec.x, spec.y, spec.x + spec.width - 1, spec.y + spec.height - 1)
    display = Box2i(spec.full_x, spec.full_y, spec.full_x + spec.full_width - 1, spec.full_y + spec.full_height - 1)
    space = spec.get_string_attribute("oiio:ColorSpace")
    formats = list(spec.channelformats) or [spec.format] * spec.nchannels
    return PartFacts(
        index=index,
        name=spec.get_string_attribute("oiio:subimagename") or None,
        view=None,
        type=format_,
        data_window=data,
        display_window=display,
        pixel_aspect_ratio=spec.get_float_attribute("PixelAspectRatio", 1.0) or 1.0,
        line_order="increasingY",
        compression=spec.get_string_attribute("compression") or {"png": "deflate", "jpeg": "jpeg"}.get(format_, "none"),
        tiles=TileDescription(spec.tile_width, spec.tile_height) if spec.tile_width else None,
        is_deep=False,
        color_space=StatedColorSpace(space, "oiio:ColorSpace") if space else None,
        render_software=spec.get_string_attribute("Software") or None,
        frame_rate=None,
        time_code=spec.get_string_attribute("smpte:TimeCode") or None,
        channels=tuple(
            Channel(channel, str(kind).upper()) for channel, kind in zip(spec.channelnames, formats, strict=True)
        ),
        attributes=tuple(_attribute(item) for item in spec.extra_attribs),
    )


def _attribute(item: Any) -> Attribute:
    """An attribute with OpenImageIO's name and type of it; arrays of bytes (ICC profiles) as bytes."""
    value, kind = item.value, str(item.type)
    if kind.startswith(("uint8[", "char[")):
        raw = bytes(value.tobytes() if hasattr(value, "tobytes") else bytearray(value))
        return Attribute(item.name, kind, raw, raw)
    if isinstance(value, tuple | list):
        value = [_plain(one) for one in value]
    elif hasattr(value, "tolist"):
        value = value.tolist()
    return Attribute(item.name, kind, _plain(value), b"")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | list) or value is None else str(value)
