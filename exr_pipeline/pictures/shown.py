"""One picture of a file as a viewer sees it: decoded, shrunk in linear light, seen through a view, in 8 bits.

Belongs here: those steps and their order. Not here: any of the steps, or files made from the picture (`render`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.errors import BadInputError
from exr_pipeline.pictures import still
from exr_pipeline.pictures.colour import ColourConfig, View, load_config
from exr_pipeline.pictures.data_pictures import colour_of_identifiers, grey_of_values
from exr_pipeline.pictures.decode import BRIGHTEST, Decoded, decode
from exr_pipeline.pictures.source_space import SourceSpace, find_source_space
from exr_pipeline.pictures.still import Size

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

    from exr_pipeline.pictures.colour import Medium
    from exr_pipeline.pictures.picture_settings import PictureSettings

_DATA_KINDS: Final = frozenset({"depth", "id", "data"})
_NO_VIEW: Final = "none (data)"


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """What a file shows: `rgb` (H, W, 3), encoded for the medium's display in `colour_space`, and how it came about.

    `alpha` (H, W; 255 is covered) is there if it was asked for and the layer has it; `rgb` is then the colour of what
    covers (divided by alpha in linear light), else the picture over black. `full_width`, `full_height` and
    `pixel_aspect` are those of the file, as stored. `nan_pixels` and `inf_pixels` were replaced.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    colour_space: str
    view: str
    layer: str
    source_colour_space: str
    colour_rule: str
    ocio_config: str
    ocio_config_hash: str
    frame_rate: Fraction | None
    time_code: str | None
    full_width: int
    full_height: int
    pixel_aspect: float
    nan_pixels: int
    inf_pixels: int
    warnings: tuple[str, ...]


def show(
    path: str,
    name: str,
    *,
    medium: Medium,
    box: Size,
    settings: PictureSettings,
    even_sides: bool = False,
    with_alpha: bool = False,
) -> ShownPicture:
    """The picture of the file at the local `path`, as large as fits into `box`, for a still or a video.

    `name` is the file's URL or path as the user knows it, for errors and rules. With `even_sides` both sides are even,
    as video needs. Raises `BadInputError` for a file at fault and `MisconfiguredError` for a bad colour setting.
    """
    try:
        picture = Picture.of_file(path, name, box=box, settings=settings, with_alpha=with_alpha)
        made = picture.made(medium, box, even_sides=even_sides)
    except MemoryError as error:
        raise BadInputError(name, "needs more memory than there is") from error
    return ShownPicture(
        rgb=made.rgb,
        alpha=made.alpha,
        colour_space=made.colour_space,
        view=made.view,
        layer=picture.layer,
        source_colour_space=picture.source.name,
        colour_rule=picture.source.rule,
        ocio_config=picture.config.name,
        ocio_config_hash=picture.config.hash,
        frame_rate=picture.frame_rate,
        time_code=picture.time_code,
        full_width=picture.full_size.width,
        full_height=picture.full_size.height,
        pixel_aspect=picture.pixel_aspect,
        nan_pixels=picture.nan_pixels,
        inf_pixels=picture.inf_pixels,
        warnings=picture.warnings,
    )


@dataclass(frozen=True, slots=True)
class Made:
    """One output's pixels, what they were made for, and their colour space."""

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    view: str
    colour_space: str


