"""Movies of sequences: every frame in its place, whatever is wrong with some of them or with the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.pictures.still import Size
from exr_pipeline.sequence_movies.burn_in import BurnInField, with_burn_in
from exr_pipeline.sequence_movies.presets import load_presets
from exr_pipeline.sequence_movies.sequence_movie import MovieProgress, MovieResult, make_movie
from exr_pipeline.sequences import resolve_sequence
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.pictures.files import write_deep_exr, write_exr, write_rgb
from exr_pipeline_tests.sequence_movies.ffprobe import probed, raw_frames
from exr_pipeline_tests.sequence_movies.frames import (
    HEIGHT,
    WIDTH,
    InlinePool,
    decoded,
    number_of,
    numbered,
    sequence_in,
    settings,
    write_frames,
)


def make(folder: Path, target: Path, **options: Any) -> MovieResult:
    """The movie of the only sequence in a folder."""
    changed = options.pop("settings", {})
    chosen = settings(target.parent, **changed)
    storage = ObjectStorage(chosen)
    options.setdefault("preset", load_presets()["review"])
    return make_movie(sequence_in(folder, storage), storage, target, settings=chosen, **options)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exr_pipeline.workers.pool.WorkerPool", InlinePool)


def left_over(target: Path) -> list[str]:
    """Files that an attempt left in the work folder."""
    return sorted(path.name for path in (target.parent / "state").rglob("*") if path.is_file() and path.name != "lock")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MovieResult, list[MovieProgress]]:
    """30 frames in three segments of two workers, at 24000/1001."""
    folder = tmp_path_factory.mktemp("whole")
    write_frames(folder / "frames", range(30), framesPerSecond=Fraction(24000, 1001))
    told: list[MovieProgress] = []
    target = folder / "movie.mp4"
    return target, make(folder / "frames", target, on_progress=told.append), told


def test_each_frame_is_in_its_place_across_segments(whole: tuple[Path, MovieResult, list[MovieProgress]]) -> None:
    path, result, _ = whole
    assert result.segments == 3
    assert [number_of(frame) for frame in decoded(path)] == list(range(30))


def test_ffprobe_agrees_with_what_was_said(whole: tuple[Path, MovieResult, list[MovieProgress]]) -> None:
    path, result, _ = whole
    found = probed(path)
    assert (found["width"], found["height"]) == (WIDTH, HEIGHT) == tuple(result.size)
    assert int(found["nb_read_frames"]) == result.frames == 30
    assert Fraction(found["r_frame_rate"]) == result.rate
    assert float(found["duration"]) == pytest.approx(float(result.duration), abs=1e-3)
    assert found["tags"]["timecode"] == result.time_code
    assert found["time_code_track"]
    assert (found["color_space"], found["color_range"]) == ("bt709", "tv")
    assert (result.rate, result.rate_rule) == (Fraction(24000, 1001), "framesPerSecond of the frames")


@pytest.mark.parametrize("place", [0, 11, 12, 17, 24, 29])
def test_seeking_finds_the_right_frame(whole: tuple[Path, MovieResult, list[MovieProgress]], place: int) -> None:
    import av

    path, result, _ = whole
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        moment = round(place / result.rate / stream.time_base)
        container.seek(moment, stream=stream)
        frame = next(frame for frame in container.decode(stream) if frame.pts is not None and frame.pts >= moment)
    assert number_of(frame.to_ndarray(format="rgb24")) == place


def test_progress_counts_up_to_all_frames(whole: tuple[Path, MovieResult, list[MovieProgress]]) -> None:
    _, _, told = whole
    done = [progress.done for progress in told]
    assert done == sorted(set(done))
    assert (done[0], done[-1], {progress.total for progress in told}) == (0, 30, {30})
    assert told[-1].seconds_left == 0


def test_nothing_but_the_movie_is_left(whole: tuple[Path, MovieResult, list[MovieProgress]]) -> None:
    path, _, _ = whole
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["frames", "movie.mp4", "state"]
    assert left_over(path) == []


def damaged(folder: Path) -> Path:
    """Frames 0 to 5, 3 missing and 4 truncated."""
    write_frames(folder, [0, 1, 2, 4, 5])
    path = folder / "shot.1005.exr"
    path.write_bytes(path.read_bytes()[:-200])
    return folder


def is_crossed(frame: np.ndarray) -> bool:
    """Whether a red line goes through the frame's left edge, above and below its middle."""
    red = frame[..., 0].astype(int) - frame[..., 1:].max(axis=2)
    return bool(red[:4, :6].max() > 50 and red[-4:, :6].max() > 50)


