"""Which rule holds for which file, what a rule changes, and how wrong rules are refused before any file is read."""

from pathlib import Path

import numpy as np
import PyOpenColorIO as Ocio
import pytest

from exr_pipeline.color.config import BUILT_IN_CONFIG, Medium, load_config
from exr_pipeline.color.picture_rules import PictureRule, ViewChoice
from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.pictures import PicturePool, PictureSettings
from exr_pipeline.pictures.shown import ShownPicture, show
from exr_pipeline.pictures.still import Size
from exr_pipeline_tests.pictures.expected import COLORS, logc3, rec1886, srgb, viewed
from exr_pipeline_tests.pictures.files import (
    flat,
    patch_means,
    patches,
    picture_settings,
    rgb_channels,
    write_exr,
    write_rgb,
)
from exr_pipeline_tests.pictures.test_render import made, still


def settings_with(tmp_path: Path, rules: str, **others: object) -> PictureSettings:
    path = tmp_path / "rules.yaml"
    path.write_text(rules)
    return picture_settings(picture_rules=path, **others)


def seen(path: Path, name: str, settings: PictureSettings, medium: Medium = "still") -> ShownPicture:
    return show(str(path), name, medium=medium, box=Size(400, 400), settings=settings)


def test_the_first_rule_whose_prefix_fits_holds_and_others_do_not_add_to_it(tmp_path: Path) -> None:
    settings = settings_with(
        tmp_path,
        """
rules:
  - {prefix: "s3://studio/show/shot/", view: un-tone-mapped}
  - {prefix: "s3://studio/show/", source_space: ARRI LogC4, view: un-tone-mapped}
  - {prefix: "s3://studio/", default_space: Linear Rec.709 (sRGB)}
""",
    )
    path = write_rgb(tmp_path / "x.exr", patches(COLORS))

    def of(name: str) -> tuple[str, str, str]:
        picture = seen(path, name, settings)
        return picture.provenance.source_color_space, picture.provenance.color_rule, picture.view

    assert of("s3://studio/show/shot/x.exr") == (
        "Linear Rec.709 (sRGB)",
        "default (lin_rec709_scene)",
        "sRGB - Display / Un-tone-mapped",
    )
    assert of("s3://studio/show/x.exr") == ("ARRI LogC4", "forced (ARRI LogC4)", "sRGB - Display / Un-tone-mapped")
    assert of("s3://studio/x.exr") == (
        "Linear Rec.709 (sRGB)",
        "default of the picture rule (Linear Rec.709 (sRGB))",
        "sRGB - Display / ACES 1.0 - SDR Video",
    )
    assert of("s3://elsewhere/x.exr")[1:] == ("default (lin_rec709_scene)", "sRGB - Display / ACES 1.0 - SDR Video")


def test_stills_and_videos_may_differ_and_the_global_views_hold_where_a_rule_is_silent(tmp_path: Path) -> None:
    rules = """
rules:
  - prefix: s3://a/
    still: {display: Display P3 - Display, view: un-tone-mapped}
"""
    settings = settings_with(tmp_path, rules, proxy_view="un-tone-mapped")
    path = write_rgb(tmp_path / "x.exr", patches(COLORS), colorspace="lin_rec709_scene")

    still_, video = seen(path, "s3://a/x", settings), seen(path, "s3://a/x", settings, "video")

    assert (still_.view, still_.color_space) == ("Display P3 - Display / Un-tone-mapped", "Display P3 - Display")
    assert video.view == "Rec.1886 Rec.709 - Display / Un-tone-mapped"
    assert np.abs(patch_means(video.rgb, len(COLORS)) - rec1886(COLORS)).max() <= 0.52


