"""`movie`, `contact-sheet` and `filmstrip`, from a folder and from a bucket."""

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg

from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.cli.conftest import Cli
from exr_pipeline_tests.sequence_movies.frames import InlinePool, decoded, number_of, write_frames


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exr_pipeline.workers.pool.WorkerPool", InlinePool)


def test_a_pattern_becomes_a_movie(cli: Cli, tmp_path: Path) -> None:
    write_frames(tmp_path / "f", [0, 1, 3])
    said = cli("movie", f"{tmp_path}/f/shot.%04d.exr", "made.mov", "--preset", "prores", "--fps", "23.976")
    assert said.status == 0, said.err
    assert "made.mov: 4 frames, 1 of them not shown, 64x36, 24000/1001 frames/s" in said.out
    assert "Warning: frame 1003 is not shown: missing\n" in said.err
    assert re.search(r"encoding frames: 4/4.* [0-9.]+ frames/s", said.err)
    assert [number_of(frame) for frame in decoded(Path("made.mov"))] == [0, 1, 1, 3]


def test_a_preset_of_the_user_and_a_rate_as_a_fraction_are_taken(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text(
        "tiny: {codec: libx264, container: mkv, pixel_format: yuv444p, size: 32x32, quality: {crf: 30}}"
    )
    monkeypatch.setenv("EXR_PIPELINE_MOVIE_PRESETS", str(tmp_path / "mine.yaml"))
    write_frames(tmp_path / "f", range(3))
    said = cli("movie", str(tmp_path / "f"), "made.mkv", "--preset", "tiny", "--fps", "30000/1001")
    assert said.status == 0, said.err
    assert "made.mkv: 3 frames, 32x18, 30000/1001 frames/s" in said.out
    with av.open("made.mkv") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.pix_fmt, stream.width, stream.height) == ("yuv444p", 32, 18)
        frames: list[Any] = list(container.decode(video=0))
        times = [frame.pts * frame.time_base for frame in frames]
    # Matroska counts in milliseconds.
    assert [round(time * 1000) for time in times] == [0, 33, 67]


def test_folders_become_sheets_and_strips(cli: Cli, tmp_path: Path) -> None:
    write_frames(tmp_path / "f", range(3))
    said = cli("contact-sheet", str(tmp_path / "f"), "sheet.jpg")
    assert "sheet.jpg: 140x84, 2x2 frames of 64x36" in said.out
    said = cli("filmstrip", f"{tmp_path}/f/shot.", "strip.jpg", "--view", "un-tone-mapped")
    assert "3x1 frames of 64x36" in said.out
    assert "Un-tone-mapped" in said.out
    assert Path("strip.jpg").read_bytes()[:2] == b"\xff\xd8"
    write_frames(tmp_path / "g", [0, 2])
    said = cli("contact-sheet", str(tmp_path / "g"), "gap.jpg")
    assert said.status == 0
    assert "Warning: frame 1002 is not shown: missing\n" in said.err
    write_frames(tmp_path / "h", range(2), colorspace="made up")
    said = cli("contact-sheet", str(tmp_path / "h"), "unknown.jpg")
    assert said.status == 0
    assert "'made up'" in said.err
    assert "(frames 1001, 1002)" in said.err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ("movie", "f", "a.mp4", "--missing", "error"),
            "1 frames are missing: 1003; with `hold` or `black` the movie is rendered all the same",
        ),
        (("movie", "f", "a.mp4", "--missing", "guess"), "--missing: 'guess' is not a policy"),
        (("movie", "f", "a.mp4", "--fps", "0"), "--fps: '0' is not a frame rate"),
        (("movie", "f", "a.mp4", "--fps", "24/0"), "--fps: '24/0' is not a frame rate"),
        (("movie", "f", "a.mp4", "--burn-in", "all,date"), "--burn-in: 'all' is not a burn-in text"),
        (("movie", "f", "a.mp4", "--size", "big"), "--size: 'big' is not a valid size"),
        (("movie", "f", "a.mp4", "--preset", "best"), "unknown preset 'best'"),
        (("movie", "f", "a.mp4", "--preset", "prores"), "does not end in .mov"),
        (("movie", "f", "a.mp4", "--view", "nice"), "called 'nice'"),
        (("movie", "g.####.exr", "a.mp4"), "no frames of a sequence found"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(cli: Cli, home: Path, arguments: tuple[str, ...], error: str) -> None:
    write_frames(home / "f", [0, 1, 3])
    said = cli(*arguments)
    assert said.status == 1
    assert error in said.error
    assert not Path("a.mp4").exists()


def test_a_sequence_in_a_bucket_becomes_a_movie_a_sheet_and_a_strip_there(
    cli: Cli, s3_server: EmbeddedS3, bucket: Location, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    for path in sorted(write_frames(Path("f"), range(3)).iterdir()):
        storage.write(bucket.child(f"x/{path.name}"), path.read_bytes(), content_type="image/x-exr", tags={})
    said = cli("movie", f"s3://{bucket.bucket}/x/shot.%04d.exr", f"s3://{bucket.bucket}/movie.mp4")
    assert said.status == 0, said.err
    Path("movie.mp4").write_bytes(storage.read(bucket.child("movie.mp4"))[1])
    assert [number_of(frame) for frame in decoded(Path("movie.mp4"))] == [0, 1, 2]
    for command in ("contact-sheet", "filmstrip"):
        said = cli(command, f"s3://{bucket.bucket}/x", f"s3://{bucket.bucket}/{command}.jpg")
        assert said.status == 0, said.err
        picture = simplejpeg.decode_jpeg(storage.read(bucket.child(f"{command}.jpg"))[1])
        assert f"{picture.shape[1]}x{picture.shape[0]}, " in said.out
        if command == "filmstrip":
            assert [number_of(frame) for frame in np.split(picture, 3, axis=1)] == [0, 1, 2]
