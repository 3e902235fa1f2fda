import numpy as np
import pytest

from exr_pipeline.exr import Attribute, Box2i, Chromaticities, Header
from exr_pipeline.pictures.chromaticities import REC709, XYZ, rgb_to_xyz, to_ap0
from exr_pipeline.pictures.colour import load_config
from exr_pipeline.pictures.layers import ShownLayer
from exr_pipeline.pictures.source_space import find_source_space
from exr_pipeline.pictures.sources import Source
from exr_pipeline_tests.pictures.files import picture_settings

AP1 = Chromaticities(0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)


def text(name: str, value: str) -> Attribute:
    return Attribute.of(name, "string", value)


def primaries(value) -> Attribute:
    return Attribute.of("chromaticities", "chromaticities", Chromaticities(*value))


def found(*attributes: Attribute, name: str = "s3://b/x.exr", default: str = "scene_linear"):
    part = Header.build([attributes]).parts[0]
    layer = ShownLayer(0, "rgb", ("R", "G", "B"))
    source = Source(name, layer, Box2i(0, 0, 0, 0), lambda _level: iter(()), part=part)
    return find_source_space(load_config(picture_settings()), source, global_default=default)


@pytest.mark.parametrize(
    ("attributes", "space", "rule"),
    [
        ([text("colorInteropID", "lin_rec709_scene"), text("colorspace", "ACEScg")], "Linear Rec.709 (sRGB)",
         "colorInteropID"),
        ([text("colorspace", "arri logc4"), text("oiio:ColorSpace", "ACEScg")], "ARRI LogC4", "colorspace"),
        ([text("oiio:ColorSpace", "lin_rec709"), primaries(AP1)], "Linear Rec.709 (sRGB)", "oiio:ColorSpace"),
        ([text("oiio:ColorSpace", "Linear")], "ACEScg", "oiio:ColorSpace"),
        ([Attribute.of("acesImageContainerFlag", "int", 1)], "ACES2065-1", "acesImageContainerFlag"),
        ([primaries(AP1)], "ACEScg", "chromaticities"),
        ([primaries(v + 0.001 for v in REC709)], "Linear Rec.709 (sRGB)", "chromaticities"),
        ([text("colorInteropID", "unknown"), primaries(REC709)], "Linear Rec.709 (sRGB)", "chromaticities"),
        ([], "ACEScg", "default (scene_linear)"),
    ],
)  # fmt: skip
def test_the_strongest_statement_decides_and_is_recorded(attributes, space, rule):
    source = found(*attributes)

    assert (source.name, source.space, source.rule, source.warnings) == (space, space, rule, ())


def test_an_unknown_name_falls_through_to_the_next_rule_with_a_warning():
    source = found(text("colorspace", "studio secret log"), primaries(AP1))

    assert (source.space, source.rule) == ("ACEScg", "chromaticities")
    assert source.warnings == ("colorspace 'studio secret log' is no colour space of the OCIO config: ignored",)


def test_an_unknown_name_alone_falls_back_to_the_default_with_a_warning():
    source = found(text("colorInteropID", "nonsense"), default="lin_rec709")

    assert (source.space, source.rule) == ("Linear Rec.709 (sRGB)", "default (lin_rec709)")
    assert len(source.warnings) == 1


def test_primaries_without_a_name_become_a_matrix():
    wide = (0.7, 0.3, 0.2, 0.75, 0.14, 0.05, 0.3127, 0.3290)
    source = found(primaries(wide))

    assert source.to_space is not None
    matrix = np.reshape(source.to_space, (3, 3))
    assert source.space == "ACES2065-1"
    assert np.allclose(matrix @ np.ones(3), 1, atol=1e-4)  # White stays white.


def test_xyz_is_relative_to_d65():
    white = rgb_to_xyz(REC709) @ np.ones(3)

    assert np.allclose(to_ap0(XYZ) @ white, 1, atol=1e-4)
    assert found(primaries(XYZ)).name == "CIE XYZ (D65)"


@pytest.mark.parametrize("bad", [(0.3,) * 8, (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.0), (float("nan"),) * 8])
def test_chromaticities_that_span_nothing_are_ignored_with_a_warning(bad):
    source = found(primaries(bad))

    assert source.rule == "default (scene_linear)"
    assert source.warnings == ("chromaticities span no colour space: ignored",)
