"""Stated color spaces: which statement decides, and chromaticities by value."""

import OpenEXR
import pytest

from exr_pipeline.exr import Attribute, Chromaticities
from exr_pipeline.inspection.color_space import SPACES, named_chromaticities, stated_color_space
from exr_pipeline_tests.exr.headers import header

AP1 = SPACES["ACEScg"]
STATEMENTS = [
    Attribute.of("acesImageContainerFlag", "int", 1),
    Attribute.of("colorInteropID", "string", "lin_ap0_scene"),
    Attribute.of("colorspace", "string", "one"),
    Attribute.of("colorSpace", "string", "two"),
    Attribute.of("oiio:ColorSpace", "string", "three"),
    Attribute.of("chromaticities", "chromaticities", AP1),
]
NAMES = ["ACES2065-1", "lin_ap0_scene", "one", "two", "three", "ACEScg"]


@pytest.mark.parametrize("first", range(6))
def test_the_first_statement_in_the_documented_order_decides(first: int) -> None:
    stated = stated_color_space(header(*reversed(STATEMENTS[first:])).parts[0])
    assert stated is not None
    assert (stated.name, stated.rule) == (NAMES[first], STATEMENTS[first].name)


def test_nothing_empty_or_of_another_type_is_a_statement() -> None:
    nothing = [
        Attribute.of("colorspace", "string", " "),
        Attribute.of("oiio:ColorSpace", "int", 3),
        Attribute.of("acesImageContainerFlag", "int", 0),
        Attribute.of("chromaticities", "chromaticities", Chromaticities(1, 0, 0, 1, 0, 0, 1 / 3, 1 / 3)),
    ]
    assert stated_color_space(header(*nothing).parts[0]) is None


@pytest.mark.parametrize("name", SPACES)
def test_chromaticities_are_named_within_rounding_only(name: str) -> None:
    exact = SPACES[name]
    assert named_chromaticities(Chromaticities(*(round(value, 3) for value in exact))) == name
    assert named_chromaticities(exact._replace(green_y=exact.green_y + 0.004)) is None


@pytest.mark.parametrize("name", ["Linear Rec.709 (sRGB)", "ACEScg", "ACES2065-1", "Linear P3-D65"])
def test_the_openexr_library_knows_the_same_chromaticities(name: str) -> None:
    interop = {
        "Linear Rec.709 (sRGB)": "lin_rec709_scene",
        "ACEScg": "lin_ap1_scene",
        "ACES2065-1": "lin_ap0_scene",
        "Linear P3-D65": "lin_p3d65_scene",
    }
    assert OpenEXR.chromaticitiesToColorInteropID(tuple(SPACES[name])) == interop[name]
