"""From the first bytes of a file to its inspection: which format it is, and whether it is what its name says.

Belongs here: that decision. Not here: what a header says (`headers`), which formats there are (`exr_pipeline.formats`),
or reading files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import HeaderError, NeedMoreBytes
from exr_pipeline.formats import FORMATS, format_of_bytes, labels

if TYPE_CHECKING:
    from exr_pipeline.inspection.model import Inspection, SourceFile

_RENDERS: Final = tuple(row for row in FORMATS if row.category == "render")
_BY_EXTENSION: Final = {extension: row for row in _RENDERS for extension in (*row.extensions, *row.other_extensions)}
_LONGEST_MAGIC: Final = max(len(magic) for row in _RENDERS for magic in row.magics)


def inspect_bytes(data: bytes, source: SourceFile) -> Inspection:
    """What the first bytes of a file, or all of it, say. The format is decided by them, never by the name.

    Raises `NeedMoreBytes` if the header is longer than `data` but not than the file, and `BadInputError`, named by the
    source's URL, if the file is empty, no render, not what its extension says, damaged or truncated.
    """
    name = source.location.url
    if source.size_bytes == 0:
        raise BadInputError(name, "the file is empty")
    format_ = format_of_bytes(data)
    if format_ is None or format_.category != "render":
        if len(data) < _LONGEST_MAGIC and len(data) < source.size_bytes:
            raise NeedMoreBytes(name, len(data), _LONGEST_MAGIC)
        raise BadInputError(name, f"not an {labels('render')} file: it begins with {data[:4].hex(' ')}")
    extension = f".{source.location.name.rpartition('.')[2].lower()}"
    if _BY_EXTENSION.get(extension, format_) is not format_:
        raise BadInputError(name, f"the extension is {extension}, the content is {format_.label}")
    try:
        inspection: Inspection = format_.header.load()(data, source)
    except NeedMoreBytes as error:
        if error.needed <= source.size_bytes:
            raise
        problem = f"truncated: the file has {source.size_bytes} bytes, its header takes at least {error.needed}"
        raise HeaderError(name, problem, source.size_bytes) from None
    return inspection
