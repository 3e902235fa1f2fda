"""Which color space a file's pixels are in, and which rule says so.

Belongs here: the order of the rules (docs/color.md). Not here: the transforms (`config`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from exr_pipeline.color.chromaticities import EBU, REC709, SMPTE_C, XYZ, to_ap0
from exr_pipeline.color.config import LINEAR_REC709
from exr_pipeline.color.picture_rules import SETTING as RULES_SETTING
from exr_pipeline.inspection.color_space import color_space_statements
from exr_pipeline.untrusted_text import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.color.config import ColorConfig, Curve
    from exr_pipeline.exr import Part
    from exr_pipeline.inspection.color_space import StatedColorSpace

# Spellings that programs write and configs do not know. Values: names to try in the config.
_SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "linear": (LINEAR_REC709,),
    "lin_rec709": (LINEAR_REC709,),
    "lin_srgb": (LINEAR_REC709,),
    "srgb": ("srgb_rec709_scene",),
    "rec709": ("rec1886_rec709_display", "Rec.1886 Rec.709 - Display", "g24_rec709"),
    "logc": ("ARRI LogC3 (EI800)",),
    "logc3": ("ARRI LogC3 (EI800)",),
    "arri logc": ("ARRI LogC3 (EI800)",),
    "logc4": ("ARRI LogC4",),
}
# What `colorInteropID` says when it does not say anything.
_SAYS_NOTHING: Final = frozenset({"", "unknown"})
# What OpenImageIO called light in whatever primaries a studio works in.
_LIGHT: Final = "linear"

_TOLERANCE: Final = 2e-3

# By the names of `exr_pipeline.dpx`. Video is made for a display, so it is not given a view a second time.
_DPX_LOG: Final = frozenset({"printing density", "logarithmic"})
# Primaries of the standards that a DPX can name: SMPTE 274M, ITU-R BT.709, BT.601, SMPTE RP 145, EBU Tech. 3213.
_DPX_PRIMARIES: Final = {
    "SMPTE 274M": REC709,
    "ITU-R BT.709": REC709,
    "ITU-R BT.601 625": EBU,
    "ITU-R BT.601 525": SMPTE_C,
    "NTSC composite": SMPTE_C,
    "PAL composite": EBU,
}
_DPX_VIDEO: Final = ("rec1886_rec709_display", "Rec.1886 Rec.709 - Display", "g24_rec709", "Rec709", "rec709")
_CINEON: Final = ("Cineon", "cineon")
_CINEON_NAME: Final = "Cineon (printing density)"
_LINEAR_REC709: Final = ("Linear Rec.709 (sRGB)", "lin_rec709", "lin_srgb", LINEAR_REC709, "scene_linear")
_SRGB_DISPLAY: Final = ("srgb_display", "sRGB - Display", "srgb_rec709_scene", "sRGB - Texture", "sRGB", "srgb")

# What readers call the space of a file that says nothing else.
_PLAIN_SRGB: Final = frozenset({"", "srgb", "srgb_rec709_scene", "srgb_rec709_display", "unknown"})
# Words in the names of ICC profiles, in order.
_ICC_PROFILES: Final[dict[tuple[str, ...], tuple[str, ...]]] = {
    ("display p3", "p3 d65", "p3-d65"): ("displayp3_display", "Display P3 - Display"),
    ("adobe rgb", "adobergb"): ("g22_adobergb_scene", "Gamma 2.2 AdobeRGB", "g22_adobergb_tx", "Adobe RGB"),
    ("rec.709", "rec709", "bt.709", "1886"): _DPX_VIDEO,
    ("srgb", "iec 61966", "iec61966"): _SRGB_DISPLAY,
}


# How the rules begin that do not depend on the file.
FORCED: Final = "forced ("
RULE_DEFAULT: Final = "default of the picture rule ("


def forced_rule(space: str) -> str:
    """The rule by which a space holds whatever the file says."""
    return f"{FORCED}{space})"


def rule_default_rule(space: str) -> str:
    """The rule by which a picture rule's space holds for a file that says nothing."""
    return f"{RULE_DEFAULT}{space})"


@dataclass(frozen=True, slots=True)
class ImageTags:
    """What a TIFF, PNG or JPEG file says about its color: text as in the file, empty if it says nothing.

    `is_integer`: its samples are integers. `icc` is the description of its ICC profile.
    """

    is_integer: bool
    icc: str = ""
    color_space: str = ""


@dataclass(frozen=True, slots=True)
class CodeValues:
    """What the code values of a film scan or video frame (DPX, Cineon) are, by the names of SMPTE 268M.

    `stated` is what the file says of its transfer, None if nothing definite; then `conventional` is what files of this
    format are. The primaries are those that `colorimetric` names, else those of the transfer.
    """

    stated: StatedColorSpace | None
    conventional: StatedColorSpace
    bit_depth: int
    colorimetric: str | None = None


