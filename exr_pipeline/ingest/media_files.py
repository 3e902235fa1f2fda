"""One movie, sound or still from its bytes to what is known and made of it, all of it in worker processes.

Belongs here: which worker calls a file of these kinds takes. Not here: renders, fetching, rows (`chunk`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from exr_pipeline.formats import category_of, format_of_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from exr_pipeline.footage import MediaProbe
    from exr_pipeline.ingest.chunk import Wanted
    from exr_pipeline.ingest.products import FileProducts
    from exr_pipeline.pictures import PicturePool
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location

_LONGEST_SECONDS: Final = 24 * 3600.0


def is_media(location: Location) -> bool:
    """Whether a file is a movie, sound or still by its name: one that only a worker process may open."""
    return category_of(location.name) in {"movie", "sound", "still"}


def needs_workers(locations: Iterable[Location], wanted: Wanted) -> bool:
    """Whether files can only be dealt with by worker processes."""
    return wanted.pictures or any(map(is_media, locations))


async def make_media(
    products: FileProducts, path: Path, proxy_path: Path, wanted: Wanted, pool: PicturePool, settings: Settings
) -> None:
    """Probe the local file at `path`, and render what is wanted of it; the proxy of a movie goes to `proxy_path`.

    Raises `BadInputError` if the file is at fault.
    """
    from exr_pipeline.pictures import PictureSettings

    name, format_ = products.location.url, format_of_name(products.location.name)
    assert products.source is not None
    assert format_ is not None
    read_header = format_.header.load()
    if format_.category == "still":
        products.inspection = await asyncio.wrap_future(
            pool.call(read_header, name, settings.worker_timeout_seconds, str(path), products.source)
        )
        if wanted.pictures:
            products.pictures = await asyncio.wrap_future(
                pool.submit(str(path), name, thumbnail=wanted.thumbnail, proxy=wanted.proxy)
            )
        return
    media: MediaProbe = await asyncio.wrap_future(
        pool.call(read_header, name, settings.worker_timeout_seconds, str(path), name)
    )
    products.media = media
    if wanted.pictures:
        work = pool.call(
            format_.picture.load(),
            name,
            render_timeout(media, settings),
            str(path),
            name,
            media,
            thumbnail=wanted.thumbnail,
            proxy_path=str(proxy_path) if wanted.proxy else None,
            settings=PictureSettings.from_settings(settings),
        )
        products.pictures = await asyncio.wrap_future(work)


def render_timeout(media: MediaProbe, settings: Settings) -> float:
    """Seconds that a movie's pictures may take: those of any file, and more in proportion to its length."""
    length = min(media.duration_seconds or 0.0, _LONGEST_SECONDS)
    return settings.worker_timeout_seconds + length * settings.movie_timeout_factor
