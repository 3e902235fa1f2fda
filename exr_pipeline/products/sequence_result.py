"""What a run has made of one sequence, and what it is given to work with.

Belongs here: those records. Not here: making media (`products`), or the order of work and rows
(`ingest.sequence_maker`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exr_pipeline.storage.outputs import media_tags
from exr_pipeline.tables.specs import RETRYABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal
    from pathlib import Path

    from exr_pipeline.sequence_movies.presets import MoviePreset
    from exr_pipeline.sequence_movies.sequence_movie import MovieProgress, MovieResult
    from exr_pipeline.sequence_movies.sheets import Sheet
    from exr_pipeline.sequences.model import Sequence
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.storage.outputs import OutputPlace
    from exr_pipeline.tables.specs import State
    from exr_pipeline.workers.pool import WorkerPool


@dataclass(frozen=True, slots=True)
class PixelFindings:
    """What is wrong with pixels of a sequence, by the numbers of its frames, as their own ingest found it.

    Frames without a row, or without pictures, are in neither.
    """

    black: tuple[Decimal, ...] = ()
    nonfinite: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredMedium:
    """A movie or sheet that was stored: what is known of it, where it lies and its size in bytes."""

    made: MovieResult | Sheet
    at: Location
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SequenceWork:
    """What a product of sequences works with."""

    sequence: Sequence
    settings: Settings
    storage: ObjectStorage
    outputs: OutputPlace
    pool: WorkerPool
    preset: MoviePreset
    on_progress: Callable[[MovieProgress], None] | None = None

    def store(self, made: MovieResult | Sheet, ending: str, data: bytes | Path, content_type: str) -> StoredMedium:
        """Store the bytes, or a local file, under the name of the sequence and this ending."""
        # A # in a key would have to be escaped in every URL.
        sequence = self.sequence
        named = sequence.folder.child(f"{sequence.prefix}{'@' * sequence.padding}{sequence.suffix}")
        target = self.outputs.at(named, ending)
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        tags = media_tags(ending.partition(".")[0])
        self.storage.write(target, data, content_type=content_type, tags=tags)
        return StoredMedium(made, target, size)


@dataclass(slots=True)
class SequenceResult:
    """One sequence at the end of a run: its state, the reason if it is not ready, and what was made of it and where.

    `location` is that of its pattern. `media` holds what was made, by the product's name. `was_tried_alone` says that a
    worker was lost with it twice, so that another try in the same run is of no use.
    """

    location: Location
    state: State = RETRYABLE
    reason: str | None = None
    sequence: Sequence | None = None
    pixels: PixelFindings = PixelFindings()
    media: dict[str, StoredMedium] = field(default_factory=dict)
    seconds: float = 0.0
    was_tried_alone: bool = False

    @property
    def url(self) -> str:
        """The URL of the pattern, with its `#` readable."""
        return self.location.url.replace("%23", "#")
