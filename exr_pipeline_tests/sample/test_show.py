import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import OpenImageIO
import pytest

from exr_pipeline.sample import ExpectedPart, ShowFile, shots, write_show
from exr_pipeline.sample.cryptomatte import object_id
from exr_pipeline_tests.made_show import MadeShow


def read(show: MadeShow, key: str) -> OpenEXR.File:
    return OpenEXR.File(show.path(key), separate_channels=True)


def read_header(show: MadeShow, key: str) -> list[dict[str, Any]]:
    return [part.header for part in OpenEXR.File(show.path(key), header_only=True).parts]


def header(show: MadeShow, key: str) -> dict[str, Any]:
    return read_header(show, key)[0]


def rgb(show: MadeShow, key: str) -> np.ndarray:
    channels = read(show, key).parts[0].channels
    return np.stack([channels[name].pixels.astype(np.float32) for name in "RGB"], axis=-1)


def exr_files(show: MadeShow) -> list[ShowFile]:
    return [file for file in show.summary.files if file.format == "exr"]


def test_the_summary_lists_exactly_the_files_that_were_put(show: MadeShow) -> None:
    on_disk = {str(p.relative_to(show.root)): p.stat().st_size for p in show.root.rglob("*") if p.is_file()}

    assert {file.key: file.size_bytes for file in show.summary.files} == on_disk
    assert show.summary.total_bytes < 100e6
    assert 130 <= len(on_disk) <= 180


def test_progress_counts_every_file_up_to_a_total_known_from_the_start(show: MadeShow) -> None:
    count = len(show.summary.files)

    assert show.progress == [(i, count, file.key) for i, file in enumerate(show.summary.files, 1)]


def test_an_error_of_put_ends_the_writing() -> None:
    seen = []

    def put(key: str, data: bytes) -> None:
        seen.append(key)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_show(put)
    assert len(seen) == 1


def test_headers_read_by_the_openexr_library_agree_with_the_expected_facts(show: MadeShow) -> None:
    for file in exr_files(show):
        found = []
        for part, expected in zip(read_header(show, file.key), file.parts, strict=True):
            low, high = part["dataWindow"]
            _, shown = part["displayWindow"]
            width, height, display_width, display_height, x, y = (
                int(v) for v in (*(high - low + 1), *(shown + 1), *low)
            )
            found.append(
                ExpectedPart(
                    dict(zip((channel.name for channel in part["channels"]), expected.channels.values(), strict=True)),
                    part["compression"].name.removesuffix("_COMPRESSION").lower().replace("no", "none"),
                    width,
                    height,
                    display_width,
                    display_height,
                    x,
                    y,
                    part.get("name", ""),
                    part["type"] == OpenEXR.tiledimage,
                    part["type"] == OpenEXR.deepscanline,
                )
            )
        assert tuple(found) == file.parts, file.key


def test_pixels_read_by_the_openexr_library_have_the_expected_types(show: MadeShow) -> None:
    names = {"float16": "HALF", "float32": "FLOAT", "uint32": "UINT"}
    for file in exr_files(show):
        if file.state == "ready" and (file.frame is None or file.frame % 12 == 5):
            for part, expected in zip(read(show, file.key).parts, file.parts, strict=True):
                for name, channel in part.channels.items():
                    pixels = channel.pixels
                    if expected.deep:
                        pixels = next(cell for cell in pixels.flat if cell is not None)
                    assert names[pixels.dtype.name] == expected.channels[name], (file.key, name)


def test_every_compression_and_sample_type_is_there(show: MadeShow) -> None:
    parts = [part for file in exr_files(show) for part in file.parts]

    assert {part.compression for part in parts} >= {
        *("none", "rle", "zips", "zip", "piz", "pxr24", "b44", "b44a", "dwaa", "dwab"),
    }
    assert {kind for part in parts for kind in part.channels.values()} == {"HALF", "FLOAT", "UINT"}


