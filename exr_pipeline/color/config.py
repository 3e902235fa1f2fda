"""The OCIO config in force, the transforms from a source space to a display, and the baked form of a heavy view.

Belongs here: everything that talks to OCIO. Not here: which space a file is in (`source_space`), or reading pixels.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
from collections.abc import Hashable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np

from exr_pipeline.color import interop_ids
from exr_pipeline.color.picture_rules import SETTING as RULES_SETTING
from exr_pipeline.color.picture_rules import UN_TONE_MAPPED, described
from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.inspection.json import printable
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from exr_pipeline.color.picture_rules import PictureRule, ViewChoice

_LOG = logging.getLogger(__name__)

# Pinned: `ocio://default` means another config in each release of OCIO, and with it other pictures.
BUILT_IN_CONFIG: Final = "ocio://studio-config-v2.2.0_aces-v1.3_ocio-v2.4"

# The interop ID of what OpenEXR's documentation says that a file without chromaticities holds.
LINEAR_REC709: Final = "lin_rec709_scene"

Medium = Literal["still", "video"]
# Of code values that no space of a config describes.
Curve = Literal["cineon", "rec1886"]

# By preference; the first that the config has is used, else its default display.
_DISPLAYS: Final[dict[Medium, tuple[str, ...]]] = {
    "still": ("sRGB - Display", "sRGB", "sRGB Display", "sRGB Monitor"),
    "video": ("Rec.1886 Rec.709 - Display", "Rec.1886 Rec.709", "Rec.1886", "Rec.709", "rec709", "Rec709"),
}
_COLORIMETRIC_VIEWS: Final = ("Un-tone-mapped", "Untonemapped", "Colorimetry")

LUT_NODES: Final = 65
# The LUT's axis is log2(value + offset): nearly linear around black, so that black and small negative values have a
# place, and in stops above. Black lies on a node, so that it stays black; the nodes below are for negative values.
_LUT_OFFSET: Final = 2.0**-7
_LUT_TOP: Final = 222.0  # 10 stops over grey.
_BLACK_NODE: Final = 4
_LUT_STEP: Final = float(np.log2(_LUT_TOP + _LUT_OFFSET) - np.log2(_LUT_OFFSET)) / (LUT_NODES - 1 - _BLACK_NODE)
_LUT_START: Final = float(np.log2(_LUT_OFFSET)) - _BLACK_NODE * _LUT_STEP
_LUT_BOTTOM: Final = float(2.0**_LUT_START) - _LUT_OFFSET
_APPLIED_LINES: Final = 32  # Few enough that a block stays in the processor's cache.

# The input that a LUT is taken to have if nothing else is said: the first that the config has.
_LUT_SPACES: Final = ("ACEScct", "color_timing", "compositing_log")

# Cineon (printing density): 10-bit code 685 is white, 95 black, 0.002 density per code, film gamma 0.6.
_CINEON_BLACK: Final = 10 ** ((95 - 685) * 0.002 / 0.6)

# Beyond these errors on the probe, in 8-bit code values, a baked view is not used.
MAX_MEAN_ERROR: Final = 0.5
MAX_P99_ERROR: Final = 12.0


class ColorSettings(Hashable, Protocol):
    """What choosing a config needs of the settings, by their names (`PictureSettings` has them)."""

    @property
    def ocio(self) -> str | None:
        """The variable `OCIO`."""
        ...

    @property
    def ocio_config_path(self) -> str | None:
        """The variable `OCIO_CONFIG_PATH`."""
        ...

    @property
    def default_color_space(self) -> str:
        """The space of EXR files that state none."""
        ...

    @property
    def picture_rules(self) -> str:
        """The file of the rules, as errors name it."""
        ...

    @property
    def rules(self) -> tuple[PictureRule, ...]:
        """What that file holds."""
        ...

    def of_rule(self, rule: PictureRule) -> PictureRule:
        """A rule completed by the settings that hold for every file."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """A display and one of its views, with looks before it, or a LUT in its place (`lut`, taking `lut_space`).

    With neither view nor LUT it is the display's encoding without any view transform.
    """

    display: str
    view: str = ""
    look: str = ""
    lut: str = ""
    lut_space: str = ""

    def __str__(self) -> str:
        if self.lut:
            return f"{self.display} / LUT {Path(self.lut).name} ({_hash_of(self.lut)}) of {self.lut_space}"
        text = f"{self.display} / {self.view}" if self.view else self.display
        return f"{text}, look {self.look}" if self.look else text


@lru_cache(maxsize=64)
def _hash_of(file: str) -> str:
    return "sha256 " + hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class LutError:
    """How far the baked view is from the exact one over the probe colors, in 8-bit code values."""

    mean: float
    p99: float
    maximum: float


def _probe_colors() -> NDArray[np.float32]:
    """4096 scene-linear colors from deep shadow to six stops over grey, from neutral to fairly saturated."""
    random = np.random.default_rng(1)
    grey = 0.18 * 2.0 ** random.uniform(-8, 6, (1, 4096, 1))
    return np.asarray(grey * 3 * random.dirichlet((4, 4, 4), (1, 4096)), np.float32)


class DisplayTransform:
    """Scene-linear working space to 8-bit display values, through one view.

    `apply` is exact for pictures with fewer pixels than the LUT has nodes (baking would cost more) and for
    colorimetric views (as fast as a LUT); others go through the LUT, with pixels outside its domain computed exactly.
    """

    def __init__(self, config: ColorConfig, view: View) -> None:
        self.view = view
        self._config = config

    @cached_property
    def _transform(self) -> Any:
        import PyOpenColorIO as Ocio

        working, view = self._config.working_space, self.view
        steps: list[Any] = []
        if view.look:
            steps.append(Ocio.LookTransform(src=working, dst=working, looks=view.look))
        if view.lut:
            steps.append(Ocio.ColorSpaceTransform(src=working, dst=view.lut_space))
            steps.append(Ocio.FileTransform(view.lut, interpolation=Ocio.INTERP_BEST))
        elif view.view:
            steps.append(Ocio.DisplayViewTransform(src=working, display=view.display, view=view.view))
        else:
            steps.append(Ocio.ColorSpaceTransform(src=working, dst=self._config.display_space(view.display)))
        return Ocio.GroupTransform(steps)

    def check(self) -> None:
        """Raise `MisconfiguredError` if OCIO cannot make it: a LUT that is no LUT, an unknown look."""
        self._exact  # noqa: B018 - made on first use

    @cached_property
    def _exact(self) -> Any:
        return self._config.processor(self._transform, eight_bit=True)

    @cached_property
    def _baked(self) -> tuple[Any, LutError]:
        import PyOpenColorIO as Ocio

        axis = np.asarray(2.0 ** (_LUT_START + np.arange(LUT_NODES) * _LUT_STEP) - _LUT_OFFSET, np.float32)
        axis[_BLACK_NODE] = 0
        nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(LUT_NODES, -1, 3)
        lut = Ocio.Lut3DTransform(LUT_NODES)
        lut.setInterpolation(Ocio.INTERP_TETRAHEDRAL)
        lut.setData(_in_float(self._config.processor(self._transform), nodes).ravel())
        baked = self._config.processor(lut, eight_bit=True)
        probe = _probe_colors()
        difference = np.abs(
            _in_eight_bit(self._exact, probe).astype(np.int16) - _in_eight_bit(baked, _on_lut_axis(probe))
        )
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
        view = self.view
        if not (view.lut or view.look) and (not view.view or view.view in _COLORIMETRIC_VIEWS):
            return False
        return self.lut_error.mean <= MAX_MEAN_ERROR and self.lut_error.p99 <= MAX_P99_ERROR

    def apply(self, scene_linear: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Display values 0..255, shape (H, W, 3), of finite scene-linear values of the same shape."""
        if scene_linear.shape[0] * scene_linear.shape[1] < LUT_NODES**3 or not self.is_baked:
            return self.apply_exactly(scene_linear)
        import cv2

        shown = np.empty(scene_linear.shape, np.uint8)
        for start in range(0, len(scene_linear), _APPLIED_LINES):
            lines = scene_linear[start : start + _APPLIED_LINES]
            result = shown[start : start + _APPLIED_LINES]
            lowest, highest, _, _ = cv2.minMaxLoc(lines.reshape(len(lines), -1))
            is_inside = lowest >= _LUT_BOTTOM and highest <= _LUT_TOP
            within = lines if is_inside else np.clip(lines, _LUT_BOTTOM, _LUT_TOP)
            _in_eight_bit(self._baked[0], _on_lut_axis(within), result)
            if not is_inside:
                outside = ((lines < _LUT_BOTTOM) | (lines > _LUT_TOP)).any(axis=2)
                result[outside] = _in_eight_bit(self._exact, lines[outside][np.newaxis])[0]
        return shown

    def apply_exactly(self, scene_linear: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Like `apply`, always without the LUT."""
        return _in_eight_bit(self._exact, scene_linear)


def _on_lut_axis(scene_linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scene-linear values within the LUT's domain to 0..1 over its axis."""
    import cv2

    place = scene_linear + np.float32(_LUT_OFFSET)
    cv2.log(place, dst=place)
    place *= np.float32(1 / (np.log(2) * _LUT_STEP * (LUT_NODES - 1)))
    place -= np.float32(_LUT_START / (_LUT_STEP * (LUT_NODES - 1)))
    return place


def _in_float(processor: Any, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    import PyOpenColorIO as Ocio

    result = np.array(pixels, np.float32, order="C")
    processor.apply(Ocio.PackedImageDesc(result, result.shape[1], result.shape[0], 3))
    return result


def _in_eight_bit(
    processor: Any, pixels: NDArray[np.float32], result: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """`result`, if given, is filled; it must be contiguous."""
    import cv2
    import PyOpenColorIO as Ocio

    width = pixels.shape[1]
    if result is None:
        result = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _APPLIED_LINES):
        # What OCIO computes in; to make it of RGB and back takes OCIO longer than OpenCV.
        source = cv2.cvtColor(
            np.ascontiguousarray(pixels[start : start + _APPLIED_LINES], np.float32), cv2.COLOR_RGB2RGBA
        )
        shown = np.empty(source.shape, np.uint8)
        processor.apply(
            Ocio.PackedImageDesc(source, width, len(source), 4),
            Ocio.PackedImageDesc(shown, width, len(shown), 4, Ocio.BIT_DEPTH_UINT8, 1, 4, 4 * width),
        )
        cv2.cvtColor(shown, cv2.COLOR_RGBA2RGB, dst=result[start : start + _APPLIED_LINES])
    return result


class ColorConfig:
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
                setting, f"cannot use the OCIO config {uri!r}: {reason}", "set it to a valid config, or unset it"
            ) from error
        self.name = self._config.getName() or uri
        self.hash = self._config.getCacheID()
        self.working_space = self._role("scene_linear")
        self._transforms: dict[View, DisplayTransform] = {}
        self._to_working: dict[tuple[str, tuple[float, ...] | None, Curve | None], Any] = {}
        self._by_id: dict[str, interop_ids.IdentifiedSpace | None] = {}
        self._built_in: set[str] = set()

    def _role(self, role: str) -> str:
        space = self._config.getColorSpace(role) if self._config.hasRole(role) else None
        if space is None:
            raise MisconfiguredError(
                self._setting, f"the OCIO config {self.name!r} has no role {role}", "use a config with that role"
            )
        return str(space.getName())

    def resolve(self, name: str) -> str | None:
        """The config's own name of the color space with this name, alias or role; None if there is none."""
        # Names in files may hold bytes that are not text, which OCIO does not take.
        space = self._config.getColorSpace(printable(name))
        return None if space is None else str(space.getName())

    def by_interop_id(self, name: str) -> str | None:
        """The space with this color interop ID, whatever the config calls it; None if there is none.

        A space that the config lacks may be one of OCIO's own (`is_built_in`): this object's methods know it as well.
        """
        name = printable(name)
        if name not in self._by_id:
            found = self._by_id[name] = interop_ids.find_space(self._config, name)
            if found is not None and found.is_built_in:
                self._built_in.add(found.name)
        found = self._by_id[name]
        return None if found is None else found.name

    def is_built_in(self, space: str) -> bool:
        """Whether this space, found by its interop ID, is one of OCIO's own and none of the config."""
        return space in self._built_in

    def user_facing(self, space: str) -> str:
        """What people call this space: its name in the config that has it."""
        return str(self._space(space).getName())

    def _space(self, name: str) -> Any:
        return self._holding(name).getColorSpace(name)

    def _holding(self, space: str) -> Any:
        return interop_ids.built_in_config() if self.is_built_in(space) else self._config

    def require(self, name: str, setting: str, where: str = "", *, is_own: bool = False) -> str:
        """The space with this name, alias, role or interop ID; with `is_own`, none of OCIO's own.

        Raises `MisconfiguredError`, naming `setting` and `where` in it, if there is none.
        """
        space = self.resolve(name) or self.by_interop_id(name)
        if space is None or (is_own and self.is_built_in(space)):
            known = [*self._config.getColorSpaceNames(), *(role for role, _ in self._config.getRoles())]
            raise self._unknown(setting, where, "color space or role", name, known)
        return space

    def default_space(self, name: str) -> str | None:
        """What the setting names for EXR files that state no space; None if it is Rec.709 and this config has no idea.

        That is the setting's own default, which no config should be refused for. Raises `MisconfiguredError` if
        another space is not there.
        """
        if name == LINEAR_REC709 and self.resolve(name) is None and self.by_interop_id(name) is None:
            return None
        return self.require(name, "EXR_PIPELINE_DEFAULT_COLOR_SPACE")

    def _unknown(self, setting: str, where: str, what: str, name: str, known: Iterable[str]) -> MisconfiguredError:
        return MisconfiguredError(
            setting, f"{where}the OCIO config {self.name!r} has no {what} {name!r}", suggestion(name, tuple(known))
        )

    def by_file_rule(self, path: str) -> str | None:
        """The color space that the config's file rules give to this path; None if only the default rule fits."""
        path = printable(path)
        if self._config.filepathOnlyMatchesDefaultRule(path):
            return None
        return self.resolve(self._config.getColorSpaceFromFilepath(path)[0])

    def is_linear(self, space: str) -> bool:
        """Whether the values of this space are proportional to light."""
        import PyOpenColorIO as Ocio

        reference = Ocio.REFERENCE_SPACE_DISPLAY if self.is_display_referred(space) else Ocio.REFERENCE_SPACE_SCENE
        return bool(self._holding(space).isColorSpaceLinear(space, reference))

    def is_display_referred(self, space: str) -> bool:
        """Whether this space describes a picture already made for a display."""
        import PyOpenColorIO as Ocio

        return bool(self._space(space).getReferenceSpaceType() == Ocio.REFERENCE_SPACE_DISPLAY)

    def is_data(self, space: str) -> bool:
        """Whether this space is no color at all (`Raw`)."""
        found = self._space(space)
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
                self._setting,
                f"the OCIO config {self.name!r} cannot convert these colors: {reason}",
                "repair the config",
            ) from error

    def to_working(
        self,
        space: str,
        pixels: NDArray[np.float32],
        *,
        matrix: tuple[float, ...] | None = None,
        curve: Curve | None = None,
    ) -> NDArray[np.float32]:
        """Pixels (H, W, 3) of a space in the working space; before that a curve undone, a 3x3 `matrix`, if given."""
        if space == self.working_space and matrix is None and curve is None:
            return pixels
        key = (space, matrix, curve)
        if key not in self._to_working:
            self._to_working[key] = self._working_processor(space, matrix, curve)
        return _in_float(self._to_working[key], pixels)

    def _working_processor(self, space: str, matrix: tuple[float, ...] | None, curve: Curve | None) -> Any:
        import PyOpenColorIO as Ocio

        if self.is_built_in(space):
            return interop_ids.to_working(self._config, space, self.working_space)
        steps: list[Any] = []
        if curve is not None:
            steps.append(_cineon_to_linear() if curve == "cineon" else _rec1886_to_linear())
        if matrix is not None:
            four = np.eye(4)
            four[:3, :3] = np.reshape(matrix, (3, 3))
            first = Ocio.MatrixTransform()
            first.setMatrix(four.ravel().tolist())
            steps.append(first)
        steps.append(Ocio.ColorSpaceTransform(src=space, dst=self.working_space))
        return self.processor(Ocio.GroupTransform(steps))

    def display_space(self, display: str) -> str:
        """The color space of a display's pixels."""
        for view in self._config.getViews(display):
            space = self._config.getDisplayViewColorSpaceName(display, view)
            resolved = self.resolve(display if space == "<USE_DISPLAY_NAME>" else space)
            if resolved is not None and not self.is_data(resolved):
                return resolved
        raise MisconfiguredError(self._setting, f"the display {display!r} has no color space", "repair the config")

    def find_view(
        self, medium: Medium, look: ViewChoice, *, setting: str | None = None, where: str = ""
    ) -> tuple[View, str | None]:
        """The view for a medium by what was chosen, and a warning if the config lacks the medium's own display.

        Raises `MisconfiguredError` for names that the config lacks; it names `setting` (else the option that chooses
        it on the command line) and `where` in it.
        """
        displays = tuple(self._config.getDisplays())
        if look.display and look.display not in displays:
            raise self._unknown(setting or "--display", where, "display", look.display, displays)
        display = look.display or next((known for known in _DISPLAYS[medium] if known in displays), None)
        warning = None
        if display is None:
            display = str(self._config.getDefaultDisplay())
            warning = f"the OCIO config has no display for {medium}s; used {display!r}"
        if look.look:
            known_looks = tuple(str(known) for known in self._config.getLookNames())
            for name in look.look.replace(":", ",").replace("|", ",").split(","):
                if name.strip(" +-") not in known_looks:
                    raise self._unknown(setting or "--look", where, "look", name.strip(" +-"), known_looks)
        if look.lut:
            if not Path(look.lut).is_file():
                raise MisconfiguredError(
                    setting or RULES_SETTING, f"{where}LUT file {look.lut} not found", "set it to a LUT file"
                )
            chosen = look.lut_space or next((known for known in _LUT_SPACES if self.resolve(known)), "scene_linear")
            space = self.require(chosen, setting or RULES_SETTING, where, is_own=True)
            return View(display, look=look.look, lut=look.lut, lut_space=space), warning
        views = tuple(self._config.getViews(display))
        if look.view == UN_TONE_MAPPED:
            view = next((known for known in _COLORIMETRIC_VIEWS if known in views), "")
        elif look.view and look.view not in views:
            raise self._unknown(setting or "--view", where, f"view of {display!r} called", look.view, views)
        else:
            view = look.view or str(self._config.getDefaultView(display))
        return View(display, view, look.look), warning

    def display_transform(self, view: View) -> DisplayTransform:
        """The transform to a view, made once per config."""
        return self._transforms.setdefault(view, DisplayTransform(self, view))


