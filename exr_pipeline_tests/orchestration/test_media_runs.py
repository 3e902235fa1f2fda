"""Runs over movies, sounds and stills beside renders: statuses, tables, objects."""

import io
import tempfile
from pathlib import Path
from typing import Any

import av
import dagster as dg
import numpy as np
import pytest

from exr_pipeline.orchestration.assets.specs import FILE_ASSETS
from exr_pipeline.orchestration.instance.run_now import ingest_source
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.footage.made import movie, sound
from exr_pipeline_tests.orchestration.conftest import Workshop
from exr_pipeline_tests.pictures.files import flat, write_dpx
from exr_pipeline_tests.renders import render

ASSETS = [key.path[-1] for key in FILE_ASSETS]


def png(width: int = 64, height: int = 36) -> bytes:
    import cv2

    ramp = np.repeat(np.linspace(0, 255, width, dtype=np.uint8)[None, :, None], height, 0).repeat(3, 2)
    return bytes(cv2.imencode(".png", ramp)[1].tobytes())


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        whole = movie(Path(folder) / "a.mp4", frames=24, time_code="01:00:00:00").read_bytes()
        return {
            "shot/a.exr": render(),
            "shot/a.mp4": whole,
            "shot/b.wav": sound(Path(folder) / "b.wav").read_bytes(),
            "shot/broken.mp4": whole[: len(whole) // 2],
            "shot/c.dpx": write_dpx(Path(folder) / "c.dpx", flat(64, 36, (0.5, 0.3, 0.1)), transfer=3).read_bytes(),
            "shot/d.png": png(),
        }


def test_movies_sounds_and_stills_go_through_the_same_assets_as_renders(
    workshop: Workshop, files: dict[str, bytes]
) -> None:
    keys = workshop.put(files)
    by_name = dict(zip(files, keys, strict=True))
    result = workshop.run_range(keys)
    assert not result.success
    bad = {by_name["shot/broken.mp4"]}
    for asset in ASSETS:
        expected = {"failed": bad, "in progress": set(), "materialized": set(keys) - bad}
        assert workshop.statuses(asset) == expected, asset

    tables = workshop.pipeline.tables
    rows = {row["file_path"]: row for row in tables.read("files").to_pylist()}
    assert {key: (row["state"], row["format"]) for key, row in rows.items()} == {
        "shot/a.exr": ("ready", "exr"),
        "shot/a.mp4": ("ready", "mp4"),
        "shot/b.wav": ("ready", "wav"),
        "shot/broken.mp4": ("rejected", None),
        "shot/c.dpx": ("ready", "dpx"),
        "shot/d.png": ("ready", "png"),
    }
    assert "not a readable movie" in rows["shot/broken.mp4"]["reason"]
    streams = sorted(
        (row["file_path"], row["stream_index"], row["stream_type"], row["codec"])
        for row in tables.read("media_streams").to_pylist()
    )
    assert streams == [
        ("shot/a.mp4", 0, "video", "h264"),
        ("shot/a.mp4", 1, "audio", "aac"),
        ("shot/a.mp4", 2, "timecode", None),
        ("shot/b.wav", 0, "audio", "pcm_s16le"),
    ]
    assert {row["file_path"] for row in tables.read("parts").to_pylist()} == {"shot/a.exr", "shot/c.dpx", "shot/d.png"}
    names = [row["channel_name"] for row in tables.read("channels").to_pylist() if row["file_path"] == "shot/d.png"]
    assert sorted(names) == ["B", "G", "R"]
    outputs = {row["s3_key"]: row for row in tables.read("proxy_outputs").to_pylist()}
    assert set(outputs) == set(files) - {"shot/broken.mp4"}
    assert outputs["shot/a.mp4"]["filmstrip_s3_key"] == "shot/.proxies/a.mp4_filmstrip.jpg"
    assert outputs["shot/a.exr"]["filmstrip_s3_key"] is None

    folder = "shot/.proxies"
    stems = ("a", "a.mp4", "b.wav", "c.dpx", "d.png")
    made = {f"{folder}/{stem}_{kind}" for stem in stems for kind in ("thumb.jpg", "proxy.mp4")}
    assert workshop.objects() == {*files, *made, f"{folder}/a.mp4_filmstrip.jpg"}
    sizes = {info.location.key: info.size for info in workshop.pipeline.storage.iter_objects(workshop.bucket)}
    for row in outputs.values():
        for kind in ("thumbnail", "proxy", "filmstrip"):
            assert row[f"{kind}_size_bytes"] == (sizes[row[f"{kind}_s3_key"]] if row[f"{kind}_s3_key"] else None)
    location = workshop.bucket.child("shot/.proxies/a.mp4_proxy.mp4")
    with av.open(io.BytesIO(workshop.pipeline.storage.read(location)[1])) as container:
        assert len(list(container.decode(video=0))) == 24, "the whole movie"

    shown: dict[str, Any] = {
        asset: workshop.materializations(asset)[by_name["shot/a.mp4"]][-1].metadata for asset in ASSETS
    }
    assert shown["exr_header"]["streams"].value == "video h264, audio aac, timecode"
    assert shown["exr_header"]["frame rate"].value == "24000/1001"
    assert shown["exr_header"]["duration"].value == pytest.approx(1.001, abs=0.05)
    assert "](/media/thumbnail/" in shown["thumbnail"]["filmstrip"].value
    assert shown["proxy_mp4"]["duration"].value == pytest.approx(1.001)
    assert shown["channel_fingerprint"]["channels"].value == 0


def test_headers_of_movies_alone_need_workers_but_make_no_media(workshop: Workshop, files: dict[str, bytes]) -> None:
    keys = workshop.put({"a.mp4": files["shot/a.mp4"], "b.exr": render(), "c.png": png()})
    assert workshop.run_range(keys, asset_selection=[dg.AssetKey("exr_header")]).success
    assert workshop.objects() == {"a.mp4", "b.exr", "c.png"}
    assert workshop.pipeline.tables.read("media_streams").num_rows == 3
    assert workshop.pipeline.tables.read("proxy_outputs").num_rows == 0


def test_a_movie_that_is_replaced_by_a_broken_one_loses_its_media_and_streams(
    workshop: Workshop, files: dict[str, bytes]
) -> None:
    keys = workshop.put({"a.mp4": files["shot/a.mp4"]})
    assert workshop.run_range(keys).success
    assert len(workshop.objects()) == 4
    workshop.put({"a.mp4": files["shot/broken.mp4"]})
    assert not workshop.run_range(keys).success
    assert workshop.objects() == {"a.mp4"}
    assert workshop.pipeline.tables.read("media_streams").num_rows == 0
    assert workshop.pipeline.tables.read("proxy_outputs").num_rows == 0


def test_media_below_a_root_inside_the_source_are_not_ingested_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], workshop: Workshop
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    source = tmp_path / "show"
    (source / "shot").mkdir(parents=True)
    (source / "shot" / "a.mp4").write_bytes(files["shot/a.mp4"])
    (source / "shot" / "d.png").write_bytes(png())
    location = Location("file", "", f"{str(source).lstrip('/')}/")
    settings = workshop.pipeline.settings.model_copy(
        update={"sources": (location.url,), "output_root": location.child("media").url}
    )
    assert ingest_source(location, settings).listed == 2
    made = sorted(path.name for path in (source / "media").rglob("*.*"))
    assert made == ["a.mp4_filmstrip.jpg", "a.mp4_proxy.mp4", "a.mp4_thumb.jpg", "d.png_proxy.mp4", "d.png_thumb.jpg"]
    again = ingest_source(location, settings)
    assert (again.listed, again.worked_on) == (2, 0)
