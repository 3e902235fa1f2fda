"""What is known of a movie or sound after its streams were probed, as plain values that travel between processes.

Belongs here: the facts and their forms as JSON and as a summary. Not here: finding them (`probe`), rows (`rows`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

JSON_VERSION: Final = 1
HASH_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class MediaStream:
    """One stream; the fields are the columns of `media_streams` (see docs/tables.md), None where nothing is stated."""

    index: int
    type: str
    codec: str | None = None
    profile: str | None = None
    width: int | None = None
    height: int | None = None
    sample_aspect_ratio: str | None = None
    rotation: int | None = None
    pixel_format: str | None = None
    field_order: str | None = None
    color_primaries: str | None = None
    color_transfer: str | None = None
    color_matrix: str | None = None
    color_range: str | None = None
    frame_rate: str | None = None
    frame_count: int | None = None
    time_code: str | None = None
    sample_rate: int | None = None
    channel_count: int | None = None
    channel_layout: str | None = None
    sample_format: str | None = None
    bit_rate: int | None = None
    start_seconds: float | None = None
    duration_seconds: float | None = None
    language: str | None = None
    is_default: bool = False
    tags: tuple[tuple[str, str], ...] = ()


# What tells one kind of movie from another, whatever is in it: these make the hash of a file's structure.
_STRUCTURE: Final = (
    *("type", "codec", "profile", "width", "height", "sample_aspect_ratio", "rotation", "pixel_format", "field_order"),
    *("color_primaries", "color_transfer", "color_matrix", "color_range", "frame_rate"),
    *("sample_rate", "channel_count", "channel_layout", "sample_format", "language"),
)


@dataclass(frozen=True, slots=True)
class MediaProbe:
    """A movie or sound: its container and its streams in the file's order.

    `format` is a short name such as mov, mp4, mxf, wav; `container_format` FFmpeg's names of all that it may be.
    `time_code` is that of the first stream that has one, else the container's.
    """

    format: str
    container_format: str
    duration_seconds: float | None
    bit_rate: int | None
    time_code: str | None
    tags: tuple[tuple[str, str], ...]
    streams: tuple[MediaStream, ...]

    def first(self, kind: str) -> MediaStream | None:
        """The first stream of a type that is marked as default, else the first of that type; of a known codec only."""
        found = [stream for stream in self.streams if stream.type == kind and stream.codec]
        return next((stream for stream in found if stream.is_default), found[0] if found else None)

    @property
    def structure_hash(self) -> str:
        """SHA-256 of what the streams are: the same for movies made alike, whatever they show and however long."""
        structure = [[getattr(stream, name) for name in _STRUCTURE] for stream in self.streams]
        text = json.dumps(["media", HASH_VERSION, self.format, structure], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def summary(self) -> dict[str, Any]:
        """What people look at first: plain texts and numbers."""
        facts: dict[str, Any] = {
            "format": self.format,
            "duration": round(self.duration_seconds or 0.0, 3),
            "streams": ", ".join(f"{stream.type} {stream.codec or ''}".strip() for stream in self.streams),
        }
        if (video := self.first("video")) is not None:
            facts |= {
                "resolution": f"{video.width}x{video.height}",
                "video codec": " ".join(filter(None, (video.codec, video.profile))),
                "pixel format": video.pixel_format or "",
                "frame_rate": video.frame_rate or "",
                "frames": video.frame_count or 0,
                "color_space": color_text(video),
            }
        if (audio := self.first("audio")) is not None:
            facts |= {
                "audio codec": audio.codec or "",
                "sample rate": audio.sample_rate or 0,
                "audio channels": audio.channel_layout or str(audio.channel_count or ""),
            }
        return {**facts, "time_code": self.time_code or ""}

    def to_json(self) -> dict[str, Any]:
        """All of it, as `exr-pipeline probe --json` prints it: the same file gives the same text."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        streams = [{**asdict(stream), "tags": dict(stream.tags)} for stream in self.streams]
        return {"schema_version": JSON_VERSION} | facts | {"tags": dict(self.tags), "streams": streams}


def color_text(stream: MediaStream) -> str:
    """The color tags of a video stream in one line: primaries, transfer, matrix, range; `?` where it has none."""
    tags = (stream.color_primaries, stream.color_transfer, stream.color_matrix, stream.color_range)
    return "/".join(tag or "?" for tag in tags) if any(tags) else "not stated"
