"""Which colour space a file's pixels are in, and which rule says so.

Belongs here: the order of the rules (docs/colour.md). Not here: the transforms (`colour`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.exr import Part
from exr_pipeline.inspection.color_space import stated_color_space, stated_dpx_color_space
from exr_pipeline.pictures.chromaticities import XYZ, to_ap0

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.dpx import DpxHeader
    from exr_pipeline.pictures.colour import ColourConfig

# Spellings that programs write and configs do not know. Values: names to try in the config.
_SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "linear": ("scene_linear",),
    "lin_rec709": ("lin_rec709_scene", "Linear Rec.709 (sRGB)"),
    "lin_srgb": ("lin_rec709_scene", "Linear Rec.709 (sRGB)"),
    "srgb": ("srgb_rec709_scene", "srgb_texture", "sRGB - Texture"),
    "rec709": ("rec1886_rec709_display", "Rec.1886 Rec.709 - Display", "g24_rec709"),
    "logc": ("ARRI LogC3 (EI800)",),
    "logc3": ("ARRI LogC3 (EI800)",),
    "arri logc": ("ARRI LogC3 (EI800)",),
    "logc4": ("ARRI LogC4",),
    "g24_rec709_display": ("rec1886_rec709_display", "Rec.1886 Rec.709 - Display"),
    "srgb_rec709_display": ("srgb_display", "sRGB - Display"),
    "srgb_p3d65_display": ("displayp3_display", "Display P3 - Display"),
}
# What `colorInteropID` says when it does not say anything.
_SAYS_NOTHING: Final = frozenset({"", "unknown"})

_TOLERANCE: Final = 2e-3

# By the names of `exr_pipeline.dpx`. Video is made for a display, so it is not given a view a second time.
_DPX_LOG: Final = ("ADX10", "Cineon", "cineon", "compositing_log")
_DPX_VIDEO: Final = ("rec1886_rec709_display", "Rec.1886 Rec.709 - Display", "g24_rec709", "Rec709", "rec709")
_DPX_LINEAR: Final = ("lin_rec709_scene", "Linear Rec.709 (sRGB)", "lin_rec709", "lin_srgb")
_DPX_TRANSFERS: Final[dict[str, tuple[str, ...]]] = {
    "printing density": _DPX_LOG,
    "logarithmic": _DPX_LOG,
    "ADX": _DPX_LOG,
    "linear": _DPX_LINEAR,
}


@dataclass(frozen=True, slots=True)
class SourceSpace:
    """A colour space of the config in force and the rule that chose it.

    With `to_space` (row-major 3x3) the pixels are in no space of the config: the matrix brings them to `space`.
    """

    name: str
    space: str
    rule: str
    to_space: tuple[float, ...] | None = None
    warnings: tuple[str, ...] = field(default=())


def find_source_space(
    config: ColourConfig, *, part: Part | None, dpx: DpxHeader | None, name: str, default: str
) -> SourceSpace:
    """The colour space of an EXR `part` or a `dpx` file called `name`.

    `default` is a space or role for EXR files that don't say. Raises `MisconfiguredError` if the config lacks it.
    """
    warnings: list[str] = []
    found = _stated_by_part(config, part, warnings) if part is not None else None
    if dpx is not None:
        found = _stated_by_dpx(config, dpx)
    if found is None:
        by_path = config.by_file_rule(name)
        if by_path is not None:
            found = SourceSpace(by_path, by_path, "file rule of the OCIO config")
    if found is None and dpx is not None:
        found = _first(config, _DPX_VIDEO, "default (DPX: Rec.709 video)")
    if found is None:
        space = config.require(default, "EXR_PIPELINE_DEFAULT_COLOR_SPACE")
        found = SourceSpace(space, space, f"default ({default})")
    return replace(found, warnings=tuple(warnings))


def _stated_by_part(config: ColourConfig, part: Part, warnings: list[str]) -> SourceSpace | None:
    """The strongest statement of a part that the config understands; what it does not understand is a warning."""
    while (stated := stated_color_space(part)) is not None:
        if stated.name.lower() not in _SAYS_NOTHING:
            found = _first(config, (stated.name, *_SPELLINGS.get(stated.name.lower(), ())), stated.rule)
            if found is not None:
                return found
            if stated.rule == "chromaticities":
                break
            warnings.append(f"{stated.rule} {stated.name!r} is no colour space of the OCIO config: ignored")
        rest = tuple(attribute for attribute in part.attributes if attribute.name != stated.rule)
        part = Part(rest, part.implied_type)
    chromaticities = part.typed("chromaticities", "chromaticities", None)
    return None if chromaticities is None else _by_matrix(config, chromaticities, warnings)


def _first(config: ColourConfig, names: Sequence[str], rule: str) -> SourceSpace | None:
    spaces = (space for name in names if (space := config.resolve(name)) is not None)
    space = next(spaces, None)
    return None if space is None else SourceSpace(space, space, rule)


def _by_matrix(config: ColourConfig, chromaticities: Sequence[float], warnings: list[str]) -> SourceSpace | None:
    ap0 = config.resolve("aces_interchange") or config.resolve("ACES2065-1")
    try:
        matrix = tuple(float(value) for value in to_ap0(chromaticities).ravel())
    except ValueError as error:
        warnings.append(f"{error}: ignored")
        return None
    if ap0 is None:
        warnings.append("the OCIO config has no aces_interchange role: chromaticities ignored")
        return None
    is_xyz = np.allclose(chromaticities, XYZ, atol=_TOLERANCE)
    label = "CIE XYZ (D65)" if is_xyz else "linear, primaries " + " ".join(f"{value:.4g}" for value in chromaticities)
    return SourceSpace(label, ap0, "chromaticities", matrix)


def _stated_by_dpx(config: ColourConfig, dpx: DpxHeader) -> SourceSpace | None:
    stated = stated_dpx_color_space(dpx)
    if stated is None:
        return None
    return _first(config, _DPX_TRANSFERS.get(stated.name, _DPX_VIDEO), f"{stated.rule} ({stated.name})")
