"""From a file to an opened picture, by the file's first bytes.

Belongs here: which reader is asked, and judging an EXR header first. Not here: the readers (`exr`, `dpx`,
`image`).
"""

from __future__ import annotations

import mmap
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from exr_pipeline.dpx import MAGICS, parse_dpx_header
from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.exr import MAGIC, Header, NeedMoreBytes, parse_header, refuse, validate, validate_chunk_offsets
from exr_pipeline.pictures.decode.dpx import open_dpx
from exr_pipeline.pictures.decode.exr import open_exr
from exr_pipeline.pictures.decode.image import image_format, open_image
from exr_pipeline.pictures.decode.source import oiio

if TYPE_CHECKING:
    from exr_pipeline.pictures.decode.source import Source

DPX_MAGICS: Final = tuple(MAGICS)
_FIRST_READ: Final = 1 << 16


def open_source(path: str, name: str, *, max_image_mb: int, with_alpha: bool = False, layer: str = "") -> Source:
    """The picture of the file at `path`, called `name` in errors; its pixels are read later, in blocks of lines.

    `layer` names what is shown of an EXR (see `choose_layer`). Images of more than `max_image_mb` MiB are refused
    before any memory is taken. Raises `BadInputError` for a file that is damaged or none of these, and `RetryableError`
    if the system does not let it be read; reading the lines does so too.
    """
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadInputError(name, "not a regular file")
        size = status.st_size
        with Path(path).open("rb") as file:
            start = file.read(_FIRST_READ)
    except (FileNotFoundError, PermissionError) as error:
        raise BadInputError(name, f"cannot be read: {error.strerror}") from error
    except OSError as error:
        raise RetryableError(f"{name}: not read: {error.strerror}") from error
    oiio().attribute("limits:imagesize_MB", max_image_mb)
    if start.startswith(MAGIC):
        header = _read_header(path, name, start, size)
        return open_exr(path, name, header, max_image_mb=max_image_mb, with_alpha=with_alpha, layer=layer)
    if start.startswith(DPX_MAGICS):
        return open_dpx(path, name, parse_dpx_header(start, name=name, file_size=size), max_image_mb=max_image_mb)
    image = image_format(start)
    if image is not None:
        return open_image(path, name, image, max_image_mb=max_image_mb, with_alpha=with_alpha)
    raise BadInputError(name, "neither an OpenEXR, DPX, TIFF, PNG nor JPEG file" if start else "empty file")


def _read_header(path: str, name: str, start: bytes, size: int) -> Header:
    while True:
        try:
            header = parse_header(start, name=name)
            break
        except NeedMoreBytes as more:
            if len(start) >= size:
                raise
            with Path(path).open("rb") as file:
                start = file.read(max(more.needed, 2 * len(start)))
    findings = validate(header, file_size=size)
    if not any(finding.severity == "error" for finding in findings):
        with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            findings = validate_chunk_offsets(header, cast("bytes", data), file_size=size)
    refuse(header, findings, name=name)
    return header