class StatingFile(Protocol):
    """An opened picture file, as far as it says what its pixels mean; one of `part`, `codes` and `tags` is there."""

    @property
    def name(self) -> str:
        """Its URL."""
        ...

    @property
    def part(self) -> Part | None:
        """The part of an EXR that is shown."""
        ...

    @property
    def first_part(self) -> Part | None:
        """The part that speaks for the whole EXR."""
        ...

    @property
    def codes(self) -> CodeValues | None:
        """What the code values of a DPX or Cineon file are."""
        ...

    @property
    def tags(self) -> ImageTags | None:
        """What a TIFF, PNG or JPEG says."""
        ...


@dataclass(frozen=True, slots=True)
class SourceSpace:
    """A color space of the config in force and the rule that chose it.

    With `curve` or `to_space` (row-major 3x3) the pixels are in no space of the config: the curve undone, then the
    matrix, bring them to `space`. `is_display_referred`: they were made for a display and get no view again.
    """

    name: str
    space: str
    rule: str
    to_space: tuple[float, ...] | None = None
    curve: Curve | None = None
    is_display_referred: bool = False
    warnings: tuple[str, ...] = field(default=())


def find_source_space(
    config: ColorConfig, source: StatingFile, *, forced: str = "", default: str = "", global_default: str
) -> SourceSpace:
    """The color space of an opened file.

    `forced` holds whatever the file says; `default` where it says nothing, else `global_default` for EXR and the
    format's own convention for others. Raises `MisconfiguredError` if the config lacks one of these.
    """
    warnings: list[str] = []
    found: SourceSpace | None = None
    if forced:
        space = config.require(forced, "--source-space")
        found = SourceSpace(config.user_facing(space), space, forced_rule(forced))
    elif source.part is not None:
        found = _stated_by_part(config, source, default or global_default, warnings)
    elif source.codes is not None and source.codes.stated is not None:
        stated = source.codes.stated
        found = _of_codes(config, source.codes, stated.name, f"{stated.rule} ({stated.name})", warnings)
    elif source.tags is not None:
        found = _stated_by_image(config, source.tags, warnings)
    if found is None and (by_path := config.by_file_rule(source.name)) is not None:
        found = SourceSpace(by_path, by_path, "file rule of the OCIO config")
    if found is None and default:
        space = config.require(default, RULES_SETTING)
        found = SourceSpace(config.user_facing(space), space, rule_default_rule(default))
    if found is None and source.codes is not None:
        conventional = source.codes.conventional
        found = _of_codes(config, source.codes, conventional.name, conventional.rule, warnings)
    if found is None and source.tags is not None:
        found = _of_image(config, source.tags)
    if found is None:
        found = space_by_default(config, global_default, warnings)
    for_display = found.is_display_referred or config.is_display_referred(found.space)
    return replace(found, is_display_referred=for_display, warnings=tuple(warnings))


def _stated_by_part(config: ColorConfig, source: StatingFile, default: str, warnings: list[str]) -> SourceSpace | None:
    """The strongest statement of a part that the config understands; what it does not understand is a warning."""
    assert source.part is not None
    parts = (source.part, source.first_part or source.part)
    stated_primaries = (part.typed("chromaticities", "chromaticities", None) for part in parts)
    chromaticities = next((primaries for primaries in stated_primaries if primaries is not None), None)
    for stated in color_space_statements(*parts):
        word = stated.name.lower()
        is_light_alone = word == _LIGHT and config.resolve(word) is None
        if word in _SAYS_NOTHING or (is_light_alone and chromaticities is not None):
            continue
        spellings = _light(config, default) if is_light_alone else _SPELLINGS.get(word, ())
        found = _first(config, (stated.name, *spellings), stated.rule)
        if found is not None:
            if config.is_built_in(found.space):
                warnings.append(
                    f"the OCIO config has no {quoted(stated.name)} ({stated.rule}): OCIO's built-in definition is used"
                )
            return found
        if stated.rule != "chromaticities":
            warnings.append(f"{stated.rule} {quoted(stated.name)} is not a color space of the OCIO config: ignored")
    return None if chromaticities is None else _by_matrix(config, chromaticities, warnings)


def _light(config: ColorConfig, default: str) -> tuple[str, ...]:
    """What light of unnamed primaries is: that of the files which state nothing, if that is light."""
    space = config.default_space(default)
    return (default, *_LINEAR_REC709) if space is not None and config.is_linear(space) else _LINEAR_REC709


