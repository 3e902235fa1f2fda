from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg

from exr_pipeline.pictures.data_pictures import color_of_identifiers, grey_of_values
from exr_pipeline.pictures.still import ICON_BYTES, Size, even, evened, fitted, icon, jpeg, oriented, preview, resized

BOX = Size(1920, 1080)


@pytest.mark.parametrize(
    ("width", "height", "aspect", "size"),
    [
        (1920, 1080, 1.0, (1920, 1080)),
        (4096, 2160, 1.0, (1920, 1012)),
        (2160, 4096, 1.0, (570, 1080)),
        (640, 480, 1.0, (640, 480)),
        (2048, 1556, 2.0, (1920, 729)),
        (480, 370, 1.5, (480, 247)),
        (720, 576, 0.5, (360, 576)),
        (32768, 2, 1.0, (1920, 1)),
        (1, 1, 1.0, (1, 1)),
    ],
)
def test_pictures_fit_with_square_pixels_and_are_never_enlarged(
    width: int, height: int, aspect: float, size: tuple[int, int]
) -> None:
    assert fitted(width, height, aspect, BOX) == size


@pytest.mark.parametrize(
    ("size", "expected"), [((1919, 1079), (1918, 1078)), ((1, 1), (2, 2)), ((570, 1080), (570, 1080))]
)
def test_even_sizes_lose_at_most_one_pixel_and_have_at_least_two(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert even(Size(*size), BOX) == expected
    assert even(Size(33, 33), Size(33, 17)) == (32, 16)


def test_evening_cuts_or_doubles_an_edge_and_resamples_nothing() -> None:
    picture = np.arange(5 * 3 * 3, dtype=np.float32).reshape(5, 3, 3)

    assert np.array_equal(evened(picture, Size(2, 4)), picture[:4, :2])
    assert np.array_equal(evened(picture[:1, :1], Size(2, 2)), np.repeat(np.repeat(picture[:1, :1], 2, 0), 2, 1))


def test_resizing_is_the_mean_of_the_covered_light() -> None:
    picture = np.random.default_rng(1).random((60, 90, 3), np.float32)

    expected = picture.reshape(20, 3, 30, 3, 3).mean(axis=(1, 3))

    assert np.allclose(resized(picture, Size(30, 20)), expected, atol=1e-6)
    assert resized(picture[:, :, :1], Size(30, 20)).shape == (20, 30, 1)


# Where the corners a b / c d of the scene are stored, by the TIFF 6.0 definition: row 0 is the visual …, column 0 the …
STORED = {
    1: "ab/cd", 2: "ba/dc", 3: "dc/ba", 4: "cd/ab", 5: "ac/bd", 6: "bd/ac", 7: "db/ca", 8: "ca/db",
}  # fmt: skip


@pytest.mark.parametrize(("orientation", "stored"), STORED.items())
def test_every_orientation_shows_the_scene_upright(orientation: int, stored: str) -> None:
    letters = np.array([[ord(c) for c in row] for row in stored.split("/")], np.float32)[:, :, np.newaxis]

    shown = oriented(letters, orientation)[:, :, 0]

    assert "/".join("".join(chr(int(v)) for v in row) for row in shown) == "ab/cd"


def test_a_preview_is_small_whatever_the_picture() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (144, 256, 3), dtype=np.uint8)
    picture = np.broadcast_to(np.linspace(0, 255, 256, dtype=np.uint8)[np.newaxis, :, np.newaxis], (144, 256, 3)).copy()

    assert len(preview(picture)) <= 4096
    assert len(preview(noise)) <= 8192
    assert simplejpeg.decode_jpeg(preview(picture)).shape == (90, 160, 3)


@pytest.mark.parametrize("shape", [(144, 256, 3), (256, 20, 3), (1, 1, 3)])
def test_an_icon_fits_into_the_line_of_a_page_and_shows_the_picture(shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    plain = np.full(shape, (200, 60, 20), np.uint8)

    assert len(icon(noise)) <= ICON_BYTES
    decoded: Any = cv2.imdecode(np.frombuffer(icon(plain), np.uint8), cv2.IMREAD_COLOR)
    assert max(decoded.shape[:2]) <= 128
    assert np.abs(decoded[:, :, ::-1].astype(int) - (200, 60, 20)).max() <= 12


def test_a_jpeg_keeps_colors_within_a_code_value() -> None:
    picture = np.broadcast_to(np.array([200, 30, 90], np.uint8), (32, 32, 3)).copy()

    assert np.abs(simplejpeg.decode_jpeg(jpeg(picture)).astype(int) - picture).max() <= 1


def test_near_is_bright_and_nothing_is_black() -> None:
    depth = np.tile(np.linspace(10, 20, 100, dtype=np.float32), (10, 1))
    depth[0] = (np.inf, 1e30, np.nan, *depth[0, 3:])

    grey, sentence = grey_of_values(depth, near_is_bright=True)

    assert grey[0, :3].max() == 0
    assert grey[5, 0, 0] == pytest.approx(1)
    assert grey[5, -1, 0] == pytest.approx(0.1)
    assert sentence.endswith("shown as white to dark")


def test_a_far_background_leaves_room_for_what_stands_before_it() -> None:
    depth = np.full((10, 100), 10_000, np.float32)
    depth[:5] = np.linspace(5, 20, 100)

    grey, _ = grey_of_values(depth, near_is_bright=True)

    assert grey[0, 0, 0] - grey[0, 50, 0] > 0.4
    assert grey[9, 0, 0] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("value", [3.0, np.nan])
def test_values_without_range_are_grey_or_black(value: float) -> None:
    grey, _ = grey_of_values(np.full((4, 4), value, np.float32), near_is_bright=False)

    assert grey.max() == (0.5 if value == 3.0 else 0)


def test_identifiers_have_distinct_stable_colors_and_zero_is_black() -> None:
    colors = color_of_identifiers(np.array([[0, 1, 2, 1]], np.float32))[0]

    assert not colors[0].any()
    assert np.array_equal(colors[1], colors[3])
    assert np.abs(colors[1] - colors[2]).max() > 0.05
