"""`exr-pipeline demo` as a newcomer runs it, and everything that it leaves: objects, tags, rows, pictures."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import boto3
import cv2
import numpy as np
import OpenImageIO
import PyOpenColorIO
import pytest
import simplejpeg
from botocore.config import Config

from exr_pipeline import __version__
from exr_pipeline.sample import ShowSummary
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables import TableStore, open_table_store
from exr_pipeline_tests.made_show import MadeShow, made_show

ROOT = Path(__file__).parents[2]
SHOW = Location("s3", "renders", "show/")
SEQUENCES = (
    ("shot_010/beauty", "shot_010_beauty.@@@@"),
    ("shot_010/comp", "shot_010_comp_v002.@@@@"),
    ("shot_020/beauty", "shot_020_beauty.@@@@"),
    ("shot_020/mattes", "shot_020_mattes.@@@@"),
    ("shot_020/plates", "plate.@@@@.dpx"),
    ("shot_030/plates", "A042C007_240517_R1ZQ.@@@@"),
)


@dataclass
class Demo:
    """What the demonstration left, with its server running again."""

    folder: Path
    output: str
    storage: ObjectStorage
    tables: TableStore
    server: EmbeddedS3
    made: MadeShow

    @property
    def show(self) -> ShowSummary:
        return self.made.summary


def run_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("S3_", "EXR_", "DAGSTER"))}
    return subprocess.run(
        [sys.executable, "-m", "exr_pipeline.cli", "demo"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("clone")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    finished = run_demo(folder)
    assert finished.returncode == 0, finished.stderr
    made = made_show(tmp_path_factory)
    with EmbeddedS3(folder / ".state" / "store") as server:
        settings = Settings(
            _env_file=None,
            s3_endpoint=server.endpoint,
            s3_access_key=server.access_key,
            s3_secret_key=server.secret_key,
            state_dir=folder / ".state",
        )
        yield Demo(folder, finished.stdout, ObjectStorage(settings), open_table_store(settings), server, made)


def outputs(key: str) -> tuple[str, str]:
    folder, _, name = key.rpartition("/")
    stem = name.removesuffix(".exr")
    return f"{folder}/.proxies/{stem}_thumb.jpg", f"{folder}/.proxies/{stem}_proxy.mp4"


def test_the_summary_names_every_count_and_every_trouble(demo: Demo) -> None:
    ready = [file for file in demo.show.files if file.state == "ready"]
    assert f"│ {len(demo.show.files)} " in demo.output
    assert f"│ {len(ready)} " in demo.output
    for trouble in demo.show.troubles:
        if trouble.kind in {"truncated", "not_an_exr", "black_frame", "nan_and_inf"}:
            assert trouble.key in demo.output
    missing = demo.show.trouble("missing_frame")
    frame = missing.key.rpartition(".")[0].rpartition(".")[2]
    assert f"frames {frame} to {frame}" in demo.output
    assert "make ui" in demo.output


def test_a_second_demonstration_finds_nothing_to_do(demo: Demo) -> None:
    counts = demo.tables.sql("SELECT sum(inspection_count) AS n FROM files").to_pylist()
    # The server is ours for now; an ingest of the same source is what the second demonstration does.
    environment = os.environ | demo.server.environment()
    again = subprocess.run(
        [sys.executable, "-m", "exr_pipeline.cli", "ingest", SHOW.url],
        cwd=demo.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert f"Nothing to do: all {len(demo.show.files)} files are " in again.stdout
    assert demo.tables.sql("SELECT sum(inspection_count) AS n FROM files").to_pylist() == counts


def test_the_bucket_holds_two_objects_for_each_ready_file_three_for_each_sequence_and_nothing_else(demo: Demo) -> None:
    found = {info.location.key.removeprefix("show/") for info in demo.storage.iter_objects(SHOW)}
    sources = {file.key for file in demo.show.files}
    made = {output for file in demo.show.files if file.state == "ready" for output in outputs(file.key)}
    of_sequences = found - sources - made - {".sample.json"}
    assert made <= found
    assert of_sequences == {
        f"{folder}/.proxies/{name}_{ending}"
        for folder, name in SEQUENCES
        for ending in ("sequence.mp4", "contact_sheet.jpg", "filmstrip.jpg")
    }


def test_another_process_writes_the_same_show_to_the_byte(demo: Demo) -> None:
    for file in demo.show.files:
        _, data = demo.storage.read(SHOW.child(file.key))
        assert data == Path(demo.made.path(file.key)).read_bytes(), file.key


def test_every_output_says_what_it_is(demo: Demo) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=demo.server.endpoint,
        aws_access_key_id=demo.server.access_key,
        aws_secret_access_key=demo.server.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    for file in demo.show.files:
        if file.state != "ready":
            continue
        for key, content_type, media_type in zip(
            outputs(file.key), ("image/jpeg", "video/mp4"), ("thumbnail", "proxy"), strict=True
        ):
            head = client.head_object(Bucket="renders", Key=f"show/{key}")
            assert head["ContentType"] == content_type
            tags = client.get_object_tagging(Bucket="renders", Key=f"show/{key}")["TagSet"]
            assert {tag["Key"]: tag["Value"] for tag in tags} == {
                "media_type": media_type,
                "generator": "exr_pipeline",
                "version": __version__,
            }
    client.close()


def test_the_tables_hold_every_file_part_and_channel_as_they_were_written(demo: Demo) -> None:
    files = {row["file_path"]: row for row in demo.tables.read("files").to_pylist()}
    assert {path: row["state"] for path, row in files.items()} == {
        f"show/{file.key}": file.state for file in demo.show.files
    }
    parts: dict[str, list[dict[str, object]]] = {}
    for row in sorted(demo.tables.read("parts").to_pylist(), key=lambda row: row["part_index"]):
        parts.setdefault(row["file_path"], []).append(row)
    channels: dict[tuple[str, int], dict[str, str]] = {}
    for row in demo.tables.read("channels").to_pylist():
        channels.setdefault((row["file_path"], row["part_index"]), {})[row["channel_name"]] = row["channel_type"]
    for file in demo.show.files:
        path = f"show/{file.key}"
        if file.state != "ready":
            assert path not in parts
            continue
        assert files[path]["format"] == file.format
        assert len(parts[path]) == files[path]["multipart_count"] == len(file.parts)
        for index, (row, expected) in enumerate(zip(parts[path], file.parts, strict=True)):
            assert (row["width"], row["height"]) == (expected.width, expected.height), path
            assert (row["display_width"], row["display_height"]) == (expected.display_width, expected.display_height)
            assert (row["data_x_offset"], row["data_y_offset"]) == (expected.x, expected.y)
            assert (row["is_tiled"], row["is_deep"]) == (expected.tiled, expected.deep)
            if file.format == "exr":
                assert row["compression"] == expected.compression
                assert channels[path, index] == expected.channels


def test_outputs_join_their_files_and_state_where_the_color_came_from(demo: Demo) -> None:
    rows = demo.tables.sql(
        "SELECT o.*, f.state FROM latest_proxy_outputs o JOIN latest_files f USING (file_id)"
    ).to_pylist()
    assert len(rows) == sum(file.state == "ready" for file in demo.show.files)
    by_key = {row["s3_key"].removeprefix("show/"): row for row in rows}
    sizes = {info.location.key: info.size for info in demo.storage.iter_objects(SHOW)}
    for file in demo.show.files:
        if file.state != "ready":
            continue
        row = by_key[file.key]
        assert row["thumbnail_s3_key"] == f"show/{outputs(file.key)[0]}"
        assert row["thumbnail_size_bytes"] == sizes[row["thumbnail_s3_key"]]
        assert row["proxy_size_bytes"] == sizes[row["proxy_s3_key"]]
        assert row["ocio_config_hash"]
        assert json.loads(row["library_versions"])["OpenColorIO"]
        if file.color_space and file.color_stated_by and file.format == "exr":
            assert row["source_colorspace"] == file.color_space, file.key
    black = demo.show.trouble("black_frame").key
    assert {key for key, row in by_key.items() if row["is_black"]} == {black}
    not_finite = demo.show.trouble("nan_and_inf").key
    assert {key for key, row in by_key.items() if row["nan_pixels"] or row["inf_pixels"]} == {not_finite}


def srgb_to_bt1886(codes: np.ndarray) -> np.ndarray:
    """The code values that show on a Rec.1886 display what these show on an sRGB one."""
    values = codes / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear ** (1 / 2.4) * 255


def first_frame(data: bytes) -> tuple[np.ndarray, "av.video.stream.VideoStream"]:
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        return next(container.decode(stream)).to_ndarray(format="rgb24"), stream


@cache
def exact_display(color_space: str) -> "PyOpenColorIO.CPUProcessor":
    config = PyOpenColorIO.Config.CreateFromFile("ocio://studio-config-v2.2.0_aces-v1.3_ocio-v2.4")
    transform = PyOpenColorIO.DisplayViewTransform(
        src=color_space, display="sRGB - Display", view="ACES 1.0 - SDR Video"
    )
    return config.getProcessor(transform).getDefaultCPUProcessor()


def expected_thumbnail(path: Path, color_space: str, size: tuple[int, int]) -> np.ndarray:
    """The picture by other means: OpenImageIO's pixels, OCIO's exact processor, no LUT, no code of ours."""
    buffer = OpenImageIO.ImageBuf(str(path))
    full = buffer.spec()
    names = list(full.channelnames)
    whole: Any = buffer.get_pixels(OpenImageIO.FLOAT)
    pixels = whole[:, :, [names.index(name) for name in "RGB"]]
    canvas = np.zeros((full.full_height, full.full_width, 3), np.float32)
    x, y = full.x - full.full_x, full.y - full.full_y
    left, top = max(x, 0), max(y, 0)
    part = pixels[top - y : top - y + full.full_height - top, left - x : left - x + full.full_width - left]
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
    small = np.ascontiguousarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA))
    exact_display(color_space).applyRGB(small)
    return np.clip(small, 0, 1) * 255


def test_each_thumbnail_and_proxy_shows_its_source(demo: Demo, tmp_path: Path) -> None:
    compared = 0
    for file in demo.show.files:
        if file.state != "ready":
            continue
        thumbnail_key, proxy_key = outputs(file.key)
        thumbnail = simplejpeg.decode_jpeg(demo.storage.read(SHOW.child(thumbnail_key))[1]).astype(np.float32)
        height, width = thumbnail.shape[:2]
        assert max(width, height) <= 256
        first, stream = first_frame(demo.storage.read(SHOW.child(proxy_key))[1])
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width % 2, stream.height % 2) == (0, 0)
        assert stream.width <= 1920
        assert stream.height <= 1080
        # The proxy shows what the thumbnail shows, for the display that it is made for.
        shown = cv2.resize(first, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        part = file.parts[0]
        is_data = not file.color_space
        wanted = thumbnail if is_data else srgb_to_bt1886(thumbnail)
        assert np.abs(shown - wanted).mean() < 6, file.key
        if file.kind != "black_frame" and file.key != demo.show.trouble("black_frame").key:
            assert thumbnail.std() > 3, f"{file.key} shows nothing"
        plain = file.format == "exr" and {"R", "G", "B"} <= set(part.channels) and not part.deep
        square = abs(width / height - part.display_width / part.display_height) < 0.02
        finite = file.key != demo.show.trouble("nan_and_inf").key
        opaque = "A" not in part.channels
        if plain and square and finite and opaque and not is_data and file.color_stated_by:
            path = tmp_path / "source.exr"
            path.write_bytes(demo.storage.read(SHOW.child(file.key))[1])
            difference = np.abs(expected_thumbnail(path, file.color_space, (width, height)) - thumbnail)
            assert difference.mean() < 2.5, (file.key, difference.mean())
            compared += 1
    assert compared >= 20
