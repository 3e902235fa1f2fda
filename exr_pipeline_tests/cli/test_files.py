"""`inspect`, `thumbnail` and `proxy`: single files, local and in S3, good and bad."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import boto3
import cv2
import numpy as np
import OpenEXR
import pytest

from exr_pipeline_tests.cli.conftest import ODD_NAME, Cli, small_exr, write_shot
from exr_pipeline_tests.pictures.expected import viewed
from exr_pipeline_tests.pictures.files import write_rgb

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.embedded import EmbeddedS3
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.objects import ObjectStorage

SECTIONS = ["schema_version", "file", "parts", "channels", "attributes", "stats", "validation", "errors"]


@pytest.fixture
def shot(home: Path) -> Path:
    return write_shot(home / "shot")


@pytest.fixture
def stored(home: Path, bucket: Location, s3_settings: Settings, storage: ObjectStorage) -> Location:
    """An EXR in S3, its key as difficult as keys get."""
    location = bucket.child(f"shot 010/{ODD_NAME}")
    storage.write(location, small_exr(), content_type="application/octet-stream", tags={})
    return location


def test_inspect_shows_facts_channels_and_attributes(cli: Cli, shot: Path) -> None:
    said = cli("inspect", "shot/beauty.1001.exr")
    assert (said.status, said.err) == (0, "")
    for text in ("64x48", "HALF", "zip", "Linear Rec.709 (sRGB)", "pixelAspectRatio", "displayWindow", "part 0: "):
        assert text in said.out, text


def test_inspect_cuts_long_values_and_json_has_them_whole(cli: Cli, home: Path) -> None:
    (home / "long.exr").write_bytes(small_exr(notes="manifest " * 100))
    shown = cli("inspect", "long.exr").out
    assert "900 characters" in shown
    assert "manifest " * 100 not in shown
    assert "manifest " * 100 in cli("inspect", "--json", "long.exr").out


def test_inspect_prints_one_json_object_per_file_and_line_in_the_order_asked_for(cli: Cli, shot: Path) -> None:
    files = ["shot/beauty.1002.exr", "shot/beauty.1001.exr", f"shot/{ODD_NAME}"]
    said = cli("inspect", "--json", *files)
    assert (said.status, said.err) == (0, "")
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [one["file"]["path"].rpartition("/")[2] for one in found] == [Path(name).name for name in files]
    for one in found:
        assert list(one) == SECTIONS
        assert [channel["name"] for channel in one["channels"]] == ["B", "G", "R"]
        assert (one["parts"][0]["width"], one["parts"][0]["height"]) == (64, 48)
        assert one["errors"] == []
    assert said.out == cli("inspect", "--json", *files).out, "the same bytes give the same JSON"


def test_a_bad_file_among_good_ones_is_told_and_the_others_are_inspected(cli: Cli, shot: Path) -> None:
    said = cli("inspect", "--json", "shot/beauty.1001.exr", "shot/notes.1004.exr", "shot/beauty.1002.exr")
    assert said.status == 1
    assert said.error.endswith("notes.1004.exr: not an OpenEXR, DPX or Cineon file: it begins with 74 68 69 73")
    good, bad, other = (json.loads(line) for line in said.out.splitlines())
    assert list(bad) == SECTIONS
    assert len(bad["errors"]) == 1
    assert bad["parts"] == bad["channels"] == []
    assert good["errors"] == other["errors"] == []


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("nosuch.exr", "no such file"),
        ("shot", "not a regular file"),
        ("ftp://server/a.exr", "not an object storage URL"),
        ("s3:///a.exr", "has no bucket"),
    ],
)
def test_what_cannot_be_inspected_is_said_in_one_line(cli: Cli, shot: Path, file: str, problem: str) -> None:
    said = cli("inspect", file)
    assert (said.status, said.out) == (1, "")
    assert problem in said.error


def test_inspect_reads_from_s3(cli: Cli, stored: Location) -> None:
    said = cli("inspect", "--json", stored.url)
    assert (said.status, said.err) == (0, "")
    file = json.loads(said.out)["file"]
    assert (file["path"], file["bucket"], file["uri"]) == (stored.key, stored.bucket, stored.url)
    # As a person types it, without escapes.
    assert cli("inspect", "--json", f"s3://{stored.bucket}/{stored.key}").out == said.out


def test_a_thumbnail_is_written_and_its_making_told(cli: Cli, shot: Path, home: Path) -> None:
    said = cli("thumbnail", f"shot/{ODD_NAME}", "new folder/thumb [1].jpg")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("new folder/thumb [1].jpg: 64x48, ")
    assert "Linear Rec.709 (sRGB)" in said.out
    picture: Any = cv2.imdecode(np.fromfile(home / "new folder/thumb [1].jpg", np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture.shape == (48, 64, 3)
    assert picture[:, -8:, 0].mean() > picture[:, :8, 0].mean() + 50, "red grows to the right"
    assert picture[-8:, :, 1].mean() > picture[:8, :, 1].mean() + 50, "green grows downwards"


# How files of each format begin, by extension.
SIGNATURES = {
    ".jpg": rb"\xff\xd8\xff",
    ".JPEG": rb"\xff\xd8\xff",
    ".png": rb"\x89PNG\r\n",
    ".webp": rb"RIFF....WEBP",
    "": rb"\xff\xd8\xff",
}


@pytest.mark.parametrize("extension", SIGNATURES)
def test_a_thumbnail_is_of_the_format_that_its_name_says(cli: Cli, shot: Path, home: Path, extension: str) -> None:
    assert cli("thumbnail", "shot/beauty.1001.exr", "reference.png").status == 0
    said = cli("thumbnail", "shot/beauty.1001.exr", f"out{extension}")
    assert (said.status, said.err) == (0, "")
    data = (home / f"out{extension}").read_bytes()
    assert re.match(SIGNATURES[extension], data, re.DOTALL)
    pictures = [cv2.imread(str(home / name), cv2.IMREAD_UNCHANGED) for name in (f"out{extension}", "reference.png")]
    assert pictures[0].shape == (48, 64, 3)
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() < (0.01 if extension == ".png" else 3)


def test_a_thumbnail_in_a_bucket_has_the_content_type_of_its_format(
    cli: Cli, shot: Path, bucket: Location, storage: ObjectStorage
) -> None:
    for name, content_type in (("a.png", "image/png"), ("a.webp", "image/webp"), ("a.jpg", "image/jpeg")):
        assert cli("thumbnail", "shot/beauty.1001.exr", f"s3://{bucket.bucket}/{name}").status == 0
        assert storage._boto3_client("auto").head_object(Bucket=bucket.bucket, Key=name)["ContentType"] == content_type


def test_a_proxy_is_a_movie_of_the_picture(cli: Cli, shot: Path, home: Path) -> None:
    said = cli("proxy", "shot/beauty.1001.exr", "proxy.mp4")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("proxy.mp4: 64x48, 1 s, ")
    with av.open(str(home / "proxy.mp4")) as movie:
        assert movie.streams.video[0].codec_context.name == "h264"
        assert next(movie.decode(video=0)).to_ndarray(format="rgb24").shape == (48, 64, 3)


@pytest.mark.parametrize(("command", "content_type"), [("thumbnail", "image/jpeg"), ("proxy", "video/mp4")])
def test_pictures_go_from_s3_to_s3_with_type_and_tags(
    cli: Cli, stored: Location, bucket: Location, s3_server: EmbeddedS3, command: str, content_type: str
) -> None:
    target = bucket.child("made/out")
    assert cli(command, stored.url, target.url).status == 0
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        region_name="us-east-1",
    )
    head = client.head_object(Bucket=target.bucket, Key=target.key)
    tags = client.get_object_tagging(Bucket=target.bucket, Key=target.key)["TagSet"]
    client.close()
    assert head["ContentType"] == content_type
    assert {tag["Key"]: tag["Value"] for tag in tags}.items() >= {
        "media_type": command,
        "generator": "exr_pipeline",
    }.items()


@pytest.mark.parametrize("command", ["thumbnail", "proxy"])
@pytest.mark.parametrize("source", ["shot/notes.1004.exr", "nosuch.exr"])
def test_nothing_is_written_for_a_bad_file(cli: Cli, shot: Path, home: Path, command: str, source: str) -> None:
    said = cli(command, source, "out")
    assert (said.status, said.out) == (1, "")
    assert source.rpartition("/")[2] in said.error
    assert not (home / "out").exists()


@pytest.mark.parametrize(
    ("command", "target", "reason"),
    [
        (
            "thumbnail",
            "out.tif",
            "does not end in .jpg or .jpeg or .png or .webp, but a thumbnail is a JPEG, PNG or WebP",
        ),
        (
            "thumbnail",
            "out.mp4",
            "does not end in .jpg or .jpeg or .png or .webp, but a thumbnail is a JPEG, PNG or WebP",
        ),
        ("proxy", "out.mov", "'out.mov' does not end in .mp4, but a proxy is an MP4"),
        ("proxy", "out.m4a", "'out.m4a' does not end in .mp4, but a proxy is an MP4"),
        ("contact-sheet", "out.tif", "'out.tif' does not end in .jpg or .jpeg, but a contact sheet is a JPEG"),
        ("filmstrip", "out.webp", "'out.webp' does not end in .jpg or .jpeg, but a filmstrip is a JPEG"),
    ],
)
def test_a_name_that_promises_another_format_is_refused(
    cli: Cli, shot: Path, home: Path, command: str, target: str, reason: str
) -> None:
    said = cli(command, "shot/beauty.1001.exr", target)
    assert (said.status, said.out) == (1, "")
    assert reason in " ".join(said.error.split())
    assert not (home / target).exists()


@pytest.mark.parametrize("target", ["shot", "/dev/null/out.jpg", "ftp://server/out.jpg"])
def test_a_target_that_cannot_be_written_is_said_in_one_line(cli: Cli, shot: Path, target: str) -> None:
    said = cli("thumbnail", "shot/beauty.1001.exr", target)
    assert (said.status, said.out) == (1, "")
    assert target.removeprefix("/dev/null/") in said.error or "/dev/null" in said.error


@pytest.mark.parametrize(("command", "target"), [("thumbnail", "out.jpg"), ("proxy", "out.mp4")])
def test_size_space_display_view_look_layer_and_exactness_can_be_chosen(
    cli: Cli, home: Path, command: str, target: str
) -> None:
    values = np.full((96, 128), 0.4, np.float16)
    channels = dict.fromkeys(("R", "G", "B", "key.R", "key.G", "key.B"), values)
    OpenEXR.File({"type": OpenEXR.scanlineimage}, channels).write(str(home / "x.exr"))
    said = cli(
        *(command, "x.exr", target, "--size", "64", "--source-space", "ARRI LogC4", "--layer", "KEY", "--exact"),
        *("--display", "Display P3 - Display", "--view", "un-tone-mapped"),
        *("--look", "ACES 1.3 Reference Gamut Compression"),
    )
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"{target}: 64x48, ")
    assert "key from ARRI LogC4 (forced (ARRI LogC4)) to Display P3 - Display / Un-tone-mapped, look ACES" in said.out


def test_exactness_is_seen_in_a_picture_that_is_large_enough_for_the_baked_view(cli: Cli, home: Path) -> None:
    values = np.random.default_rng(4).uniform(0, 2, (9, 16, 3))
    write_rgb(home / "x.exr", np.kron(values, np.ones((64, 64, 1))), colorspace="ACEScg")
    error = {}
    for option in ((), ("--exact",)):
        assert cli("thumbnail", "x.exr", "out.jpg", "--size", "1024", *option).status == 0
        picture: Any = cv2.imdecode(np.fromfile(home / "out.jpg", np.uint8), cv2.IMREAD_COLOR_RGB)
        assert picture.shape == (576, 1024, 3)
        error[option] = np.abs(picture[32::64, 32::64] - viewed("ACEScg", "sRGB - Display", values))
    assert error["--exact",].max() <= 2, "JPEG rounds to 8-bit YCbCr"
    assert error["--exact",].mean() < error[()].mean() <= 1


def test_options_come_before_the_picture_rules(
    cli: Cli, shot: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "rules.yaml").write_text(f"rules: [{{prefix: {home}, view: un-tone-mapped, layer: nothing}}]")
    monkeypatch.setenv("EXR_PIPELINE_PICTURE_RULES", str(home / "rules.yaml"))
    by_rule = cli("thumbnail", "shot/beauty.1001.exr", "out.jpg")
    by_option = cli("thumbnail", "shot/beauty.1001.exr", "out.jpg", "--view", "ACES 1.0 - SDR Video", "--layer", "R")
    assert "to sRGB - Display / Un-tone-mapped" in by_rule.out
    assert "no layer, part, view or channel 'nothing'" in by_rule.err
    assert by_option.out.startswith("out.jpg: 64x48, R (data) from data")
    assert by_option.status == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--view", "Un-tone-maped"), "--view: the OCIO config"),
        (("--view", "Un-tone-maped"), "did you mean 'Un-tone-mapped'?"),
        (("--display", "sRGB"), "did you mean 'sRGB - Display'"),
        (("--look", "Gamut"), "did you mean 'ACES 1.3 Reference Gamut Compression'?"),
        (("--source-space", "ACESgc"), "did you mean 'ACEScg'"),
        (("--layer", "diffuse"), "no layer, part, view or channel 'diffuse'; the file has B, G, R"),
        (("--size", "4"), "--size"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_what_is_like_it(
    cli: Cli, shot: Path, home: Path, options: tuple[str, ...], message: str
) -> None:
    said = cli("thumbnail", "shot/beauty.1001.exr", "out.jpg", *options)
    assert said.status > 0
    assert message in said.error
    assert not (home / "out.jpg").exists()


def test_a_proxy_fits_into_a_width_and_a_height(cli: Cli, shot: Path) -> None:
    assert cli("proxy", "shot/beauty.1001.exr", "out.mp4", "--size", "60x24").out.startswith("out.mp4: 32x24, ")
    assert (
        "--size: '60by24' is not a valid size"
        in cli("proxy", "shot/beauty.1001.exr", "out.mp4", "--size", "60by24").error
    )


def test_a_png_keeps_its_code_values(cli: Cli, home: Path) -> None:
    cv2.imwrite(str(home / "grey.png"), np.full((32, 48, 3), 128, np.uint8))
    said = cli("thumbnail", "grey.png", "out.jpg")
    assert said.out == "out.jpg: 48x32, RGB from sRGB - Display (default (integers: sRGB)) to sRGB - Display\n"
    assert np.abs(cv2.imread(str(home / "out.jpg")).astype(int) - 128).max() <= 1
