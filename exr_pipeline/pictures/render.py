"""The pictures of one file: decoded once, thumbnail and proxy made from it, and a record of how.

Belongs here: which files are made of the picture. Not here: the picture itself (`shown`) or how files are encoded.
"""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.frame_rates import DEFAULT_RATE
from exr_pipeline.pictures import held_frame, still
from exr_pipeline.pictures.results import Proxy, RenderedPictures, Thumbnail
from exr_pipeline.pictures.shown import Made, Picture
from exr_pipeline.pictures.still import Size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exr_pipeline.pictures.picture_settings import PictureSettings
    from exr_pipeline.pictures.still import StillFormat

_NONE: Final[Mapping[str, Callable[[Picture], Any]]] = MappingProxyType({})


def render_picture(
    path: str,
    name: str,
    *,
    thumbnail: bool,
    proxy: bool,
    others: Mapping[str, Callable[[Picture], Any]] = _NONE,
    settings: PictureSettings,
) -> RenderedPictures:
    """The thumbnail and the proxy, as far as wanted, of the file at the local `path`, and what `others` make of it.

    `name` is the file's URL or path as the user knows it, for errors and rules. `others` are called by name, after
    the picture was read and before anything is made of it.
    Raises `BadInputError` for a file at fault, `MisconfiguredError` for a bad color setting, and `MemoryError`.
    """
    started = time.perf_counter()
    still_box = Size(settings.thumbnail_size, settings.thumbnail_size)
    proxy_box = Size(settings.proxy_width, settings.proxy_height)
    box = proxy_box if proxy else still_box
    picture = Picture(path, name, box=box, settings=settings, even_sides=proxy)
    decode_seconds = time.perf_counter() - started
    of_others = {product: make(picture) for product, make in others.items()}
    of_proxy = picture.made("video", proxy_box, even_sides=True) if proxy else None
    # Before the picture is shrunk to the size of the thumbnail.
    made_proxy = None if of_proxy is None else _proxy(picture, of_proxy, settings)
    of_still = picture.made("still", still_box) if thumbnail or not proxy else None
    made = [one for one in (of_proxy, of_still) if one is not None]
    made_thumbnail = None if of_still is None or not thumbnail else _thumbnail(of_still, settings.thumbnail_format)
    return RenderedPictures(
        thumbnail=made_thumbnail,
        proxy=made_proxy,
        icon_webp=still.icon(made[-1].rgb),
        provenance=picture.provenance,
        nan_pixels=picture.nan_pixels,
        inf_pixels=picture.inf_pixels,
        is_black=not any(one.rgb.any() for one in made),
        warnings=(*picture.warnings, *_rate_warnings(picture)) if proxy else picture.warnings,
        seconds=time.perf_counter() - started,
        decode_seconds=decode_seconds,
        others=of_others,
    )


def _proxy(picture: Picture, made: Made, settings: PictureSettings) -> Proxy:
    rate = picture.shown_rate.rate if picture.shown_rate else DEFAULT_RATE
    mp4, duration = held_frame.held_frame(made.rgb, rate=rate, seconds=settings.proxy_seconds)
    return Proxy(
        mp4=mp4,
        width=made.rgb.shape[1],
        height=made.rgb.shape[0],
        duration=float(duration),
        rate=rate,
        view=made.view,
        color_space=made.color_space,
        encoder=held_frame.ENCODER,
        still_jpeg=_proxy_still(picture, settings) if settings.compatibility else None,
    )


def _proxy_still(picture: Picture, settings: PictureSettings) -> bytes:
    return still.jpeg(picture.made("still", Size(settings.proxy_width, settings.proxy_height)).rgb)


def _rate_warnings(picture: Picture) -> tuple[str, ...]:
    return (picture.shown_rate.warning,) if picture.shown_rate and picture.shown_rate.warning else ()


def _thumbnail(made: Made, file_format: StillFormat) -> Thumbnail:
    return Thumbnail(
        data=still.encoded(made.rgb, file_format),
        width=made.rgb.shape[1],
        height=made.rgb.shape[0],
        view=made.view,
        color_space=made.color_space,
        encoder=still.encoder(file_format),
    )