class Picture:
    """The picture of one file in linear light. Make the largest output first: the others are shrunk from it."""

    @classmethod
    def of_file(
        cls, path: str, name: str, *, box: Size, settings: PictureSettings, with_alpha: bool = False
    ) -> Picture:
        """Decode what outputs within `box` need; see `show`."""
        config = load_config(settings)

        def enough(width: int, height: int, aspect: float) -> Size:
            return still.fitted(width, height, aspect, box)

        decoded = decode(path, name, enough=enough, max_image_mb=settings.max_image_mb, with_alpha=with_alpha)
        return cls(config, decoded, _source(config, decoded, name, settings), settings)

    def __init__(self, config: ColourConfig, decoded: Decoded, source: SourceSpace, settings: PictureSettings) -> None:
        self.config = config
        self.source = source
        self.layer = str(decoded.layer)
        self.frame_rate = decoded.frame_rate
        self.time_code = decoded.time_code
        self.full_size = Size(decoded.full_width, decoded.full_height)
        self.pixel_aspect = decoded.pixel_aspect
        self.nan_pixels, self.inf_pixels = decoded.nan_pixels, decoded.inf_pixels
        self._settings = settings
        self._warnings = [*decoded.warnings, *source.warnings]
        self._is_data = decoded.layer.kind in _DATA_KINDS or config.is_data(source.space)
        self._is_working = False
        self._aspect = 1 / decoded.pixel_aspect if decoded.orientation >= 5 else decoded.pixel_aspect
        self._alpha = None
        if decoded.alpha is not None:
            self._alpha = still.oriented(decoded.alpha[:, :, np.newaxis], decoded.orientation)
        pixels = still.oriented(decoded.pixels, decoded.orientation)
        if decoded.layer.kind in _DATA_KINDS:
            pixels = self._of_data(pixels[:, :, 0], decoded)
        elif self._is_data:
            self._warnings.append(f"tagged as data ({source.space}): values from 0 to 1 shown as they are")
            pixels = np.clip(_three(pixels), 0, 1)
        elif not config.is_linear(source.space) and source.to_space is None:
            pixels = self._to_working(_three(pixels))
        self._pixels = pixels

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a viewer should know, so far."""
        return tuple(dict.fromkeys(self._warnings))

    def made(self, medium: Medium, box: Size, *, even_sides: bool = False) -> Made:
        """The picture at the size that fits into `box`, through the medium's view."""
        view = self._view(medium)
        size = still.fitted(self._pixels.shape[1], self._pixels.shape[0], self._aspect, box)
        if even_sides:
            target = still.even(size, box)
            untouched = (size.height, size.width) == self._pixels.shape[:2]
            self._shrink(size if untouched or min(size) < 2 else target)
            pixels = still.evened(self._pixels, target)
            alpha = None if self._alpha is None else still.evened(self._alpha, target)
        else:
            self._shrink(size)
            pixels, alpha = self._pixels, self._alpha
        return Made(
            rgb=np.ascontiguousarray(self._displayed(pixels, alpha, view)),
            alpha=None if alpha is None else _eight_bit(alpha[:, :, 0]),
            view=_NO_VIEW if self._is_data else str(view),
            colour_space=self.config.display_space(view.display),
        )

    def _of_data(self, values: NDArray[np.float32], decoded: Decoded) -> NDArray[np.float32]:
        what = f"shows {decoded.layer}, which is no colour picture"
        if decoded.layer.kind == "id":
            self._warnings.append(f"{what}: one colour per value")
            return colour_of_identifiers(values)
        grey, sentence = grey_of_values(values, near_is_bright=decoded.layer.kind == "depth")
        self._warnings.append(f"{what}: {sentence}")
        return grey

    def _to_working(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        self._is_working = True
        return self.config.to_working(self.source.space, pixels, matrix=self.source.to_space)

    def _shrink(self, size: Size) -> None:
        """Bring the picture to a size, in working values (or display values of data). Later pictures start from it."""
        height, width = self._pixels.shape[:2]
        self._pixels = still.resized(self._pixels, size)
        if self._alpha is not None:
            self._alpha = still.resized(self._alpha, size)
        self._aspect *= (width / size.width) / (height / size.height)
        if self._is_data:
            return
        if not self._is_working:
            self._pixels = self._to_working(_three(self._pixels))
        # Values near the end of float may have overflowed; fmax turns NaN into the number.
        self._pixels = np.fmin(np.fmax(self._pixels, -BRIGHTEST), BRIGHTEST)

    def _displayed(
        self, pixels: NDArray[np.float32], alpha: NDArray[np.float32] | None, view: View
    ) -> NDArray[np.uint8]:
        if self._is_data:
            return _eight_bit(pixels)
        if alpha is not None:
            # What glows without covering anything keeps its light.
            pixels = np.divide(pixels, alpha, out=pixels.copy(), where=(alpha > 0) & (alpha < 1))
        return self.config.display_transform(view).apply(pixels)

    def _view(self, medium: Medium) -> View:
        choice = self._settings.still_view if medium == "still" else self._settings.proxy_view
        view, warning = self.config.find_view(medium, choice)
        if warning is not None:
            self._warnings.append(warning)
        if not self._is_data and self.config.is_display_referred(self.source.space):
            return replace(view, view="")
        return view


def _source(config: ColourConfig, decoded: Decoded, name: str, settings: PictureSettings) -> SourceSpace:
    if decoded.layer.kind in _DATA_KINDS:
        return SourceSpace("data", "", f"layer shown is no colour ({decoded.layer.kind})")
    return find_source_space(
        config, part=decoded.part, dpx=decoded.dpx, name=name, default=settings.default_color_space
    )


def _eight_bit(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _three(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """RGB of RGB or of luminance."""
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