@pytest.mark.usefixtures("inline")
def test_missing_and_damaged_frames_are_held_with_a_mark(tmp_path: Path) -> None:
    result = make(damaged(tmp_path / "f"), tmp_path / "a.mov", missing="hold", preset=load_presets()["prores"])
    frames = decoded(tmp_path / "a.mov")
    assert [is_crossed(frame) for frame in frames] == [False, False, False, True, True, False]
    assert np.abs(frames[3][10:12].astype(int) - frames[2][10:12]).mean() < 12, "shows the frame before"
    assert set(result.not_shown) == {"1004", "1005"}
    assert result.not_shown["1004"] == "missing"
    assert any("truncated" in warning and "1005" in warning for warning in result.warnings)


@pytest.mark.usefixtures("inline")
def test_missing_and_damaged_frames_are_black_with_a_mark(tmp_path: Path) -> None:
    make(damaged(tmp_path / "f"), tmp_path / "a.mov", missing="black", preset=load_presets()["prores"])
    frames = decoded(tmp_path / "a.mov")
    assert [is_crossed(frame) for frame in frames] == [False, False, False, True, True, False]
    assert np.median(frames[3]) < 4


@pytest.mark.usefixtures("inline")
def test_a_missing_frame_is_an_error_if_that_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"1 frames are missing: 1004"):
        make(damaged(tmp_path / "f"), tmp_path / "a.mp4", missing="error")


@pytest.mark.usefixtures("inline")
def test_a_damaged_frame_is_an_error_that_names_its_file_if_that_is_wanted(tmp_path: Path) -> None:
    folder = damaged(tmp_path / "f")
    write_frames(folder, [3])
    with pytest.raises(BadInputError, match="truncated") as error:
        make(folder, tmp_path / "a.mp4", missing="error")
    assert error.value.name.endswith("shot.1005.exr")
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.usefixtures("inline")
def test_a_frame_is_held_over_the_join_of_two_segments(tmp_path: Path) -> None:
    write_frames(tmp_path / "f", [*range(12), 14, 15])
    make(tmp_path / "f", tmp_path / "a.mp4")
    assert [number_of(frame) for frame in decoded(tmp_path / "a.mp4")] == [*range(12), 11, 11, 14, 15]


