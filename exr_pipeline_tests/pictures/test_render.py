"""Pictures compared with calculations that do not use the code under test.

Tolerances in 8-bit code values, over patches of one color: stills 1 on average and 2 at most (JPEG rounds to 8-bit
YCbCr); proxies 1 on average and 3 at most (the same in limited range, H.264, and the baked view where it is used).
"""

import io
import itertools
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import OpenEXR
import PyOpenColorIO as Ocio
import pytest
import simplejpeg

from exr_pipeline.color.config import BUILT_IN_CONFIG
from exr_pipeline.errors import BadInputError
from exr_pipeline.pictures import RenderedPictures
from exr_pipeline.pictures.render import render_picture
from exr_pipeline_tests.cineon_files import write_cineon
from exr_pipeline_tests.pictures.expected import COLORS, SOURCES, logc3, rec1886, rgb_of, srgb, viewed
from exr_pipeline_tests.pictures.files import (
    flat,
    patch_means,
    patches,
    picture_settings,
    rgb_channels,
    window,
    write_deep_exr,
    write_dpx,
    write_exr,
    write_luminance_chroma_exr,
    write_mip_exr,
    write_rgb,
)


def made(path: Path, **settings: object) -> RenderedPictures:
    return render_picture(str(path), path.name, thumbnail=True, proxy=True, settings=picture_settings(**settings))


def still(pictures: RenderedPictures) -> np.ndarray:
    image = simplejpeg.decode_jpeg(pictures.thumbnail.data)
    assert image.shape == (pictures.thumbnail.height, pictures.thumbnail.width, 3)
    return image


def first_frame(pictures: RenderedPictures) -> np.ndarray:
    """RGB of the first frame."""
    assert isinstance(pictures.proxy.mp4, bytes)
    with av.open(io.BytesIO(pictures.proxy.mp4)) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (pictures.proxy.width, pictures.proxy.height)
    return rgb_of(frame)


def assert_patches(pictures: RenderedPictures, still_values: np.ndarray, proxy_values: np.ndarray) -> None:
    count = len(still_values)
    of_still = np.abs(patch_means(still(pictures), count) - still_values)
    of_proxy = np.abs(patch_means(first_frame(pictures), count) - proxy_values)
    assert of_still.mean() <= 1.0
    assert of_still.max() <= 2.0
    assert of_proxy.mean() <= 1.0
    assert of_proxy.max() <= 3.0


@pytest.mark.parametrize(
    ("attributes", "values", "rec709", "space", "rule"),
    SOURCES,
)
def test_patches_of_each_source_space_are_colorimetrically_right(
    tmp_path: Path,
    attributes: dict[str, Any],
    values: np.ndarray,
    rec709: np.ndarray,
    space: str,
    rule: str,
) -> None:
    path = write_rgb(tmp_path / "x.exr", patches(values), **attributes)

    pictures = made(path, still_view="un-tone-mapped", proxy_view="un-tone-mapped")

    assert (pictures.provenance.source_color_space, pictures.provenance.color_rule, pictures.warnings) == (
        space,
        rule,
        (),
    )
    assert (pictures.thumbnail.view, pictures.proxy.view) == (
        "sRGB - Display / Un-tone-mapped", "Rec.1886 Rec.709 - Display / Un-tone-mapped",
    )  # fmt: skip
    assert_patches(pictures, srgb(rec709), rec1886(rec709))


@pytest.mark.parametrize("space", ["ACEScg", "Linear Rec.709 (sRGB)", "ARRI LogC3 (EI800)", "ACEScct"])
def test_patches_of_each_source_space_have_the_values_of_the_default_view(tmp_path: Path, space: str) -> None:
    values = logc3(COLORS) if space[:2] != "Li" and space != "ACEScg" else COLORS

    pictures = made(write_rgb(tmp_path / "x.exr", patches(values), colorspace=space))

    assert pictures.provenance.ocio_config == BUILT_IN_CONFIG.removeprefix("ocio://")
    expected = viewed(space, "sRGB - Display", values), viewed(space, "Rec.1886 Rec.709 - Display", values)
    assert_patches(pictures, *expected)


def test_a_large_proxy_through_the_baked_view_has_the_right_patches(tmp_path: Path) -> None:
    colors = np.concatenate([COLORS, COLORS * 8])
    path = write_rgb(tmp_path / "x.exr", patches(colors, 160), colorspace="ACEScg")

    pictures = made(path)

    assert (pictures.proxy.width, pictures.proxy.height) == (1920, 160)
    expected = viewed("ACEScg", "sRGB - Display", colors), viewed("ACEScg", "Rec.1886 Rec.709 - Display", colors)
    assert_patches(pictures, *expected)


