from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PyOpenColorIO as Ocio
import pytest

from exr_pipeline.color import interop_ids
from exr_pipeline.color.chromaticities import REC709, XYZ, rgb_to_xyz, to_ap0
from exr_pipeline.color.config import BUILT_IN_CONFIG, load_config
from exr_pipeline.color.source_space import SourceSpace, find_source_space
from exr_pipeline.exr import Attribute, Box2i, Chromaticities, Header
from exr_pipeline.pictures.decode.source import Source
from exr_pipeline.pictures.layers import ShownLayer
from exr_pipeline_tests.pictures.expected import AP1_TO_REC709, COLORS
from exr_pipeline_tests.pictures.files import picture_settings

AP1 = Chromaticities(0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)


def text(name: str, value: str) -> Attribute:
    return Attribute.of(name, "string", value)


def primaries(value: Iterable[float]) -> Attribute:
    return Attribute.of("chromaticities", "chromaticities", Chromaticities(*value))


def found(
    *attributes: Attribute,
    name: str = "s3://b/x.exr",
    default: str = "lin_rec709_scene",
    first: tuple[Attribute, ...] | None = None,
    ocio: str | None = None,
) -> SourceSpace:
    """The space of a part with these attributes, in a file whose first part has others."""
    part = Header.build([attributes]).parts[0]
    first_part = part if first is None else Header.build([first]).parts[0]
    layer = ShownLayer(0, "rgb", ("R", "G", "B"))
    source = Source(name, layer, Box2i(0, 0, 0, 0), lambda _level: iter(()), part=part, first_part=first_part)
    return find_source_space(load_config(picture_settings(ocio=ocio)), source, global_default=default)


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
def test_the_strongest_statement_decides_and_is_recorded(attributes: list[Attribute], space: str, rule: str) -> None:
    source = found(*attributes)

    assert (source.name, source.space, source.rule, source.warnings) == (space, space, rule, ())


def test_an_unknown_name_falls_through_to_the_next_rule_with_a_warning() -> None:
    source = found(text("colorspace", "studio secret log"), primaries(AP1))

    assert (source.space, source.rule) == ("ACEScg", "chromaticities")
    assert source.warnings == ("colorspace 'studio secret log' is not a color space of the OCIO config: ignored",)


def test_odd_bytes_of_a_name_are_spelled_as_bytes_in_its_warning() -> None:
    source = found(text("colorspace", b"caf\xdd".decode("utf-8", "surrogateescape")))

    assert source.warnings == (r"colorspace 'caf\xdd' is not a color space of the OCIO config: ignored",)


def test_an_unknown_name_alone_falls_back_to_the_default_with_a_warning() -> None:
    source = found(text("colorInteropID", "nonsense"), default="lin_rec709")

    assert (source.space, source.rule) == ("Linear Rec.709 (sRGB)", "default (lin_rec709)")
    assert len(source.warnings) == 1


def test_primaries_without_a_name_become_a_matrix() -> None:
    wide = (0.7, 0.3, 0.2, 0.75, 0.14, 0.05, 0.3127, 0.3290)
    source = found(primaries(wide))

    assert source.to_space is not None
    matrix = np.reshape(source.to_space, (3, 3))
    assert source.space == "ACES2065-1"
    assert np.allclose(matrix @ np.ones(3), 1, atol=1e-4)  # White stays white.


def test_xyz_is_relative_to_d65() -> None:
    white = rgb_to_xyz(REC709) @ np.ones(3)

    assert np.allclose(to_ap0(XYZ) @ white, 1, atol=1e-4)
    assert found(primaries(XYZ)).name == "CIE XYZ (D65)"


@pytest.mark.parametrize("bad", [(0.3,) * 8, (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.0), (float("nan"),) * 8])
def test_chromaticities_that_span_nothing_are_ignored_with_a_warning(
    bad: tuple[float, float, float, float, float, float, float, float],
) -> None:
    source = found(primaries(bad))

    assert source.rule == "default (lin_rec709_scene)"
    assert source.warnings == ("the chromaticities do not span a color space: ignored",)


