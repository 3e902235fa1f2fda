"""Which pictures are outdated after a change of settings, of pictures that were really made of files of every kind."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from exr_pipeline.ingest.chunk import ChunkIngest
from exr_pipeline.ingest.outdated import outdated_pictures
from exr_pipeline.pictures import PicturePool, PictureSettings
from exr_pipeline.products.registry import FILE_PRODUCTS
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables import TableStore, open_table_store
from exr_pipeline_tests.footage.made import movie
from exr_pipeline_tests.pictures.files import flat, rgb_channels, write_dpx, write_exr, write_rgb

WIDE, TAGGED, TURNED, DEPTH = "wide.exr", "tagged.exr", "turned.exr", "depth.exr"
PLATE, STILL, CLIP, SOUND = "plate.dpx", "still.png", "clip.mp4", "sound.wav"
REC709 = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
VIEW, PLAIN = "ACES 1.0 - SDR Video", "Un-tone-mapped"


@dataclass
class Shot:
    """A folder of files, tables, and settings under which to ingest it or to look at it."""

    folder: Path
    settings: Settings
    tables: TableStore

    @property
    def locations(self) -> list[Location]:
        return [Location.from_url(path.as_uri()) for path in sorted(self.folder.iterdir()) if path.is_file()]

    def changed(self, **changes: object) -> Settings:
        return self.settings.model_copy(update=changes)

    def ingest(self, settings: Settings) -> None:
        with PicturePool(PictureSettings.from_settings(settings)) as pool:
            storage = ObjectStorage(settings)
            chunk = ChunkIngest(settings, storage, media=storage, rows=self.tables, pool=pool)
            progress = chunk.run(self.locations, FILE_PRODUCTS, on_written=lambda _: None)
        assert progress.ready == progress.total

    def outdated(self, settings: Settings, *only: str) -> dict[str, str]:
        found = outdated_pictures(self.tables, self.locations, only, settings)
        return {location.name: why for location, why in found.items()}


def make_shot(folder: Path) -> Shot:
    shot = folder / "shot"
    shot.mkdir()
    grey = flat(640, 360, (0.2, 0.3, 0.4)).astype(np.float32)
    write_exr(shot / WIDE, {**rgb_channels(grey), **rgb_channels(grey, "diffuse.")})
    write_rgb(shot / TAGGED, flat(64, 48, (0.2, 0.3, 0.4)), chromaticities=REC709)
    write_rgb(shot / TURNED, flat(401, 203, (0.2, 0.3, 0.4)), Orientation=6, pixelAspectRatio=0.5)
    write_exr(shot / DEPTH, {"Z": grey[..., 0]})
    write_dpx(shot / PLATE, flat(320, 180, (0.2, 0.3, 0.4)), transfer=6)
    cv2.imwrite(str(shot / STILL), np.full((90, 160, 3), 128, np.uint8))
    movie(shot / CLIP, frames=3, size=(320, 180), audio=None)
    with wave.open(str(shot / SOUND), "wb") as sound:
        sound.setparams((1, 2, 48_000, 0, "NONE", ""))
        sound.writeframes(bytes(9600))
    settings = Settings(_env_file=None, ocio=None, ocio_config_path=None, database=folder / "tables.duckdb", workers=2)
    return Shot(shot, settings, open_table_store(settings))


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    made = make_shot(tmp_path_factory.mktemp("outdated"))
    made.ingest(made.settings)
    return made


def test_what_was_made_by_the_settings_in_force_is_up_to_date(shot: Shot) -> None:
    assert shot.outdated(shot.settings) == {}


@pytest.mark.parametrize(
    ("changes", "reason", "files"),
    [
        ({"thumbnail_size": 128}, "size of the thumbnail: 256x144, would be 128x72", {WIDE, DEPTH, PLATE, CLIP, SOUND}),
        ({"thumbnail_size": 128}, "size of the thumbnail: ", {WIDE, DEPTH, PLATE, CLIP, SOUND, STILL, TURNED}),
        # What is smaller than either is never enlarged.
        ({"thumbnail_size": 4096}, "would be 640x360", {WIDE, DEPTH}),
        ({"proxy_width": 300}, "size of the proxy: 320x180, would be 300x168", {PLATE, CLIP}),
        ({"still_view": "un-tone-mapped"}, f"view of the thumbnail: sRGB - Display / {VIEW}", {WIDE, TAGGED, TURNED}),
        ({"proxy_view": "un-tone-mapped"}, f"Rec.709 - Display / {PLAIN}", {WIDE, TAGGED, TURNED}),
        ({"default_color_space": "ACES2065-1"}, "source space by: default (", {WIDE, TURNED}),
        (
            {"ocio": "ocio://cg-config-v2.2.0_aces-v1.3_ocio-v2.4"},
            "OCIO config: ",
            {*(WIDE, TAGGED, TURNED, DEPTH), *(PLATE, STILL)},
        ),
        (
            {"output_root": "file:///media", "sources": ("file:///",)},
            "place of the thumbnail: ",
            {*(WIDE, TAGGED, TURNED, DEPTH), *(PLATE, STILL, CLIP, SOUND)},
        ),
    ],
)
def test_a_changed_setting_outdates_the_files_that_it_is_about(
    shot: Shot, changes: dict[str, object], reason: str, files: set[str]
) -> None:
    found = shot.outdated(shot.changed(**changes))
    assert {name for name, why in found.items() if reason in why} == files, found


def test_only_the_products_that_are_named_are_looked_at(shot: Shot) -> None:
    assert shot.outdated(shot.changed(proxy_width=300, proxy_view="un-tone-mapped"), "thumbnail", "header") == {}
    assert shot.outdated(shot.changed(thumbnail_size=128), "header") == {}
    assert set(shot.outdated(shot.changed(thumbnail_size=128), "thumbnail")) > {WIDE}


def test_what_is_made_by_a_picture_rule_is_outdated_before_it_and_again_without_it(tmp_path: Path) -> None:
    shot = make_shot(tmp_path)
    for name in (TURNED, DEPTH, PLATE, STILL, CLIP, SOUND):
        (shot.folder / name).unlink()
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        f"rules:\n- {{prefix: '{shot.folder}/{WIDE}', layer: diffuse, default_space: ACEScct, look: ''}}\n"
        f"- {{prefix: '{shot.folder}/{TAGGED}', source_space: ARRI LogC4, layer: nosuch}}\n"
    )
    with_rules = shot.changed(picture_rules=rules)
    assert shot.outdated(shot.settings) == {}, "rejected and unknown files lack no pictures"
    shot.ingest(shot.settings)
    before = shot.outdated(with_rules)
    assert before[WIDE].startswith("layer: RGB, would be diffuse; source space by: ")
    assert before[WIDE].endswith("would be default of the picture rule (ACEScct)")
    assert before[TAGGED] == "source space by: chromaticities, would be forced (ARRI LogC4)"

    shot.ingest(with_rules)
    assert shot.outdated(with_rules) == {}, "a layer that a file lacks is not missed for ever"
    after = shot.outdated(shot.settings)
    assert after[WIDE].startswith(
        "layer: diffuse, would be RGB; source space by: default of the picture rule (ACEScct)"
    )
    assert after[TAGGED] == "source space by: forced (ARRI LogC4), would be what the file says"