CODES = np.array([[445, 445, 445], [95, 95, 95], [685, 685, 685], [600, 500, 400], [400, 500, 600]])


@pytest.mark.parametrize(("transfer", "name"), [(1, "printing density"), (3, "logarithmic")])
def test_a_logarithmic_dpx_is_printing_density(tmp_path: Path, transfer: int, name: str) -> None:
    pictures = made(write_dpx(tmp_path / "x.dpx", patches(CODES / 1023), transfer=transfer, rate=25.0))

    # 0.002 density per code above black at 95, gamma 0.6, 1.0 at 685: Kodak's "Conversion of 10-bit log film data".
    light = 10 ** ((CODES - 685) * 0.002 / 0.6)
    black = 10 ** ((95 - 685) * 0.002 / 0.6)
    linear = (light - black) / (1 - black)
    assert pictures.provenance.source_color_space == "Cineon (printing density)"
    assert pictures.provenance.color_rule == f"dpx:transfer ({name})"
    assert pictures.proxy.rate == 25
    space = "Linear Rec.709 (sRGB)"
    assert_patches(
        pictures, viewed(space, "sRGB - Display", linear), viewed(space, "Rec.1886 Rec.709 - Display", linear)
    )


def test_a_cineon_file_is_shown_as_a_dpx_of_printing_density_with_the_same_codes(tmp_path: Path) -> None:
    cineon = made(write_cineon(tmp_path / "x.cin", patches(CODES), rate=25.0))
    dpx = made(write_dpx(tmp_path / "x.dpx", patches(CODES / 1023), transfer=1, rate=25.0))

    assert cineon.provenance.source_color_space == "Cineon (printing density)"
    assert cineon.provenance.color_rule == "default (Cineon: printing density)"
    assert cineon.proxy.rate == 25
    assert cineon.warnings == ()
    assert cineon.thumbnail.data == dpx.thumbnail.data
    assert cineon.proxy.mp4 == dpx.proxy.mp4


def test_a_dpx_of_adx_is_adx_by_its_bits(tmp_path: Path) -> None:
    values = np.array([[0.4, 0.4, 0.4], [0.3, 0.35, 0.4], [0.5, 0.45, 0.4]])

    pictures = made(write_dpx(tmp_path / "x.dpx", patches(values), transfer=13))

    assert (pictures.provenance.source_color_space, pictures.provenance.color_rule) == ("ADX16", "dpx:transfer (ADX)")
    assert_patches(
        pictures, viewed("ADX16", "sRGB - Display", values), viewed("ADX16", "Rec.1886 Rec.709 - Display", values)
    )


@pytest.mark.parametrize(
    ("transfer", "rule"), [(6, "dpx:transfer (ITU-R BT.709)"), (0, "default (DPX: Rec.709 video)")]
)
def test_a_video_dpx_is_shown_as_it_is_and_not_given_a_view_twice(tmp_path: Path, transfer: int, rule: str) -> None:
    codes = np.array([[0.5, 0.5, 0.5], [0.9, 0.5, 0.2], [0.1, 0.2, 0.8], [1.0, 1.0, 1.0]])

    pictures = made(write_dpx(tmp_path / "x.dpx", patches(codes), transfer=transfer))

    assert (pictures.provenance.color_rule, pictures.proxy.view) == (rule, "Rec.1886 Rec.709 - Display")
    assert_patches(pictures, srgb(codes**2.4), codes * 255)


# Colors of SMPTE RP 145 ("SMPTE C") and EBU Tech. 3213 in those of Rec.709, whose white they share.
SMPTE_C_TO_REC709 = np.array([[0.93954, 0.05018, 0.01028], [0.01777, 0.96579, 0.01643], [-0.00162, -0.00437, 1.00599]])
EBU_TO_REC709 = np.array([[1.04404, -0.04404, 0.0], [0.0, 1.0, 0.0], [0.0, 0.01179, 0.98821]])


