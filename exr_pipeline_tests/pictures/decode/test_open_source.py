import os
import struct
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import OpenEXR
import pytest

from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import HeaderError
from exr_pipeline.pictures.decode.luminance_chroma import rgb_from_luminance_chroma, upsampled
from exr_pipeline.pictures.decode.open_source import open_source
from exr_pipeline.pictures.decode.source import BRIGHTEST, Source
from exr_pipeline.pictures.still import Size
from exr_pipeline.sample.raw_exr import halved, mip_mapped
from exr_pipeline_tests.pictures.files import (
    flat,
    rgb_channels,
    window,
    write_deep_exr,
    write_dpx,
    write_exr,
    write_luminance_chroma_exr,
    write_mip_exr,
    write_rgb,
)

RAMP = np.stack(np.meshgrid(np.arange(40), np.arange(30), indexing="xy"), -1).astype(np.float32)
RAMP = np.concatenate([RAMP, np.full((30, 40, 1), 7, np.float32)], axis=2) + 1


class Read(NamedTuple):
    """An opened file and all its pixels."""

    source: Source
    pixels: np.ndarray


def read(path: Path, *, wanted: tuple[int, int] = (4096, 4096), max_image_mb: int = 64) -> Read:
    source = open_source(str(path), path.name, max_image_mb=max_image_mb)
    full = source.levels[0]
    level = source.level(Size(min(full.width, wanted[0]), min(full.height, wanted[1])))
    canvas = np.zeros((source.levels[level].height, source.levels[level].width, source.channels), np.float32)
    for y, x, pixels in source.placed(level):
        canvas[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return Read(source, canvas)


def test_overscan_is_cropped_and_what_is_missing_is_black(tmp_path: Path) -> None:
    overscan = write_rgb(
        tmp_path / "o.exr", RAMP, dataWindow=window(40, 30, -5, -4), displayWindow=window(30, 20, 0, 0)
    )
    cropped = write_rgb(tmp_path / "c.exr", RAMP, dataWindow=window(40, 30, 10, 5), displayWindow=window(60, 40, 0, 0))

    assert np.array_equal(read(overscan).pixels, RAMP[4:24, 5:35])
    placed = read(cropped).pixels
    assert np.array_equal(placed[5:35, 10:50], RAMP)
    assert placed.sum() == RAMP.sum()


def test_a_data_window_beside_the_display_window_is_black_with_a_warning(tmp_path: Path) -> None:
    path = write_rgb(tmp_path / "x.exr", RAMP, dataWindow=window(40, 30, 100, 0), displayWindow=window(60, 40, 0, 0))

    decoded = read(path)

    assert not decoded.pixels.any()
    assert decoded.source.warnings == ["the data window lies outside the display window: the picture is black"]


@pytest.mark.parametrize("compression", ["NO", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "DWAA", "DWAB"])
def test_every_compression_is_read_over_several_blocks(tmp_path: Path, compression: str) -> None:
    picture = flat(20, 300, (0.25, 0.5, 1.0))
    picture[100:] *= 0.5
    code = getattr(OpenEXR, f"{compression}_COMPRESSION")
    path = write_exr(tmp_path / "x.exr", rgb_channels(picture.astype(np.float16)), compression=code)

    assert np.allclose(read(path).pixels, picture, atol=0.01)


def test_only_the_wanted_part_is_read_in_display_order(tmp_path: Path) -> None:
    parts = [
        OpenEXR.Part({"type": OpenEXR.scanlineimage}, {"Z": np.ones((30, 40), np.float32)}, "depth"),
        OpenEXR.Part({"type": OpenEXR.scanlineimage}, rgb_channels(RAMP), "beauty"),
    ]
    path = tmp_path / "x.exr"
    OpenEXR.File(parts).write(str(path))

    decoded = read(path)

    assert np.array_equal(decoded.pixels, RAMP)
    assert str(decoded.source.layer) == "beauty"


def test_the_channels_of_a_named_layer_are_picked_among_many(tmp_path: Path) -> None:
    channels = {f"a.{name}": np.zeros((30, 40), np.float32) for name in "RGB"}
    channels |= rgb_channels(RAMP, "beauty.") | {"zz": np.full((30, 40), 9, np.float32)}

    assert np.array_equal(read(write_exr(tmp_path / "x.exr", channels)).pixels, RAMP)


def test_nan_and_infinity_are_replaced_and_counted_per_pixel(tmp_path: Path) -> None:
    picture = RAMP.copy()
    picture[3, 4] = np.nan
    picture[5, 6, 1] = np.inf
    picture[7, 8] = (-np.inf, np.nan, 2)

    decoded = read(write_rgb(tmp_path / "x.exr", picture))

    assert (decoded.source.nan_pixels, decoded.source.inf_pixels) == (2, 2)
    assert decoded.pixels[3, 4].tolist() == [0, 0, 0]
    assert decoded.pixels[5, 6].tolist() == [7, BRIGHTEST, 8]
    assert decoded.pixels[7, 8].tolist() == [0, 0, 2]


def test_invalid_pixels_outside_the_display_window_are_not_counted(tmp_path: Path) -> None:
    picture = RAMP.copy()
    picture[0] = np.nan
    path = write_rgb(tmp_path / "x.exr", picture, dataWindow=window(40, 30), displayWindow=window(40, 29, 0, 1))

    assert read(path).source.nan_pixels == 0


def test_the_mip_level_just_above_the_wanted_size_is_read(tmp_path: Path) -> None:
    path = write_mip_exr(tmp_path / "x.exr", [flat(128 >> n, max(64 >> n, 1), (n, n, n)) for n in range(8)])

    assert [read(path, wanted=size).pixels[0, 0, 0] for size in ((128, 64), (65, 33), (64, 32), (20, 10))] == [
        0, 0, 1, 2,
    ]  # fmt: skip
    assert read(path, wanted=(20, 10)).pixels.shape == (16, 32, 3)
    assert read(path, wanted=(20, 10)).source.levels[0].width == 128


def test_luminance_and_chroma_become_rgb(tmp_path: Path) -> None:
    rgb = np.array([0.8, 0.4, 0.1])
    luminance = float(rgb @ (0.2126, 0.7152, 0.0722))
    red, blue = (np.full((10, 16), rgb[i] / luminance - 1) for i in (0, 2))

    decoded = read(write_luminance_chroma_exr(tmp_path / "x.exr", np.full((20, 32), luminance), red, blue))

    assert decoded.source.layer.kind == "luminance-chroma"
    assert np.allclose(decoded.pixels, rgb, atol=1e-3)


def test_chroma_is_linear_between_its_samples() -> None:
    plane = np.array([[0, 2], [4, 6]], np.float32)

    assert upsampled(plane, (2, 2), (4, 4)).tolist() == [[0, 1, 2, 2], [2, 3, 4, 4], [4, 5, 6, 6], [4, 5, 6, 6]]


def test_grey_has_no_chroma_whatever_the_primaries() -> None:
    plane = np.full((1, 1), 0.5, np.float32)
    primaries = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
    rgb = rgb_from_luminance_chroma(plane, plane * 0, plane * 0, chromaticities=primaries)

    assert np.allclose(rgb, 0.5)


def test_deep_samples_are_composited_front_to_back_whatever_their_order(tmp_path: Path) -> None:
    near, far = (0.2, 0.0, 0.0, 0.5, 1.0), (0.0, 0.8, 0.0, 1.0, 2.0)

    decoded = read(write_deep_exr(tmp_path / "x.exr", [far, near]))

    assert np.allclose(decoded.pixels, (0.2, 0.4, 0.0), atol=1e-6)


@pytest.mark.parametrize("order", [1, -1])
def test_of_deep_samples_without_alpha_the_nearest_is_shown_and_a_warning_says_so(tmp_path: Path, order: int) -> None:
    near, far = (0.2, 0.3, 0.4, 1.0), (0.0, 0.8, 0.0, 2.0)

    decoded = read(write_deep_exr(tmp_path / "x.exr", [near, far][::order], names="RGBZ"))

    assert np.allclose(decoded.pixels, near[:3], atol=1e-6)
    assert decoded.source.warnings == ["deep samples without alpha: the nearest sample of each pixel is shown"]


def test_of_deep_samples_without_color_the_depth_of_the_nearest_is_shown(tmp_path: Path) -> None:
    decoded = read(write_deep_exr(tmp_path / "x.exr", [(5.0,), (3.0,), (4.0,)], names="Z"))

    assert decoded.source.layer.kind == "depth"
    assert (decoded.pixels == 3).all()


@pytest.mark.parametrize("order", [1, -1])
def test_colored_alphas_cover_each_channel_by_its_own_whatever_the_order_of_samples(tmp_path: Path, order: int) -> None:
    near, far = (0.4, 0.0, 0.0, 1.0, 0.0, 0.0, 5.0), (0.1, 0.2, 0.3, 0.5, 0.5, 0.5, 10.0)
    names = ["R", "G", "B", "AR", "AG", "AB", "Z"]

    decoded = read(write_deep_exr(tmp_path / "x.exr", [near, far][::order], names=names))

    assert np.allclose(decoded.pixels, (0.4, 0.2, 0.3), atol=1e-6)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("names", "nearest"), [(("A", "Z"), 5.0), (("A", "Z", "id"), 7.0)])
