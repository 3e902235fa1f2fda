"""What the assets, jobs and sensor are given to work with: settings and the clients built from them.

Belongs here: making clients, late and once per process. Not here: what is done with them.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from exr_pipeline.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from exr_pipeline.ingest.chunk import Progress
    from exr_pipeline.sequence_movies.sequence_movie import MovieProgress
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.tables.store import TableStore


class Pipeline:
    """Settings and clients of one process. Clients are made when first used, so that loading definitions stays quick.

    `on_progress` is told how far which run in this process is, by its id, besides the run's own log, and
    `on_movie_progress` how far the movie of which sequence is.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        on_progress: Callable[[str, Progress], None] | None = None,
        on_movie_progress: Callable[[Location, MovieProgress], None] | None = None,
    ) -> None:
        self._settings = settings
        self.on_progress = on_progress
        self.on_movie_progress = on_movie_progress

    @cached_property
    def settings(self) -> Settings:
        """The settings of this process, from the environment unless given."""
        return self._settings or Settings()

    @cached_property
    def storage(self) -> ObjectStorage:
        """The object storage client."""
        from exr_pipeline.storage.objects import ObjectStorage

        return ObjectStorage(self.settings)

    @cached_property
    def tables(self) -> TableStore:
        """The table store. The first write makes its tables."""
        from exr_pipeline.tables import open_table_store

        return open_table_store(self.settings)