@pytest.mark.usefixtures("inline")
def test_frames_before_the_first_good_one_are_black(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", range(3))
    (folder / "shot.1001.exr").write_text("not an image")
    result = make(folder, tmp_path / "a.mp4")
    frames = decoded(tmp_path / "a.mp4")
    assert is_crossed(frames[0])
    assert [number_of(frame) for frame in frames[1:]] == [1, 2]
    assert result.time_code == "00:00:41:17", "that of the first frame, shown or not"


@pytest.mark.usefixtures("inline")
def test_a_sequence_without_a_good_frame_is_bad_input(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", range(2))
    for path in folder.iterdir():
        path.write_text("not an image")
    with pytest.raises(BadInputError, match="no frame can be decoded"):
        make(folder, tmp_path / "a.mp4")


@pytest.mark.usefixtures("inline")
def test_frames_that_differ_are_fitted_shown_and_told(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", range(2))
    write_rgb(folder / "shot.1003.exr", numbered(2, WIDTH * 2, HEIGHT * 2))
    write_rgb(folder / "shot.1004.exr", np.full((HEIGHT, HEIGHT, 3), 0.5, np.float32))
    write_rgb(folder / "shot.1005.exr", np.full((1, 1, 3), 0.5, np.float32))
    write_deep_exr(folder / "shot.1006.exr", [(0.4, 0.4, 0.4, 1.0, 1.0)])
    write_rgb(folder / "shot.1007.exr", numbered(6), compression=OpenEXR.PIZ_COMPRESSION)
    write_rgb(folder / "shot.1008.exr", numbered(7), colorInteropID="lin_ap1_scene")
    channels = {"Z": np.linspace(1, 2, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)}
    OpenEXR.File({"type": OpenEXR.scanlineimage}, channels).write(str(folder / "shot.1009.exr"))
    result = make(folder, tmp_path / "a.mp4")
    frames = decoded(tmp_path / "a.mp4")
    assert {frame.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    assert [number_of(frame) for frame in (*frames[:3], *frames[6:8])] == [0, 1, 2, 6, 7]
    assert frames[3][:, :12].max() < 20, "a square is shown between black bars"
    assert frames[3][HEIGHT // 2, WIDTH // 2].min() > 60
    assert frames[4][HEIGHT // 2, WIDTH // 2].min() > 60, "a single pixel is enlarged"
    assert frames[5][HEIGHT // 2, WIDTH // 2].min() > 60, "deep samples are flattened"
    told = "\n".join(result.warnings)
    for expected in (
        "128x72 pixels instead of 64x36",
        "1x1 pixels instead of 64x36",
        "shows Z (depth) instead of RGB",
        "source color space ACEScg instead of Linear Rec.709 (sRGB)",
    ):
        assert expected in told
    assert result.not_shown == {}
    assert "PIZ" not in told.upper()


@pytest.mark.usefixtures("inline")
def test_the_time_code_of_the_frames_is_kept_with_its_dropped_numbers(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", range(3), framesPerSecond=Fraction(30000, 1001))
    for index, path in enumerate(sorted(folder.iterdir())):
        with_time_code(path, f"00:00:59;{27 + index}")
    result = make(folder, tmp_path / "a.mov", preset=load_presets()["prores"], burn_in=("timecode",))
    assert (result.time_code, result.time_code_rule) == ("00:00:59;27", "timeCode of the frames")
    assert (result.rate, result.rate_rule) == (Fraction(30000, 1001), "framesPerSecond of the frames")
    assert probed(tmp_path / "a.mov")["tags"]["timecode"] == "00:00:59;27"


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    ("stated", "text", "rate", "kept", "rule", "warning"),
    [
        (Fraction(2997, 125), "01:00:00:10", Fraction(24000, 1001), "01:00:00:10", "timeCode of the frames", "rounded"),
        (Fraction(2997, 100), "01:00:00;10", Fraction(30000, 1001), "01:00:00;10", "timeCode of the frames", "rounded"),
        (Fraction(24), "01:00:00:24", Fraction(24), "00:00:41:17", "frame number", "01:00:00:24 is not valid at 24"),
        (
            Fraction(30000, 1001),
            "00:01:00;00",
            Fraction(30000, 1001),
            "00:00:33:11",
            "frame number",
            "00:01:00;00 is not valid at 30000/1001",
        ),
        (Fraction(24), "01:00:00;10", Fraction(24), "01:00:00:10", "timeCode of the frames", "is drop-frame"),
        (Fraction(12), "01:00:00:10", Fraction(12), None, "none: no time code exists at 12", "01:00:00:10 is ignored"),
        (Fraction(24_000_000), "01:00:00:10", Fraction(24), "01:00:00:10", "timeCode of the frames", "24 is used"),
    ],
)
def test_a_rate_or_time_code_that_is_not_kept_as_stated_is_said(
    tmp_path: Path, stated: Fraction, text: str, rate: Fraction, kept: str | None, rule: str, warning: str
) -> None:
    folder = write_frames(tmp_path / "f", range(2), framesPerSecond=stated)
    with_time_code(folder / "shot.1001.exr", text)
    result = make(folder, tmp_path / "a.mp4")
    assert (result.rate, result.time_code) == (rate, kept)
    assert result.time_code_rule.startswith(rule)
    assert len(result.warnings) == 1
    assert warning in result.warnings[0]


def with_time_code(path: Path, text: str) -> None:
    """Write a frame again with a timeCode attribute, through the library."""
    hours, minutes, seconds, frame = (int(part) for part in text.replace(";", ":").split(":"))
    with OpenEXR.File(str(path)) as file:
        header, channels = dict(file.header()), file.channels()
        pixels = {name: channel.pixels for name, channel in channels.items()}
    flags = [";" in text, *[False] * 5]
    header["timeCode"] = OpenEXR.TimeCode(hours, minutes, seconds, frame, *flags, *[0] * 8)
    OpenEXR.File(header, pixels).write(str(path))


@pytest.mark.usefixtures("inline")
def test_a_rate_that_time_codes_do_not_know_has_none(tmp_path: Path) -> None:
    result = make(write_frames(tmp_path / "f", range(2)), tmp_path / "a.mp4", rate=Fraction(12))
    assert result.time_code is None
    assert (result.rate, result.rate_rule) == (Fraction(12), "chosen")
    assert not probed(tmp_path / "a.mp4")["time_code_track"]


@pytest.mark.usefixtures("inline")
def test_burn_in_writes_at_the_bottom_only_where_asked(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", range(2))
    prores = load_presets()["prores"]
    make(folder, tmp_path / "plain.mov", preset=prores)
    make(folder, tmp_path / "burnt.mov", preset=prores, burn_in=("name", "frame", "timecode"))
    plain, burnt = decoded(tmp_path / "plain.mov")[0].astype(int), decoded(tmp_path / "burnt.mov")[0].astype(int)
    assert np.abs(plain - burnt)[: HEIGHT // 2].max() < 12
    assert np.abs(plain - burnt)[HEIGHT * 2 // 3 :].max() > 100


@pytest.mark.usefixtures("inline")
def test_each_frame_is_burnt_in_with_its_own_name_number_and_time_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_frames(tmp_path / "f", range(14), framesPerSecond=Fraction(30000, 1001))
    with_time_code(folder / "shot.1001.exr", "00:00:59;20")
    (folder / "shot.1004.exr").unlink()
    burnt: list[dict[BurnInField, str]] = []

    def noted(rgb: np.ndarray, texts: dict[BurnInField, str]) -> np.ndarray:
        burnt.append(dict(texts))
        return with_burn_in(rgb, texts)

    monkeypatch.setattr("exr_pipeline.sequence_movies.segments.with_burn_in", noted)
    result = make(folder, tmp_path / "a.mp4", burn_in=("name", "frame", "timecode"))

    assert result.segments == 2
    numbers = [str(number) for number in range(1001, 1015)]
    assert [texts["frame"] for texts in burnt] == numbers
    names = [f"shot.{number}.exr" for number in numbers]
    assert [texts["name"] for texts in burnt] == [*names[:3], "shot.####.exr", *names[4:]]
    # The first two numbers of a minute are left out.
    codes = [*(f"00:00:59;{frame}" for frame in range(20, 30)), *(f"00:01:00;0{frame}" for frame in range(2, 6))]
    assert [texts["timecode"] for texts in burnt] == codes


@pytest.mark.usefixtures("inline")
def test_alpha_is_kept_where_the_codec_has_it_and_covers_what_is_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for number in (1001, 1002, 1004):
        color = np.full((HEIGHT, WIDTH), 0.2, np.float32)
        alpha = np.tile(np.linspace(0, 1, WIDTH, dtype=np.float32), (HEIGHT, 1))
        write_exr(
            folder / f"shot.{number}.exr", {"R": color * alpha, "G": color * alpha, "B": color * alpha, "A": alpha}
        )
    make(folder, tmp_path / "a.mov", preset=load_presets()["prores-4444"], missing="black", burn_in=("frame",))
    frames = raw_frames(tmp_path / "a.mov", (WIDTH, HEIGHT), "rgba")
    expected = np.linspace(0, 255, WIDTH)
    for index in (0, 1, 3):
        assert np.abs(frames[index][4, :, 3] - expected).max() < 3
        assert (frames[index][HEIGHT * 2 // 3 :, : WIDTH * 3 // 4, 3] > 250).any(), "where the number is drawn"
    make(folder, tmp_path / "b.mov", preset=load_presets()["prores"], missing="black")
    assert "yuva" not in probed(tmp_path / "b.mov")["pix_fmt"]


@pytest.mark.usefixtures("inline")
def test_the_size_is_bounded_by_the_box_and_has_even_sides(tmp_path: Path) -> None:
    result = make(write_frames(tmp_path / "f", range(2)), tmp_path / "a.mp4", box=Size(33, 33))
    assert tuple(result.size) == (32, 18)


KILLER = """
import os, signal, sys
from pathlib import Path
from exr_pipeline_tests.sequence_movies.test_sequence_movie import left_over, make

def stop(progress):
    if any(name.endswith(".json") for name in left_over(Path(sys.argv[2]))):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]), on_progress=stop, settings={"workers": 1})
"""


def test_a_killed_attempt_is_gone_on_with(tmp_path: Path) -> None:
    folder, target = write_frames(tmp_path / "f", range(30)), tmp_path / "a.mp4"
    ended = subprocess.run([sys.executable, "-c", KILLER, str(folder), str(target)], timeout=600, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not target.exists()
    kept = [name for name in left_over(target) if name.endswith(".json")]
    assert kept
    result = make(folder, target, settings={"workers": 1})
    assert result.reused_segments == len(kept)
    assert [number_of(frame) for frame in decoded(target)] == list(range(30))
    assert left_over(target) == []


@pytest.mark.usefixtures("inline")
def test_a_changed_frame_is_not_taken_from_an_earlier_attempt(tmp_path: Path) -> None:
    folder, target = write_frames(tmp_path / "f", range(14)), tmp_path / "a.mp4"

    def fail(progress: MovieProgress) -> None:
        if progress.done == progress.total:
            raise RetryableError("stopped by the test")

    with pytest.raises(RetryableError, match="stopped by the test"):
        make(folder, target, on_progress=fail, settings={"workers": 1})
    write_rgb(folder / "shot.1014.exr", numbered(77))
    result = make(folder, target, settings={"workers": 1})
    assert (result.segments, result.reused_segments) == (2, 1)
    assert [number_of(frame) for frame in decoded(target)] == [*range(13), 77]


@pytest.mark.usefixtures("inline")
def test_two_processes_do_not_make_the_same_movie(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", range(2))

    def again(_: MovieProgress) -> None:
        make(folder, tmp_path / "a.mp4")

    with pytest.raises(RetryableError, match="another process is rendering the same movie"):
        make(folder, tmp_path / "a.mp4", on_progress=again)


def test_a_frame_that_takes_too_much_processor_time_is_marked_and_the_others_are_shown(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", range(4))
    # Deep samples that are stored back to front: sorting them takes several times the limit.
    samples = [(0.1, 0.1, 0.1, 0.01, float(z)) for z in range(30, 0, -1)]
    write_deep_exr(folder / "shot.1003.exr", samples, size=256)
    result = make(folder, tmp_path / "a.mp4", settings={"worker_timeout_seconds": 2})
    assert list(result.not_shown) == ["1003"]
    assert "processor time" in result.not_shown["1003"]
    frames = decoded(tmp_path / "a.mp4")
    assert [number_of(frame) for frame in frames] == [0, 1, 1, 3]
    assert is_crossed(frames[2])


@pytest.mark.usefixtures("no_lasting_workers")
def test_a_worker_that_is_killed_costs_no_frame(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", range(40))
    killed: list[int] = []

    def kill(progress: MovieProgress) -> None:
        if not killed and progress.done:
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            os.kill(int(workers[-1]), signal.SIGKILL)
            killed.append(int(workers[-1]))
            time.sleep(0.1)

    result = make(folder, tmp_path / "a.mp4", on_progress=kill)
    assert killed
    assert result.not_shown == {}
    assert [number_of(frame) for frame in decoded(tmp_path / "a.mp4")] == list(range(40))


@pytest.mark.usefixtures("inline")
def test_frames_in_a_bucket_are_fetched_and_removed(
    storage: ObjectStorage, bucket: Location, s3_settings: Any, tmp_path: Path
) -> None:
    for path in sorted(write_frames(tmp_path / "f", range(6)).iterdir()):
        storage.write(bucket.child(f"x/{path.name}"), path.read_bytes(), content_type="image/x-exr", tags={})
    chosen = s3_settings.model_copy(update={"state_dir": tmp_path / "state", "workers": 1})
    found = resolve_sequence(bucket.child("x/shot.####.exr"), storage)
    target = tmp_path / "a.mp4"
    result = make_movie(found, storage, target, settings=chosen, preset=load_presets()["review"])
    assert [number_of(frame) for frame in decoded(target)] == list(range(6))
    assert result.not_shown == {}
    assert left_over(target) == []
    storage.write(bucket.child("x/shot.1002.exr"), b"changed", content_type="image/x-exr", tags={})
    with pytest.raises(RetryableError, match=r"shot\.1002\.exr: the file changed while the movie was rendered"):
        make_movie(found, storage, target, settings=chosen, preset=load_presets()["review"])


MEASURE = """
import resource, sys
from pathlib import Path
from exr_pipeline_tests.sequence_movies.test_sequence_movie import make

if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]), settings={"workers": 1, "movie_segment_frames": 120})
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    peaks = []
    for count in (12, 120):
        folder = tmp_path / f"f{count}"
        write_rgb(tmp_path / "frame.exr", numbered(count, 960, 540))
        folder.mkdir()
        for index in range(count):
            os.link(tmp_path / "frame.exr", folder / f"shot.{1001 + index}.exr")
        command = [sys.executable, "-c", MEASURE, str(folder), str(tmp_path / "a.mp4")]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=900, check=True).stdout
        peaks.append([int(kilobytes) / 1024 for kilobytes in said.split()])
    # A decoded frame is 1.5 MiB: 108 more of them would be 160 MiB.
    assert peaks[1][0] - peaks[0][0] < 40, peaks
    assert peaks[1][1] - peaks[0][1] < 20, peaks


def test_a_sequence_of_two_distant_frames_is_no_movie(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"give a frame range, such as shot\.1001-900000####\.exr"):
        make(write_frames(tmp_path / "f", [0, 898999]), tmp_path / "a.mp4")


@pytest.mark.usefixtures("inline")
def test_sub_frames_follow_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for place, name in enumerate(["1001", "1001.25", "1001.5", "1003"]):
        write_rgb(folder / f"shot.{name}.exr", numbered(place))
    make(folder, tmp_path / "a.mp4")
    assert [number_of(frame) for frame in decoded(tmp_path / "a.mp4")] == [0, 1, 2, 3]


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(1000), Fraction(1, 1000)])
def test_a_rate_out_of_bounds_is_misconfigured(tmp_path: Path, rate: Fraction) -> None:
    with pytest.raises(MisconfiguredError, match=r"^--fps: .* is not between 1/60 and 120"):
        make(write_frames(tmp_path / "f", range(2)), tmp_path / "a.mp4", rate=rate)