def test_depth_and_identifiers_of_deep_samples_are_those_of_the_nearest_however_it_covers(
    tmp_path: Path, order: int, names: tuple[str, ...], nearest: float
) -> None:
    near, far = (0.5, 5.0, 7.0), (0.5, 10.0, 9.0)
    samples = [sample[: len(names)] for sample in (near, far)][::order]

    source = open_source(
        str(write_deep_exr(tmp_path / "x.exr", samples, names=names)), "x.exr", max_image_mb=64, layer=names[-1]
    )

    (rows,) = source.placed(0)
    assert (rows.pixels == nearest).all()
    assert source.warnings == ["deep samples: the nearest sample of each pixel is shown"]


def test_a_deep_layer_is_composited_by_its_own_alpha(tmp_path: Path) -> None:
    names = ["A", "Z", "fx.A", "fx.B", "fx.G", "fx.R"]
    near, far = (1.0, 1.0, 0.5, 0.0, 0.0, 0.25), (1.0, 2.0, 1.0, 0.0, 1.0, 0.0)

    decoded = read(write_deep_exr(tmp_path / "x.exr", [far, near], names=names))

    assert np.allclose(decoded.pixels, (0.25, 0.5, 0.0), atol=1e-6)
    assert decoded.source.warnings == []


@pytest.mark.parametrize("window_name", ["dataWindow", "displayWindow"])
@pytest.mark.parametrize("corner", [-1, -8])
def test_a_window_of_no_size_is_bad_input_that_names_file_and_window(
    tmp_path: Path, window_name: str, corner: int
) -> None:
    path = write_rgb(tmp_path / "shot.exr", RAMP)
    data = path.read_bytes()
    # A box ends with the largest x and y.
    largest = data.index(f"{window_name}\0box2i\0".encode()) + len(window_name) + len("\0box2i\0") + 4 + 8
    path.write_bytes(data[:largest] + struct.pack("<i", corner) + data[largest + 4 :])

    with pytest.raises(BadInputError, match=rf"^shot\.exr: {window_name} \(0, 0\) to \({corner}, 29\) is empty"):
        read(path)