def test_a_default_space_gives_way_to_what_the_file_says_and_a_forced_one_does_not(tmp_path: Path) -> None:
    path = write_rgb(tmp_path / "x.exr", patches(logc3(COLORS)), colorspace="ACEScg")
    default = settings_with(tmp_path, "rules: [{default_space: ARRI LogC3 (EI800)}]")
    assert seen(path, "x", default).provenance.source_color_space == "ACEScg"

    forced = settings_with(tmp_path, "rules: [{source_space: ARRI LogC3 (EI800)}]")
    picture = seen(path, "x", forced)

    expected = viewed("ARRI LogC3 (EI800)", "sRGB - Display", logc3(COLORS))
    assert np.abs(patch_means(picture.rgb, len(COLORS)) - expected).max() <= 0.6


def test_a_look_is_applied_in_the_working_space_before_the_view(tmp_path: Path) -> None:
    config = Ocio.Config.CreateFromFile(BUILT_IN_CONFIG)
    half = Ocio.MatrixTransform([0.5, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 1])
    config.addLook(Ocio.Look(name="Half", processSpace="ACEScg", transform=half))
    (tmp_path / "config.ocio").write_text(config.serialize())
    settings = settings_with(tmp_path, "rules: [{look: Half}]", ocio=str(tmp_path / "config.ocio"))

    picture = seen(write_rgb(tmp_path / "x.exr", patches(COLORS), colorspace="ACEScg"), "x", settings)

    assert picture.view == "sRGB - Display / ACES 1.0 - SDR Video, look Half"
    expected = viewed("ACEScg", "sRGB - Display", COLORS * 0.5)
    assert np.abs(patch_means(picture.rgb, len(COLORS)) - expected).max() <= 0.6


@pytest.mark.parametrize("side", [64, 300])
def test_a_lut_takes_the_place_of_the_view(tmp_path: Path, side: int) -> None:
    # In LogC3, swap red and blue and halve green: nothing that a view would do.
    nodes = [f"{b / 4} {g / 8} {r / 4}" for b in range(5) for g in range(5) for r in range(5)]
    (tmp_path / "show.cube").write_text("LUT_3D_SIZE 5\n" + "\n".join(nodes))
    settings = settings_with(tmp_path, "rules: [{prefix: s3://a/, lut: show.cube, lut_space: ARRI LogC3 (EI800)}]")
    path = write_rgb(tmp_path / "x.exr", patches(logc3(COLORS), side), colorspace="ARRI LogC3 (EI800)")

    picture = show(str(path), "s3://a/x", medium="still", box=Size(2000, 2000), settings=settings)

    expected = logc3(COLORS)[:, ::-1] * (1, 0.5, 1) * 255
    assert np.abs(patch_means(picture.rgb, len(COLORS)) - expected).max() <= 0.75
    assert picture.view.startswith("sRGB - Display / LUT show.cube (sha256 ")
    assert picture.view.endswith(" of ARRI LogC3 (EI800)")


