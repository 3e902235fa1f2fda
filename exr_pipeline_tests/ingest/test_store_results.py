"""What becomes of a file's products: rows, and objects with their tags."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exr_pipeline.ingest.store_results import (
    last_known,
    objects_to_delete,
    rows_of,
    store_objects,
)
from exr_pipeline.inspection import SourceFile, inspect_bytes
from exr_pipeline.pictures import RenderedPictures
from exr_pipeline.pictures.held_frame import ENCODER
from exr_pipeline.pictures.render import render_picture
from exr_pipeline.products.file_result import FileResult
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.outputs import OutputPlace, media_tags
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.pictures.files import flat, picture_settings, write_rgb

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
LOCATION = Location("s3", "renders", "shot/a.0001.exr")
SOURCE = SourceFile(LOCATION, 1000, datetime(2025, 2, 1, tzinfo=UTC), "etag")
THUMBNAIL_AT, PROXY_AT = (OutputPlace().at(LOCATION, ending) for ending in ("thumb.jpg", "proxy.mp4"))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rgb(tmp_path_factory.mktemp("picture") / "a.exr", flat(64, 32, (0.5, 0.2, 0.1)))


def rendered(picture: Path, *, thumbnail: bool = True, proxy: bool = True) -> RenderedPictures:
    return render_picture(str(picture), LOCATION.url, thumbnail=thumbnail, proxy=proxy, settings=picture_settings())


def made(picture: Path, **wanted: bool) -> FileResult:
    inspection = inspect_bytes(picture.read_bytes(), SOURCE)
    result = FileResult(LOCATION, "ready", None, SOURCE, inspection, rendered(picture, **wanted))
    asyncio.run(store_objects(Shelf(), OutputPlace(), result))
    return result


class Shelf:
    """Media in memory."""

    def __init__(self) -> None:
        self.objects: dict[Location, tuple[bytes, str, dict[str, str]]] = {}

    async def write_async(
        self, location: Location, data: bytes | Path, *, content_type: str, tags: Mapping[str, str]
    ) -> None:
        assert isinstance(data, bytes)
        self.objects[location] = (data, content_type, dict(tags))

    async def delete_async(self, location: Location) -> None:
        self.objects.pop(location, None)


@pytest.mark.parametrize("wanted", [{}, {"proxy": False}, {"thumbnail": False}])
def test_what_was_made_is_stored_and_found_again_by_its_name(picture: Path, wanted: dict[str, bool]) -> None:
    shelf = Shelf()
    pictures = rendered(picture, **wanted)

    asyncio.run(store_objects(shelf, OutputPlace(), FileResult(LOCATION, pictures=pictures)))

    expected: dict[Location, Any] = {}
    if pictures.thumbnail is not None:
        expected[THUMBNAIL_AT] = (pictures.thumbnail.data, "image/jpeg", media_tags("thumbnail"))
    if pictures.proxy is not None:
        expected[PROXY_AT] = (pictures.proxy.mp4, "video/mp4", media_tags("proxy"))
    assert shelf.objects == expected
    assert len(expected) == 2 - len(wanted)
    assert objects_to_delete(OutputPlace(), LOCATION, {}) >= set(expected)


def test_a_batch_of_all_kinds_is_accepted_by_a_table_store(picture: Path, tmp_path: Path) -> None:
    unread = SourceFile(Location("s3", "renders", "shot/b.exr"), 5, NOW, "b")
    unseen = Location("s3", "renders", "shot/c.exr")
    store = DuckDBStore(tmp_path / "tables.duckdb")
    batch = [
        made(picture),
        FileResult(unread.location, "rejected", "not an EXR", unread),
        FileResult(unseen, "retryable", "no answer", last_known(unseen, None)),
    ]

    store.write(rows_of(batch, now=NOW), now=NOW)

    states = {row["file_path"]: (row["state"], row["reason"]) for row in store.read("files").to_pylist()}
    assert states == {
        "shot/a.0001.exr": ("ready", None),
        "shot/b.exr": ("rejected", "not an EXR"),
        "shot/c.exr": ("retryable", "no answer"),
    }
    (output,) = store.read("proxy_outputs").to_pylist()
    assert output["file_id"] == SOURCE.file_id
    assert (output["thumbnail_s3_key"], output["proxy_s3_key"]) == (THUMBNAIL_AT.key, PROXY_AT.key)
    assert output["thumb_resolution"] == "64x32"


def test_the_row_of_outputs_says_how_they_were_made(tmp_path: Path) -> None:
    pixels = flat(64, 32, (0.5, 0.2, 0.1))
    pixels[0, 0], pixels[0, 1:3] = np.nan, np.inf
    products = made(write_rgb(tmp_path / "a.exr", pixels, colorspace="made up"))
    store = DuckDBStore(tmp_path / "tables.duckdb")

    store.write(rows_of([products], now=NOW), now=NOW)

    (row,) = store.read("proxy_outputs").to_pylist()
    stated = {
        "layer": "RGB",
        "source_colorspace": "Linear Rec.709 (sRGB)",
        "color_rule": "default (lin_rec709_scene)",
        "still_view": "sRGB - Display / ACES 1.0 - SDR Video",
        "still_encoder": "libjpeg-turbo, quality 92, 4:4:4",
        "proxy_view": "Rec.1886 Rec.709 - Display / ACES 1.0 - SDR Video",
        "encoder": ENCODER,
        "nan_pixels": 1,
        "inf_pixels": 2,
        "is_black": False,
        "alpha_handling": "none",
    }
    assert {name: row[name] for name in stated} == stated
    pictures = products.pictures
    assert pictures is not None
    assert (row["ocio_config"], row["ocio_config_hash"]) == (
        pictures.provenance.ocio_config,
        pictures.provenance.ocio_config_hash,
    )
    assert len(row["ocio_config_hash"]) > 8
    assert {"OpenColorIO", "OpenImageIO", "libavcodec"} <= set(json.loads(row["library_versions"]))
    (warning,) = json.loads(row["warnings"])
    assert "'made up'" in warning


def test_making_thumbnails_anew_leaves_what_is_known_of_proxies(picture: Path, tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "tables.duckdb")
    store.write(rows_of([made(picture)], now=NOW), now=NOW)
    (before,) = store.read("proxy_outputs").to_pylist()

    store.write(rows_of([made(picture, proxy=False)], now=NOW), now=NOW)

    (after,) = store.read("proxy_outputs").to_pylist()
    kept = [name for name in before if name.startswith("proxy_")]
    assert kept
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["proxy_size_bytes"] > 0


def test_a_file_that_was_never_seen_gives_way_to_any_real_version(picture: Path, tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "tables.duckdb")
    unseen = FileResult(LOCATION, "rejected", "permission denied", last_known(LOCATION, None))
    store.write(rows_of([unseen], now=NOW), now=NOW)
    assert store.current_versions([LOCATION])[LOCATION].mtime is None
    assert store.read("files").column("mtime").to_pylist() == [None]

    store.write(rows_of([made(picture)], now=NOW), now=NOW)

    version = store.current_versions([LOCATION])[LOCATION]
    assert (version.state, version.etag, version.file_id) == ("ready", "etag", SOURCE.file_id)


def test_a_file_that_cannot_be_looked_up_any_more_keeps_its_identity(picture: Path, tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "tables.duckdb")
    store.write(rows_of([made(picture)], now=NOW), now=NOW)

    again = last_known(LOCATION, store.current_versions([LOCATION])[LOCATION])

    assert (again.file_id, again.etag) == (SOURCE.file_id, SOURCE.etag)