@pytest.mark.parametrize("compression", ["ZIP", "PIZ", "RLE", "NO", "DWAA", "HTJ2K32"])
@pytest.mark.parametrize("is_tiled", [False, True])
def test_integers_are_read_as_they_are_beside_other_types(tmp_path: Path, compression: str, is_tiled: bool) -> None:
    numbers = np.arange(64 * 32, dtype=np.uint32).reshape(32, 64) * 8000
    half = np.full((32, 64), 0.5, np.float16)
    tiles = {"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()} if is_tiled else {}
    path = write_exr(
        tmp_path / "x.exr",
        {"Y": numbers, "A": half},
        compression=getattr(OpenEXR, f"{compression}_COMPRESSION"),
        **tiles,
    )

    source = open_source(str(path), "x.exr", max_image_mb=64, with_alpha=True)
    pixels = np.concatenate([rows.pixels for rows in source.placed(0)])

    assert (pixels[:, :, 0] == numbers).all()
    assert (pixels[:, :, 1] == 0.5).all()


def test_luminance_and_chroma_are_read_whatever_else_the_header_says(tmp_path: Path) -> None:
    planes = (np.full((20, 32), 0.5), np.zeros((10, 16)), np.zeros((10, 16)))
    odd = {
        "owner": ("string", b"Andr\xe9"),
        "deepImageState": ("deepImageState", b"\1"),
        "chromaticities": ("chromaticities", bytes(32)),
        "keyCode": ("keycode", b"\xff" * 28),
    }

    decoded = read(write_luminance_chroma_exr(tmp_path / "x.exr", *planes, odd))

    assert np.allclose(decoded.pixels, 0.5, atol=1e-3)


def test_luminance_and_chroma_in_mip_levels_are_those_of_the_full_size(tmp_path: Path) -> None:
    levels = halved({"Y": np.full((64, 64), 0.5), "RY": np.zeros((64, 64)), "BY": np.zeros((64, 64))})
    levels[0]["Y"][:, 32:] = 0.25
    path = tmp_path / "x.exr"
    path.write_bytes(
        mip_mapped([{name: p.astype(np.float32) for name, p in level.items()} for level in levels], 32, {})
    )

    decoded = read(path, wanted=(32, 32))

    assert decoded.pixels.shape == (64, 64, 3)
    assert np.allclose(decoded.pixels[:, 40:], 0.25)


def test_a_frame_rate_is_read_from_a_number_too(tmp_path: Path) -> None:
    assert read(write_rgb(tmp_path / "x.exr", RAMP, framesPerSecond=23.976)).source.shown_rate == (
        Fraction(24000, 1001),
        "",
    )


def test_orientation_pixel_aspect_and_rate_come_from_the_header(tmp_path: Path) -> None:
    path = write_rgb(
        tmp_path / "x.exr",
        RAMP,
        pixelAspectRatio=2.0,
        framesPerSecond=Fraction(24000, 1001),
        Orientation=6,
    )

    source = read(path).source

    assert (source.pixel_aspect, source.shown_rate, source.orientation) == (
        2.0,
        (Fraction(24000, 1001), ""),
        6,
    )


def test_dpx_code_values_are_read_as_they_are(tmp_path: Path) -> None:
    picture = flat(16, 8, (0.25, 0.5, 0.75))

    decoded = read(write_dpx(tmp_path / "x.dpx", picture, transfer=3, orientation=2, rate=23.976))

    assert np.allclose(decoded.pixels, picture, atol=1e-4)
    assert (decoded.source.orientation, decoded.source.shown_rate) == (4, (Fraction(24000, 1001), ""))


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["exr", "tiled", "chroma", "dpx"])
def test_a_truncated_file_is_bad_input(tmp_path: Path, kind: str, keep: float) -> None:
    path = tmp_path / "shot 1,#.exr"
    noise = np.random.default_rng(1).random((128, 256, 3), np.float32)
    if kind == "exr":
        write_rgb(path, noise)
    elif kind == "tiled":
        path.write_bytes(mip_mapped(halved(rgb_channels(noise)), 32, {}))
    elif kind == "chroma":
        write_luminance_chroma_exr(path, noise[..., 0], noise[:64, :128, 1], noise[:64, :128, 2])
    else:
        write_dpx(path, noise, transfer=3)
    read(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])

    with pytest.raises(BadInputError) as caught:
        read(path)

    assert caught.value.name == "shot 1,#.exr"
    assert "\n" not in caught.value.reason
    assert str(tmp_path) not in caught.value.reason


