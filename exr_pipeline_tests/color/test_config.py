import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import PyOpenColorIO as Ocio
import pytest

from exr_pipeline.color.config import BUILT_IN_CONFIG, LUT_NODES, MAX_P99_ERROR, Medium, View, load_config
from exr_pipeline.color.picture_rules import ViewChoice
from exr_pipeline.errors import MisconfiguredError
from exr_pipeline_tests.pictures.files import picture_settings

SDR = "ACES 1.0 - SDR Video"


def exact(space: str, display: str, view: str, pixels: np.ndarray) -> np.ndarray:
    """8-bit display values by OCIO alone, in float to the end."""
    config = Ocio.Config.CreateFromFile(BUILT_IN_CONFIG)
    processor = config.getProcessor(Ocio.DisplayViewTransform(src=space, display=display, view=view))
    values = np.ascontiguousarray(pixels, np.float32).reshape(-1).copy()
    processor.getDefaultCPUProcessor().applyRGB(values)
    return np.clip(values.reshape(pixels.shape), 0, 1) * 255


def render_like(height: int, width: int) -> np.ndarray:
    """Smooth light over nine stops with tints as a lit scene has them, and a few saturated lamps."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    light = 0.18 * 2.0 ** (6 * np.sin(x / width * 5) * np.cos(y / height * 4))
    tint = np.stack([1 + 0.5 * np.sin(x / 90), 1 + 0.3 * np.sin(y / 70), 1 + 0.5 * np.cos((x + y) / 110)], axis=2)
    picture = light[:, :, np.newaxis] * tint
    picture[10:40, 10:60] = (3, 0.4, 0.1)
    picture[10:40, 80:130] = (0.1, 0.3, 2)
    return picture.astype(np.float32)


@pytest.mark.parametrize(("medium", "display"), [("still", "sRGB - Display"), ("video", "Rec.1886 Rec.709 - Display")])
def test_the_baked_view_stays_within_its_documented_error_on_render_like_pictures(medium: Medium, display: str) -> None:
    config = load_config(picture_settings())
    view, warning = config.find_view(medium, ViewChoice())
    transform = config.display_transform(view)
    picture = render_like(540, 960)
    assert picture.shape[0] * picture.shape[1] > LUT_NODES**3

    difference = np.abs(transform.apply(picture) - exact("ACEScg", display, SDR, picture))

    assert (view, warning) == (View(display, SDR), None)
    assert transform.is_baked
    assert 0 < transform.lut_error.mean <= 0.25
    assert difference.mean() <= 0.5  # Rounding to 8 bits alone is 0.25.
    assert np.percentile(difference, 99) <= 3


def test_pixels_outside_the_domain_of_the_baked_view_are_exact() -> None:
    config = load_config(picture_settings())
    transform = config.display_transform(View("sRGB - Display", SDR))
    random = np.random.default_rng(3)
    picture = random.uniform(0, 1, (600, 600, 3)).astype(np.float32)
    picture[0] = random.uniform(300, 60000, (600, 3))
    picture[1] = random.uniform(-2, -0.5, (600, 3))

    shown = transform.apply(picture)

    assert np.array_equal(shown[:2], transform.apply_exactly(picture[:2]))
    assert not np.array_equal(shown[2:], transform.apply_exactly(picture[2:]))


def test_a_view_that_its_lut_cannot_follow_is_not_baked(tmp_path: Path) -> None:
    # Shown in eight steps, as a toon look: between the nodes of a LUT their edges would be ramps.
    steps = np.floor(np.linspace(0, 1, 4096) * 8).clip(0, 7) / 7
    (tmp_path / "steps.spi1d").write_text(
        "Version 1\nFrom 0 1\nLength 4096\nComponents 1\n{\n" + "\n".join(map(str, steps)) + "\n}\n"
    )
    config = load_config(picture_settings())
    view, _ = config.find_view("still", ViewChoice(lut=str(tmp_path / "steps.spi1d"), lut_space="scene_linear"))
    transform = config.display_transform(view)
    picture = np.random.default_rng(3).uniform(0.01, 0.99, (600, 600, 3)).astype(np.float32)

    shown = transform.apply(picture)

    assert transform.lut_error.p99 > MAX_P99_ERROR
    assert not transform.is_baked
    expected = steps[np.rint(picture * 4095).astype(int)] * 255
    assert np.mean(np.abs(shown - expected) <= 1) > 0.99


def test_black_stays_black_and_small_pictures_are_exact() -> None:
    config = load_config(picture_settings())
    transform = config.display_transform(View("Rec.1886 Rec.709 - Display", SDR))
    picture = render_like(40, 150)

    assert not transform.apply(np.zeros((600, 600, 3), np.float32)).any()
    assert np.abs(transform.apply(picture) - exact("ACEScg", "Rec.1886 Rec.709 - Display", SDR, picture)).max() <= 0.51


def test_the_colorimetric_view_is_the_plain_formula_and_never_baked() -> None:
    config = load_config(picture_settings())
    view, _ = config.find_view("still", ViewChoice(view="un-tone-mapped"))
    linear = np.linspace(0, 1, 600 * 600, dtype=np.float32).reshape(600, 600, 1).repeat(3, axis=2)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)

    assert np.abs(config.display_transform(view).apply(linear) - srgb * 255).max() <= 0.52


@pytest.mark.parametrize("setting", ["OCIO", "OCIO_CONFIG_PATH"])
def test_a_config_that_cannot_be_read_names_its_setting(tmp_path: Path, setting: str) -> None:
    broken = tmp_path / "config.ocio"
    broken.write_text("ocio_profile_version: 2\nroles: [")

    with pytest.raises(MisconfiguredError, match=f"^{setting}: cannot use the OCIO config"):
        load_config(picture_settings(**{setting.lower(): str(broken)}))


@pytest.mark.parametrize("setting", ["OCIO", "OCIO_CONFIG_PATH"])
def test_a_config_that_is_missing_names_its_setting(tmp_path: Path, setting: str) -> None:
    with pytest.raises(MisconfiguredError, match=f"^{setting}: cannot use the OCIO config"):
        load_config(picture_settings(**{setting.lower(): str(tmp_path / "none.ocio")}))


def test_a_default_color_space_that_the_config_lacks_names_its_setting() -> None:
    with pytest.raises(MisconfiguredError, match=r"^EXR_PIPELINE_DEFAULT_COLOR_SPACE: .*'no such space'"):
        load_config(picture_settings(default_color_space="no such space"))


def test_a_studio_config_without_the_usual_displays_uses_its_default_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "config.ocio"
    config = Ocio.Config.CreateRaw()
    config.addColorSpace(Ocio.ColorSpace(name="plain", isData=False))
    config.setRole("scene_linear", "plain")
    config.addDisplayView("Wall", "Film", "plain")
    config.setActiveDisplays("Wall")
    path.write_text(config.serialize())

    found, warning = load_config(picture_settings(ocio=str(path))).find_view("video", ViewChoice())

    assert found == View("Wall", "Film")
    assert warning == "the OCIO config has no display for videos; used 'Wall'"


def test_the_older_setting_wins_over_the_newer(tmp_path: Path) -> None:
    config = load_config(
        picture_settings(ocio=str(tmp_path / "missing"), ocio_config_path="ocio://cg-config-v2.1.0_aces-v1.3_ocio-v2.3")
    )

    assert config.name.startswith("cg-config")


def test_what_ocio_prints_is_logged_and_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, logger="exr_pipeline.color.config")
    config = Ocio.Config()
    config.addColorSpace(Ocio.ColorSpace(name="plain", isData=False))
    for role in ("scene_linear", "default"):
        config.setRole(role, "plain")
    config.addDisplayView("Wall", "Film", "plain")
    path = tmp_path / "config.ocio"
    path.write_text(config.serialize())

    load_config(picture_settings(ocio=str(path)))

    assert any("aces_interchange role is required" in record.getMessage() for record in caplog.records)
    assert capfd.readouterr() == ("", "")


def test_a_process_that_has_used_ocio_ends_by_itself() -> None:
    # OCIO lets go of what it was given to log with when the process ends, after Python has gone.
    imports = "from exr_pipeline.color.config import *; from exr_pipeline_tests.pictures.files import *; "
    code = imports + "load_config(picture_settings())"
    ended = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert ended.returncode == 0
