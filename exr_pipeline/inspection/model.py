"""What is known about one file after its header was read, the same for every format.

Belongs here: the facts and their names. Not here: finding them (`inspect`) or writing them down (`json`, `rows`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.inspection.identity import asset_id, file_id, frame_number, iso_time, normalized_path

if TYPE_CHECKING:
    from datetime import datetime

    from exr_pipeline.exr import Attribute, Box2i, Channel, Finding, TileDescription
    from exr_pipeline.inspection.color_space import StatedColorSpace
    from exr_pipeline.storage.locations import Location

# Of the hash of a header's structure. Raised if the same header would now have another one.
HEADER_HASH_VERSION: Final = 2


class _Version:
    """What follows from where a file is and when it was modified."""

    __slots__ = ()

    if TYPE_CHECKING:
        location: Location

        @property
        def mtime(self) -> datetime | None: ...

    @property
    def file_id(self) -> str:
        """Identifier of this version."""
        return file_id(self.location.key, self.mtime)

    @property
    def asset_id(self) -> str:
        """Identifier of the file over all its versions."""
        return asset_id(self.location.key)

    @property
    def frame_number(self) -> int | None:
        """Frame number in the file's name."""
        return frame_number(self.location.key)

    @property
    def normalized_path(self) -> str:
        """The path in lower case with forward slashes."""
        return normalized_path(self.location.path)

    @property
    def mtime_text(self) -> str | None:
        """Modification time, ISO 8601 in UTC, None if it is not known."""
        return None if self.mtime is None else iso_time(self.mtime)


@dataclass(frozen=True, slots=True)
class SourceFile(_Version):
    """A version of a file as its store describes it: where, how large (bytes), from when (aware), its entity tag.

    `seen_at` is when the store said so (aware), None if it did not.
    """

    location: Location
    size_bytes: int
    mtime: datetime
    etag: str | None = None
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UnseenFile(_Version):
    """A file that could not be looked up: the version that the tables know, whose size is not known here.

    `mtime` is None if they know none. Any real version supersedes it.
    """

    location: Location
    mtime: datetime | None = None
    etag: str | None = None

    @property
    def size_bytes(self) -> None:
        """Unknown."""

    @property
    def seen_at(self) -> None:
        """Not seen."""


@dataclass(frozen=True, slots=True)
class PartFacts:
    """Facts of one part (of the whole picture, for formats without parts).

    Windows are in pixels with both corners inside. `frame_rate` is a fraction as text, `time_code` hh:mm:ss:ff.
    Channels and attributes are in file order; attributes of DPX have no raw bytes and None where undefined.
    """

    index: int
    name: str | None
    view: str | None
    type: str
    data_window: Box2i
    display_window: Box2i
    pixel_aspect_ratio: float
    line_order: str | None
    compression: str
    tiles: TileDescription | None
    is_deep: bool
    color_space: StatedColorSpace | None
    render_software: str | None
    frame_rate: str | None
    time_code: str | None
    channels: tuple[Channel, ...]
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True)
class Inspection:
    """A file whose header was read and makes sense. `warnings` don't keep it from being used."""

    source: SourceFile
    format: str
    parts: tuple[PartFacts, ...]
    views: tuple[str, ...]
    header_hash: str
    warnings: tuple[Finding, ...]

    @property
    def is_deep(self) -> bool:
        """Whether any part is deep."""
        return any(part.is_deep for part in self.parts)

    @property
    def multi_view(self) -> bool:
        """Whether the file holds several views."""
        return len(self.views) > 1

    @cached_property
    def file_id(self) -> str:
        """Identifier of this version of the file."""
        return self.source.file_id

    @cached_property
    def header_bytes(self) -> int:
        """Size of all attributes' values as stored."""
        return sum(len(attribute.raw) for part in self.parts for attribute in part.attributes)

    def channel_names(self) -> list[str]:
        """Names of all channels in file order; those of several parts begin with the part's name in brackets."""
        if len(self.parts) == 1:
            return [channel.name for channel in self.parts[0].channels]
        return [f"[{part.name or part.index}] {channel.name}" for part in self.parts for channel in part.channels]

    def warning_texts(self) -> list[str]:
        """The warnings, one line each."""
        return [
            ("" if finding.part_index is None else f"part {finding.part_index}: ")
            + f"{finding.message} (at byte {finding.offset})"
            for finding in self.warnings
        ]

    def summary(self) -> dict[str, Any]:
        """What people look at first: plain texts and numbers of the first part, counts over all."""
        first = self.parts[0]
        return {
            "format": self.format,
            "resolution": f"{first.data_window.width}x{first.data_window.height}",
            "display_resolution": f"{first.display_window.width}x{first.display_window.height}",
            "parts": len(self.parts),
            "channels": sum(len(part.channels) for part in self.parts),
            "compression": first.compression,
            "color_space": first.color_space.name if first.color_space else "not stated",
            "views": ", ".join(self.views),
            "deep": self.is_deep,
            "frame_rate": first.frame_rate or "",
            "time_code": first.time_code or "",
            "render_software": first.render_software or "",
        }
