"""Opening a movie or sound that nobody vouches for.

Belongs here: which containers are let in, and errors as ours. Not here: what is read of them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer

# Containers by the name of their demuxer. Playlists and lists of files are not among them: those name other files and
# addresses, which would be read too.
_CONTAINERS: Final = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mxf", "mxf_opatom", "mpeg", "mpegts"),
    *("asf", "flv", "ogg", "wav", "w64", "flac", "mp3", "aac", "aiff", "caf", "gxf"),
)


@contextmanager
def opened(path: str, name: str) -> Iterator[InputContainer]:
    """The container in a local file; errors of libav within the block become `BadInputError` of `name`."""
    import av

    options = {"format_whitelist": ",".join(_CONTAINERS), "protocol_whitelist": "file"}
    try:
        with av.open(path, options=options, metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise BadInputError(name, f"not a movie or sound that can be read: {reason}") from error
    except EOFError as error:
        raise BadInputError(name, "not a movie or sound that can be read: it ends too early") from error