@pytest.mark.parametrize(
    ("transfer", "colorimetric", "to_rec709", "rule"),
    [
        (6, 8, SMPTE_C_TO_REC709, "dpx:transfer (ITU-R BT.709), dpx:colorimetric (ITU-R BT.601 525)"),
        (6, 10, EBU_TO_REC709, "dpx:transfer (ITU-R BT.709), dpx:colorimetric (PAL composite)"),
        (7, 6, np.eye(3), "dpx:transfer (ITU-R BT.601 625), dpx:colorimetric (ITU-R BT.709)"),
        (7, 0, EBU_TO_REC709, "dpx:transfer (ITU-R BT.601 625)"),
        (0, 9, SMPTE_C_TO_REC709, "dpx:colorimetric (NTSC composite)"),
        (4, 6, np.eye(3), "dpx:colorimetric (ITU-R BT.709)"),
        (0, 2, np.eye(3), "default (DPX: Rec.709 video)"),
    ],
)
def test_the_primaries_of_a_video_dpx_are_those_of_its_colorimetric_field(
    tmp_path: Path, transfer: int, colorimetric: int, to_rec709: np.ndarray, rule: str
) -> None:
    codes = np.array([[0.5, 0.5, 0.5], [0.9, 0.5, 0.2], [0.3, 0.4, 0.8], [0.3, 0.8, 0.3]])

    pictures = made(write_dpx(tmp_path / "x.dpx", patches(codes), transfer=transfer, colorimetric=colorimetric))

    linear = codes**2.4 @ to_rec709.T
    assert (pictures.provenance.color_rule, pictures.proxy.view) == (rule, "Rec.1886 Rec.709 - Display")
    assert_patches(pictures, srgb(linear), rec1886(linear))


@pytest.mark.parametrize("transfer", [2, 3])
def test_light_and_log_of_a_dpx_have_the_primaries_of_its_colorimetric_field(tmp_path: Path, transfer: int) -> None:
    light = np.array([[0.18, 0.18, 0.18], [0.5, 0.25, 0.1], [0.1, 0.3, 0.5]])
    black = 10 ** ((95 - 685) * 0.002 / 0.6)
    codes = light if transfer == 2 else (685 + np.log10(light * (1 - black) + black) * 0.6 / 0.002) / 1023

    pictures = made(
        write_dpx(tmp_path / "x.dpx", patches(codes), transfer=transfer, colorimetric=8),
        still_view="un-tone-mapped",
        proxy_view="un-tone-mapped",
    )

    linear = light @ SMPTE_C_TO_REC709.T
    assert pictures.provenance.color_rule.endswith(", dpx:colorimetric (ITU-R BT.601 525)")
    assert_patches(pictures, srgb(linear), rec1886(linear))


def test_a_dpx_whose_transfer_says_nothing_is_film_where_its_colorimetric_field_says_so(tmp_path: Path) -> None:
    pictures = made(write_dpx(tmp_path / "x.dpx", patches(CODES / 1023), transfer=0, colorimetric=1))

    assert pictures.provenance.source_color_space == "Cineon (printing density)"
    assert pictures.provenance.color_rule == "dpx:colorimetric (printing density)"


def test_an_unknown_color_space_is_a_warning_not_a_failure(tmp_path: Path) -> None:
    pictures = made(write_rgb(tmp_path / "x.exr", patches(COLORS), colorspace="made up"))

    assert pictures.provenance.source_color_space == "Linear Rec.709 (sRGB)"
    assert pictures.warnings == ("colorspace 'made up' is not a color space of the OCIO config: ignored",)


def test_light_is_averaged_before_the_view(tmp_path: Path) -> None:
    stripes = np.zeros((512, 512, 3), np.float32)
    stripes[::2] = 1.0

    pictures = made(write_rgb(tmp_path / "x.exr", stripes, colorspace="lin_rec709_scene"), still_view="un-tone-mapped")

    assert np.abs(still(pictures) - srgb(np.array(0.5))).max() <= 1


def test_log_light_is_averaged_as_light_too(tmp_path: Path) -> None:
    stripes = np.zeros((512, 512, 3), np.float32)
    stripes[::2], stripes[1::2] = logc3(np.array(0.8)), logc3(np.array(0.0))

    pictures = made(
        write_rgb(tmp_path / "x.exr", stripes, colorspace="ARRI LogC3 (EI800)"), still_view="un-tone-mapped"
    )

    assert np.abs(still(pictures) - srgb(np.array(0.4))).max() <= 1.5


