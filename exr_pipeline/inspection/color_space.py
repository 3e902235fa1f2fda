"""The color space that a file states, and which of its statements decided.

Belongs here: reading statements, in a fixed order. Not here: whether an OCIO config knows the name, or fallbacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exr_pipeline.exr import Chromaticities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exr_pipeline.dpx import DpxHeader
    from exr_pipeline.exr import Part

# Explicit names, by preference; then what OpenImageIO writes.
_NAMES: Final = ("colorInteropID", "colorspace", "colorSpace", "oiio:ColorSpace")

# Primaries and white point of spaces whose linear form has a name in the ACES studio config. ITU-R BT.709 and BT.2020,
# SMPTE ST 2065-1 (AP0), S-2014-004 (AP1), SMPTE RP 431-2 with the white of D65, Adobe RGB (1998).
_D65: Final = (0.3127, 0.3290)
_ACES_WHITE: Final = (0.32168, 0.33767)
SPACES: Final = {
    "Linear Rec.709 (sRGB)": Chromaticities(0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65),
    "ACEScg": Chromaticities(0.713, 0.293, 0.165, 0.830, 0.128, 0.044, *_ACES_WHITE),
    "ACES2065-1": Chromaticities(0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, *_ACES_WHITE),
    "Linear P3-D65": Chromaticities(0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
    "Linear Rec.2020": Chromaticities(0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    "Linear AdobeRGB": Chromaticities(0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65),
}
# The colorimetric specifications of SMPTE 268M that say something.
_COLORIMETRIC: Final = frozenset(
    {
        "printing density",
        "SMPTE 274M",
        "ITU-R BT.709",
        "ITU-R BT.601 625",
        "ITU-R BT.601 525",
        "NTSC composite",
        "PAL composite",
        "ADX",
    }
)
# Less than a third of the distance between any two of the spaces above, more than any rounding in use.
TOLERANCE: Final = 0.002


@dataclass(frozen=True, slots=True)
class StatedColorSpace:
    """A color space's name, as stated or (for numbers and flags) as in the ACES studio config, and the deciding rule.

    `rule` is the name of the attribute that decided, or `dpx:transfer`, `dpx:colorimetric`.
    """

    name: str
    rule: str


def named_chromaticities(chromaticities: Chromaticities) -> str | None:
    """The linear space with these primaries and this white point, each within `TOLERANCE`; None if there is none."""
    for name, known in SPACES.items():
        if all(abs(a - b) <= TOLERANCE for a, b in zip(chromaticities, known, strict=True)):
            return name
    return None


def stated_color_space(part: Part, first: Part | None = None) -> StatedColorSpace | None:
    """The strongest of `color_space_statements`; None if there is none."""
    return next(color_space_statements(part, first), None)


def color_space_statements(part: Part, first: Part | None = None) -> Iterator[StatedColorSpace]:
    """What an EXR part says about its color space, strongest first, as the Color Interop Forum recommends.

    In this order: `acesImageContainerFlag` of 1, `colorInteropID`, `colorspace`, `colorSpace`, `oiio:ColorSpace`, and
    `chromaticities` that have a name. Empty names and attributes of another type say nothing. `first`, the first part
    of the file, speaks for those parts that do not.
    """
    parts = (part,) if first is None else (part, first)
    if any(one.typed("acesImageContainerFlag", "int", 0) == 1 for one in parts):
        yield StatedColorSpace("ACES2065-1", "acesImageContainerFlag")
    for attribute in _NAMES:
        names = dict.fromkeys(str(one.typed(attribute, "string", "")).strip() for one in parts)
        yield from (StatedColorSpace(name, attribute) for name in names if name)
    for one in parts:
        chromaticities = one.typed("chromaticities", "chromaticities", None)
        named = None if chromaticities is None else named_chromaticities(chromaticities)
        if named is not None:
            yield StatedColorSpace(named, "chromaticities")


def stated_dpx_color_space(header: DpxHeader) -> StatedColorSpace | None:
    """What a DPX file's first element says, by its names in SMPTE 268M; None if it says nothing definite.

    That is the transfer characteristic, or, where it is undefined, `user` or `unspecified video`, the colorimetric
    specification; of the latter, `linear` and `logarithmic` mean "not applicable".
    """
    element = header.elements[0]
    if element.transfer not in {None, "user", "unspecified video"}:
        return StatedColorSpace(str(element.transfer), "dpx:transfer")
    if element.colorimetric in _COLORIMETRIC:
        return StatedColorSpace(str(element.colorimetric), "dpx:colorimetric")
    return None
