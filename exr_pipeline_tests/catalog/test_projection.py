"""What was ingested appears in the catalog: assets with their media, frames below their sequence, and nothing twice."""

from __future__ import annotations

import struct
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from exr_pipeline.catalog import assets, projects
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.models import Asset, AssetVector, Event, Media
from exr_pipeline.catalog.principals import Principal
from exr_pipeline.catalog.projection import Recent, project_name, project_tables
from exr_pipeline.catalog.search import AssetFilter
from exr_pipeline.settings import Settings
from exr_pipeline.tables.specs import REJECTED
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, output_rows, rows_of

SETTINGS = Settings(_env_file=None, sources=("s3://renders/",), show_folders=1)


@pytest.fixture
def tables(tmp_path: Path) -> DuckDBStore:
    return DuckDBStore(tmp_path / "tables.duckdb")


def frame(number: int, **changes: Any) -> SampleFile:
    return SampleFile(key=f"show/shot/beauty.{number}.exr", **changes)


def sequence(first: str = "1001", last: str = "1003") -> pa.Table:
    path = "show/shot/beauty.####.exr"
    row = {
        "bucket": "renders",
        "sequence_path": path,
        "uri": f"s3://renders/{path}",
        "state": "ready",
        "first_frame": first,
        "last_frame": last,
        "frame_count": 3,
        "movie_s3_key": "show/shot/.proxies/beauty_sequence.mp4",
        "movie_size_bytes": 7,
        "generated_timestamp": NOON.isoformat(),
    }
    return pa.Table.from_pylist([row])


def found(database: CatalogDatabase, caller: Principal, **wanted: Any) -> dict[str, Any]:
    with database.transaction(read_only=True) as session:
        page = assets.assets(session, caller, AssetFilter(**wanted))
        return {
            view.asset.name: (
                view.asset,
                {part.role: part for part in assets.media_of(session, caller, view.asset.id)},
            )
            for view in page.items
        }


def test_files_become_assets_with_their_source_and_pictures_and_once_only(
    database: CatalogDatabase, admin: Principal, tables: DuckDBStore
) -> None:
    bad = SampleFile(key="show/shot/bad.exr", state=REJECTED, reason="no picture", header=False)
    tables.write(rows_of(frame(1001), bad), now=NOON)
    assert project_tables(database, tables, SETTINGS) == 2
    assert project_tables(database, tables, SETTINGS) == 0
    assert project_tables(database, tables, SETTINGS, again=True) == 0

    here = found(database, admin, project="show")
    asset, media = here["beauty.1001.exr"]
    assert (asset.kind, asset.folder, asset.status) == ("render", "renders/show/shot", "ready")
    assert media["source"].urls == ["s3://renders/show/shot/beauty.1001.exr"]
    assert media["source"].media.file_id == frame(1001).file_id
    assert {"source", "thumbnail", "proxy"} <= set(media)
    asset, media = here["bad.exr"]
    assert (asset.status, asset.reason, list(media)) == ("failed", "no picture", ["source"])


@pytest.mark.parametrize("sequence_first", [True, False])
def test_frames_are_below_their_sequence_whichever_comes_first(
    database: CatalogDatabase, admin: Principal, tables: DuckDBStore, sequence_first: bool
) -> None:
    files = rows_of(*(frame(number) for number in (1001, 1002, 1003, 1009)))
    writes: list[Any] = [{"sequence_outputs": sequence()}, files]
    for rows in writes if sequence_first else reversed(writes):
        tables.write(rows, now=NOON)
        project_tables(database, tables, SETTINGS)

    here = found(database, admin)
    # 1009 is none of its frames.
    assert sorted(here) == ["beauty.####.exr", "beauty.1009.exr"]
    asset, media = here["beauty.####.exr"]
    assert (asset.kind, asset.details["frame_count"], list(media)) == ("sequence", 3, ["movie"])
    below = found(database, admin, parent_id=asset.id)
    assert sorted(below) == ["beauty.1001.exr", "beauty.1002.exr", "beauty.1003.exr"]


