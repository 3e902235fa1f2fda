"""TIFF, PNG and JPEG beside EXR: already made for a display, so shown as they are; floating point is light."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenImageIO as Oiio
import pytest
from PIL import Image, ImageCms

from exr_pipeline.errors import BadInputError
from exr_pipeline.pictures.decode.open_source import open_source
from exr_pipeline_tests.pictures.expected import COLORS, P3_TO_REC709, rec1886, srgb, viewed
from exr_pipeline_tests.pictures.files import patch_means, patches
from exr_pipeline_tests.pictures.test_render import first_frame, made, still
from exr_pipeline_tests.pictures.test_shown import shown

CODES = np.array([[128, 128, 128], [0, 0, 0], [255, 255, 255], [200, 30, 90], [10, 120, 240]])


def linear(codes: np.ndarray) -> np.ndarray:
    values = codes / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def written(path: Path, pixels: np.ndarray, type_name: str = "uint8", **attributes: Any) -> Path:
    """Pixels 0..1 by OpenImageIO; alpha, if there is a fourth channel, is not multiplied in."""
    spec = Oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], type_name)
    if pixels.shape[2] in {2, 4}:
        spec.attribute("oiio:UnassociatedAlpha", 1)
    for name, value in attributes.items():
        spec.attribute(name.replace("__", ":"), value)
    output = Oiio.ImageOutput.create(str(path))
    assert output.open(str(path), spec), output.geterror()
    assert output.write_image(pixels.astype(np.float32)), output.geterror()
    assert output.close()
    return path


@pytest.mark.parametrize(
    ("name", "type_name"),
    [("x.png", "uint8"), ("x.png", "uint16"), ("x.tif", "uint8"), ("x.tif", "uint16"), ("x.jpg", "uint8")],
)
def test_code_values_are_shown_as_they_are_and_not_given_a_view_twice(
    tmp_path: Path, name: str, type_name: str
) -> None:
    attributes = {"CompressionQuality": 100, "jpeg__subsampling": "4:4:4"} if name.endswith("jpg") else {}
    pictures = made(written(tmp_path / name, patches(CODES / 255), type_name, **attributes))

    assert np.abs(patch_means(still(pictures), len(CODES)) - CODES).max() <= 1
    assert np.abs(patch_means(first_frame(pictures), len(CODES)) - rec1886(linear(CODES))).max() <= 3
    assert pictures.provenance.source_color_space == "sRGB - Display"
    assert pictures.provenance.color_rule == "default (integers: sRGB)"
    assert (pictures.thumbnail.view, pictures.warnings) == ("sRGB - Display", ())


def test_a_floating_point_tiff_is_linear_rec709_and_gets_a_view(tmp_path: Path) -> None:
    pictures = made(written(tmp_path / "x.tif", patches(COLORS), "float"))

    assert pictures.provenance.source_color_space == "Linear Rec.709 (sRGB)"
    expected = viewed("Linear Rec.709 (sRGB)", "sRGB - Display", COLORS)
    assert np.abs(patch_means(still(pictures), len(COLORS)) - expected).max() <= 2


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_straight_alpha_is_multiplied_in_linear_light_over_black(tmp_path: Path, name: str) -> None:
    alpha = np.repeat(np.array([0.0, 0.5, 1.0]), 32)[np.newaxis, :, np.newaxis].repeat(32, 0)
    color = patches(CODES[[3, 3, 3]] / 255)
    path = written(tmp_path / name, np.dstack([color, alpha]), "uint16")

    over_black = shown(path)
    covered = shown(path, with_alpha=True)

    expected = srgb(linear(CODES[3]) * np.array([[0.0], [0.5], [1.0]]))
    assert np.abs(patch_means(over_black.rgb, 3) - expected).max() <= 1
    assert over_black.provenance.alpha_handling == "straight, over black"
    assert covered.alpha is not None
    assert covered.alpha[16, [16, 48, 80]].tolist() == [0, 128, 255]
    assert np.abs(covered.rgb[16, [48, 80]].astype(int) - CODES[3]).max() <= 1


def test_grey_and_palette_pictures_are_shown(tmp_path: Path) -> None:
    written(tmp_path / "grey.png", patches(CODES / 255)[:, :, :1])
    image = Image.fromarray(np.round(patches(CODES)).astype(np.uint8))
    image.quantize(8).save(tmp_path / "palette.png")

    grey = patch_means(still(made(tmp_path / "grey.png")), len(CODES))
    assert np.abs(grey - CODES[:, :1]).max() <= 1
    assert np.abs(patch_means(still(made(tmp_path / "palette.png")), len(CODES)) - CODES).max() <= 2


def test_orientation_of_exif_turns_the_picture(tmp_path: Path) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # The top left of what is stored is shown at the top right.
    Image.fromarray(picture).save(tmp_path / "x.jpg", exif=exif, quality=95)

    image = still(made(tmp_path / "x.jpg"))

    assert image.shape == (64, 32, 3)
    assert image[4:12, 20:28].min() > 240
    assert image[:, :12].max() < 16


def test_an_icc_profile_decides_by_its_name_and_an_unknown_one_is_a_warning(tmp_path: Path) -> None:
    image = Image.fromarray(np.round(patches(CODES)).astype(np.uint8))
    image.save(tmp_path / "srgb.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    other = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"s\0R\0G\0B", b"Z\0Q\0X\0Y")
    image.save(tmp_path / "other.png", icc_profile=other.replace(b"sRGB", b"ZQXY"))

    known, unknown = made(tmp_path / "srgb.png"), made(tmp_path / "other.png")

    assert known.provenance.color_rule.startswith("ICC profile (sRGB")
    assert unknown.provenance.color_rule == "default (integers: sRGB)"
    assert len(unknown.warnings) == 1
    assert "unknown ICC profile" in unknown.warnings[0]


def test_display_p3_is_converted_to_the_display(tmp_path: Path) -> None:
    path = written(tmp_path / "x.png", patches(CODES / 255), oiio__ColorSpace="srgb_p3d65_display")

    pictures = made(path)

    in_rec709 = linear(CODES) @ P3_TO_REC709.T
    assert "P3" in pictures.provenance.source_color_space
    assert pictures.provenance.color_rule.startswith("oiio:ColorSpace (")
    assert np.abs(patch_means(still(pictures), len(CODES)) - srgb(in_rec709)).max() <= 2


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.jpg"])
def test_a_truncated_image_is_bad_input(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, np.random.default_rng(1).random((128, 256, 3)))
    whole = path.read_bytes()
    made(path)
    path.write_bytes(whole[: len(whole) * 2 // 3])

    with pytest.raises(BadInputError) as caught:
        made(path)

    assert str(tmp_path) not in caught.value.reason


@pytest.mark.parametrize("compression", [1, 5, 8])  # none, LZW, deflated
@pytest.mark.parametrize("height", [7, 100, 257])
def test_a_tiff_of_64_bit_numbers_is_read_rightly_whatever_its_strips_are(
    tmp_path: Path, compression: int, height: int
) -> None:
    rows = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 13]
    pixels = np.random.default_rng(1).uniform(0, 1, (height, 20, 3))
    assert cv2.imwrite(str(tmp_path / "x.tif"), pixels[:, :, ::-1], rows)

    source = open_source(str(tmp_path / "x.tif"), "x.tif", max_image_mb=1)

    assert np.allclose(np.concatenate([rows.pixels for rows in source.read(0)]), pixels, atol=1e-6)


def test_an_image_above_the_limit_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.png", np.zeros((600, 700, 3)))

    with pytest.raises(BadInputError, match="exceeds the 1 MB limit"):
        made(path, max_image_mb=1)
