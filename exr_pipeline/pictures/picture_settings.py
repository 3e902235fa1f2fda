"""What the pictures depend on, as one small value that a worker process can be sent.

Belongs here: that value. Not here: the environment (`exr_pipeline.settings`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """The part of `Settings` that decides how pictures look and what making them may cost; names and units are its."""

    ocio: str | None
    ocio_config_path: str | None
    default_color_space: str
    still_view: Literal["view", "un-tone-mapped"]
    proxy_view: Literal["view", "un-tone-mapped"]
    thumbnail_size: int
    proxy_width: int
    proxy_height: int
    proxy_seconds: float
    max_image_mb: int
    workers: int
    worker_memory_mb: int
    worker_timeout_seconds: float

    @classmethod
    def from_settings(cls, settings: Settings) -> PictureSettings:
        """The picture settings among all settings."""
        return cls(**{name: getattr(settings, name) for name in cls.__slots__})