@pytest.mark.parametrize(
    ("size", "aspect", "thumbnail", "proxy"),
    [
        ((2048, 858), 1.0, (256, 107), (1920, 804)),
        ((101, 77), 1.0, (101, 77), (100, 76)),
        ((1, 1), 1.0, (1, 1), (2, 2)),
        ((400, 300), 2.0, (256, 96), (400, 150)),
        ((400, 300), 0.5, (171, 256), (200, 300)),
        ((32768, 4), 1.0, (256, 1), (1920, 2)),
        ((4, 32768), 1.0, (1, 256), (2, 1080)),
    ],
)
def test_outputs_fit_their_boxes_and_are_never_enlarged(
    tmp_path: Path, size: tuple[int, int], aspect: float, thumbnail: tuple[int, int], proxy: tuple[int, int]
) -> None:
    path = write_rgb(tmp_path / "x.exr", flat(*size, (0.5, 0.5, 0.5)), pixelAspectRatio=aspect)

    pictures = made(path)

    assert still(pictures).shape[1::-1] == thumbnail
    assert first_frame(pictures).shape[1::-1] == proxy
    assert np.ptp(still(pictures)) == 0  # No edge is darker than the middle.
    assert first_frame(pictures).min() > 100


def test_the_data_window_lies_in_the_display_window_of_the_outputs(tmp_path: Path) -> None:
    white = flat(64, 32, (1.0, 1.0, 1.0))
    path = write_rgb(tmp_path / "x.exr", white, dataWindow=window(64, 32, 32, 16), displayWindow=window(128, 64))

    for image in (still(made(path)), first_frame(made(path))):
        inside = image[20:44, 36:92]
        assert image.shape == (64, 128, 3)
        assert inside.min() > 150
        assert max(image[:12].max(), image[52:].max(), image[:, :28].max(), image[:, 100:].max()) < 12


def test_orientation_turns_the_outputs(tmp_path: Path) -> None:
    picture = flat(64, 32, (0.0, 0.0, 0.0))
    picture[:16, :16] = 1  # Stored at the top left; orientation 6 shows it at the top right.

    image = still(made(write_rgb(tmp_path / "x.exr", picture, Orientation=6)))

    assert image.shape == (64, 32, 3)
    assert image[4:12, 20:28].min() > 150
    assert image[:, :12].max() < 12


def test_all_black_is_found_and_one_lit_region_is_not_black(tmp_path: Path) -> None:
    dark = flat(300, 200, (0.0, 0.0, 0.0))
    assert made(write_rgb(tmp_path / "a.exr", dark)).is_black
    dark[50:60, 50:60] = 0.1
    assert not made(write_rgb(tmp_path / "b.exr", dark)).is_black


def test_invalid_pixels_are_counted_and_do_not_spread(tmp_path: Path) -> None:
    picture = flat(512, 512, (0.2, 0.2, 0.2))
    picture[100:104, 100:104] = np.nan
    picture[200, 200] = np.inf

    pictures = made(write_rgb(tmp_path / "x.exr", picture))

    assert (pictures.nan_pixels, pictures.inf_pixels) == (16, 1)
    image = still(pictures)
    assert image[100, 100].min() > 240
    assert np.abs(image[140:].astype(int) - image[200, 200]).max() <= 1


@pytest.mark.parametrize("huge", [1e38, -1e38])
def test_huge_values_do_not_break_the_picture(tmp_path: Path, huge: float) -> None:
    image = still(made(write_rgb(tmp_path / "x.exr", flat(512, 512, (huge, huge, huge)))))

    assert image.min() == image.max() == (255 if huge > 0 else 0)


def test_mip_levels_serve_each_output(tmp_path: Path) -> None:
    levels = [flat(1024 >> n, 512 >> n or 1, [(1, 0, 0), (0, 1, 0), (0, 0, 1)][min(n, 2)]) for n in range(11)]
    path = write_mip_exr(tmp_path / "x.exr", levels)

    both = made(path)
    alone = render_picture(str(path), "x.exr", thumbnail=True, proxy=False, settings=picture_settings())

    assert first_frame(both)[256, 512].argmax() == 0
    assert still(alone)[64, 128].argmax() == 2
    assert alone.proxy is None


def test_luminance_chroma_deep_and_luminance_files_have_pictures(tmp_path: Path) -> None:
    y, ry, by = (np.full((n, n), v) for n, v in ((32, 0.5), (16, 0.3), (16, -0.2)))
    chroma = write_luminance_chroma_exr(tmp_path / "a.exr", y, ry, by)
    deep = write_deep_exr(tmp_path / "b.exr", [(0.1, 0.5, 0.1, 1.0, 3.0)])
    grey = write_exr(tmp_path / "c.exr", {"Y": np.full((16, 16), 0.4, np.float32)})

    red, green, blue = still(made(chroma))[8, 8].astype(int)
    assert red > green > blue
    assert still(made(deep))[8, 8].argmax() == 1
    assert np.ptp(still(made(grey))[8, 8]) <= 1


