"""Outputs under the names that SpaceHarbor looks for: of files of every kind, in any order, in a real S3 server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from exr_pipeline.ingest.chunk import ChunkIngest
from exr_pipeline.ingest.deletions import reconcile
from exr_pipeline.ingest.outdated import outdated_pictures
from exr_pipeline.pictures import PictureSettings
from exr_pipeline.pictures.picture_pool import InProcessPicturePool
from exr_pipeline.products.registry import FILE_PRODUCTS
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.footage.made import movie
from exr_pipeline_tests.pictures.files import flat, write_dpx, write_rgb

EXR, DPX, PNG, CLIP = "plate.1001.exr", "plate.1001.dpx", "still.png", "clip.mov"
OF_EXR = {"plate.1001_thumb.jpg", "plate.1001_proxy.mp4", "plate.1001_proxy.jpg", "plate.1001_metadata.json"}
OF_DPX_BESIDE = {f"{DPX}_thumb.jpg", f"{DPX}_proxy.mp4", f"{DPX}_proxy.jpg", f"{DPX}_metadata.json"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("files")
    write_rgb(folder / EXR, flat(64, 36, (0.5, 0.25, 0.1)))
    write_dpx(folder / DPX, flat(64, 36, (0.1, 0.2, 0.5)), transfer=6)
    cv2.imwrite(str(folder / PNG), np.full((90, 160, 3), 128, np.uint8))
    movie(folder / CLIP, frames=3, size=(64, 36), audio=None)
    return {name: (folder / name).read_bytes() for name in (EXR, DPX, PNG, CLIP)}


class Desk:
    """A folder of a bucket, tables of its own, and workers."""

    def __init__(self, settings: Settings, bucket: Location, files: dict[str, bytes]) -> None:
        self.settings, self.files = settings, files
        self.folder = bucket.child("shot/")
        self.storage = ObjectStorage(settings)
        self.tables = DuckDBStore(settings.database_path)

    def put(self, *names: str) -> None:
        for name in names:
            self.storage.write(self.folder.child(name), self.files[name], content_type="image/x", tags={})

    def ingest(self, *names: str, compatibility: str = "spaceharbor") -> None:
        settings = self.settings.model_copy(update={"compatibility": compatibility})
        renderer: Any = InProcessPicturePool(PictureSettings.from_settings(settings))
        with renderer as pool:
            chunk = ChunkIngest(settings, self.storage, media=self.storage, rows=self.tables, pool=pool)
            progress = chunk.run([self.folder.child(name) for name in names], FILE_PRODUCTS, on_written=lambda _: None)
        assert progress.done == len(names)

    def row(self, name: str) -> dict[str, Any]:
        (row,) = self.tables.read("proxy_outputs", locations=[self.folder.child(name)]).to_pylist()
        found: dict[str, Any] = row
        return found

    def outputs(self, name: str) -> set[str]:
        """The names of what the row of a file points to."""
        return {key.rpartition("/")[2] for column, key in self.row(name).items() if column.endswith("_s3_key") and key}

    def objects(self) -> set[str]:
        folder = self.folder.child(".proxies/")
        return {info.location.name for info in self.storage.iter_objects(folder)}

    def read(self, name: str) -> bytes:
        return self.storage.read(self.folder.child(f".proxies/{name}"))[1]

    def outdated(self, compatibility: str = "spaceharbor") -> dict[str, str]:
        settings = self.settings.model_copy(update={"compatibility": compatibility})
        there = [info.location for info in self.storage.iter_objects(self.folder)]
        sources = [location for location in there if "/.proxies/" not in location.key]
        return {at.name: why for at, why in outdated_pictures(self.tables, sources, (), settings).items()}

    def reconcile(self) -> Any:
        settings = self.settings.model_copy(update={"deleted_media_days": 0, "compatibility": "spaceharbor"})
        report = reconcile(self.folder, settings, self.storage, self.tables, dry_run=False, force=True)
        assert report.error is None
        return report


@pytest.fixture
def desk(s3_settings: Settings, bucket: Location, files: dict[str, bytes], tmp_path: Path) -> Desk:
    settings = s3_settings.model_copy(update={"database": tmp_path / "tables.duckdb", "workers": 1})
    return Desk(settings, bucket, files)


def test_every_kind_of_file_has_the_names_that_are_looked_for(desk: Desk) -> None:
    desk.put(DPX, PNG, CLIP)
    desk.ingest(DPX, PNG, CLIP)
    of_still = {"still_thumb.jpg", "still_proxy.mp4", "still_proxy.jpg", "still_metadata.json"}
    of_clip = {"clip_thumb.jpg", "clip-proxy.mp4", "clip_filmstrip.jpg", "clip_metadata.json"}
    for name, expected in ((DPX, OF_EXR), (PNG, of_still), (CLIP, of_clip)):
        assert desk.outputs(name) - {name} == expected
    assert desk.objects() == OF_EXR | of_still | of_clip
    assert desk.outdated() == {}


def test_the_still_of_the_proxy_has_its_size_and_the_header_is_json(desk: Desk) -> None:
    desk.put(EXR, CLIP)
    desk.ingest(EXR, CLIP)
    row = desk.row(EXR)
    still = cv2.imdecode(np.frombuffer(desk.read("plate.1001_proxy.jpg"), np.uint8), cv2.IMREAD_COLOR)
    assert still is not None
    assert f"{still.shape[1]}x{still.shape[0]}" == row["proxy_resolution"] == "64x36"
    header = json.loads(desk.read("plate.1001_metadata.json"))
    assert (header["file"]["path"], header["parts"][0]["width"]) == ("shot/plate.1001.exr", 64)
    assert [channel["name"] for channel in header["channels"]] == ["B", "G", "R"]
    assert row["metadata_size_bytes"] == len(desk.read("plate.1001_metadata.json"))
    assert row["proxy_still_size_bytes"] == len(desk.read("plate.1001_proxy.jpg"))
    clip = json.loads(desk.read("clip_metadata.json"))
    assert (clip["file"]["path"], clip["streams"][0]["width"]) == ("shot/clip.mov", 64)


@pytest.mark.parametrize("order", [(EXR, DPX), (DPX, EXR), (DPX, EXR, DPX), (EXR, DPX, EXR)])
def test_of_two_files_with_one_stem_the_same_has_it_in_whatever_order(desk: Desk, order: tuple[str, ...]) -> None:
    desk.put(EXR, DPX)
    for name in order:
        desk.ingest(name)
    assert (desk.outputs(EXR) - {EXR}, desk.outputs(DPX) - {DPX}) == (OF_EXR, OF_DPX_BESIDE)
    assert desk.objects() == OF_EXR | OF_DPX_BESIDE
    assert json.loads(desk.read("plate.1001_metadata.json"))["file"]["path"].endswith(EXR)
    assert "'plate.1001.exr' in the same folder" in desk.row(DPX)["warnings"]
    assert "same folder" not in desk.row(EXR)["warnings"]
    assert desk.outdated() == {}


def test_a_file_that_comes_later_does_not_take_the_names_of_another(desk: Desk) -> None:
    desk.put(DPX)
    desk.ingest(DPX)
    desk.put(EXR)
    for name in (EXR, DPX, EXR):
        desk.ingest(name)
    assert desk.outputs(DPX) - {DPX} == OF_EXR
    assert json.loads(desk.read("plate.1001_metadata.json"))["file"]["path"].endswith(DPX)
    assert desk.outputs(EXR) - {EXR} == {
        f"{EXR}_{ending}" for ending in ("thumb.jpg", "proxy.mp4", "proxy.jpg", "metadata.json")
    }
    assert desk.outdated() == {}


def test_frames_next_to_a_movie_of_their_name_have_stems_of_their_own(desk: Desk) -> None:
    for name in ("plate.mov", "plate.1001 b.exr", "plate.1001.b.exr"):
        desk.files = {**desk.files, name: desk.files[CLIP if name.endswith("mov") else EXR]}
    desk.put(EXR, "plate.mov", "plate.1001 b.exr", "plate.1001.b.exr")
    desk.ingest("plate.mov", EXR)
    assert "plate-proxy.mp4" in desk.outputs("plate.mov")
    assert desk.outputs(EXR) - {EXR} == OF_EXR


def test_without_the_setting_names_are_as_ever(desk: Desk) -> None:
    desk.put(EXR, DPX)
    desk.ingest(EXR, DPX, compatibility="")
    assert desk.objects() == {
        *("plate.1001_thumb.jpg", "plate.1001_proxy.mp4", f"{DPX}_thumb.jpg", f"{DPX}_proxy.mp4"),
    }


def test_turned_on_later_files_are_outdated_and_their_rows_lead_to_what_is_there_all_the_time(desk: Desk) -> None:
    desk.put(DPX, PNG)
    desk.ingest(DPX, PNG, compatibility="")
    before = desk.outputs(DPX) - {DPX}
    assert before <= desk.objects()
    assert set(desk.outdated()) == {DPX, PNG}
    desk.ingest(DPX)
    assert desk.outputs(DPX) - {DPX} == OF_EXR <= desk.objects()
    assert set(desk.outdated()) == {PNG}

    assert set(desk.outdated("")) == {DPX}
    assert desk.outputs(DPX) - {DPX} <= desk.objects()
    desk.ingest(DPX, compatibility="")
    assert before <= desk.outputs(DPX) <= desk.objects() | {DPX}


def test_reconcile_removes_the_outputs_of_deleted_files_by_their_names(desk: Desk) -> None:
    desk.put(EXR, DPX, CLIP)
    desk.ingest(EXR, DPX, CLIP)
    for name in (EXR, CLIP):
        desk.storage.delete(desk.folder.child(name))
    desk.reconcile()
    assert desk.objects() == OF_DPX_BESIDE
    desk.ingest(DPX)
    assert desk.objects() >= OF_EXR, "nobody has the stem any more"


def test_reconcile_leaves_what_another_file_has_by_now(desk: Desk) -> None:
    desk.put(DPX)
    desk.ingest(DPX)
    desk.storage.delete(desk.folder.child(DPX))
    desk.put(EXR)
    desk.ingest(EXR)
    assert desk.outputs(EXR) - {EXR} == OF_EXR
    desk.reconcile()
    assert desk.objects() == OF_EXR


def test_the_outputs_of_a_version_that_is_replaced_by_a_damaged_one_are_removed(desk: Desk) -> None:
    desk.put(EXR, DPX)
    desk.ingest(EXR, DPX)
    desk.files = {**desk.files, EXR: b"this is a text"}
    desk.put(EXR)
    desk.ingest(EXR)
    assert desk.objects() == OF_DPX_BESIDE