# Of the Color Interop Forum's "Color Space Encodings for Texture Assets and CG Rendering" (1.1.0) and "Color Space
# Encodings for Displays", and of OCIO's studio config, what the pinned config has, by its name there.
INTEROP_IDS = {
    "lin_ap1_scene": "ACEScg",
    "lin_ap0_scene": "ACES2065-1",
    "lin_rec709_scene": "Linear Rec.709 (sRGB)",
    "lin_p3d65_scene": "Linear P3-D65",
    "lin_rec2020_scene": "Linear Rec.2020",
    "lin_adobergb_scene": "Linear AdobeRGB",
    "lin_ciexyzd65_scene": "CIE XYZ-D65 - Scene-referred",
    "srgb_rec709_scene": "sRGB Encoded Rec.709 (sRGB)",
    "g24_rec709_scene": "Gamma 2.4 Encoded Rec.709",
    "g22_rec709_scene": "Gamma 2.2 Encoded Rec.709",
    "g18_rec709_scene": "Gamma 1.8 Encoded Rec.709",
    "srgb_ap1_scene": "sRGB Encoded AP1",
    "g22_ap1_scene": "Gamma 2.2 Encoded AP1",
    "srgb_p3d65_scene": "sRGB Encoded P3-D65",
    "g22_adobergb_scene": "Gamma 2.2 Encoded AdobeRGB",
    "data": "Raw",
    "srgb_rec709_display": "sRGB - Display",
    "g24_rec709_display": "Rec.1886 Rec.709 - Display",
    "srgb_p3d65_display": "Display P3 - Display",
    "srgbe_p3d65_display": "Display P3 - Display",
    "pq_p3d65_display": "ST2084-P3-D65 - Display",
    "pq_rec2020_display": "Rec.2100-PQ - Display",
    "hlg_rec2020_display": "Rec.2100-HLG - Display",
    "g26_p3d65_display": "P3-D65 - Display",
    "ocio:lin_ciexyzd65_display": "CIE XYZ-D65 - Display-referred",
    "ocio:acescc_ap1_scene": "ACEScc",
    "ocio:acescct_ap1_scene": "ACEScct",
    "ocio:adx10_apd_scene": "ADX10",
    "ocio:adx16_apd_scene": "ADX16",
    "ocio:arrilogc3_awg3_scene": "ARRI LogC3 (EI800)",
    "ocio:arrilogc4_awg4_scene": "ARRI LogC4",
    "ocio:lin_awg4_scene": "Linear ARRI Wide Gamut 4",
    "ocio:redlog3g10_rwg_scene": "Log3G10 REDWideGamutRGB",
    "ocio:slog3_sgamut3cine_scene": "S-Log3 S-Gamut3.Cine",
    "ocio:itu709_rec709_scene": "Camera Rec.709",
}
# Without a space in the pinned config, but in OCIO's own.
LENT = {
    "g22_rec709_display": "Gamma 2.2 Rec.709 - Display",
    "ocio:applelog_applewg_scene": "Apple Log 2",
    "ocio:djilog_dgamut_scene": "D-Log D-Gamut",
}


@pytest.mark.parametrize(("interop_id", "space"), INTEROP_IDS.items())
def test_every_interop_id_for_which_the_config_has_a_space_is_recognised(interop_id: str, space: str) -> None:
    source = found(text("colorInteropID", interop_id))

    assert (source.name, source.space, source.rule, source.warnings) == (space, space, "colorInteropID", ())
    assert source.is_display_referred == interop_id.endswith("_display")


@pytest.mark.parametrize(("interop_id", "space"), LENT.items())
def test_a_space_that_only_ocios_own_config_has_is_taken_from_there_with_a_warning(interop_id: str, space: str) -> None:
    source = found(text("colorInteropID", interop_id))

    assert (source.name, source.rule) == (space, "colorInteropID")
    assert source.warnings == (
        f"the OCIO config has no '{interop_id}' (colorInteropID): OCIO's built-in definition is used",
    )
    assert source.is_display_referred == interop_id.endswith("_display")


def test_a_lent_space_has_its_own_curve() -> None:
    config = load_config(picture_settings())
    space = config.require("g22_rec709_display", "")
    light = config.to_working(space, (COLORS[np.newaxis] @ AP1_TO_REC709.T).clip(0) ** (1 / 2.2))

    assert not config.is_linear(space)
    assert np.allclose(light, (COLORS @ AP1_TO_REC709.T).clip(0) @ np.linalg.inv(AP1_TO_REC709).T, atol=2e-3)


def test_every_id_of_ocios_studio_config_is_recognised_by_it() -> None:
    own = interop_ids.built_in_config()
    ids = {space.getInteropID() for space in own.getColorSpaces(Ocio.SEARCH_REFERENCE_SPACE_ALL, Ocio.COLORSPACE_ALL)}

    assert ids >= {*INTEROP_IDS, *LENT}
    for interop_id in ids:
        source = found(text("colorInteropID", interop_id), ocio=interop_ids.BUILT_IN_CONFIG)
        assert (source.rule, source.warnings) == ("colorInteropID", ()), interop_id


@pytest.mark.parametrize(
    ("interop_id", "space"),
    [
        ("my-studio:g22_rec709_scene", "Gamma 2.2 Encoded Rec.709"),
        ("show:ocio:arrilogc4_awg4_scene", "ARRI LogC4"),
        ("studio-config-v2.2.0_aces-v1.3_ocio-v2.4:local:acescct", "ACEScct"),
    ],
)
def test_namespaces_are_dropped_as_recommended(interop_id: str, space: str) -> None:
    assert (found(text("colorInteropID", interop_id)).name, found(text("colorInteropID", interop_id)).warnings) == (
        space,
        (),
    )


