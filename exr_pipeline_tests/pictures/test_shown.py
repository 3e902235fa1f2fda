from collections.abc import Callable
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from exr_pipeline.color.config import Medium
from exr_pipeline.pictures.shown import ShownPicture, show
from exr_pipeline.pictures.still import Size
from exr_pipeline_tests.pictures.expected import COLORS, rec1886, srgb
from exr_pipeline_tests.pictures.files import (
    flat,
    patch_means,
    patches,
    picture_settings,
    rgb_channels,
    write_exr,
    write_rgb,
)

BOX = Size(320, 200)


def shown(
    path: Path,
    *,
    medium: Medium = "still",
    box: Size = BOX,
    even_sides: bool = False,
    with_alpha: bool = False,
    **settings: object,
) -> ShownPicture:
    chosen = picture_settings(still_view="un-tone-mapped", proxy_view="un-tone-mapped", **settings)
    return show(
        str(path), path.name, medium=medium, box=box, settings=chosen, even_sides=even_sides, with_alpha=with_alpha
    )


@pytest.mark.parametrize(("medium", "encoded"), [("still", srgb), ("video", rec1886)])
def test_a_picture_is_encoded_for_its_medium_within_half_a_code_value(
    tmp_path: Path, medium: Medium, encoded: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = write_rgb(tmp_path / "x.exr", patches(COLORS), colorspace="lin_rec709_scene")

    picture = shown(path, medium=medium)

    assert np.abs(patch_means(picture.rgb, len(COLORS)) - encoded(COLORS)).max() <= 0.52
    assert (picture.provenance.layer, picture.provenance.source_color_space) == ("RGB", "Linear Rec.709 (sRGB)")
    assert picture.alpha is None


def test_color_that_alpha_covers_in_part_is_divided_by_it_in_linear_light(tmp_path: Path) -> None:
    alpha = np.repeat(np.array([[0, 0.25, 1]], np.float32), 32, axis=1).repeat(32, axis=0)
    pixels = flat(96, 32, (0.5, 0.2, 0.1)) * alpha[:, :, np.newaxis]
    path = write_exr(tmp_path / "x.exr", {**rgb_channels(pixels), "A": alpha}, colorspace="lin_rec709_scene")

    covered = shown(path, with_alpha=True)
    over_black = shown(path)

    assert covered.alpha is not None
    assert covered.alpha[16, [16, 48, 80]].tolist() == [0, 64, 255]
    color = np.array([0.5, 0.2, 0.1])
    assert np.abs(covered.rgb[16, [48, 80]] - srgb(color)).max() <= 0.52
    assert np.abs(over_black.rgb[16, [16, 48, 80]] - srgb(np.outer((0, 0.25, 1), color))).max() <= 0.52
    assert over_black.alpha is None
    assert (covered.provenance.alpha_handling, over_black.provenance.alpha_handling) == (
        "premultiplied, kept",
        "premultiplied, over black",
    )
    assert shown(write_rgb(tmp_path / "y.exr", pixels)).provenance.alpha_handling == "none"


def test_a_picture_fits_its_box_with_even_sides_and_tells_size_aspect_and_time(tmp_path: Path) -> None:
    path = write_rgb(
        tmp_path / "x.exr",
        flat(641, 403, (0.5, 0.5, 0.5)),
        pixelAspectRatio=2.0,
        timeCode=OpenEXR.TimeCode(1, 2, 3, 4, *(0,) * 14),
    )

    even, odd = shown(path, even_sides=True), shown(path, box=Size(321, 200))

    assert even.rgb.shape == (100, 320, 3)
    assert odd.rgb.shape == (101, 321, 3)
    assert (even.full_width, even.full_height, even.pixel_aspect, even.shown_rate) == (641, 403, 2.0, None)
    assert even.time_code == "01:02:03:04"