def test_sequences_hold_24_or_more_frames_at_23_976_with_running_timecode(show: MadeShow) -> None:
    keys = {file.key for file in show.summary.files}
    for sequence in show.summary.sequences:
        assert sequence.rate == Fraction(24000, 1001)
        assert len(sequence.frames) >= 24
        assert [f for f in range(sequence.first, sequence.last + 1) if sequence.key(f) in keys] == list(sequence.frames)
        assert all(show.summary.file(sequence.key(frame)).frame == frame for frame in sequence.frames)
        if sequence.suffix == ".exr":
            for frame in sequence.frames:
                attributes = header(show, sequence.key(frame))
                assert attributes["framesPerSecond"] == Fraction(24000, 1001)
                code = attributes["timeCode"]
                assert code.seconds * 24 + code.frame == frame - sequence.first


def test_consecutive_frames_show_motion(show: MadeShow) -> None:
    for sequence in (shots.BEAUTY, shots.COMP, shots.NIGHT, shots.CAMERA):
        frames = [f for f in sequence.frames if f not in {shots.TRUNCATED, shots.BLACK, shots.NOT_FINITE}]
        pictures = [rgb(show, sequence.key(frame)) for frame in frames]
        for earlier, later in pairwise(pictures):
            changed = np.abs(later - earlier).max(axis=-1) > 0.02
            assert 0.005 < changed.mean() < 0.9, sequence.prefix
    dpx: list[Any] = [
        OpenImageIO.ImageInput.open(show.path(shots.PLATES.key(f))).read_image("float") for f in shots.PLATES.frames
    ]
    assert all((np.abs(b - a) > 0.02).mean() > 0.005 for a, b in pairwise(dpx))


def test_motion_vectors_say_where_a_pixel_came_from(show: MadeShow) -> None:
    """The bouncing ball's centre of mass moves from frame to frame as its vectors say."""
    before, after = (read(show, shots.BEAUTY.key(f)).channels() for f in (1006, 1007))
    ball = 5
    centers = [np.argwhere(c["objectId"].pixels == ball).mean(axis=0) for c in (before, after)]
    inside = after["objectId"].pixels == ball
    moved = [after[f"motion.{axis}"].pixels[inside].astype(np.float64).mean() for axis in "YX"]

    assert np.linalg.norm(moved) > 3
    # What is seen of the ball is nearer than its centre, and so moves a little faster.
    np.testing.assert_allclose(centers[1] - centers[0], moved, rtol=0.05, atol=0.3)


def test_beauty_is_diffuse_plus_specular_on_spheres_and_has_highlights_above_one(show: MadeShow) -> None:
    channels = read(show, shots.BEAUTY.key(1005)).channels()
    clay = channels["objectId"].pixels == 2
    edges = np.pad(clay, 1)[:-2, 1:-1] & np.pad(clay, 1)[2:, 1:-1] & clay
    parts = channels["diffuse.R"].pixels.astype(np.float32) + channels["specular.R"].pixels.astype(np.float32)

    inner = edges & np.roll(edges, 3, 1) & np.roll(edges, -3, 1)
    assert inner.sum() > 1000
    np.testing.assert_allclose(channels["R"].pixels[inner].astype(np.float32), parts[inner], rtol=2e-3)
    assert channels["R"].pixels.max() > 20


def test_cryptomatte_ids_are_those_of_the_manifest_and_coverage_sums_to_the_object(show: MadeShow) -> None:
    file = read(show, shots.BEAUTY.key(1001))
    attributes = file.header()
    (name,) = [key for key in attributes if key.endswith("/manifest")]
    manifest = json.loads(attributes[name])
    channels = file.channels()
    ids = np.concatenate([channels[f"CryptoObject00.{c}"].pixels.view(np.uint32).ravel() for c in "RB"])
    coverage = np.concatenate([channels[f"CryptoObject00.{c}"].pixels.ravel() for c in "GA"])

    assert attributes[name.replace("manifest", "hash")] == "MurmurHash3_32"
    assert {f"{value:08x}" for value in np.unique(ids[coverage > 0])} == set(manifest.values())
    assert manifest["chrome"] == f"{object_id('chrome'):08x}"
    chrome = coverage[ids == object_id("chrome")].sum()
    assert chrome == pytest.approx((channels["objectId"].pixels == 3).sum(), rel=0.01)


