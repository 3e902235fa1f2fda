"""What workers make of files: of pictures, and of movies, sounds and stills all that is known of them.

Belongs here: which worker calls a file takes. Not here: headers of renders, fetching, rows (`chunk`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from exr_pipeline.formats import category_of, format_of_name
from exr_pipeline.inspection import SourceFile
from exr_pipeline.products.proxy import PROXY
from exr_pipeline.products.registry import most_needed
from exr_pipeline.products.thumbnail import THUMBNAIL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from exr_pipeline.footage import MediaProbe
    from exr_pipeline.pictures import PicturePool, RenderedPictures
    from exr_pipeline.products.file_result import FileResult
    from exr_pipeline.products.product import FileProduct
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location

_LONGEST_SECONDS: Final = 24 * 3600.0


def is_media(location: Location) -> bool:
    """Whether a file is a movie, sound or still by its name: one that only a worker process may open."""
    return category_of(location.name) in {"movie", "sound", "still"}


def needs_workers(locations: Iterable[Location], products: Collection[FileProduct]) -> bool:
    """Whether files can only be dealt with by worker processes."""
    return most_needed(products) == "picture" or any(map(is_media, locations))


async def make_media(
    result: FileResult,
    path: Path,
    proxy_path: Path,
    products: Collection[FileProduct],
    pool: PicturePool,
    settings: Settings,
) -> None:
    """Probe the local file at `path`, and render what is wanted of it; the proxy of a movie goes to `proxy_path`.

    Raises `BadInputError` if the file is at fault.
    """
    from exr_pipeline.pictures import PictureSettings

    name, format_ = result.location.url, format_of_name(result.location.name)
    with_pictures = most_needed(products) == "picture"
    assert isinstance(result.source, SourceFile)
    assert format_ is not None
    read_header = format_.header.load()
    if format_.category == "still":
        result.inspection = await asyncio.wrap_future(
            pool.call(read_header, name, settings.worker_timeout_seconds, str(path), result.source)
        )
        if with_pictures:
            result.pictures = await render_in(pool, path, name, products)
        return
    media: MediaProbe = await asyncio.wrap_future(
        pool.call(read_header, name, settings.worker_timeout_seconds, str(path), name)
    )
    result.media = media
    if with_pictures:
        work = pool.call(
            format_.picture.load(),
            name,
            render_timeout(media, settings),
            str(path),
            name,
            media,
            thumbnail=THUMBNAIL in products,
            proxy_path=str(proxy_path) if PROXY in products else None,
            settings=PictureSettings.from_settings(settings),
        )
        result.pictures = await asyncio.wrap_future(work)


async def render_in(pool: PicturePool, path: Path, name: str, products: Collection[FileProduct]) -> RenderedPictures:
    """What these products make of the picture of the local file at `path`. Raises `BadInputError` if it is at fault."""
    others = {product.name: product.of_picture for product in products if product.of_picture is not None}
    return await asyncio.wrap_future(
        pool.submit(str(path), name, thumbnail=THUMBNAIL in products, proxy=PROXY in products, others=others)
    )


def render_timeout(media: MediaProbe, settings: Settings) -> float:
    """Seconds that a movie's pictures may take: those of any file, and more in proportion to its length."""
    length = min(media.duration_seconds or 0.0, _LONGEST_SECONDS)
    return settings.worker_timeout_seconds + length * settings.movie_timeout_factor
