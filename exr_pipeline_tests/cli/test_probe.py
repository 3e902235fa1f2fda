"""`probe`, and `thumbnail` and `proxy` of movies and sounds, on local files and in a bucket."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg

from exr_pipeline.sample.writers import ExrPart, exr_bytes, rgb_channels
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.cli.conftest import Cli, small_exr
from exr_pipeline_tests.footage.made import decoded, ffprobe, movie, sound


@pytest.fixture
def cut(home: Path) -> Path:
    return movie(home / "cut.mov", video="prores_ks", pixel_format="yuv422p10le", audio="pcm_s16le", frames=6)


def test_probe_prints_one_json_object_per_file(cli: Cli, cut: Path, home: Path) -> None:
    sound(home / "mix.wav")
    result = cli("probe", "--json", "cut.mov", "mix.wav")
    assert result.status == 0
    first, second = map(json.loads, result.out.splitlines())
    assert first["file"]["size_bytes"] == cut.stat().st_size
    assert [stream["codec"] for stream in first["streams"]] == ["prores", "pcm_s16le"]
    assert (first["format"], second["format"]) == ("mov", "wav")
    assert first["streams"][0]["frame_count"] == 6


@pytest.mark.usefixtures("cut")
def test_probe_prints_tables_for_people(cli: Cli) -> None:
    out = cli("probe", "cut.mov").out
    for text in ("prores HQ", "160x96 yuv422p10le", "24000/1001", "stereo s16"):
        assert text in out


@pytest.mark.usefixtures("cut")
def test_a_bad_file_among_good_ones_is_one_line_and_a_status(cli: Cli, home: Path) -> None:
    (home / "bad.mp4").write_text("no movie")
    (home / "a.exr").write_bytes(small_exr())
    result = cli("probe", "--json", "bad.mp4", "cut.mov", "a.exr")
    assert result.status == 1
    assert len(result.out.splitlines()) == 1
    errors = [line for line in result.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 2
    assert "bad.mp4" in errors[0]
    assert "exr-pipeline inspect a.exr" in errors[1]
    assert "exr-pipeline probe cut.mov" in cli("inspect", "cut.mov").error


def test_a_still_is_probed_as_inspect_shows_renders(cli: Cli, home: Path) -> None:
    cv2.imwrite(str(home / "a.png"), np.zeros((36, 64, 3), np.uint8))
    facts = json.loads(cli("probe", "--json", "a.png").out)
    assert (facts["parts"][0]["width"], [channel["name"] for channel in facts["channels"]]) == (64, ["R", "G", "B"])
    assert "64x36" in cli("probe", "a.png").out


@pytest.mark.usefixtures("cut")
def test_thumbnail_and_proxy_of_a_movie_and_a_sound(cli: Cli, home: Path) -> None:
    assert "160x96" in cli("thumbnail", "cut.mov", "cut.jpg").out
    assert simplejpeg.decode_jpeg((home / "cut.jpg").read_bytes()).shape == (96, 160, 3)
    assert "160x96, 0.250 s" in cli("proxy", "cut.mov", "cut.mp4").out
    assert len(decoded(home / "cut.mp4")) == 6
    sound(home / "mix.wav")
    assert cli("thumbnail", "mix.wav", "mix.jpg").status == 0
    for source in ("cut.mov", "mix.wav"):
        assert cli("thumbnail", source, "still.png").status == 0
        assert (home / "still.png").read_bytes().startswith(b"\x89PNG")
    assert cli("proxy", "mix.wav", "mix.m4a").status == 0
    assert cli("proxy", "mix.wav", "mix.mp4").status == 0
    assert [stream["codec_name"] for stream in ffprobe(home / "mix.mp4")["streams"]] == ["aac"]


def test_movies_in_a_bucket_are_probed_and_rendered_there(
    cli: Cli,
    cut: Path,
    bucket: Location,
    s3_server: EmbeddedS3,
    monkeypatch: pytest.MonkeyPatch,
    storage: ObjectStorage,
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    url = bucket.child("shot/cut.mov").url
    storage.write(bucket.child("shot/cut.mov"), cut, content_type="video/quicktime", tags={})
    assert json.loads(cli("probe", "--json", url).out)["file"]["uri"] == url
    assert cli("proxy", url, bucket.child("out/cut.mp4").url).status == 0
    info, data = storage.read(bucket.child("out/cut.mp4"))
    assert data[4:8] == b"ftyp"
    assert info.size > 1000


@pytest.mark.usefixtures("cut")
def test_thumbnail_proxy_and_probe_decode_nothing_in_the_process_of_the_command(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "a.exr").write_bytes(small_exr())
    # Workers are new interpreters, which do not know of this.
    for opener in ("av.open", "OpenEXR.File", "OpenImageIO.ImageInput.open", "OpenImageIO.ImageBuf"):
        monkeypatch.setattr(opener, lambda *_, name=opener, **__: pytest.fail(f"{name} in the command's process"))
    for command in (("probe", "cut.mov"), ("proxy", "cut.mov", "out.mp4"), ("thumbnail", "a.exr", "out.jpg")):
        assert cli(*command).status == 0


def test_pictures_and_proxies_of_commands_have_the_limits_of_workers(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "a.exr").write_bytes(exr_bytes([ExrPart(rgb_channels(np.ones((1080, 1920, 3), np.float32)))]))
    # A processor's time is counted in ticks of up to 10 ms. A movie may use more the longer it is.
    monkeypatch.setenv("EXR_PIPELINE_WORKER_TIMEOUT_SECONDS", "0.001")
    for command in (("proxy", "a.exr", "out.mp4"), ("thumbnail", "a.exr", "out.jpg")):
        result = cli(*command)
        assert (result.status, result.out) == (1, "")
        assert "processing took more than 0.001 s of processor time" in result.error
    assert not list(home.glob("out.*"))


def test_damage_ends_a_command_with_one_line(cli: Cli, home: Path) -> None:
    data = movie(home / "a.mp4", audio=None, frames=2).read_bytes()
    (home / "a.mp4").write_bytes(data.replace(b"avc1", b"\xffvc1"))
    for command in (("probe", "a.mp4"), ("thumbnail", "a.mp4", "out.jpg")):
        result = cli(*command)
        assert (result.status, result.out) == (1, "")
        assert result.error.endswith("a.mp4: stream 0 has an unknown codec")


def test_a_name_of_a_color_space_that_is_not_text_is_no_reason_against_a_file(cli: Cli, home: Path) -> None:
    data = small_exr(1.0, **{"oiio:ColorSpace": "AR____"})
    (home / "a.exr").write_bytes(data.replace(b"AR____", b"AR\xff\xff\xff\xff"))
    result = cli("thumbnail", "a.exr", "a.jpg")
    assert result.status == 0, result.err