@pytest.mark.parametrize(
    "interop_id",
    [
        "g26_xyzd65_display",
        "a:b:pq_rec2020_display",
        "my::lin_ap1_scene",
        "another-config:local:acescct",
        "arrilogc4_awg4_scene",
    ],
)
def test_an_id_that_nobody_knows_is_a_warning_and_the_next_rule_decides(interop_id: str) -> None:
    source = found(text("colorInteropID", interop_id), primaries(AP1))

    assert (source.name, source.rule) == ("ACEScg", "chromaticities")
    assert source.warnings == (f"colorInteropID '{interop_id}' is not a color space of the OCIO config: ignored",)


def test_the_flag_of_an_aces_container_comes_before_an_id() -> None:
    source = found(text("colorInteropID", "lin_rec709_scene"), Attribute.of("acesImageContainerFlag", "int", 1))

    assert (source.name, source.rule) == ("ACES2065-1", "acesImageContainerFlag")


def test_the_first_part_speaks_for_those_that_do_not() -> None:
    first = (text("colorInteropID", "lin_ap1_scene"),)

    assert found(first=first).name == "ACEScg"
    assert found(text("oiio:ColorSpace", "lin_rec709"), first=first).name == "ACEScg"
    assert found(text("colorInteropID", "data"), first=first).name == "Raw"
    assert found(first=(text("colorInteropID", "data"),)).name == "Raw"
    assert found(first=(primaries(AP1),)).name == "ACEScg"
    assert found(text("colorspace", "none such"), first=(text("colorspace", "none such"),)).warnings == (
        "colorspace 'none such' is not a color space of the OCIO config: ignored",
    )


def test_data_is_known_to_a_config_that_has_no_space_for_it(tmp_path: Path) -> None:
    config = Ocio.Config()
    config.setVersion(2, 1)
    config.addColorSpace(Ocio.ColorSpace(name="plain", isData=False))
    for role in ("scene_linear", "default"):
        config.setRole(role, "plain")
    config.addDisplayView("Wall", "Film", "plain")

    loaded, name, rule, _ = untagged(config, tmp_path, text("colorInteropID", "data"))

    assert (name, rule) == ("Raw", "colorInteropID")
    assert loaded.is_data(loaded.require("data", ""))


def test_a_studio_says_what_its_untagged_files_are_and_what_light_without_primaries_is() -> None:
    aces = found(default="scene_linear")
    light = found(text("oiio:ColorSpace", "Linear"), default="scene_linear")
    log = found(text("oiio:ColorSpace", "Linear"), default="ARRI LogC4")

    assert (aces.name, aces.rule) == ("ACEScg", "default (scene_linear)")
    assert (light.name, light.rule) == ("ACEScg", "oiio:ColorSpace")
    assert log.name == "Linear Rec.709 (sRGB)", "light is no log"


def test_untagged_files_are_rec709_in_a_config_that_calls_it_otherwise(tmp_path: Path) -> None:
    config = without_rec709()
    space = Ocio.Config.CreateFromFile(BUILT_IN_CONFIG).getColorSpace("Linear Rec.709 (sRGB)")
    space.clearAliases()
    space.setName("our own")
    config.addColorSpace(space)

    assert untagged(config, tmp_path)[1:] == ("our own", "default (lin_rec709_scene)", ())


def test_untagged_files_are_rec709_in_a_config_without_such_a_space(tmp_path: Path) -> None:
    config, *decided = untagged(without_rec709(), tmp_path)

    assert decided == ["Linear Rec.709 (sRGB)", "default (lin_rec709_scene)", ()]
    space = config.require("lin_rec709_scene", "")
    assert config.is_built_in(space)
    assert config.is_linear(space)
    assert np.allclose(config.to_working(space, COLORS[np.newaxis] @ AP1_TO_REC709.T), COLORS, atol=1e-4)


def test_a_config_that_cannot_say_what_rec709_is_is_used_with_a_warning(tmp_path: Path) -> None:
    config = Ocio.Config.CreateRaw()
    config.addColorSpace(Ocio.ColorSpace(name="plain", isData=False))
    config.setRole("scene_linear", "plain")

    assert untagged(config, tmp_path)[1:] == (
        "plain",
        "default (scene_linear)",
        ("the OCIO config has no linear Rec.709: its scene_linear is used",),
    )


def without_rec709() -> Any:
    config = Ocio.Config.CreateFromFile(BUILT_IN_CONFIG)
    config.removeColorSpace("Linear Rec.709 (sRGB)")
    return config


def untagged(config: Any, tmp_path: Path, *attributes: Attribute) -> tuple[Any, str, str, tuple[str, ...]]:
    """The loaded config, and what it makes of a file that states nothing, or this."""
    path = tmp_path / "config.ocio"
    path.write_text(config.serialize())
    settings = picture_settings(ocio=str(path))
    layer = ShownLayer(0, "rgb", ("R", "G", "B"))
    source = Source(
        "s3://b/x.exr", layer, Box2i(0, 0, 0, 0), lambda _level: iter(()), part=Header.build([attributes]).parts[0]
    )
    loaded = load_config(settings)
    space = find_source_space(loaded, source, global_default=settings.default_color_space)
    return loaded, space.name, space.rule, space.warnings
