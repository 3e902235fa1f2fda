"""The kinds of files that are ingested, one row each: their names and first bytes, and who reads them.

Belongs here: the rows, and what they alone answer. Not here: reading a header (`inspection`, `footage`) or pixels
(`pictures.decode`). Readers are named, not imported: `Reader.load` imports one when it is first needed.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# render: the first bytes are a header that says everything, and are parsed in the run's own process.
# still, movie, sound: a library reads the whole file, in a worker process.
Category = Literal["render", "still", "movie", "sound"]


@dataclass(frozen=True, slots=True)
class Reader:
    """A function by its name, `package.module:function`."""

    name: str

    def load(self) -> Callable[..., Any]:
        """The function; its module is imported if it is not yet."""
        return _loaded(self.name)


@cache
def _loaded(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


@dataclass(frozen=True, slots=True)
class FileFormat:
    """One kind of file.

    - `name`: in the column `files.format`; movies and sounds have the name of their container there instead.
    - `label`: what people call it.
    - `kind`: the word for it in `EXR_PIPELINE_SOURCE_KINDS`. Several formats may share one.
    - `extensions`: of files that are ingested, in lower case. `other_extensions` are read by `inspect` only.
    - `header`: for a render, from first bytes and `SourceFile` to `Inspection`, and `NeedMoreBytes` if they do not
      suffice. For a still, from a local path and `SourceFile` to `Inspection`. For a movie or sound, from a local path
      and the file's name to `MediaProbe`.
    - `picture`: from `PictureFile` to an opened `Source`; of movies and sounds, `render_media`.
    - `magics`: its possible first bytes. Without any, its library decides what a file is.
    - `can_be_frame`: whether numbered files of it are sequences.
    - `containers`: names of the demuxers that may open it, of movies and sounds.
    """

    name: str
    label: str
    kind: str
    category: Category
    extensions: tuple[str, ...]
    header: Reader
    picture: Reader
    magics: tuple[bytes, ...] = ()
    other_extensions: tuple[str, ...] = ()
    can_be_frame: bool = False
    containers: tuple[str, ...] = ()


_OF_STILL: Final = Reader("exr_pipeline.footage.stills:inspect_still")
_IMAGE: Final = Reader("exr_pipeline.pictures.decode.image:open_image")
_PROBE: Final = Reader("exr_pipeline.footage.probe:probe_media")
_MEDIA: Final = Reader("exr_pipeline.footage.render:render_media")

FORMATS: Final[tuple[FileFormat, ...]] = (
    FileFormat(
        "exr",
        "OpenEXR",
        kind="exr",
        category="render",
        extensions=(".exr",),
        header=Reader("exr_pipeline.inspection.headers.exr:inspect_exr"),
        picture=Reader("exr_pipeline.pictures.decode.exr:open_exr"),
        magics=(b"\x76\x2f\x31\x01",),
        other_extensions=(".sxr", ".mxr"),
        can_be_frame=True,
    ),
    FileFormat(
        "dpx",
        "DPX",
        kind="dpx",
        category="render",
        extensions=(".dpx",),
        header=Reader("exr_pipeline.inspection.headers.dpx:inspect_dpx"),
        picture=Reader("exr_pipeline.pictures.decode.dpx:open_dpx"),
        magics=(b"SDPX", b"XPDS"),
        can_be_frame=True,
    ),
    FileFormat(
        "cineon",
        "Cineon",
        kind="cineon",
        category="render",
        extensions=(".cin",),
        header=Reader("exr_pipeline.inspection.headers.cineon:inspect_cineon"),
        picture=Reader("exr_pipeline.pictures.decode.cineon:open_cineon"),
        magics=(b"\x80\x2a\x5f\xd7", b"\xd7\x5f\x2a\x80"),
        can_be_frame=True,
    ),
    FileFormat(
        "tiff",
        "TIFF",
        kind="image",
        category="still",
        extensions=(".tif", ".tiff"),
        header=_OF_STILL,
        picture=_IMAGE,
        # Both byte orders, and those with 64-bit offsets.
        magics=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        can_be_frame=True,
    ),
    FileFormat(
        "png",
        "PNG",
        kind="image",
        category="still",
        extensions=(".png",),
        header=_OF_STILL,
        picture=_IMAGE,
        magics=(b"\x89PNG\r\n\x1a\n",),
        can_be_frame=True,
    ),
    FileFormat(
        "jpeg",
        "JPEG",
        kind="image",
        category="still",
        extensions=(".jpg", ".jpeg"),
        header=_OF_STILL,
        picture=_IMAGE,
        magics=(b"\xff\xd8\xff",),
        can_be_frame=True,
    ),
    # Playlists and lists of files are not among the containers: they name other files and addresses, which would be
    # read too.
    FileFormat(
        "movie",
        "movie",
        kind="movie",
        category="movie",
        extensions=(
            *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".mxf", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
            *(".wmv", ".flv", ".ogv", ".3gp"),
        ),
        header=_PROBE,
        picture=_MEDIA,
        containers=(
            *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mxf", "mxf_opatom", "mpeg"),
            *("mpegts", "asf", "flv", "ogg", "gxf"),
        ),
    ),
    FileFormat(
        "audio",
        "sound",
        kind="audio",
        category="sound",
        extensions=(
            *(".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".w64", ".wma"),
            ".caf",
        ),
        header=_PROBE,
        picture=_MEDIA,
        containers=("wav", "w64", "flac", "mp3", "aac", "aiff", "caf"),
    ),
)

# Words of EXR_PIPELINE_SOURCE_KINDS.
KINDS: Final = tuple(dict.fromkeys(row.kind for row in FORMATS))
# Kinds that nothing made by us could be mistaken for.
RENDER_KINDS: Final = tuple(dict.fromkeys(row.kind for row in FORMATS if row.category == "render"))
PICTURE_FORMATS: Final = tuple(row.name for row in FORMATS if row.category in {"render", "still"})
FRAME_EXTENSIONS: Final = tuple(extension for row in FORMATS if row.can_be_frame for extension in row.extensions)
FRAME_FORMATS: Final = frozenset(row.name for row in FORMATS if row.can_be_frame)
LONGEST_MAGIC: Final = max(len(magic) for row in FORMATS for magic in row.magics)

_BY_EXTENSION: Final = {extension: row for row in FORMATS for extension in row.extensions}


def format_of_name(name: str) -> FileFormat | None:
    """What a file is taken to be by the extension of its name or key, in either case; None if it is not ingested."""
    dot = name.rfind(".")
    return _BY_EXTENSION.get(name[dot:].lower()) if dot >= 0 else None


def category_of(name: str) -> Category | None:
    """The category of what a file is taken to be by its name or key."""
    found = format_of_name(name)
    return None if found is None else found.category


def plays(name: str) -> bool:
    """Whether a file is a movie or a sound by its name."""
    return category_of(name) in {"movie", "sound"}


def format_of_bytes(start: bytes) -> FileFormat | None:
    """What a file that begins so is, if its first bytes tell; `LONGEST_MAGIC` bytes are enough."""
    return next((row for row in FORMATS if row.magics and start.startswith(row.magics)), None)


def labels(*categories: Category) -> str:
    """The formats of some categories as a sentence names them: `OpenEXR or DPX`."""
    *others, last = (row.label for row in FORMATS if row.category in categories)
    return f"{', '.join(others)} or {last}" if others else last


def described_kinds(kinds: Iterable[str] = KINDS) -> str:
    """Kinds with the formats in each where its word does not say so: `exr, dpx, image (TIFF, PNG, JPEG)`."""
    shared = {kind: [row.label for row in FORMATS if row.kind == kind] for kind in kinds}
    return ", ".join(f"{kind} ({', '.join(names)})" if len(names) > 1 else kind for kind, names in shared.items())


# Media types by extension that Python's own list lacks.
MORE_MEDIA_TYPES: Final = {
    ".dpx": "image/x-dpx",
    ".exr": "image/x-exr",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".m4v": "video/mp4",
    ".mkv": "video/x-matroska",
    ".ogg": "audio/ogg",
}