def test_frames_with_fractions_and_below_zero_are_frames(
    database: CatalogDatabase, admin: Principal, tables: DuckDBStore
) -> None:
    keys = [f"show/shot/beauty.{number}.exr" for number in ("-0001", "0000", "1001.5")]
    tables.write(
        {**rows_of(*(SampleFile(key=key) for key in keys)), "sequence_outputs": sequence("-1", "1001.5")}, now=NOON
    )
    project_tables(database, tables, SETTINGS)
    (asset, _) = found(database, admin)["beauty.####.exr"]
    assert len(found(database, admin, parent_id=asset.id)) == 3


def test_the_same_path_in_several_stores_is_several_assets(
    database: CatalogDatabase, admin: Principal, tables: DuckDBStore
) -> None:
    urls = ["s3://renders/a/x.exr", "gs://renders/a/x.exr", "file:///renders/a/x.exr", "s3://renders/a//x.exr"]
    rows = rows_of(*(SampleFile(key=f"{number}.exr") for number in range(len(urls))))
    uris = rows["files"].schema.get_field_index("uri")
    rows["files"] = rows["files"].set_column(uris, "uri", pa.array(urls))
    tables.write(rows, now=NOON)
    assert project_tables(database, tables, SETTINGS) == 4
    with database.transaction(read_only=True) as session:
        folders = sorted(session.scalars(sa.select(Asset.folder)))
    assert folders == ["/renders/a", "gs:/renders/a", "renders/a", "renders/a/"]


def test_assets_move_to_another_project_with_their_tags_when_shows_are_told_otherwise(
    database: CatalogDatabase, admin: Principal, tables: DuckDBStore
) -> None:
    tables.write(rows_of(frame(1001)), now=NOON)
    project_tables(database, tables, SETTINGS)
    with database.transaction() as session:
        ((asset, _),) = found(database, admin).values()
        assets.set_tags(session, admin, asset.id, ["final"], version=1)
    other = Settings(_env_file=None, sources=("s3://renders/",), show_folders=2)
    assert project_tables(database, tables, other, again=True) == 1
    assert project_tables(database, tables, other, again=True) == 0
    ((moved, _),) = found(database, admin, project=project_name("show/shot"), tags=("final",)).values()
    assert (moved.id, moved.version) == (asset.id, 3)


def test_a_file_that_returns_to_a_name_taken_meanwhile_is_told_apart(
    database: CatalogDatabase, admin: Principal, tables: DuckDBStore
) -> None:
    tables.write(rows_of(frame(1001)), now=NOON)
    project_tables(database, tables, SETTINGS)
    tables.mark({frame(1001).location: frame(1001).file_id}, "deleted", now=NOON + timedelta(hours=1))
    project_tables(database, tables, SETTINGS)
    with database.transaction() as session:
        assets.create_asset(session, admin, "show", "beauty.1001.exr", kind="render", folder="renders/show/shot")
    returned = frame(1001, mtime=NOON + timedelta(hours=2), etag="2")
    tables.write(rows_of(returned), now=NOON + timedelta(hours=2))
    project_tables(database, tables, SETTINGS)
    assert len(found(database, admin)) == 2


def test_media_of_deleted_files_and_those_no_longer_made_are_missing(
    database: CatalogDatabase, admin: Principal, tables: DuckDBStore
) -> None:
    def statuses() -> dict[str, str]:
        with database.transaction(read_only=True) as session:
            return {media.filename: media.status for media in session.scalars(sa.select(Media))}

    tables.write(rows_of(frame(1001)), now=NOON)
    project_tables(database, tables, SETTINGS)
    assert set(statuses().values()) == {"ready"}
    again = frame(1001, mtime=NOON + timedelta(hours=1), etag="2", state=REJECTED, reason="cut off", header=False)
    tables.write(rows_of(again), now=NOON + timedelta(hours=1))
    project_tables(database, tables, SETTINGS)
    now = statuses()
    assert (now.pop("beauty.1001.exr"), set(now.values())) == ("failed", {"missing"})
    tables.mark({again.location: again.file_id}, "deleted", now=NOON + timedelta(hours=2))
    project_tables(database, tables, SETTINGS)
    assert set(statuses().values()) == {"missing"}


