"""The OCIO config in force, the transforms from a source space to a display, and the baked form of a heavy view.

Belongs here: everything that talks to OCIO. Not here: which space a file is in (`source_space`), or reading pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from exr_pipeline.errors import MisconfiguredError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from exr_pipeline.pictures.picture_settings import PictureSettings

# Pinned: `ocio://default` means another config in each release of OCIO, and with it other pictures.
BUILT_IN_CONFIG: Final = "ocio://studio-config-v2.2.0_aces-v1.3_ocio-v2.4"

Medium = Literal["still", "video"]

# By preference; the first that the config has is used, else its default display.
_DISPLAYS: Final[dict[Medium, tuple[str, ...]]] = {
    "still": ("sRGB - Display", "sRGB", "sRGB Display", "sRGB Monitor"),
    "video": ("Rec.1886 Rec.709 - Display", "Rec.1886 Rec.709", "Rec.1886", "Rec.709", "rec709", "Rec709"),
}
_COLORIMETRIC_VIEWS: Final = ("Un-tone-mapped", "Untonemapped", "Colorimetry")

# ACEScct (S-2016-001): log2 above 2^-7, straight below, so that black and small negative values have a place.
_LOG_SLOPE: Final = 1 / 17.52
_LOG_OFFSET: Final = 9.72 / 17.52
_LINEAR_BREAK: Final = 2.0**-7

LUT_NODES: Final = 65
_BLACK_NODE: Final = 4  # Black lies on a node, so that it stays black; the nodes below are for negative values.
_LUT_TOP: Final = 1.0  # ACEScct 1.0 is 222 times diffuse white.

# Beyond these errors on the probe, in 8-bit code values, a baked view is not used.
MAX_MEAN_ERROR: Final = 0.5
MAX_P99_ERROR: Final = 12.0


@dataclass(frozen=True, slots=True)
class View:
    """A display and one of its views. An empty `view` is the display's encoding without any view transform."""

    display: str
    view: str

    def __str__(self) -> str:
        return f"{self.display} / {self.view}" if self.view else self.display


@dataclass(frozen=True, slots=True)
class LutError:
    """How far the baked view is from the exact one over the probe colours, in 8-bit code values."""

    mean: float
    p99: float
    maximum: float


def _shaper(domain_low: float, domain_high: float) -> list[Any]:
    """Scene-linear values to 0..1 over the LUT's domain, given in ACEScct values."""
    import PyOpenColorIO as Ocio

    log = Ocio.LogCameraTransform(
        linSideBreak=[_LINEAR_BREAK] * 3,
        base=2.0,
        logSideSlope=[_LOG_SLOPE] * 3,
        logSideOffset=[_LOG_OFFSET] * 3,
        linSideSlope=[1.0] * 3,
        linSideOffset=[0.0] * 3,
    )
    scale = 1 / (domain_high - domain_low)
    fit = Ocio.MatrixTransform()
    fit.setMatrix(np.diag([scale, scale, scale, 1.0]).ravel().tolist())
    fit.setOffset([-domain_low * scale] * 3 + [0.0])
    return [log, fit]


def _acescct(linear: float) -> float:
    at_break = float(np.log2(_LINEAR_BREAK)) * _LOG_SLOPE + _LOG_OFFSET
    if linear > _LINEAR_BREAK:
        return float(np.log2(linear)) * _LOG_SLOPE + _LOG_OFFSET
    return at_break + (linear - _LINEAR_BREAK) * _LOG_SLOPE / (_LINEAR_BREAK * float(np.log(2)))


def _probe_colours() -> NDArray[np.float32]:
    """4096 scene-linear colours from deep shadow to six stops over grey, from neutral to fairly saturated."""
    random = np.random.default_rng(1)
    grey = 0.18 * 2.0 ** random.uniform(-8, 6, (1, 4096, 1))
    return np.asarray(grey * 3 * random.dirichlet((4, 4, 4), (1, 4096)), np.float32)


