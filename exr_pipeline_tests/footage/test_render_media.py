import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg

from exr_pipeline.errors import BadInputError
from exr_pipeline.footage.probe import probe_media
from exr_pipeline.footage.render import render_media
from exr_pipeline.footage.transcode import kept_time_code, longest_proxy
from exr_pipeline.footage.waveform import Peaks, drawn
from exr_pipeline.pictures.still import Size
from exr_pipeline_tests.footage.made import BT709, decoded, ffprobe, movie, number_of, numbered, sound
from exr_pipeline_tests.pictures.files import picture_settings


def rendered(path: Path, *, thumbnail: bool = True, **settings: Any) -> Any:
    """The pictures of a file, and the path of its proxy."""
    target = path.with_name(f"{path.name}.proxy.mp4")
    media = probe_media(str(path), path.name)
    made = render_media(
        str(path),
        path.name,
        media,
        thumbnail=thumbnail,
        proxy_path=str(target),
        settings=picture_settings(**settings),
    )
    return made, target


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), Fraction(60000, 1001)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_the_proxy_has_each_frame_at_its_place_at_the_exact_rate(tmp_path: Path, name: str, rate: Fraction) -> None:
    source = movie(tmp_path / name, rate=rate, frames=30, tags=BT709, time_code="01:00:10:00")
    made, target = rendered(source, thumbnail=False)
    assert [number_of(frame) for frame in decoded(target)] == list(range(30))
    stated = ffprobe(target, "-count_frames")
    video, audio = stated["streams"][:2]
    assert (video["codec_name"], video["pix_fmt"], video["nb_read_frames"]) == ("h264", "yuv420p", "30")
    assert Fraction(video["r_frame_rate"]) == Fraction(video["avg_frame_rate"]) == rate
    tags = [video[key] for key in ("color_primaries", "color_transfer", "color_space", "color_range")]
    assert tags == ["bt709", "bt709", "bt709", "tv"]
    assert (audio["codec_name"], audio["channel_layout"]) == ("aac", "stereo")
    assert float(audio["duration"]) == pytest.approx(30 / rate, abs=0.03)
    assert (made.proxy.rate, made.proxy.duration) == (rate, float(30 / rate))
    assert made.proxy.file_bytes == target.stat().st_size
    data = target.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "faststart"
    if name == "a.mp4":
        assert video["tags"]["timecode"] == "01:00:10:00"


def test_the_sound_of_the_proxy_is_in_time_with_its_pictures(tmp_path: Path) -> None:
    _, target = rendered(movie(tmp_path / "a.mov", audio="pcm_s16le", frames=36))
    with av.open(str(target)) as container:
        blocks = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    wave = np.concatenate(blocks)
    crossings = np.flatnonzero((wave[:-1] < 0) & (wave[1:] >= 0))
    assert np.median(np.diff(crossings)) == pytest.approx(48_000 / 440, abs=1), "the tone, at its pitch"
    assert np.abs(wave[2000:20_000]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("tags", "pixel_format"),
    [(BT709, "yuv420p"), ((6, 6, 6, 1), "yuv420p"), ((1, 1, 1, 2), "yuv444p"), (None, "yuv420p")],
)
def test_colors_are_converted_from_the_tagged_matrix_and_range(
    tmp_path: Path, tags: tuple[int, int, int, int] | None, pixel_format: str
) -> None:
    path = tmp_path / "a.mp4"
    colors = [(200, 60, 40), (40, 180, 70), (50, 70, 210), (128, 128, 128)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 128, 64, pixel_format
        # An untagged movie of this size is taken for BT.601.
        matrix, limited = (tags or (2, 2, 6, 1))[2:]
        if tags is not None:
            context = stream.codec_context
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        picture = np.repeat(np.repeat(np.array([colors], np.uint8), 32, 1), 64, 0)
        for index in range(3):
            source = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = source.reformat(
                format=pixel_format, dst_colorspace=5 if matrix == 6 else 1, dst_color_range=limited, src_color_range=2
            )
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    made, target = rendered(path)
    still = simplejpeg.decode_jpeg(made.thumbnail.data)
    with av.open(str(target)) as container:
        frame = next(container.decode(video=0))
        planes = frame.to_ndarray(format="yuv444p").astype(float)
    for index, color in enumerate(colors):
        x = 16 + 32 * index
        assert np.abs(still[32, x].astype(int) - color).max() <= 5, "the thumbnail"
        red, green, blue = np.array(color) / 255
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        expected = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748)
        assert np.abs(planes[:, 32, x] - expected).max() <= 4, "the proxy, in the matrix that it is tagged with"


