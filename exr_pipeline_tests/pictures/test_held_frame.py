import io
import struct
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from exr_pipeline.pictures.held_frame import held_frame
from exr_pipeline_tests.sequence_movies.ffprobe import probed, program


def atoms(mp4: bytes) -> list[str]:
    names, position = [], 0
    while position < len(mp4):
        size, name = struct.unpack_from(">I4s", mp4, position)
        names.append(name.decode())
        position += size
    return names


def colors() -> np.ndarray:
    random = np.random.default_rng(2)
    return np.repeat(np.repeat(random.integers(0, 256, (3, 4, 3)), 32, 0), 32, 1).astype(np.uint8)


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(24000, 1001), Fraction(25), Fraction(60000, 1001)])
def test_the_duration_is_a_whole_number_of_frames_at_the_exact_rate(rate: Fraction) -> None:
    mp4, duration = held_frame(colors(), rate=rate, seconds=0.5)

    with av.open(io.BytesIO(mp4)) as container:
        stream = container.streams.video[0]
        frames: list[Any] = list(container.decode(stream))
        assert stream.duration is not None
        assert stream.time_base is not None
        assert stream.average_rate == rate
        assert stream.frames == len(frames) == round(rate / 2)
        assert stream.duration * stream.time_base == duration == len(frames) / rate
        assert [Fraction(frame.pts * frame.time_base) for frame in frames[:3]] == [n / rate for n in range(3)]


def test_a_movie_has_at_least_one_frame() -> None:
    assert held_frame(colors(), rate=Fraction(24), seconds=0.001)[1] == Fraction(1, 24)


def test_the_index_comes_before_the_frames() -> None:
    mp4, _ = held_frame(colors(), rate=Fraction(24), seconds=0.2)

    assert [name for name in atoms(mp4) if name in {"moov", "mdat"}] == ["moov", "mdat"]


def test_ffmpeg_finds_nothing_wrong_with_it_and_says_the_same_of_it(tmp_path: Path) -> None:
    path = tmp_path / "proxy.mp4"
    path.write_bytes(held_frame(colors(), rate=Fraction(24000, 1001), seconds=2)[0])

    said = probed(path)
    decoding = [program("ffmpeg"), "-v", "warning", "-i", str(path), "-f", "null", "-"]
    complaints = subprocess.run(decoding, capture_output=True, check=True, text=True, timeout=60).stderr

    assert (said["codec_name"], said["pix_fmt"], said["width"], said["height"]) == ("h264", "yuv420p", 128, 96)
    assert (said["nb_read_frames"], said["r_frame_rate"], said["avg_frame_rate"]) == ("48", *["24000/1001"] * 2)
    tags = [said[name] for name in ("color_primaries", "color_transfer", "color_space", "color_range")]
    assert tags == ["bt709", "bt709", "bt709", "tv"]
    assert complaints == ""


def test_the_stream_is_converted_to_and_tagged_as_bt709_limited_range() -> None:
    rgb = colors()

    with av.open(io.BytesIO(held_frame(rgb, rate=Fraction(24), seconds=0.2)[0])) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
    context = stream.codec_context
    assert (context.codec.name, context.pix_fmt) == ("h264", "yuv420p")
    tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
    assert [int(tag) for tag in tags] == [1, 1, 1, 1]
    for frame in (frames[0], frames[-1]):
        planes = [np.frombuffer(bytes(p), np.uint8).reshape(-1, p.line_size)[:, : p.width] for p in frame.planes]
        for row in range(3):
            for column in range(4):
                red, green, blue = rgb[row * 32 + 16, column * 32 + 16] / 255
                luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
                expected = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748)
                full, half = (row * 32 + 16, column * 32 + 16), (row * 16 + 8, column * 16 + 8)
                found = (planes[0][full], planes[1][half], planes[2][half])
                assert np.abs(np.array(found, float) - expected).max() <= 2.5


def test_the_same_picture_gives_the_same_bytes() -> None:
    assert held_frame(colors(), rate=Fraction(24), seconds=0.2) == held_frame(colors(), rate=Fraction(24), seconds=0.2)


@pytest.mark.parametrize("size", [(2, 2), (2, 1080), (1920, 2)])
def test_the_smallest_sizes_can_be_encoded(size: tuple[int, int]) -> None:
    rgb = np.full((size[1], size[0], 3), 90, np.uint8)

    with av.open(io.BytesIO(held_frame(rgb, rate=Fraction(24), seconds=0.1)[0])) as container:
        frame = next(container.decode(video=0))

    assert (frame.width, frame.height) == size