def test_the_mip_mapped_file_halves_down_to_one_pixel(show: MadeShow) -> None:
    image: Any = OpenImageIO.ImageInput.open(show.path("library/tiled/sunset_mip_levels.exr"))
    sizes: list[tuple[int, int]] = []
    means = []
    while image.seek_subimage(0, len(sizes)):
        sizes.append((image.spec().width, image.spec().height))
        means.append(image.read_image(0, len(sizes) - 1, 0, 3, "float").mean())

    assert sizes[:3] == [(512, 288), (256, 144), (128, 72)]
    assert sizes[-1] == (1, 1)
    np.testing.assert_allclose(means, means[0], rtol=0.02)


def test_luminance_chroma_gives_back_the_picture(show: MadeShow) -> None:
    file = show.path("library/luminance/noon_y_ry_by.exr")
    channels = OpenEXR.File(file, separate_channels=True).channels()
    y, ry, by = (channels[name].pixels.astype(np.float32) for name in ("Y", "RY", "BY"))
    assert (channels["RY"].xSampling, channels["RY"].ySampling, ry.shape) == (2, 2, (90, 160))
    red, blue = ((1 + np.kron(c, np.ones((2, 2), np.float32))) * y for c in (ry, by))
    green = (y - 0.2126 * red - 0.0722 * blue) / 0.7152
    left = rgb(show, "library/stereo/noon_multiview.exr")

    # The left eye sees nearly the same.
    for found, expected in zip((red, green, blue), left.transpose(2, 0, 1), strict=True):
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.75
        assert found.mean() == pytest.approx(expected.mean(), rel=0.1)


def test_the_deep_file_has_pixels_with_several_samples_nearest_first(show: MadeShow) -> None:
    channels = read(show, "library/deep/spheres_deep.exr").channels()
    depths = [cell for cell in channels["Z"].pixels.flat if cell is not None]

    assert max(map(len, depths)) >= 3
    assert min(map(len, depths)) >= 1
    assert len(depths) < channels["Z"].pixels.size
    assert all((np.diff(cell) >= 0).all() for cell in depths)


def test_stereo_views_differ_and_are_named_both_ways(show: MadeShow) -> None:
    one, two = "library/stereo/noon_multiview.exr", "library/stereo/noon_two_parts.exr"
    channels = read(show, one).channels()
    parts = read(show, two).parts

    assert header(show, one)["multiView"] == ["left", "right"]
    assert [part.header["view"] for part in parts] == ["left", "right"]
    assert (channels["R"].pixels != channels["right.R"].pixels).mean() > 0.05
    np.testing.assert_array_equal(parts[1].channels["R"].pixels, channels["right.R"].pixels)


def test_windows_show_the_same_scene_at_the_same_place(show: MadeShow) -> None:
    whole = rgb(show, "library/compression/zip.exr")
    over = rgb(show, "library/windows/overscan.exr")
    crop = rgb(show, "library/windows/crop.exr")
    corner = rgb(show, "library/windows/crop_beyond_the_corner.exr")

    def near(a: np.ndarray, b: np.ndarray) -> None:
        # Pixels at a window's border know one neighbour less and may not be smoothed.
        np.testing.assert_allclose(a[1:-1, 1:-1], b[1:-1, 1:-1], rtol=1e-2, atol=1e-2)

    near(over[18:-18, 32:-32], whole)
    near(crop, whole[40:150, 70:220])
    near(corner[20:, 40:], whole[:100, :160])


def test_colors_are_stated_as_the_facts_say(show: MadeShow) -> None:
    for file in exr_files(show):
        attributes = header(show, file.key)
        tags = {"colorInteropID", "oiio:ColorSpace", "colorspace", "acesImageContainerFlag"} & attributes.keys()
        expected = file.color_stated_by
        if expected in {"", "chromaticities"}:
            assert not tags, file.key
        else:
            assert tags == {expected}, file.key
        if expected == "chromaticities":
            assert OpenEXR.chromaticitiesToColorInteropID(attributes["chromaticities"]) == "lin_rec709_scene", file.key

    stated = {file.color_stated_by for file in exr_files(show)}
    assert stated == {"", "chromaticities", "colorInteropID", "oiio:ColorSpace", "colorspace", "acesImageContainerFlag"}