def test_exact_turns_the_baked_lut_off(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    colors = random.uniform(0, 1, (600, 600, 3)).astype(np.float32)
    path = write_rgb(tmp_path / "x.exr", colors, colorspace="ACEScg")

    def of(rules: str) -> np.ndarray:
        settings = settings_with(tmp_path, rules)
        return show(str(path), "x", medium="still", box=Size(600, 600), settings=settings).rgb

    exact, baked = of("rules: [{exact: true}]"), of("rules: [{exact: false}]")
    transform = load_config(picture_settings()).display_transform(
        load_config(picture_settings()).find_view("still", ViewChoice())[0]
    )

    assert np.array_equal(exact, transform.apply_exactly(colors))
    assert not np.array_equal(exact, baked)


def test_a_rule_of_a_worker_process_holds_there_too(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, f"rules: [{{prefix: {tmp_path}, view: un-tone-mapped}}]")
    path = write_rgb(tmp_path / "x.exr", patches(COLORS), colorspace="lin_rec709_scene")

    with PicturePool(settings) as pool:
        pictures = pool.submit(str(path), path.as_uri(), proxy=False).result()

    assert np.abs(patch_means(still(pictures), len(COLORS)) - srgb(COLORS)).max() <= 2


def test_a_layer_that_a_rule_names_is_shown_and_its_lack_is_a_warning(tmp_path: Path) -> None:
    channels = rgb_channels(flat(16, 16, (0, 0, 1))) | rgb_channels(flat(16, 16, (1, 0, 0)), "diffuse.")
    path = write_exr(tmp_path / "x.exr", channels)

    found = seen(path, "x", settings_with(tmp_path, "rules: [{layer: Diffuse}]"))
    lacking = seen(path, "x", settings_with(tmp_path, "rules: [{layer: specular}]"))

    assert (found.provenance.layer, found.rgb[8, 8].argmax()) == ("diffuse", 0)
    assert (lacking.provenance.layer, lacking.rgb[8, 8].argmax()) == ("RGB", 2)
    assert lacking.warnings[0].startswith("no layer, part, view or channel 'specular'; the file has ")


def test_a_layer_asked_for_by_hand_comes_before_the_rule_and_its_lack_is_an_error(tmp_path: Path) -> None:
    channels = rgb_channels(flat(16, 16, (0, 0, 1))) | rgb_channels(flat(16, 16, (1, 0, 0)), "diffuse.")
    path = write_exr(tmp_path / "x.exr", channels)
    settings = settings_with(tmp_path, "rules: [{layer: diffuse}]")

    assert seen(path, "x", settings.wishing(PictureRule(layer="B"))).provenance.layer == "B (data)"
    with pytest.raises(BadInputError, match=r"no layer, part, view or channel 'specular'; the file has .*diffuse"):
        seen(path, "x", settings.wishing(PictureRule(layer="specular")))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("rules: [{view: un-tone-mapped}, {view: Film}]", r"rule 2 \(every file\): .* has no view of 'sRGB - Display'"),
        ("rules: [{prefix: 's3://a/', display: Wall}]", r"rule 1 \(s3://a/\): .* has no display 'Wall'"),
        ("rules: [{look: Moody}]", r"has no look 'Moody'. Fix: it has ACES 1.3 Reference Gamut Compression"),
        ("rules: [{video: {view: ACES 1.0 - SDR Vidoe}}]", "did you mean 'ACES 1.0 - SDR Video'"),
        ("rules: [{source_space: ACESgc}]", "no color space or role 'ACESgc'. Fix: did you mean 'ACEScg'"),
        ("rules: [{default_space: nothing like it}]", "no color space or role 'nothing like it'"),
        ("rules: [{lut: missing.cube}]", "LUT file .*missing.cube not found"),
        ("rules: [{lut: rules.yaml}]", "cannot convert these colors"),
        ("rules: [{lut: a.cube, view: Raw}]", "sets both a view and a LUT"),
        ("rules: [{veiw: Raw}]", "unknown keys: veiw"),
        ("rules: [{exact: maybe}]", "exact is 'maybe'"),
        ("rules: [{layer: 3}]", "layer is 3"),
        ("rules: [view]", "is not a mapping"),
        ("rule: []", "has no list of rules"),
        ("rules: [", "cannot be read"),
    ],
)
def test_wrong_rules_are_a_misconfiguration_at_start_that_names_file_and_rule(
    tmp_path: Path, rules: str, message: str
) -> None:
    with pytest.raises(MisconfiguredError, match=message) as caught, PicturePool(settings_with(tmp_path, rules)):
        pass

    assert str(caught.value).startswith("EXR_PIPELINE_PICTURE_RULES: ")
    assert "rules.yaml" in str(caught.value)


def test_a_missing_file_of_rules_names_its_setting(tmp_path: Path) -> None:
    with pytest.raises(MisconfiguredError, match=r"^EXR_PIPELINE_PICTURE_RULES: .*none\.yaml cannot be read"):
        picture_settings(picture_rules=tmp_path / "none.yaml")


def test_rendered_files_obey_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [{view: un-tone-mapped}]")
    source = write_rgb(tmp_path / "x.exr", patches(COLORS), colorspace="lin_rec709_scene")

    pictures = made(source, picture_rules=path)

    assert pictures.thumbnail.view == "sRGB - Display / Un-tone-mapped"
    assert pictures.proxy.view == "Rec.1886 Rec.709 - Display / Un-tone-mapped"
