"""From a file to an opened picture, by the file's first bytes.

Belongs here: getting at the file, and which reader is asked. Not here: the readers (`exr`, `dpx`, `image`), or which
formats there are (`exr_pipeline.formats`).
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.formats import format_of_bytes, labels
from exr_pipeline.pictures.decode.source import PictureFile, oiio

if TYPE_CHECKING:
    from exr_pipeline.pictures.decode.source import Source

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
        with Path(path).open("rb") as file:
            start = file.read(_FIRST_READ)
    except (FileNotFoundError, PermissionError) as error:
        raise BadInputError(name, f"cannot be read: {error.strerror}") from error
    except OSError as error:
        raise RetryableError(f"{name}: not read: {error.strerror}") from error
    oiio().attribute("limits:imagesize_MB", max_image_mb)
    format_ = format_of_bytes(start)
    if format_ is None:
        known = labels("render", "still")
        raise BadInputError(name, f"not an {known} file" if start else "the file is empty")
    source: Source = format_.picture.load()(
        PictureFile(path, name, start, status.st_size, max_image_mb, with_alpha, layer)
    )
    return source