def test_plates_are_10_bit_log_dpx_with_rate_and_timecode(show: MadeShow) -> None:
    for frame in shots.PLATES.frames:
        spec = OpenImageIO.ImageInput.open(show.path(shots.PLATES.key(frame))).spec()
        assert (spec.width, spec.height, spec.nchannels) == (416, 234, 3)
        assert spec.get_int_attribute("oiio:BitsPerSample") == 10
        assert spec.get_string_attribute("dpx:Transfer") == "Logarithmic"
        assert spec.get_float_attribute("dpx:FrameRate") == pytest.approx(24000 / 1001)
        assert spec.get_float_attribute("dpx:TemporalFrameRate") == pytest.approx(24000 / 1001)
        assert spec.get_string_attribute("dpx:TimeCode") == f"01:00:00:{frame - 101:02d}"


def test_every_trouble_has_its_kind_once_and_only_two_files_are_rejected(show: MadeShow) -> None:
    summary = show.summary

    assert sorted(trouble.kind for trouble in summary.troubles) == [
        *("black_frame", "difficult_key", "missing_frame", "nan_and_inf", "not_an_exr", "truncated"),
    ]
    assert set(summary.rejected) == {summary.trouble("truncated").key, summary.trouble("not_an_exr").key}
    for trouble in summary.troubles:
        if trouble.state == "absent":
            assert not (show.root / trouble.key).exists()
        else:
            assert summary.file(trouble.key).state == trouble.state


def test_the_truncated_file_has_a_whole_header_but_not_the_pixels_of_its_first_part(show: MadeShow) -> None:
    path = show.path(show.summary.trouble("truncated").key)

    assert len(OpenEXR.File(path, header_only=True).parts) == 3
    image = OpenImageIO.ImageInput.open(path)
    assert image is None or image.read_image(0, 0, 0, 4, "float") is None
    assert OpenImageIO.geterror() or image.geterror()


def test_the_black_frame_is_black_everywhere(show: MadeShow) -> None:
    assert not rgb(show, show.summary.trouble("black_frame").key).any()


def test_the_broken_pixels_are_nan_and_infinite_of_both_signs(show: MadeShow) -> None:
    pixels = rgb(show, show.summary.trouble("nan_and_inf").key)

    assert np.isnan(pixels).any()
    assert np.isposinf(pixels).any()
    assert np.isneginf(pixels).any()
    assert np.isfinite(pixels).mean() > 0.99


def test_all_other_pictures_are_finite_and_not_flat(show: MadeShow) -> None:
    troubled = {trouble.key for trouble in show.summary.troubles if trouble.kind != "difficult_key"}
    for file in exr_files(show):
        if file.key in troubled or "R" not in file.parts[0].channels or file.parts[0].deep:
            continue
        pixels = rgb(show, file.key)
        assert np.isfinite(pixels).all(), file.key
        assert pixels.std() > 0.02, file.key


def test_the_difficult_key_has_a_comma_a_space_a_hash_and_other_letters(show: MadeShow) -> None:
    key = show.summary.trouble("difficult_key").key

    assert all(sign in key for sign in ", #")
    assert not key.isascii()
    assert rgb(show, key).any()


def test_the_text_file_is_text(show: MadeShow) -> None:
    data = (show.root / show.summary.trouble("not_an_exr").key).read_bytes()

    assert data.decode("ascii").isprintable() or "\n" in data.decode("ascii")
    assert not data.startswith(b"\x76\x2f\x31\x01")


def test_the_page_about_the_show_counts_its_files_and_names_its_trouble(show: MadeShow) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sample-show.md").read_text()

    assert f"{len(show.summary.files)} files, about {round(show.summary.total_bytes, -7) // 10**6} MB" in page
    for folder in {"/".join(file.key.split("/")[:2]) for file in show.summary.files if file.key.count("/") > 1}:
        assert f"`{folder}" in page
    for trouble in show.summary.troubles:
        frame = trouble.key[-8:-4] if trouble.key.startswith("shot_") else ""
        assert trouble.key in page or f"`{trouble.key.rpartition('/')[0]}`, {frame}" in page