def test_a_new_version_changes_its_asset_and_a_deleted_file_leaves(
    database: CatalogDatabase, admin: Principal, tables: DuckDBStore
) -> None:
    tables.write(rows_of(frame(1001), frame(1002)), now=NOON)
    project_tables(database, tables, SETTINGS)
    again = frame(1001, mtime=NOON + timedelta(hours=1), etag="etag-2", state=REJECTED, reason="cut off", header=False)
    tables.write(rows_of(again), now=NOON + timedelta(hours=1))
    tables.mark({frame(1002).location: frame(1002).file_id}, "deleted", now=NOON + timedelta(hours=2))
    assert project_tables(database, tables, SETTINGS) == 2
    (asset, media), *others = found(database, admin).values()
    assert others == []
    assert (asset.name, asset.version, asset.reason, list(media)) == ("beauty.1001.exr", 2, "cut off", ["source"])


def test_a_write_that_waited_is_seen_though_a_later_one_came_first(
    database: CatalogDatabase, admin: Principal, tables: DuckDBStore
) -> None:
    tables.write(rows_of(frame(1001)), now=NOON)
    recent: Recent = {}
    assert project_tables(database, tables, SETTINGS, recent=recent) == 1
    tables.write(rows_of(frame(1002)), now=NOON - timedelta(seconds=30))
    assert project_tables(database, tables, SETTINGS, recent=recent) == 1
    assert sorted(found(database, admin)) == ["beauty.1001.exr", "beauty.1002.exr"]


def test_what_was_seen_lately_is_not_compared_again(database: CatalogDatabase, tables: DuckDBStore) -> None:
    tables.write(rows_of(frame(1001)), now=NOON)
    recent: Recent = {}
    project_tables(database, tables, SETTINGS, recent=recent)
    with database.transaction() as session:
        session.execute(sa.update(Asset).values(status="pending"))
    assert project_tables(database, tables, SETTINGS, recent=recent) == 0
    assert project_tables(database, tables, SETTINGS) == 1
    # Long after, it is forgotten.
    tables.write(rows_of(frame(1002)), now=NOON + timedelta(hours=1))
    project_tables(database, tables, SETTINGS, recent=recent)
    assert list(recent) == [frame(1002).location.url]


def test_what_people_did_stays(database: CatalogDatabase, admin: Principal, tables: DuckDBStore) -> None:
    with database.transaction() as session:
        projects.create_project(session, admin, "show")
        assets.create_asset(session, admin, "show", "beauty.1001.exr", kind="render", folder="renders/show/shot")
    tables.write(rows_of(frame(1001), frame(1002)), now=NOON)
    project_tables(database, tables, SETTINGS)
    here = found(database, admin)
    # The name is taken: the file is told apart by its identifier.
    assert len(here) == 3
    with database.transaction() as session:
        asset, _ = here["beauty.1002.exr"]
        assets.set_tags(session, admin, asset.id, ["final"], version=1)
        assets.delete_asset(session, admin, asset.id, version=2)
    tables.write(rows_of(frame(1002, mtime=NOON + timedelta(hours=1), etag="2")), now=NOON + timedelta(hours=1))
    project_tables(database, tables, SETTINGS, again=True)
    assert "beauty.1002.exr" not in found(database, admin)


