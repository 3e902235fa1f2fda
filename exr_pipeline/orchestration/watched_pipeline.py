"""A pipeline whose runs tell the process that started them how far they are.

Belongs here: those callbacks. Not here: the log of a run (`steps.progress`), or what the callbacks do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exr_pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from exr_pipeline.ingest.chunk import ChunkProgress
    from exr_pipeline.sequence_movies.sequence_movie import MovieProgress
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location


class WatchedPipeline(Pipeline):
    """`on_progress` gets a run's id and its progress, `on_movie_progress` a sequence and that of its movie."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_progress: Callable[[str, ChunkProgress], None] | None = None,
        on_movie_progress: Callable[[Location, MovieProgress], None] | None = None,
    ) -> None:
        super().__init__(settings)
        self.on_progress = on_progress
        self.on_movie_progress = on_movie_progress