@pytest.mark.parametrize(
    ("channels", "what"),
    [
        ({"Z": np.tile(np.linspace(1, 9, 64, dtype=np.float32), (64, 1))}, "Z (depth)"),
        ({"id": np.arange(64 * 64, dtype=np.uint32).reshape(64, 64)}, "id (id)"),
        ({"mask": np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))}, "mask (data)"),
    ],
)
def test_a_file_without_color_has_a_picture_that_says_what_it_is(
    tmp_path: Path, channels: dict[str, np.ndarray], what: str
) -> None:
    pictures = made(write_exr(tmp_path / "x.exr", channels))

    assert pictures.provenance.layer == what
    assert pictures.provenance.source_color_space == "data"
    assert pictures.thumbnail.view == "none (data)"
    assert pictures.warnings[0].startswith(f"shows {what}, which is not a color layer")
    assert np.ptp(still(pictures)) > 150


@pytest.mark.parametrize("channel", ["Z", "number"])
def test_where_there_is_no_depth_and_no_number_is_black_and_has_no_part_in_the_range(
    tmp_path: Path, channel: str
) -> None:
    values = np.tile(np.linspace(10, 50, 48, dtype=np.float32), (48, 1))
    holes = values.copy()
    holes[:, 24:32], holes[:, 32:40], holes[:, 40:] = np.nan, np.inf, 1e10
    with np.errstate(over="ignore"):
        half = holes.astype(np.float16)
    ends = "white to dark" if channel == "Z" else "black to white"
    for name, pixels, attributes, empty in (
        (
            "window",
            values,
            {"dataWindow": window(48, 48, 8, 8), "displayWindow": window(64, 64)},
            (slice(8), slice(64)),
        ),
        ("values", holes, {}, (slice(48), slice(26, 48))),
        ("half", half, {"compression": OpenEXR.PIZ_COMPRESSION}, (slice(48), slice(26, 48))),
    ):
        pictures = made(write_exr(tmp_path / f"{name}.exr", {channel: pixels}, **attributes))
        low, high = pictures.warnings[0].split(": ")[1].removesuffix(f" shown as {ends}").split(" to ")
        assert float(low) >= 10, name
        assert float(high) <= 50, name
        assert still(pictures)[empty].max() <= 8, name
        assert still(pictures)[20, 8:20].max() > 20, name


def test_near_is_bright_and_each_identifier_has_a_color_of_its_own(tmp_path: Path) -> None:
    depth = np.tile(np.linspace(1, 9, 64, dtype=np.float32), (64, 1))
    shown = still(made(write_exr(tmp_path / "z.exr", {"Z": depth})))[32].astype(int)
    assert np.ptp(shown, axis=1).max() <= 1, "grey"
    assert (np.diff(shown[:, 0]) <= 0).all()
    assert shown[0, 0] > 240

    identifiers = np.kron(np.array([[0, 7, 8, 4_000_000_000]], np.uint32), np.ones((64, 16), np.uint32))
    nothing, *others = patch_means(still(made(write_exr(tmp_path / "i.exr", {"id": identifiers}))), 4)
    assert nothing.max() <= 2, "what has no identifier is black"
    assert all(np.ptp(color) > 30 for color in others), others
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(others, 2)) > 20


def test_rgb_tagged_as_data_is_shown_as_it_is(tmp_path: Path) -> None:
    pictures = made(write_rgb(tmp_path / "x.exr", patches(COLORS), colorInteropID="data"))

    assert_patches(pictures, COLORS * 255, COLORS * 255)
    assert pictures.warnings == ("tagged as data (Raw): values from 0 to 1 are shown unchanged",)


def test_the_beauty_of_a_multi_part_file_is_shown_and_recorded(tmp_path: Path) -> None:
    colors = {"diffuse": (1, 0, 0), "beauty": (0, 0, 1)}
    parts = [
        OpenEXR.Part({"type": OpenEXR.scanlineimage}, rgb_channels(flat(64, 32, color)), name)
        for name, color in colors.items()
    ]
    OpenEXR.File(parts).write(str(tmp_path / "x.exr"))

    pictures = made(tmp_path / "x.exr")

    assert pictures.provenance.layer == "beauty"
    assert still(pictures)[16, 32].argmax() == 2