def _cineon_to_linear() -> Any:
    """Code values 0..1 of printing density to light, 1 for white and 0 for black."""
    import PyOpenColorIO as Ocio

    # log10(linear * (1 - black) + black) * gamma / density + white, all in code values of 10 bits
    log = Ocio.LogAffineTransform(
        logSideSlope=[0.6 / 0.002 / 1023] * 3,
        logSideOffset=[685 / 1023] * 3,
        linSideSlope=[1 - _CINEON_BLACK] * 3,
        linSideOffset=[_CINEON_BLACK] * 3,
    )
    log.setBase(10.0)
    log.setDirection(Ocio.TRANSFORM_DIR_INVERSE)
    return log


def _rec1886_to_linear() -> Any:
    """Code values 0..1 of video to the light of its display (ITU-R BT.1886 with black at 0)."""
    import PyOpenColorIO as Ocio

    return Ocio.ExponentTransform([2.4, 2.4, 2.4, 1.0])


def suggestion(name: str, known: Sequence[str]) -> str:
    """What could have been meant: the names most like it, else all of them if they are few."""
    lower = {candidate.lower(): candidate for candidate in known}
    like = [lower[near] for near in get_close_matches(name.lower(), lower, n=4, cutoff=0.5)]
    like += [candidate for candidate in known if name.lower() in candidate.lower() and candidate not in like][:6]
    if like:
        return f"did you mean {' or '.join(repr(candidate) for candidate in like)}?"
    return f"it has {', '.join(known)}" if 0 < len(known) <= 30 else "use one that the config has"


