"""What rendering one file yields, as plain values that travel between processes.

Belongs here: those values. Not here: making them (`render`). Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction
    from pathlib import Path

    from exr_pipeline.pictures.provenance import Provenance


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A still of `width` x `height` pixels, made for `view` (display / view), encoded in `color_space` by `encoder`.

    `data` is a JPEG, unless `PictureSettings.thumbnail_format` asks for something else.
    """

    data: bytes
    width: int
    height: int
    view: str
    color_space: str
    encoder: str


@dataclass(frozen=True, slots=True)
class Proxy:
    """An MP4 of `width` x `height` pixels and `duration` seconds at `rate` frames per second, made for `view`.

    That of a movie, which may be of any size, is a local file; that of a sound has no pixels and rate 0. `still_jpeg`
    is a still of that size, if one is wanted.
    """

    mp4: bytes | Path
    width: int
    height: int
    duration: float
    rate: Fraction
    view: str
    color_space: str
    encoder: str
    file_bytes: int = 0
    still_jpeg: bytes | None = None

    @property
    def size_bytes(self) -> int:
        """Size of the MP4, also once its file is gone (`file_bytes`)."""
        return len(self.mp4) if isinstance(self.mp4, bytes) else self.file_bytes


@dataclass(frozen=True, slots=True)
class Filmstrip:
    """A JPEG of `frames` frames side by side, `width` x `height` pixels in all, and a smaller one for web pages."""

    jpeg: bytes
    width: int
    height: int
    frames: int
    preview_jpeg: bytes


@dataclass(frozen=True, slots=True)
class RenderedPictures:
    """What was made of one file and how: the pictures asked for, their provenance, and findings.

    `icon_webp` is a picture below 1 KB for web pages. `is_black`: every pixel of the outputs is 0. Pixels with NaN or
    infinity were replaced and are counted in the resolution that was decoded. Only movies have a filmstrip.
    Reading and decoding took `decode_seconds` of the `seconds`; of movies, where the two overlap, it is 0.
    `others` is what other products have made of the picture, by their names.
    """

    thumbnail: Thumbnail | None
    proxy: Proxy | None
    icon_webp: bytes
    provenance: Provenance
    nan_pixels: int
    inf_pixels: int
    is_black: bool
    warnings: tuple[str, ...]
    seconds: float
    decode_seconds: float = 0.0
    filmstrip: Filmstrip | None = None
    others: Mapping[str, Any] = field(default_factory=dict)
