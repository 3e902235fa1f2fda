"""One picture of a file as a viewer sees it: decoded, shrunk in linear light, seen through a view, in 8 bits.

Belongs here: those steps and their order. Not here: any of the steps, or files made from the picture (`render`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.color.config import ColorConfig, View, load_config
from exr_pipeline.color.source_space import SourceSpace, find_source_space
from exr_pipeline.errors import BadInputError
from exr_pipeline.pictures import still
from exr_pipeline.pictures.data_pictures import color_of_identifiers, grey_of_values
from exr_pipeline.pictures.decode.open_source import open_source
from exr_pipeline.pictures.decode.source import BRIGHTEST
from exr_pipeline.pictures.layers import UnknownLayerError
from exr_pipeline.pictures.provenance import Provenance, library_versions
from exr_pipeline.pictures.reduce import AreaReducer
from exr_pipeline.pictures.still import Size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from exr_pipeline.color.config import Medium
    from exr_pipeline.color.picture_rules import PictureRule
    from exr_pipeline.frame_rates import ShownRate
    from exr_pipeline.pictures.decode.source import Source
    from exr_pipeline.pictures.picture_settings import PictureSettings

_DATA_KINDS: Final = frozenset({"depth", "id", "data"})
_NO_VIEW: Final = "none (data)"


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """What a file shows: `rgb` (H, W, 3), encoded for the medium's display in `color_space`, and how it came about.

    `alpha` (H, W; 255 is covered) is there if it was asked for and the layer has it; `rgb` is then the color of what
    covers (divided by alpha in linear light), else the picture over black; its provenance says so. `full_width`,
    `full_height` and `pixel_aspect` are those of the file, as stored. `nan_pixels` and `inf_pixels` were replaced.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    color_space: str
    view: str
    provenance: Provenance
    shown_rate: ShownRate | None
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
    as video needs. Raises `BadInputError` for a file at fault and `MisconfiguredError` for a bad color setting.
    """
    try:
        picture = Picture(path, name, box=box, settings=settings, even_sides=even_sides, with_alpha=with_alpha)
        made = picture.made(medium, box, even_sides=even_sides)
    except MemoryError as error:
        raise BadInputError(name, "not enough memory to decode the image") from error
    return ShownPicture(
        rgb=made.rgb,
        alpha=made.alpha,
        color_space=made.color_space,
        view=made.view,
        provenance=picture.provenance,
        shown_rate=picture.shown_rate,
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
    """One output's pixels, what they were made for, and their color space."""

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    view: str
    color_space: str


