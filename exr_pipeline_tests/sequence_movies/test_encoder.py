"""Every preset's file as ffprobe and ffmpeg see it, joined of two segments."""

import os
import subprocess
import sys
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.pictures.still import Size
from exr_pipeline.sequence_movies.encoder import MovieWriter, join
from exr_pipeline.sequence_movies.presets import load_presets
from exr_pipeline_tests.sequence_movies.ffprobe import probed, raw_frames

SIZE = Size(256, 144)
RATE = Fraction(30000, 1001)
EXPECTED = {
    "review": ("h264", "avc1", "yuv420p"),
    "h265": ("hevc", "hvc1", "yuv420p"),
    "prores": ("prores", "apcn", "yuv422p10le"),
    "prores-4444": ("prores", "ap4h", "yuva444p12le"),  # the depth that the decoder gives it
    "dnxhr": ("dnxhd", "AVdh", "yuv422p"),
    "vp9": ("vp9", None, "yuv420p"),
    "vp9-alpha": ("vp9", None, "yuv420p"),  # alpha is a stream of its own beside it
    "av1": ("av1", "av01", "yuv420p10le"),
}


def grey(level: int) -> np.ndarray:
    return np.full((SIZE.height, SIZE.width, 3), level, np.uint8)


def joined(folder: Path, name: str, counts: tuple[int, ...] = (5, 4)) -> Path:
    """Frames of grey 10, 30, 50 … 230, 10, 30 …, their alpha 255, 235, 215 …"""
    preset = load_presets()[name]
    levels, parts = cycle(range(10, 250, 20)), []
    for index, count in enumerate(counts):
        path = folder / f"{index}{preset.extension}"
        with MovieWriter(path, preset, size=SIZE, rate=RATE) as writer:
            for level in islice(levels, count):
                alpha = np.full((SIZE.height, SIZE.width), 265 - level, np.uint8)
                writer.write(grey(level), alpha if preset.has_alpha else None)
        parts.append((path, count))
    target = folder / f"joined{preset.extension}"
    join(parts, target, preset, rate=RATE, time_code="01:00:59;28")
    return target


@pytest.mark.parametrize("name", EXPECTED)
def test_each_preset_makes_what_it_says(tmp_path: Path, name: str) -> None:
    path = joined(tmp_path, name)
    found = probed(path)
    codec, tag, pixel_format = EXPECTED[name]
    assert (found["codec_name"], found["pix_fmt"]) == (codec, pixel_format)
    assert tag in {None, found["codec_tag_string"]}
    assert (found["width"], found["height"], int(found["nb_read_frames"])) == (*SIZE, 9)
    assert Fraction(found["r_frame_rate"]) == Fraction(found["avg_frame_rate"]) == RATE
    assert {found["color_space"], found["color_primaries"], found["color_transfer"]} == {"bt709"}
    assert found["color_range"] == "tv"
    assert found["tags"]["timecode"] == "01:00:59;28"
    assert found["time_code_track"] == (path.suffix != ".webm")
    if path.suffix in {".mp4", ".mov"}:
        data = path.read_bytes()
        assert 0 < data.index(b"moov") < data.index(b"mdat")
    decoder = ("-c:v", "libvpx-vp9") if name == "vp9-alpha" else ()
    frames = raw_frames(path, SIZE, "rgba" if "4444" in name or "alpha" in name else "rgb24", *decoder)
    levels = np.array([10 + 20 * index for index in range(9)])
    assert np.abs(frames[:, 72, 128, :3].astype(int) - levels[:, np.newaxis]).max() <= 3
    if frames.shape[3] == 4:
        assert np.abs(frames[:, 72, 128, 3].astype(int) - (265 - levels)).max() <= 3


def test_every_joined_frame_has_its_exact_time(tmp_path: Path) -> None:
    import av

    container: Any
    with av.open(str(joined(tmp_path, "review", (3, 1, 5)))) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert times == [index / RATE for index in range(9)]


@pytest.mark.parametrize("name", EXPECTED)
def test_joining_copies_packets_and_every_group_of_frames_stands_alone(tmp_path: Path, name: str) -> None:
    # Longer than the presets' groups, so that there is more than one in a segment.
    counts = (60, 4)
    target = joined(tmp_path, name, counts)
    assert [data for *_, data in packets(target)] == [
        data for index in range(len(counts)) for *_, data in packets(tmp_path / f"{index}{target.suffix}")
    ]
    shown, keys, _ = zip(*packets(target), strict=True)
    assert sorted(shown) == list(range(64))
    starts = [index for index, is_key in enumerate(keys) if is_key]
    assert {0, 60} <= {shown[start] for start in starts}
    for start in starts:
        # Nothing behind a key frame, as it is stored, is shown before it: so nothing there needs an earlier frame.
        assert min(shown[start:]) == shown[start]


def packets(path: Path) -> list[tuple[int, bool, bytes]]:
    """Of each packet, as stored: which frame it shows, whether it is a key frame, and its bytes."""
    import av

    container: Any
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (round(packet.pts * packet.time_base * RATE), packet.is_keyframe, bytes(packet))
            for packet in container.demux(stream)
            if packet.size
        ]


def test_saturated_colors_come_back_within_the_codecs_error(tmp_path: Path) -> None:
    colors = np.array([[200, 30, 30], [30, 180, 30], [30, 30, 220], [200, 200, 20]], np.uint8)
    picture = np.repeat(np.repeat(colors[np.newaxis], SIZE.height, axis=0), SIZE.width // 4, axis=1)
    path = tmp_path / "a.mp4"
    with MovieWriter(path, load_presets()["review"], size=SIZE, rate=RATE) as writer:
        writer.write(picture)
    # With BT.601's matrix, green and blue would be off by 15 and more.
    shown = raw_frames(path, SIZE, "rgb24", "-colorspace", "bt709")[0, 72, 32::64]
    assert np.abs(shown.astype(int) - colors).max() <= 4


def test_a_size_or_option_that_the_encoder_refuses_is_a_wrong_preset(tmp_path: Path) -> None:
    presets = load_presets()
    with pytest.raises(MisconfiguredError, match=r"^EXR_PIPELINE_MOVIE_PRESETS: .*'dnxhr': dnxhd cannot encode 64x36"):
        MovieWriter(tmp_path / "a.mov", presets["dnxhr"], size=Size(64, 36), rate=RATE)
    wrong = presets["review"].model_copy(update={"options": {"crff": "3"}})
    with pytest.raises(
        MisconfiguredError, match=r"^EXR_PIPELINE_MOVIE_PRESETS: .*'review': libx264 has no option crff"
    ):
        MovieWriter(tmp_path / "a.mp4", wrong, size=SIZE, rate=RATE)


SCHEDULING = """
import os, sys
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from exr_pipeline.sequence_movies.encoder import MovieWriter
from exr_pipeline.sequence_movies.presets import load_presets
from exr_pipeline.pictures.still import Size

before = {int(thread) for thread in os.listdir("/proc/self/task")}
with MovieWriter(Path(sys.argv[1]), load_presets()["av1"], size=Size(256, 144), rate=Fraction(24)) as writer:
    writer.write(np.zeros((144, 256, 3), np.uint8))
    begun = {int(thread) for thread in os.listdir("/proc/self/task")} - before
    print(len(begun), {os.sched_getscheduler(thread) for thread in {0, *begun}} == {os.SCHED_OTHER})
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make threads real-time ones")
def test_an_encoder_that_asks_for_real_time_does_not_get_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCHEDULING, str(tmp_path / "a.mp4")]
    begun, is_ordinary = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(begun) > 1
    assert is_ordinary == "True"