class DisplayTransform:
    """Scene-linear working space to 8-bit display values, through one view.

    `apply` is exact for pictures with fewer pixels than the LUT has nodes (baking would cost more) and for
    colorimetric views (as fast as a LUT); others go through the LUT, with pixels outside its domain computed exactly.
    """

    def __init__(self, config: ColourConfig, view: View) -> None:
        self.view = view
        self._config = config

    @cached_property
    def _transform(self) -> Any:
        import PyOpenColorIO as Ocio

        if self.view.view:
            return Ocio.DisplayViewTransform(
                src=self._config.working_space, display=self.view.display, view=self.view.view
            )
        return Ocio.ColorSpaceTransform(
            src=self._config.working_space, dst=self._config.display_space(self.view.display)
        )

    @cached_property
    def _exact(self) -> Any:
        return self._config.processor(self._transform, eight_bit=True)

    @cached_property
    def _domain(self) -> tuple[float, float]:
        black = _acescct(0.0)
        step = (_LUT_TOP - black) / (LUT_NODES - 1 - _BLACK_NODE)
        return black - _BLACK_NODE * step, _LUT_TOP

    @cached_property
    def _linear_domain(self) -> tuple[float, float]:
        low, high = self._domain
        slope = _LOG_SLOPE / (_LINEAR_BREAK * float(np.log(2)))
        return (low - _acescct(0.0)) / slope, 2.0 ** ((high - _LOG_OFFSET) / _LOG_SLOPE)

    @cached_property
    def _baked(self) -> tuple[Any, LutError]:
        import PyOpenColorIO as Ocio

        shaper = _shaper(*self._domain)
        inverse = Ocio.GroupTransform(shaper)
        inverse.setDirection(Ocio.TRANSFORM_DIR_INVERSE)
        axis = np.linspace(0, 1, LUT_NODES, dtype=np.float32)
        nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(LUT_NODES, -1, 3)
        nodes = _in_float(self._config.processor(inverse), nodes)
        lut = Ocio.Lut3DTransform(LUT_NODES)
        lut.setInterpolation(Ocio.INTERP_TETRAHEDRAL)
        lut.setData(_in_float(self._config.processor(self._transform), nodes).ravel())
        baked = self._config.processor(Ocio.GroupTransform([*shaper, lut]), eight_bit=True)
        probe = _probe_colours()
        difference = np.abs(_in_eight_bit(self._exact, probe).astype(np.int16) - _in_eight_bit(baked, probe))
        error = LutError(
            float(difference.mean()), float(np.percentile(difference, 99)), float(difference.max(initial=0))
        )
        return baked, error

    @property
    def lut_error(self) -> LutError:
        """The error of the baked view, measured while baking."""
        return self._baked[1]

    @cached_property
    def is_baked(self) -> bool:
        """Whether large pictures go through the LUT: it is a view worth baking and the LUT passed its probe."""
        if not self.view.view or self.view.view in _COLORIMETRIC_VIEWS:
            return False
        return self.lut_error.mean <= MAX_MEAN_ERROR and self.lut_error.p99 <= MAX_P99_ERROR

    def apply(self, scene_linear: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Display values 0..255, shape (H, W, 3), of finite scene-linear values of the same shape."""
        if scene_linear.shape[0] * scene_linear.shape[1] < LUT_NODES**3 or not self.is_baked:
            return self.apply_exactly(scene_linear)
        shown = _in_eight_bit(self._baked[0], scene_linear)
        low, high = self._linear_domain
        if scene_linear.min() < low or scene_linear.max() > high:
            outside = ((scene_linear < low) | (scene_linear > high)).any(axis=2)
            shown[outside] = _in_eight_bit(self._exact, scene_linear[outside][np.newaxis])[0]
        return shown

    def apply_exactly(self, scene_linear: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Like `apply`, always without the LUT."""
        return _in_eight_bit(self._exact, scene_linear)


def _in_float(processor: Any, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    import PyOpenColorIO as Ocio

    result = np.array(pixels, np.float32, order="C")
    processor.apply(Ocio.PackedImageDesc(result, result.shape[1], result.shape[0], 3))
    return result


def _in_eight_bit(processor: Any, pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    import PyOpenColorIO as Ocio

    source = np.ascontiguousarray(pixels, np.float32)
    height, width = source.shape[:2]
    result = np.empty(source.shape, np.uint8)
    processor.apply(
        Ocio.PackedImageDesc(source, width, height, 3),
        Ocio.PackedImageDesc(result, width, height, 3, Ocio.BIT_DEPTH_UINT8, 1, 3, 3 * width),
    )
    return result


class ColourConfig:
    """One OCIO config: names, the spaces and views it offers, and processors made from it."""

    def __init__(self, setting: str, uri: str) -> None:
        import PyOpenColorIO as Ocio

        self._setting = setting
        try:
            self._config = Ocio.Config.CreateFromFile(uri)
            self._config.validate()
        except (Ocio.Exception, Ocio.ExceptionMissingFile) as error:
            reason = " ".join(str(error).split())
            raise MisconfiguredError(
                setting, f"cannot use the OCIO config {uri!r}: {reason}", "name a valid config, or unset it"
            ) from error
        self.name = self._config.getName() or uri
        self.hash = self._config.getCacheID()
        self.working_space = self._role("scene_linear")
        self._transforms: dict[View, DisplayTransform] = {}

    def _role(self, role: str) -> str:
        space = self._config.getColorSpace(role) if self._config.hasRole(role) else None
        if space is None:
            raise MisconfiguredError(
                self._setting, f"the OCIO config {self.name!r} has no role {role}", "use a config with that role"
            )
        return str(space.getName())

    def resolve(self, name: str) -> str | None:
        """The config's own name of the colour space with this name, alias or role; None if there is none."""
        space = self._config.getColorSpace(name)
        return None if space is None else str(space.getName())

    def require(self, name: str, setting: str) -> str:
        """Like `resolve`; raises `MisconfiguredError`, naming `setting`, if there is none."""
        space = self.resolve(name)
        if space is None:
            raise MisconfiguredError(
                setting,
                f"the OCIO config {self.name!r} has no colour space or role {name!r}",
                "name one of its colour spaces",
            )
        return space

    def by_file_rule(self, path: str) -> str | None:
        """The colour space that the config's file rules give to this path; None if only the default rule fits."""
        if self._config.filepathOnlyMatchesDefaultRule(path):
            return None
        return self.resolve(self._config.getColorSpaceFromFilepath(path)[0])

    def is_linear(self, space: str) -> bool:
        """Whether the values of this space are proportional to light."""
        import PyOpenColorIO as Ocio

        reference = Ocio.REFERENCE_SPACE_DISPLAY if self.is_display_referred(space) else Ocio.REFERENCE_SPACE_SCENE
        return bool(self._config.isColorSpaceLinear(space, reference))

    def is_display_referred(self, space: str) -> bool:
        """Whether this space describes a picture already made for a display."""
        import PyOpenColorIO as Ocio

        return bool(self._config.getColorSpace(space).getReferenceSpaceType() == Ocio.REFERENCE_SPACE_DISPLAY)

    def is_data(self, space: str) -> bool:
        """Whether this space is no colour at all (`Raw`)."""
        found = self._config.getColorSpace(space)
        return found is not None and bool(found.isData())

    def processor(self, transform: Any, *, eight_bit: bool = False) -> Any:
        """A CPU processor from float RGB to float RGB, or to 8 bits."""
        import PyOpenColorIO as Ocio

        output = Ocio.BIT_DEPTH_UINT8 if eight_bit else Ocio.BIT_DEPTH_F32
        try:
            return self._config.getProcessor(transform).getOptimizedCPUProcessor(
                Ocio.BIT_DEPTH_F32, output, Ocio.OPTIMIZATION_DEFAULT
            )
        except (Ocio.Exception, Ocio.ExceptionMissingFile) as error:
            reason = " ".join(str(error).split())
            raise MisconfiguredError(
                self._setting, f"the OCIO config {self.name!r} cannot do it: {reason}", "repair the config"
            ) from error

    def to_working(
        self, space: str, pixels: NDArray[np.float32], *, matrix: tuple[float, ...] | None = None
    ) -> NDArray[np.float32]:
        """Scene-linear working values of pixels in `space`, shape (H, W, 3); `matrix` (row-major 3x3) comes first."""
        import PyOpenColorIO as Ocio

        if space == self.working_space and matrix is None:
            return pixels
        steps: list[Any] = [Ocio.ColorSpaceTransform(src=space, dst=self.working_space)]
        if matrix is not None:
            four = np.eye(4)
            four[:3, :3] = np.reshape(matrix, (3, 3))
            first = Ocio.MatrixTransform()
            first.setMatrix(four.ravel().tolist())
            steps.insert(0, first)
        return _in_float(self.processor(Ocio.GroupTransform(steps)), pixels)

    def display_space(self, display: str) -> str:
        """The colour space of a display's pixels."""
        for view in self._config.getViews(display):
            space = self._config.getDisplayViewColorSpaceName(display, view)
            resolved = self.resolve(display if space == "<USE_DISPLAY_NAME>" else space)
            if resolved is not None and not self.is_data(resolved):
                return resolved
        raise MisconfiguredError(self._setting, f"the display {display!r} has no colour space", "repair the config")

    def find_view(self, medium: Medium, choice: Literal["view", "un-tone-mapped"]) -> tuple[View, str | None]:
        """The view for a medium, and a warning if the config lacks the medium's own display."""
        displays = tuple(self._config.getDisplays())
        display = next((known for known in _DISPLAYS[medium] if known in displays), None)
        warning = None
        if display is None:
            display = str(self._config.getDefaultDisplay())
            warning = f"the OCIO config has no display for {medium}s; used {display!r}"
        if choice == "view":
            return View(display, str(self._config.getDefaultView(display))), warning
        views = tuple(self._config.getViews(display))
        view = next((known for known in _COLORIMETRIC_VIEWS if known in views), "")
        return View(display, view), warning

    def display_transform(self, view: View) -> DisplayTransform:
        """The transform to a view, made once per config."""
        return self._transforms.setdefault(view, DisplayTransform(self, view))


@lru_cache(maxsize=4)
def _config(setting: str, uri: str) -> ColourConfig:
    return ColourConfig(setting, uri)


def load_config(settings: PictureSettings) -> ColourConfig:
    """The OCIO config in force, loaded once per process: OCIO_CONFIG_PATH, else OCIO, else the built-in one.

    Raises `MisconfiguredError`, naming the setting, if it cannot be read or is not valid, or lacks the default space.
    """
    if settings.ocio_config_path:
        config = _config("OCIO_CONFIG_PATH", settings.ocio_config_path)
    elif settings.ocio:
        config = _config("OCIO", settings.ocio)
    else:
        config = _config("OCIO_CONFIG_PATH", BUILT_IN_CONFIG)
    config.require(settings.default_color_space, "EXR_PIPELINE_DEFAULT_COLOR_SPACE")
    return config