@pytest.mark.parametrize("kind", ["exr", "chroma"])
def test_damaged_pixels_are_bad_input(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.exr"
    noise = np.random.default_rng(1).random((128, 256), np.float32)
    if kind == "chroma":
        write_luminance_chroma_exr(path, noise, noise[:64, :128], noise[:64, :128])
    else:
        write_exr(path, {"Y": noise})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(data)

    with pytest.raises(BadInputError, match="damaged pixels"):
        read(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"GIF89a and so on", "not an OpenEXR, DPX, Cineon, TIFF, PNG or JPEG file"),
        (b"\x76\x2f\x31\x01\x02\0\0\0", "the data ends inside the header"),
        (b"SDPX", "the data ends inside the header"),
    ],
)
def test_what_is_no_picture_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.exr"
    path.write_bytes(content)

    with pytest.raises(BadInputError, match=reason):
        read(path)


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read: No such file"):
        read(tmp_path / "x.exr")


def test_an_image_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write_rgb(tmp_path / "x.exr", flat(600, 600, (1, 1, 1)))
    display = write_rgb(tmp_path / "y.exr", RAMP, dataWindow=window(40, 30), displayWindow=window(900_000, 100_000))

    with pytest.raises(BadInputError, match=r"takes 4 MiB \(600x600 pixels\), more than the limit of 3 MiB"):
        read(path, max_image_mb=3)
    with pytest.raises(HeaderError, match="900000x100000") as caught:
        read(display)
    assert display.read_bytes()[caught.value.offset :].startswith(b"displayWindow\0")


@pytest.mark.parametrize("name", ["pipe.exr", "folder.exr", "device.exr"])
def test_only_regular_files_are_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "pipe.exr":
        os.mkfifo(path)  # Opening it would wait for somebody to write.
    elif name == "folder.exr":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(BadInputError, match="not a regular file"):
        open_source(str(path), name, max_image_mb=64)
