"""Which colour space a file's pixels are in, and which rule says so.

Belongs here: the order of the rules (docs/colour.md). Not here: the transforms (`colour`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.pictures.chromaticities import AP0, REC709, XYZ, to_ap0

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exr_pipeline.exr import Part
    from exr_pipeline.pictures.colour import ColourConfig

# Attributes that name a space, strongest first; compared without regard to case.
_EXPLICIT: Final = ("colorinteropid", "colorspace", "ocio:colorspace")
_LIBRARY: Final = ("oiio:colorspace",)

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

# Chromaticities by value, and the names a config may have for them.
_PRIMARIES: Final[tuple[tuple[tuple[float, ...], tuple[str, ...]], ...]] = (
    (REC709, ("lin_rec709_scene", "Linear Rec.709 (sRGB)", "lin_rec709", "lin_srgb")),
    ((0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767), ("lin_ap1_scene", "ACEScg", "lin_ap1")),
    (AP0, ("lin_ap0_scene", "ACES2065-1", "lin_ap0")),
    ((0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290), ("lin_p3d65_scene", "Linear P3-D65", "lin_p3d65")),
    ((0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290), ("lin_rec2020_scene", "Linear Rec.2020")),
    ((0.640, 0.330, 0.210, 0.710, 0.150, 0.060, 0.3127, 0.3290), ("lin_adobergb_scene", "Linear AdobeRGB")),
)
_TOLERANCE: Final = 2e-3

_LOG_TRANSFERS: Final = ("Printing density", "Logarithmic")
_VIDEO_TRANSFERS: Final = ("Unspecified video", "SMPTE 274M", "ITU-R 709", "ITU-R 601", "NTSC", "PAL")
_DPX_LOG: Final = ("ADX10", "Cineon", "cineon", "compositing_log")
_DPX_VIDEO: Final = ("rec1886_rec709_display", "Rec.1886 Rec.709 - Display", "g24_rec709", "Rec709", "rec709")
_LINEAR_REC709: Final = _PRIMARIES[0][1]


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
    config: ColourConfig, *, part: Part | None, transfer: str, name: str, default: str
) -> SourceSpace:
    """The colour space of an EXR `part`, or of a DPX (`part` None) with a `transfer` characteristic.

    `default` is a space or role for files that don't say. Raises `MisconfiguredError` if the config lacks it.
    """
    warnings: list[str] = []
    candidates = _exr_candidates(config, part, warnings) if part is not None else _dpx_candidates(config, transfer)
    found = next(candidates, None)
    if found is None:
        by_path = config.by_file_rule(name)
        if by_path is not None:
            found = SourceSpace(by_path, by_path, "file rule of the OCIO config")
        else:
            space = config.resolve(default)
            if space is None:
                raise MisconfiguredError(
                    "EXR_PIPELINE_DEFAULT_COLOR_SPACE",
                    f"the OCIO config {config.name!r} has no colour space or role {default!r}",
                    "name one of its colour spaces",
                )
            found = SourceSpace(space, space, f"default ({default})")
    return SourceSpace(found.name, found.space, found.rule, found.to_space, tuple(warnings))


def _exr_candidates(config: ColourConfig, part: Part, warnings: list[str]) -> Iterator[SourceSpace]:
    """The spaces that a part's header states, strongest rule first."""
    yield from _named(config, part, _EXPLICIT, warnings)
    yield from _named(config, part, _LIBRARY, warnings)
    if part.typed("acesImageContainerFlag", "int", 0) == 1:
        yield from _first(config, _PRIMARIES[2][1], "acesImageContainerFlag")
    chromaticities = part.typed("chromaticities", "chromaticities", None)
    if chromaticities is not None:
        yield from _by_chromaticities(config, chromaticities, warnings)


def _named(config: ColourConfig, part: Part, names: Sequence[str], warnings: list[str]) -> Iterator[SourceSpace]:
    for wanted in names:
        for attribute in part.attributes:
            if attribute.name.lower() != wanted or attribute.type != "string":
                continue
            stated = str(attribute.value).strip()
            if stated.lower() in _SAYS_NOTHING:
                continue
            found = next(_first(config, (stated, *_SPELLINGS.get(stated.lower(), ())), attribute.name), None)
            if found is not None:
                yield found
            else:
                warnings.append(f"{attribute.name} {stated!r} is no colour space of the OCIO config: ignored")


def _first(config: ColourConfig, names: Sequence[str], rule: str) -> Iterator[SourceSpace]:
    for name in names:
        space = config.resolve(name)
        if space is not None:
            yield SourceSpace(space, space, rule)
            return


def _by_chromaticities(
    config: ColourConfig, chromaticities: Sequence[float], warnings: list[str]
) -> Iterator[SourceSpace]:
    for known, names in _PRIMARIES:
        if np.allclose(chromaticities, known, atol=_TOLERANCE):
            yield from _first(config, names, "chromaticities")
    ap0 = config.resolve("aces_interchange") or config.resolve("ACES2065-1")
    try:
        matrix = tuple(float(value) for value in to_ap0(chromaticities).ravel())
    except ValueError as error:
        warnings.append(f"{error}: ignored")
        return
    if ap0 is None:
        warnings.append("the OCIO config has no aces_interchange role: chromaticities ignored")
        return
    is_xyz = np.allclose(chromaticities, XYZ, atol=_TOLERANCE)
    label = "CIE XYZ (D65)" if is_xyz else "linear, primaries " + " ".join(f"{value:.4g}" for value in chromaticities)
    yield SourceSpace(label, ap0, "chromaticities", matrix)


def _dpx_candidates(config: ColourConfig, transfer: str) -> Iterator[SourceSpace]:
    rule = f"DPX transfer ({transfer})" if transfer else "DPX default"
    if transfer.startswith(_LOG_TRANSFERS):
        yield from _first(config, _DPX_LOG, rule)
    elif transfer == "Linear":
        yield from _first(config, _LINEAR_REC709, rule)
    elif transfer.startswith(_VIDEO_TRANSFERS):
        yield from _first(config, _DPX_VIDEO, rule)
