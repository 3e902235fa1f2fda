from pathlib import Path
from typing import Any

import numpy as np
import PyOpenColorIO as Ocio
import pytest

from exr_pipeline.exr import Attribute, Box2i, Chromaticities, Header
from exr_pipeline.pictures.chromaticities import REC709, XYZ, rgb_to_xyz, to_ap0
from exr_pipeline.pictures.colour import BUILT_IN_CONFIG, load_config
from exr_pipeline.pictures.layers import ShownLayer
from exr_pipeline.pictures.source_space import find_source_space
from exr_pipeline.pictures.sources import Source
from exr_pipeline_tests.pictures.expected import AP1_TO_REC709, COLOURS
from exr_pipeline_tests.pictures.files import picture_settings

AP1 = Chromaticities(0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)


def text(name: str, value: str) -> Attribute:
    return Attribute.of(name, "string", value)


def primaries(value) -> Attribute:
    return Attribute.of("chromaticities", "chromaticities", Chromaticities(*value))


def found(*attributes: Attribute, name: str = "s3://b/x.exr", default: str = "lin_rec709_scene"):
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
        ([text("oiio:ColorSpace", "Linear")], "Linear Rec.709 (sRGB)", "oiio:ColorSpace"),
        ([text("oiio:ColorSpace", "Linear"), primaries(AP1)], "ACEScg", "chromaticities"),
        ([Attribute.of("acesImageContainerFlag", "int", 1)], "ACES2065-1", "acesImageContainerFlag"),
        ([primaries(AP1)], "ACEScg", "chromaticities"),
        ([primaries(v + 0.001 for v in REC709)], "Linear Rec.709 (sRGB)", "chromaticities"),
        ([text("colorInteropID", "unknown"), primaries(REC709)], "Linear Rec.709 (sRGB)", "chromaticities"),
        ([], "Linear Rec.709 (sRGB)", "default (lin_rec709_scene)"),
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

    assert source.rule == "default (lin_rec709_scene)"
    assert source.warnings == ("chromaticities span no colour space: ignored",)


def test_a_studio_says_what_its_untagged_files_are_and_what_light_without_primaries_is():
    aces = found(default="scene_linear")
    light = found(text("oiio:ColorSpace", "Linear"), default="scene_linear")
    log = found(text("oiio:ColorSpace", "Linear"), default="ARRI LogC4")

    assert (aces.name, aces.rule) == ("ACEScg", "default (scene_linear)")
    assert (light.name, light.rule) == ("ACEScg", "oiio:ColorSpace")
    assert log.name == "Linear Rec.709 (sRGB)", "light is no log"


def test_untagged_files_are_rec709_in_a_config_that_calls_it_otherwise(tmp_path):
    config = without_rec709()
    space = Ocio.Config.CreateFromFile(BUILT_IN_CONFIG).getColorSpace("Linear Rec.709 (sRGB)")
    space.clearAliases()
    space.setName("our own")
    config.addColorSpace(space)

    assert untagged(config, tmp_path)[1:] == ("our own", "default (lin_rec709_scene)", ())


def test_untagged_files_are_rec709_in_a_config_without_such_a_space(tmp_path):
    config, *decided = untagged(without_rec709(), tmp_path)

    assert decided == ["Linear Rec.709 (sRGB)", "default (lin_rec709_scene)", ()]
    space = config.require("lin_rec709_scene", "")
    assert config.is_built_in(space)
    assert config.is_linear(space)
    assert np.allclose(config.to_working(space, COLOURS[np.newaxis] @ AP1_TO_REC709.T), COLOURS, atol=1e-4)


def test_a_config_that_cannot_say_what_rec709_is_is_used_with_a_warning(tmp_path):
    config = Ocio.Config.CreateRaw()
    config.addColorSpace(Ocio.ColorSpace(name="plain", isData=False))
    config.setRole("scene_linear", "plain")

    assert untagged(config, tmp_path)[1:] == (
        "plain",
        "default (scene_linear)",
        ("the OCIO config does not say what Rec.709 is: read as its scene_linear",),
    )


def without_rec709() -> Any:
    config = Ocio.Config.CreateFromFile(BUILT_IN_CONFIG)
    config.removeColorSpace("Linear Rec.709 (sRGB)")
    return config


def untagged(config: Any, tmp_path: Path) -> tuple[Any, str, str, tuple[str, ...]]:
    """The loaded config, and what it makes of a file that states nothing."""
    path = tmp_path / "config.ocio"
    path.write_text(config.serialize())
    settings = picture_settings(ocio=str(path))
    layer = ShownLayer(0, "rgb", ("R", "G", "B"))
    source = Source("s3://b/x.exr", layer, Box2i(0, 0, 0, 0), lambda _level: iter(()), part=Header.build([[]]).parts[0])
    loaded = load_config(settings)
    space = find_source_space(loaded, source, global_default=settings.default_color_space)
    return loaded, space.name, space.rule, space.warnings
