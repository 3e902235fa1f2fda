"""The worker processes that render files.

Belongs here: that one call. Not here: processes and their limits (`workers.pool`), or rendering (`render`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from exr_pipeline.workers.in_process import InProcessPool
from exr_pipeline.workers.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from exr_pipeline.pictures.picture_settings import PictureSettings
    from exr_pipeline.pictures.results import RenderedPictures
    from exr_pipeline.pictures.shown import Picture


class _RendersPictures:
    """Files as the calls of some pool."""

    _settings: PictureSettings
    call: Any

    def submit(
        self,
        path: str,
        name: str,
        *,
        thumbnail: bool = True,
        proxy: bool = True,
        others: Mapping[str, Callable[[Picture], Any]] | None = None,
    ) -> Future[RenderedPictures]:
        """Render a local file as `render_picture` does, in some worker; see there for the arguments, and `call`."""
        timeout = self._settings.worker_timeout_seconds
        call: Future[RenderedPictures] = self.call(
            _render, name, timeout, path, name, thumbnail, proxy, dict(others or {}), self._settings
        )
        return call


class PicturePool(_RendersPictures, WorkerPool):
    """`settings.workers` processes that render files. Entering raises `MisconfiguredError` for a bad OCIO config."""

    def __init__(self, settings: PictureSettings) -> None:
        super().__init__(workers=settings.workers, memory_mb=settings.worker_memory_mb)
        self._settings = settings

    def __enter__(self) -> Self:
        from exr_pipeline.color.config import load_config

        load_config(self._settings)
        return super().__enter__()


class InProcessPicturePool(_RendersPictures, InProcessPool):
    """The same without processes: for platforms that isolate each call themselves."""

    def __init__(self, settings: PictureSettings) -> None:
        super().__init__()
        self._settings = settings

    def __enter__(self) -> Self:
        from exr_pipeline.color.config import load_config

        load_config(self._settings)
        return super().__enter__()


def _render(
    path: str,
    name: str,
    thumbnail: bool,
    proxy: bool,
    others: Mapping[str, Callable[[Picture], Any]],
    settings: PictureSettings,
) -> RenderedPictures:
    from exr_pipeline.pictures.render import render_picture

    return render_picture(path, name, thumbnail=thumbnail, proxy=proxy, others=others, settings=settings)