def test_the_frame_rate_of_the_file_is_the_rate_of_the_proxy(tmp_path: Path) -> None:
    path = write_rgb(tmp_path / "x.exr", patches(COLORS), framesPerSecond=Fraction(24000, 1001))

    pictures = made(path, proxy_seconds=1.0)

    assert (pictures.proxy.rate, pictures.proxy.duration) == (Fraction(24000, 1001), 1.001)
    assert pictures.warnings == ()


@pytest.mark.parametrize("stated", [Fraction(24_000_000), Fraction(1, 24_000), 1e9, 0.0, float("nan")])
def test_an_absurd_frame_rate_is_shown_at_24_and_said(tmp_path: Path, stated: Fraction | float) -> None:
    path = write_rgb(tmp_path / "x.exr", patches(COLORS), framesPerSecond=stated)

    pictures = made(path, proxy_seconds=1.0)

    assert (pictures.proxy.rate, pictures.proxy.duration) == (24, 1.0)
    assert [warning for warning in pictures.warnings if "24 is used" in warning]
    alone = render_picture(str(path), path.name, thumbnail=True, proxy=False, settings=picture_settings())
    assert alone.warnings == (), "a thumbnail has no rate"


def test_an_absurd_frame_rate_of_a_dpx_is_shown_at_24_and_said(tmp_path: Path) -> None:
    path = write_dpx(tmp_path / "x.dpx", patches(COLORS), transfer=2, rate=1e8)

    pictures = made(path, proxy_seconds=1.0)

    assert pictures.proxy.rate == 24
    assert [warning for warning in pictures.warnings if "100000000.0 is not between" in warning]


def test_the_result_is_reproducible_small_and_travels_between_processes(tmp_path: Path) -> None:
    path = write_rgb(tmp_path / "x.exr", patches(COLORS))
    first, second = made(path), made(path)

    assert (first.thumbnail, first.proxy, first.icon_webp) == (second.thumbnail, second.proxy, second.icon_webp)
    assert pickle.loads(pickle.dumps(first)) == first
    assert set(first.provenance.library_versions) >= {"OpenImageIO", "OpenColorIO", "OpenEXR", "av", "libavcodec"}
    assert "libx264" in first.proxy.encoder
    assert len(first.provenance.ocio_config_hash) >= 32


def test_the_file_rules_of_a_studio_config_come_before_the_default(tmp_path: Path) -> None:
    config = Ocio.Config.CreateFromFile(BUILT_IN_CONFIG)
    rules = config.getFileRules()
    rules.insertRule(0, "plates", "ARRI LogC3 (EI800)", "*plate*", "exr")
    config.setFileRules(rules)
    (tmp_path / "config.ocio").write_text(config.serialize())
    path = write_rgb(tmp_path / "plate.exr", patches(logc3(COLORS)))

    pictures = made(path, ocio_config_path=str(tmp_path / "config.ocio"))

    assert pictures.provenance.source_color_space == "ARRI LogC3 (EI800)"
    assert pictures.provenance.color_rule == "file rule of the OCIO config"


def test_a_truncated_file_makes_nothing(tmp_path: Path) -> None:
    path = write_rgb(tmp_path / "x.exr", np.random.default_rng(1).random((200, 200, 3)))
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(BadInputError, match=r"^x\.exr: truncated"):
        made(path)


@pytest.mark.parametrize(("highest", "bits"), [(1, 1), (255, 8), (40_000, 16), (2**32 - 1, 32)])
def test_rgb_stored_as_integers_is_shown_by_the_bits_that_it_needs(tmp_path: Path, highest: int, bits: int) -> None:
    whole = 2**bits - 1
    columns = np.array([[0, highest // 2, highest]], np.uint32).repeat(8, axis=0).repeat(8, axis=1)
    channels: dict[str, np.ndarray] = {
        "R": columns,
        "G": columns,
        "B": columns,
        "A": np.ones(columns.shape, np.float16),
    }
    path = write_exr(tmp_path / "x.exr", channels)

    pictures = made(path, still_view="un-tone-mapped")

    expected = srgb(np.array([0, highest // 2, highest]) / whole)
    assert np.abs(patch_means(still(pictures), 3) - expected[:, np.newaxis]).max() <= 2
    assert pictures.warnings == (f"the channels are integers: shown as {bits}-bit colors",)