def test_wide_color_and_high_dynamic_range_stay_as_they_are_tagged(tmp_path: Path) -> None:
    source = movie(tmp_path / "a.mkv", tags=(9, 16, 9, 1), frames=3, audio=None)
    made, target = rendered(source)
    video = ffprobe(target)["streams"][0]
    tags = [video[key] for key in ("color_primaries", "color_transfer", "color_space", "color_range")]
    assert tags == ["bt2020", "smpte2084", "bt2020nc", "tv"]
    assert made.proxy.color_space == made.thumbnail.color_space == "as tagged (bt2020/smpte2084)"
    assert [warning for warning in made.warnings if "high dynamic range" in warning]


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_a_picture_is_shown_upright_with_square_pixels(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    def marked(index: int, size: tuple[int, int]) -> Any:
        picture = np.zeros((size[1], size[0], 3), np.uint8)
        picture[: size[1] // 2, : size[0] // 2] = 230
        return picture

    source = movie(
        tmp_path / "a.mp4", rotation=rotation, aspect=Fraction(1, 2), size=(160, 40), pictures=marked, frames=3
    )
    made, target = rendered(source)
    stated = ffprobe(target)["streams"][0]
    size = (80, 40) if rotation == 180 else (40, 80)
    assert (stated["width"], stated["height"]) == size
    assert stated.get("sample_aspect_ratio", "1:1") == "1:1"
    assert "side_data_list" not in stated, "it is turned, not tagged to be turned"
    for picture in (decoded(target)[1], simplejpeg.decode_jpeg(made.thumbnail.data)):
        bright = picture[corner[0] * 4 - (corner[0] == 0) * -4, corner[1] * 4 - (corner[1] == 0) * -4]
        assert bright.min() > 180, "the marked corner is where the turn has put it"
        assert int((picture.max(axis=2) > 128).mean() * 100) in range(20, 30)


def test_a_proxy_fits_its_box_and_is_not_enlarged(tmp_path: Path) -> None:
    source = movie(tmp_path / "a.mp4", size=(322, 182), frames=2, audio=None)
    assert (rendered(source)[0].proxy.width, rendered(source)[0].proxy.height) == (322, 182)
    made, _ = rendered(source, proxy_width=100, proxy_height=100)
    assert (made.proxy.width, made.proxy.height) == (100, 56)


def test_the_filmstrip_shows_evenly_chosen_frames_in_order(tmp_path: Path) -> None:
    made, _ = rendered(movie(tmp_path / "a.mp4", frames=48, audio=None, size=(320, 180)))
    strip = simplejpeg.decode_jpeg(made.filmstrip.jpeg)
    assert strip.shape == (90, 24 * 160, 3) == (made.filmstrip.height, made.filmstrip.width, 3)
    numbers = [number_of(strip[:, x : x + 160]) for x in range(0, strip.shape[1], 160)]
    assert numbers == [2 * index + 1 for index in range(24)]


def test_frames_far_apart_are_reached_by_seeking_and_are_the_right_ones(tmp_path: Path) -> None:
    options = {"g": "24", "preset": "ultrafast"}
    path = movie(tmp_path / "a.mp4", frames=250, rate=Fraction(2), audio=None, options=options, size=(64, 48))
    made, _ = rendered(path)
    strip = simplejpeg.decode_jpeg(made.filmstrip.jpeg)
    width = strip.shape[1] // 24
    numbers = [number_of(strip[:, x : x + width]) for x in range(0, strip.shape[1], width)]
    assert numbers == [int((2 * index + 1) * 250 / 48) for index in range(24)]


def test_the_thumbnail_is_a_frame_near_the_middle_that_is_not_black(tmp_path: Path) -> None:
    def mostly_black(index: int, size: tuple[int, int]) -> Any:
        return numbered(index, size) if index in {2, 20} else np.zeros((size[1], size[0], 3), np.uint8)

    made, _ = rendered(movie(tmp_path / "a.mp4", frames=24, audio=None, pictures=mostly_black))
    picture = simplejpeg.decode_jpeg(made.thumbnail.data)
    assert number_of(picture) == 20, "nearer to the middle than 2"
    assert not made.is_black
    dark, _ = rendered(
        movie(tmp_path / "b.mp4", audio=None, pictures=lambda _, size: np.zeros((size[1], size[0], 3), np.uint8))
    )
    assert dark.is_black


def test_a_frame_that_is_missing_in_time_is_held(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for index in [0, 1, 2, 3, 8, 9, 10]:
            frame = av.VideoFrame.from_ndarray(numbered(index, (160, 96)), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _, target = rendered(path)
    assert [number_of(frame) for frame in decoded(target)] == [0, 1, 2, 3, 3, 3, 3, 3, 8, 9, 10]


def test_a_sound_gets_its_waveform_and_a_proxy_without_pictures(tmp_path: Path) -> None:
    made, target = rendered(sound(tmp_path / "a.wav", "pcm_s24le", layout="mono", sample_rate=96_000))
    picture = simplejpeg.decode_jpeg(made.thumbnail.data)
    assert picture.shape == (144, 256, 3)
    lit = picture[:, :, 2] > 150
    assert lit[:, 128].mean() == pytest.approx(0.5, abs=0.06), "a tone at half of full scale fills half the height"
    assert made.filmstrip is None
    (audio,) = ffprobe(target)["streams"]
    assert (audio["codec_name"], audio["sample_rate"], audio["channels"]) == ("aac", "48000", 1)
    assert (made.proxy.width, made.proxy.duration) == (0, pytest.approx(1.001, abs=0.03))


def test_peaks_keep_their_places_however_long_the_sound() -> None:
    peaks = Peaks()
    for block in range(1000):
        peaks.add(np.full(1000, 0.9 if block >= 750 else 0.1, np.float32))
    columns = peaks.columns(100)
    assert columns[:74] == pytest.approx(0.1)
    assert columns[76:] == pytest.approx(0.9)
    assert drawn(Peaks(), Size(64, 32)).shape == (32, 64, 3)


def test_a_movie_with_damaged_frames_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    path = movie(tmp_path / "a.avi", video="mpeg4", audio=None, frames=48, rate=Fraction(24))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 600] = b"\xff" * 600
    path.write_bytes(data)
    made, target = rendered(path)
    assert 30 <= len(decoded(target)) <= 48
    assert made.thumbnail.width == 160


def test_a_movie_of_which_nothing_can_be_decoded_is_bad_input(tmp_path: Path) -> None:
    path = movie(tmp_path / "a.mov", video="prores_ks", pixel_format="yuv422p10le", audio=None, frames=3)
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 8, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    with pytest.raises(BadInputError, match=r"decoded|read"):
        rendered(path)


_MEASURE = """
import json, resource, sys
from exr_pipeline.footage.probe import probe_media
from exr_pipeline.footage.render import render_media
from exr_pipeline_tests.pictures.files import picture_settings
path = sys.argv[1]
options = {"thumbnail": True, "proxy_path": path + ".mp4", "settings": picture_settings()}
made = render_media(path, path, probe_media(path, path), **options)
print(json.dumps([made.proxy.duration, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def test_memory_does_not_grow_with_the_length_of_a_movie(tmp_path: Path) -> None:
    used = []
    for frames in (48, 480):
        path = movie(tmp_path / f"{frames}.mp4", frames=frames, rate=Fraction(48), options={"preset": "ultrafast"})
        command = [sys.executable, "-c", _MEASURE, str(path)]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
        used.append(json.loads(ended.stdout))
    assert [seconds for seconds, _ in used] == [1.0, 10.0]
    assert used[1][1] - used[0][1] < 20_000, "kilobytes"


def test_a_movie_whose_sound_comes_first_keeps_its_last_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        sound_stream: Any = container.add_stream("aac", rate=48_000, layout="stereo")
        stream: Any = container.add_stream("libx264", rate=24, options={"bf": "3"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 24_000), np.float32), format="fltp", layout="stereo")
        silence.sample_rate, silence.pts, silence.time_base = 48_000, 0, Fraction(1, 48_000)
        container.mux(sound_stream.encode(silence))
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(numbered(index, (160, 96)), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux([*sound_stream.encode(None), *stream.encode(None)])
    _, target = rendered(path)
    assert [number_of(frame) for frame in decoded(target)] == list(range(12))


@pytest.mark.parametrize(
    ("name", "stated", "shown", "warning"),
    [
        ("a.avi", Fraction(240), Fraction(24), "the frame rate 240/1 is not between 1/60 and 120: 24 is used"),
        ("a.mov", Fraction(2997, 125), Fraction(24000, 1001), "the frame rate 2997/125 is a rounded value"),
        ("a.mov", Fraction(2398, 100), Fraction(2398, 100), None),
    ],
)
def test_the_rate_of_a_movie_follows_the_rule_for_all_rates(
    tmp_path: Path, name: str, stated: Fraction, shown: Fraction, warning: str | None
) -> None:
    path = movie(tmp_path / name, video="mpeg4", audio=None, frames=10, rate=stated)
    made, target = rendered(path)
    assert made.proxy.rate == shown
    assert Fraction(ffprobe(target)["streams"][0]["r_frame_rate"]) == shown
    assert [text for text in made.warnings if warning and warning in text] == ([*made.warnings] if warning else [])


@pytest.mark.parametrize(
    ("rate", "stated", "kept", "warning"),
    [
        (Fraction(24), "01:00:00:23", "01:00:00:23", None),
        (Fraction(24), "01:00:00:24", None, "01:00:00:24 is not valid at 24"),
        (Fraction(24), "01:00:00;10", "01:00:00:10", "is drop-frame"),
        (Fraction(15), "01:00:00:14", "01:00:00:14", None),
        (Fraction(30000, 1001), "00:01:00;00", None, "00:01:00;00 is not valid"),
        (Fraction(24), "1 o'clock", None, "1 o'clock is not valid"),
        (Fraction(24), None, None, None),
    ],
)
def test_a_time_code_that_its_rate_lacks_is_said(
    rate: Fraction, stated: str | None, kept: str | None, warning: str | None
) -> None:
    found, said = kept_time_code(stated, rate)
    assert found == kept
    assert bool(said) == bool(warning)
    assert (warning or "") in said


def spread(path: Path, seconds: list[float]) -> Path:
    """A movie of a few small frames and bits of sound at these times."""
    with av.open(str(path), "w") as container:
        sound_stream: Any = container.add_stream("aac", rate=48_000, layout="mono")
        stream: Any = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index, second in enumerate(seconds):
            frame = av.VideoFrame.from_ndarray(numbered(index, (64, 48)), format="rgb24")
            frame.pts, frame.time_base = round(second * 24), Fraction(1, 24)
            container.mux(stream.encode(frame))
            block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = 48_000, round(second * 48_000), Fraction(1, 48_000)
            container.mux(sound_stream.encode(block))
        container.mux([*stream.encode(None), *sound_stream.encode(None)])
    return path


def test_times_of_years_do_not_make_a_proxy_of_years(tmp_path: Path) -> None:
    made, _ = rendered(spread(tmp_path / "a.mkv", [0, 5_000_000, 9_000_000]))
    assert made.proxy.duration < 1
    assert [text for text in made.warnings if "the timestamps jump" in text]


def test_a_small_file_is_given_no_more_frames_than_a_real_one_of_its_size(tmp_path: Path) -> None:
    path = spread(tmp_path / "a.mkv", [500.0 * index for index in range(9)])
    assert longest_proxy(path.stat().st_size) < 2000
    made, _ = rendered(path)
    assert made.proxy.duration == pytest.approx(longest_proxy(path.stat().st_size), abs=1)
    assert [text for text in made.warnings if "the limit for a file of this size" in text]
    assert longest_proxy(10 << 30) == 24 * 3600
