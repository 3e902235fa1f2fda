"""The pictures of one file: decoded once, thumbnail and proxy made from it, and a record of how.

Belongs here: the order of the steps. Not here: any of the steps.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.errors import BadInputError
from exr_pipeline.pictures import movie, still
from exr_pipeline.pictures.colour import ColourConfig, View, load_config
from exr_pipeline.pictures.data_pictures import colour_of_identifiers, grey_of_values
from exr_pipeline.pictures.decode import BRIGHTEST, Decoded, decode
from exr_pipeline.pictures.results import Proxy, RenderedPictures, Thumbnail
from exr_pipeline.pictures.source_space import SourceSpace, find_source_space
from exr_pipeline.pictures.still import Size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from exr_pipeline.pictures.colour import Medium
    from exr_pipeline.pictures.picture_settings import PictureSettings

_DATA_KINDS: Final = frozenset({"depth", "id", "data"})
_NO_VIEW: Final = "none (data)"


def render(path: str, name: str, *, thumbnail: bool, proxy: bool, settings: PictureSettings) -> RenderedPictures:
    """The thumbnail and the proxy, as far as wanted, of the EXR or DPX file at the local `path`.

    `name` is the file's name as the user knows it, for errors and for the file rules of the OCIO config.
    Raises `BadInputError` for a file at fault and `MisconfiguredError` for a bad colour setting.
    """
    started = time.perf_counter()
    config = load_config(settings)
    still_box = Size(settings.thumbnail_size, settings.thumbnail_size)
    proxy_box = Size(settings.proxy_width, settings.proxy_height)
    box = Size(max(still_box.width, proxy_box.width), max(still_box.height, proxy_box.height)) if proxy else still_box

    def enough(width: int, height: int, aspect: float) -> Size:
        return still.fitted(width, height, aspect, box)

    try:
        decoded = decode(path, name, enough=enough, max_image_mb=settings.max_image_mb)
        source = _source(config, decoded, name, settings)
        picture = _Picture(config, decoded, source)
        made_proxy = picture.proxy(proxy_box, settings) if proxy else None
        made_thumbnail = picture.thumbnail(still_box, settings) if thumbnail else None
        preview, icon = picture.preview(), picture.icon()
    except MemoryError as error:
        raise BadInputError(name, "needs more memory than there is") from error
    return RenderedPictures(
        thumbnail=made_thumbnail,
        proxy=made_proxy,
        preview_jpeg=preview,
        icon_webp=icon,
        layer=str(decoded.layer),
        source_colour_space=source.name,
        colour_rule=source.rule,
        ocio_config=config.name,
        ocio_config_hash=config.hash,
        library_versions=library_versions(),
        nan_pixels=decoded.nan_pixels,
        inf_pixels=decoded.inf_pixels,
        is_black=picture.is_black,
        warnings=(*decoded.warnings, *source.warnings, *dict.fromkeys(picture.warnings)),
        seconds=time.perf_counter() - started,
    )


def _source(config: ColourConfig, decoded: Decoded, name: str, settings: PictureSettings) -> SourceSpace:
    if decoded.layer.kind in _DATA_KINDS:
        return SourceSpace("data", "", f"layer shown is no colour ({decoded.layer.kind})")
    return find_source_space(
        config, part=decoded.part, dpx=decoded.dpx, name=name, default=settings.default_color_space
    )


class _Picture:
    """The decoded picture in linear light, shrunk once to what the largest output needs."""

    def __init__(self, config: ColourConfig, decoded: Decoded, source: SourceSpace) -> None:
        self.config = config
        self.source = source
        self.warnings: list[str] = []
        self.is_black = True
        self.shown = np.zeros((1, 1, 3), np.uint8)
        self.is_data = decoded.layer.kind in _DATA_KINDS or config.is_data(source.space)
        self.rate = decoded.frame_rate or movie.DEFAULT_RATE
        self.is_working = False
        pixels = still.oriented(decoded.pixels, decoded.orientation)
        self.aspect = 1 / decoded.pixel_aspect if decoded.orientation >= 5 else decoded.pixel_aspect
        if decoded.layer.kind in _DATA_KINDS:
            pixels = self._of_data(pixels[:, :, 0], decoded)
        elif self.is_data:
            self.warnings.append(f"tagged as data ({source.space}): values from 0 to 1 shown as they are")
            pixels = np.clip(_three(pixels), 0, 1)
        elif not config.is_linear(source.space) and source.to_space is None:
            pixels = self._to_working(_three(pixels))
        self.pixels = pixels

    def _of_data(self, values: NDArray[np.float32], decoded: Decoded) -> NDArray[np.float32]:
        what = f"shows {decoded.layer}, which is no colour picture"
        if decoded.layer.kind == "id":
            self.warnings.append(f"{what}: one colour per value")
            return colour_of_identifiers(values)
        grey, sentence = grey_of_values(values, near_is_bright=decoded.layer.kind == "depth")
        self.warnings.append(f"{what}: {sentence}")
        return grey

    def _to_working(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        self.is_working = True
        return self.config.to_working(self.source.space, pixels, matrix=self.source.to_space)

    def _shrink(self, size: Size) -> NDArray[np.float32]:
        """The picture at a size, in working values (or display values of data). Later pictures start from it."""
        height, width = self.pixels.shape[:2]
        self.pixels = still.resized(self.pixels, size)
        self.aspect *= (width / size.width) / (height / size.height)
        if self.is_data:
            return self.pixels
        if not self.is_working:
            self.pixels = self._to_working(_three(self.pixels))
        # Values near the end of float may have overflowed; fmax turns NaN into the number.
        self.pixels = np.fmin(np.fmax(self.pixels, -BRIGHTEST), BRIGHTEST)
        return self.pixels

    def _size(self, box: Size) -> Size:
        return still.fitted(self.pixels.shape[1], self.pixels.shape[0], self.aspect, box)

    def _displayed(self, pixels: NDArray[np.float32], view: View) -> NDArray[np.uint8]:
        if self.is_data:
            shown = np.rint(pixels * 255).astype(np.uint8)
        else:
            shown = self.config.display_transform(view).apply(pixels)
        self.is_black = self.is_black and not shown.any()
        self.shown = shown
        return shown

    def icon(self) -> bytes:
        """A still smaller picture of what was shown last."""
        return still.icon(self.shown)

    def preview(self) -> bytes:
        """A JPEG of the picture that was made last."""
        return still.preview(self.shown)

    def _view(self, medium: Medium, settings: PictureSettings) -> View:
        view, warning = self.config.find_view(medium, settings.still_view if medium == "still" else settings.proxy_view)
        if warning is not None:
            self.warnings.append(warning)
        if not self.is_data and self.config.is_display_referred(self.source.space):
            return replace(view, view="")
        return view

    def proxy(self, box: Size, settings: PictureSettings) -> Proxy:
        view = self._view("video", settings)
        size = self._size(box)
        target = still.even(size, box)
        untouched = (size.height, size.width) == self.pixels.shape[:2]
        pixels = still.evened(self._shrink(size if untouched or min(size) < 2 else target), target)
        rgb = np.ascontiguousarray(self._displayed(pixels, view))
        mp4, duration = movie.held_frame(rgb, rate=self.rate, seconds=settings.proxy_seconds)
        return Proxy(
            mp4=mp4,
            width=target.width,
            height=target.height,
            duration=float(duration),
            rate=self.rate,
            view=_NO_VIEW if self.is_data else str(view),
            colour_space=self.config.display_space(view.display),
            encoder=movie.ENCODER,
        )

    def thumbnail(self, box: Size, settings: PictureSettings) -> Thumbnail:
        view = self._view("still", settings)
        size = self._size(box)
        rgb = self._displayed(self._shrink(size), view)
        return Thumbnail(
            jpeg=still.jpeg(rgb),
            width=size.width,
            height=size.height,
            view=_NO_VIEW if self.is_data else str(view),
            colour_space=self.config.display_space(view.display),
        )


def _three(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """RGB of RGB or of luminance."""
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide the pixels, by their names."""
    from importlib.metadata import version

    import av
    import PyOpenColorIO as Ocio

    versions = {
        name: version(name) for name in ("OpenImageIO", "OpenEXR", "av", "opencv-python-headless", "simplejpeg")
    }
    versions["OpenColorIO"] = str(Ocio.GetVersion())
    versions["libavcodec"] = ".".join(map(str, av.library_versions["libavcodec"]))
    return versions