class Picture:
    """The picture of one file in linear light, shrunk while it was read to what the largest output needs.

    Make that output first: the others are shrunk from it.
    """

    def __init__(
        self,
        path: str,
        name: str,
        *,
        box: Size,
        settings: PictureSettings,
        even_sides: bool = False,
        with_alpha: bool = False,
    ) -> None:
        """Read the file; see `show`. `box` and `even_sides` are those of the largest output."""
        self.config = load_config(settings)
        self._rule = settings.rule_for(name)
        source, missing_layer = _open(path, name, settings, self._rule.layer, with_alpha=with_alpha)
        self.source = _source_space(self.config, source, self._rule, settings)
        self.shown_rate, self.time_code = source.shown_rate, source.time_code
        self.full_size = source.levels[0]
        self.pixel_aspect = source.pixel_aspect
        self.provenance = Provenance(
            layer=str(source.layer),
            source_color_space=self.source.name,
            color_rule=self.source.rule,
            ocio_config=self.config.name,
            ocio_config_hash=self.config.hash,
            library_versions=library_versions(),
            alpha_handling=_alpha_handling(source, with_alpha),
        )
        self._is_data = source.layer.kind in _DATA_KINDS or self.config.is_data(self.source.space)
        self._found: list[str] = []
        turned = source.orientation >= 5
        self._planned = (box, even_sides)
        size = _output_size(
            source.levels[0], source.pixel_aspect, Size(*reversed(box)) if turned else box, even_sides=even_sides
        )
        pixels = still.oriented(self._read(source, size), source.orientation)
        self._pixels = pixels[:, :, : self._colors]
        self._alpha = pixels[:, :, self._colors :] if source.has_alpha and with_alpha else None
        full = Size(*reversed(self.full_size)) if turned else self.full_size
        aspect = 1 / source.pixel_aspect if turned else source.pixel_aspect
        self._aspect = aspect * (full.width / self._pixels.shape[1]) / (full.height / self._pixels.shape[0])
        self.nan_pixels, self.inf_pixels = source.nan_pixels, source.inf_pixels
        self._warnings = [*missing_layer, *source.warnings, *self.source.warnings, *self._found]

    @property
    def working(self) -> NDArray[np.float32]:
        """Its pixels (H, W, 3) in the working space, as large as the largest output, before any view is applied.

        Of data they are display values.
        """
        return _three(self._pixels)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a viewer should know, so far."""
        return tuple(dict.fromkeys(self._warnings))

    def made(self, medium: Medium, box: Size, *, even_sides: bool = False) -> Made:
        """The picture at the size that fits into `box`, through the medium's view."""
        view = self._view(medium)
        if self._planned != (box, even_sides):
            here = Size(self._pixels.shape[1], self._pixels.shape[0])
            size = _output_size(here, self._aspect, box, even_sides=even_sides)
            self._pixels = still.resized(self._pixels, size)
            self._alpha = None if self._alpha is None else still.resized(self._alpha, size)
            self._aspect *= (here.width / size.width) / (here.height / size.height)
        pixels, alpha = self._pixels, self._alpha
        if even_sides:
            target = still.even(Size(pixels.shape[1], pixels.shape[0]), box)
            pixels, alpha = still.evened(pixels, target), None if alpha is None else still.evened(alpha, target)
        return Made(
            rgb=np.ascontiguousarray(self._displayed(pixels, alpha, view)),
            alpha=None if alpha is None else _eight_bit(alpha[:, :, 0]),
            view=_NO_VIEW if self._is_data else str(view),
            color_space=self.config.display_space(view.display),
        )

    def _read(self, source: Source, size: Size) -> NDArray[np.float32]:
        """The lines of the file in working values (or display values of data), and alpha, at a size."""
        import cv2

        level = source.level(size)
        whole = source.levels[level]
        if source.layer.kind in _DATA_KINDS:
            # Where there is nothing, there is no depth and no number; but identifier 0 is nothing.
            has_nothing = source.layer.kind != "id"
            values = np.full((whole.height, whole.width), np.nan if has_nothing else 0, np.float32)
            for y, x, pixels in source.placed(level, as_stored=has_nothing):
                values[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels[:, :, 0]
            self._colors = 3
            return still.resized(self._of_data(values, source), size)
        if self._is_data:
            self._found.append(f"tagged as data ({self.source.space}): values from 0 to 1 are shown unchanged")
        is_curved = self.source.curve is not None or not (
            self._is_data or self.source.to_space or self.config.is_linear(self.source.space)
        )
        self._colors = 3 if is_curved or self._is_data else source.channels - source.has_alpha
        reducer = AreaReducer(whole, size, self._colors + source.has_alpha)
        for y, x, pixels in source.placed(level):
            light = pixels
            if is_curved or self._is_data or source.straight_alpha:
                light = self._light(pixels, source, is_curved=is_curved)
            reducer.add(y, x, light)
        reduced = reducer.result
        if is_curved or self._is_data:
            return reduced
        # What is near the end of float might overflow on its way to the working space. To look takes half the time.
        lowest, highest, _, _ = cv2.minMaxLoc(reduced.reshape(len(reduced), -1))
        if lowest < -BRIGHTEST or highest > BRIGHTEST:
            np.clip(reduced, -BRIGHTEST, BRIGHTEST, out=reduced)
        working = self._to_working(_three(reduced[:, :, : self._colors]))
        if source.has_alpha:
            working = np.dstack([working, reduced[:, :, self._colors :]])
        self._colors = 3
        return working

    def _light(self, pixels: NDArray[np.float32], source: Source, *, is_curved: bool) -> NDArray[np.float32]:
        """Values whose mean is that of the light: without curve, and multiplied by alpha."""
        count = pixels.shape[2] - source.has_alpha
        color, alpha = pixels[:, :, :count], pixels[:, :, count:]
        if self._is_data:
            color = np.clip(_three(color), 0, 1)
        elif is_curved:
            working = self._to_working(np.ascontiguousarray(_three(color)))
            color = np.clip(np.nan_to_num(working, copy=False), -BRIGHTEST, BRIGHTEST)
        if source.straight_alpha:
            color = color * alpha
        return np.dstack([color, alpha]) if source.has_alpha else color

    def _of_data(self, values: NDArray[np.float32], source: Source) -> NDArray[np.float32]:
        what = f"shows {source.layer}, which is not a color layer"
        if source.layer.kind == "id":
            self._found.append(f"{what}: one color per value")
            return color_of_identifiers(values)
        grey, sentence = grey_of_values(values, near_is_bright=source.layer.kind == "depth")
        self._found.append(f"{what}: {sentence}")
        return grey

    def _to_working(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        source = self.source
        return self.config.to_working(source.space, pixels, matrix=source.to_space, curve=source.curve)

    def _displayed(
        self, pixels: NDArray[np.float32], alpha: NDArray[np.float32] | None, view: View
    ) -> NDArray[np.uint8]:
        if alpha is not None:
            # What glows without covering anything keeps its light.
            pixels = np.divide(pixels, alpha, out=pixels.copy(), where=(alpha > 0) & (alpha < 1))
        if self._is_data:
            return _eight_bit(pixels)
        transform = self.config.display_transform(view)
        return transform.apply_exactly(pixels) if self._rule.exact else transform.apply(pixels)

    def _view(self, medium: Medium) -> View:
        look = self._rule.still if medium == "still" else self._rule.video
        view, warning = self.config.find_view(medium, look)
        if warning is not None:
            self._warnings.append(warning)
        return View(view.display) if not self._is_data and self.source.is_display_referred else view


def _open(
    path: str, name: str, settings: PictureSettings, layer: str, *, with_alpha: bool
) -> tuple[Source, tuple[str, ...]]:
    """The file with its layer; a rule's layer that it lacks is a warning, one asked for by hand an error."""
    limit = settings.max_image_mb
    try:
        return open_source(path, name, max_image_mb=limit, with_alpha=with_alpha, layer=layer), ()
    except UnknownLayerError as error:
        if settings.wish.layer:
            raise
        return open_source(path, name, max_image_mb=limit, with_alpha=with_alpha), (error.reason,)


def _source_space(config: ColorConfig, source: Source, rule: PictureRule, settings: PictureSettings) -> SourceSpace:
    if source.layer.kind in _DATA_KINDS:
        return SourceSpace("data", "", f"layer shown is no color ({source.layer.kind})")
    return find_source_space(
        config,
        source,
        forced=rule.source_space,
        default=rule.default_space,
        global_default=settings.default_color_space,
    )


def _output_size(here: Size, aspect: float, box: Size, *, even_sides: bool) -> Size:
    """The size within the box; with even sides, unless that would resample a picture only to lose a line."""
    size = still.fitted(here.width, here.height, aspect, box)
    return still.even(size, box) if even_sides and size != here and min(size) >= 2 else size


def _alpha_handling(source: Source, with_alpha: bool) -> str:
    if not (source.layer.alpha or source.has_alpha):
        return "none"
    kind = "straight" if source.straight_alpha else "premultiplied"
    return f"{kind}, kept" if with_alpha else f"{kind}, over black"


def _eight_bit(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _three(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """RGB of RGB or of luminance."""
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