def space_by_default(config: ColorConfig, name: str, warnings: list[str]) -> SourceSpace:
    """What is meant where an EXR file says nothing and no picture rule does: the space that a setting names."""
    space = config.default_space(name)
    if space is None:
        warnings.append("the OCIO config has no linear Rec.709: its scene_linear is used")
        return SourceSpace(config.working_space, config.working_space, "default (scene_linear)")
    return SourceSpace(config.user_facing(space), space, f"default ({name})")


def _first(
    config: ColorConfig, names: Sequence[str], rule: str, *, is_display_referred: bool = False
) -> SourceSpace | None:
    """The first of these names that the config has, else the first that is an interop ID which OCIO knows."""
    spaces = (space for find in (config.resolve, config.by_interop_id) for name in names if (space := find(name)))
    space = next(spaces, None)
    if space is None:
        return None
    return SourceSpace(config.user_facing(space), space, rule, is_display_referred=is_display_referred)


def _by_matrix(config: ColorConfig, chromaticities: Sequence[float], warnings: list[str]) -> SourceSpace | None:
    is_xyz = np.allclose(chromaticities, XYZ, atol=_TOLERANCE)
    label = "CIE XYZ (D65)" if is_xyz else "linear, primaries " + " ".join(f"{value:.4g}" for value in chromaticities)
    return _linear(config, chromaticities, label, "chromaticities", warnings)


def _linear(
    config: ColorConfig, chromaticities: Sequence[float], label: str, rule: str, warnings: list[str]
) -> SourceSpace | None:
    """Light of any primaries, by way of ACES2065-1."""
    ap0 = config.resolve("aces_interchange") or config.resolve("ACES2065-1")
    try:
        matrix = tuple(float(value) for value in to_ap0(chromaticities).ravel())
    except ValueError as error:
        warnings.append(f"{error}: ignored")
        return None
    if ap0 is None:
        warnings.append(f"the OCIO config has no aces_interchange role: {rule} ignored")
        return None
    return SourceSpace(label, ap0, rule, matrix)


def _of_codes(
    config: ColorConfig, codes: CodeValues, transfer: str, rule: str, warnings: list[str]
) -> SourceSpace | None:
    """The curve by the transfer characteristic, the primaries by the colorimetric specification, else the transfer."""
    is_log = transfer in _DPX_LOG
    if transfer == "ADX":
        return _first(config, ("ADX16" if codes.bit_depth == 16 else "ADX10",), rule)
    if is_log and (own := _first(config, _CINEON, rule)) is not None:
        return own
    standard = codes.colorimetric if codes.colorimetric in _DPX_PRIMARIES else transfer
    if standard != transfer:
        rule += f", dpx:colorimetric ({standard})"
    primaries = _DPX_PRIMARIES.get(standard, REC709)
    curve: Curve | None = "cineon" if is_log else None if transfer == "linear" else "rec1886"
    if primaries != REC709:
        kind = {"cineon": _CINEON_NAME, "rec1886": "Rec.1886", None: "linear"}[curve]
        found = _linear(config, primaries, f"{kind}, primaries of {standard}", rule, warnings)
        if found is not None:
            return replace(found, curve=curve, is_display_referred=curve == "rec1886")
    if curve == "rec1886":
        return _first(config, _DPX_VIDEO, rule, is_display_referred=True)
    linear = _first(config, _LINEAR_REC709, rule)
    return replace(linear, name=_CINEON_NAME, curve=curve) if linear is not None and is_log else linear


def _stated_by_image(config: ColorConfig, tags: ImageTags, warnings: list[str]) -> SourceSpace | None:
    """What an ICC profile's name, or for what is no plain sRGB the library, says of a TIFF, PNG or JPEG."""
    if tags.icc:
        for words, names in _ICC_PROFILES.items():
            if any(word in tags.icc.lower() for word in words):
                return _first(config, names, f"ICC profile ({tags.icc})", is_display_referred=True)
        warnings.append(f"unknown ICC profile {quoted(tags.icc)}: ignored")
    if tags.color_space.lower() in _PLAIN_SRGB:
        return None
    names = (tags.color_space, *_SPELLINGS.get(tags.color_space.lower(), ()))
    found = _first(config, names, f"oiio:ColorSpace ({tags.color_space})")
    encoded = found is not None and tags.is_integer and not config.is_linear(found.space)
    return replace(found, is_display_referred=True) if found is not None and encoded else found


def _of_image(config: ColorConfig, tags: ImageTags) -> SourceSpace | None:
    """By convention integers are sRGB code values, and floating-point numbers light in Rec.709."""
    if tags.is_integer:
        return _first(config, _SRGB_DISPLAY, "default (integers: sRGB)", is_display_referred=True)
    return _first(config, _LINEAR_REC709, "default (floating point: linear Rec.709)")