def test_what_somebody_changes_at_the_same_time_is_not_lost(
    database: CatalogDatabase, admin: Principal, tables: DuckDBStore
) -> None:
    tables.write(rows_of(frame(1001)), now=NOON)
    project_tables(database, tables, SETTINGS)
    ((asset, _),) = found(database, admin).values()
    again = frame(1001, mtime=NOON + timedelta(hours=1), etag="2", state=REJECTED, reason="cut off", header=False)
    tables.write(rows_of(again), now=NOON + timedelta(hours=1))
    projecting = threading.Thread(target=project_tables, args=(database, tables, SETTINGS))
    with database.transaction() as session:
        assets.change_asset(session, admin, asset.id, version=1, name="hero")
        session.flush()
        projecting.start()
        # Until it waits, or has read what is to be changed.
        projecting.join(1.0)
    projecting.join()
    ((changed, _),) = found(database, admin).values()
    assert (changed.name, changed.reason, changed.version) == ("hero", "cut off", 3)


def test_many_rows_of_one_moment_are_all_seen(database: CatalogDatabase, admin: Principal, tables: DuckDBStore) -> None:
    files = [SampleFile(key=f"show/a/x_{n}/a.exr", channels=0, attributes=0, streams=0) for n in range(2100)]
    tables.write(rows_of(*files), now=NOON)
    assert project_tables(database, tables, SETTINGS) == 2100
    with database.transaction(read_only=True) as session:
        assert session.scalar(sa.select(sa.func.count(Asset.id))) == 2100
        assert session.scalar(sa.select(sa.func.count(Event.seq)).where(Event.topic == "asset.created")) == 2100


def test_what_headers_and_pictures_say_can_be_searched_and_follows_the_file(
    database: CatalogDatabase, admin: Principal, tables: DuckDBStore
) -> None:
    def names_where(where: str) -> list[str]:
        return sorted(found(database, admin, where=where))

    movie = SampleFile(key="show/shot/a.mov", vector_axis=7)
    tables.write(rows_of(frame(1001), frame(1002, color_space="ACES2065-1"), movie), now=NOON)
    pixels = {**frame(1002).outputs_row(), "nan_pixels": 12, "is_black": True}
    tables.write(output_rows(pixels), now=NOON + timedelta(seconds=1))
    tables.write({"sequence_outputs": sequence()}, now=NOON)
    project_tables(database, tables, SETTINGS)
    assert names_where("compression = 'zip' and width = 1920 and codec = 'h264'") == ["a.mov"]
    assert names_where("\"renderer/option3\" = 'etag-1 value 3' and format = 'exr'") == ["a.mov"]
    assert names_where("frame_count = 3 and first_frame = 1001 and missing_frames is null") == ["beauty.####.exr"]
    # Frames are found with all parts.
    assert sorted(found(database, admin, parts=True, where="nan_pixels > 0 and is_black = true")) == ["beauty.1002.exr"]
    assert sorted(found(database, admin, parts=True, where="color_space = 'ACEScg'")) == ["a.mov", "beauty.1001.exr"]

    again = frame(1002, mtime=NOON + timedelta(hours=1), etag="2")
    tables.write(rows_of(again), now=NOON + timedelta(hours=1))
    project_tables(database, tables, SETTINGS)
    assert found(database, admin, parts=True, where="color_space = 'ACES2065-1'") == {}
    assert sorted(found(database, admin, parts=True, where="\"renderer/option3\" = '2 value 3'")) == ["beauty.1002.exr"]
    with database.transaction(read_only=True) as session:
        query = sa.select(Asset.name, AssetVector.vector).join(AssetVector, AssetVector.asset_id == Asset.id)
        vectors = {row.name: row.vector for row in session.execute(query)}
    assert struct.unpack("<384f", vectors["a.mov"])[7] == 1.0
    assert struct.unpack("<384f", vectors["beauty.1001.exr"])[0] == 1.0


@pytest.mark.parametrize(
    ("show", "name"), [("show-a", "show-a"), ("a b", "a-b-c8687a08"), ("", "show-e3b0c442"), ("ä/..", "show-")]
)
def test_any_show_has_a_name_that_can_be_part_of_an_address(show: str, name: str) -> None:
    assert project_name(show).startswith(name)