@cache
def _log_messages() -> None:
    """Have OCIO log what it would print to standard error."""
    import PyOpenColorIO as Ocio

    Ocio.SetLoggingFunction(lambda message: _LOG.info("OCIO says: %s", visible_line(message)))
    # OCIO would let go of it when the process ends, after Python is gone, and wait forever for Python's lock.
    atexit.register(Ocio.ResetToDefaultLoggingFunction)


@lru_cache(maxsize=4)
def _config(setting: str, uri: str) -> ColorConfig:
    _log_messages()
    return ColorConfig(setting, uri)


def load_config(settings: ColorSettings) -> ColorConfig:
    """The OCIO config in force, loaded once per process: OCIO_CONFIG_PATH, else OCIO, else the built-in one.

    Raises `MisconfiguredError`, naming the setting, if it cannot be read or is not valid, or lacks the default space.
    """
    if settings.ocio_config_path:
        config = _config("OCIO_CONFIG_PATH", settings.ocio_config_path)
    elif settings.ocio:
        config = _config("OCIO", settings.ocio)
    else:
        config = _config("OCIO_CONFIG_PATH", BUILT_IN_CONFIG)
    config.default_space(settings.default_color_space)
    _check_rules(config, settings)
    return config


@lru_cache(maxsize=16)
def _check_rules(config: ColorConfig, settings: ColorSettings) -> None:
    """Raise `MisconfiguredError`, naming file and rule, for names in the picture rules that the config lacks."""
    for index, rule in enumerate(settings.rules, start=1):
        where = f"{described(settings.picture_rules, index, rule.prefix)}: "
        for space in (rule.source_space, rule.default_space):
            if space:
                config.require(space, RULES_SETTING, where)
        _check_views(config, settings.of_rule(rule), where)


def _check_views(config: ColorConfig, rule: PictureRule, where: str) -> None:
    media: tuple[tuple[Medium, ViewChoice], ...] = (("still", rule.still), ("video", rule.video))
    for medium, look in media:
        view, _ = config.find_view(medium, look, setting=RULES_SETTING, where=where)
        try:
            config.display_transform(view).check()
        except MisconfiguredError as error:
            raise MisconfiguredError(RULES_SETTING, where + error.problem, "repair the rule") from error
