"""Similar assets: identical content first, then the nearest, out of what the caller may see, index or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from exr_pipeline.catalog import assets, similar
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.ids import new_id
from exr_pipeline.catalog.models import Asset, AssetMedia, AssetVector, Media
from exr_pipeline.catalog.principals import Principal
from exr_pipeline.catalog.projects import create_project
from exr_pipeline.catalog.similar import SimilarIndex
from exr_pipeline.catalog.vectors import store_vectors
from exr_pipeline.exr import Attribute, Box2i, Channel
from exr_pipeline.inspection import vectors as vectors_of
from exr_pipeline_tests.catalog.conftest import MakeCaller
from exr_pipeline_tests.inspection.files import inspected

LAYERS = ("diffuse", "specular", "emission", "sss", "volume", "crypto", "motion", "depth", "normal", "albedo")
SHOTS = ("010", "020", "030", "040")
PER_KIND = 12


def look(kind: int, number: int) -> bytes:
    """A file of one of 20 kinds: what wrote it, its layers and size. Shots, frames and versions are of all kinds."""
    names = ["", *(LAYERS[(kind + step) % len(LAYERS)] for step in range(1 + kind % 4))]
    channels = tuple(sorted(Channel(f"{name}.{each}" if name else each, "HALF") for name in names for each in "RGB"))
    size = (2048, 1920, 4096, 1280)[kind % 4] - 1
    window = Box2i(0, 0, size, size // 2)
    found = inspected(
        Attribute.of("software", "string", f"renderer{kind // 2} 1.2"),
        Attribute.of(f"renderer{kind // 2}/samples", "string", "64"),
        Attribute.of("comment", "string", f"take {number % 3}"),
        key=f"show/{SHOTS[number % 4]}/element{kind // 5}/v{number % 3}/plate.{1001 + number}.exr",
        channels=channels,
        compression=(2, 3, 4, 8, 9)[kind % 5],
        displayWindow=window,
        dataWindow=Box2i(number, 0, size, size // 2),
    )
    return vectors_of(found).metadata_embedding.tobytes()


def add(database: CatalogDatabase, caller: Principal, vectors: Mapping[str, bytes], project: str = "show") -> None:
    with database.transaction() as session:
        for name, vector in vectors.items():
            made = assets.create_asset(session, caller, project, name, kind="render").asset
            store_vectors(session, {made.id: (1, vector)})


def add_content(database: CatalogDatabase, names: list[str], sha256: str) -> None:
    with database.transaction() as session:
        for asset in session.scalars(sa.select(Asset).where(Asset.name.in_(names))).all():
            values = {"filename": asset.name, "content_type": "image/x-exr", "status": "ready", "sha256": sha256}
            times = {"created_at": asset.created_at, "updated_at": asset.created_at}
            media = Media(id=new_id(), project_id=asset.project_id, **values, **times)
            session.add(media)
            session.flush()
            session.add(AssetMedia(asset_id=asset.id, media_id=media.id, role="source"))


def id_of(session: Session, name: str) -> str:
    return session.scalars(sa.select(Asset.id).where(Asset.name == name)).one()


def like(
    database: CatalogDatabase, caller: Principal, name: str, index: SimilarIndex | None = None, limit: int = 10
) -> list[similar.Similar]:
    with database.transaction(read_only=True) as session:
        return list(similar.similar(session, caller, id_of(session, name), index or SimilarIndex(), limit=limit))


@pytest.fixture
def show(database: CatalogDatabase, admin: Principal) -> None:
    with database.transaction() as session:
        create_project(session, admin, "show")


@pytest.mark.parametrize("compared", [5000, 0])
def test_of_a_labelled_set_nearly_all_of_the_first_ten_are_of_the_same_kind(
    database: CatalogDatabase, admin: Principal, show: None, compared: int
) -> None:
    add(database, admin, {f"{kind}-{each}": look(kind, each) for kind in range(20) for each in range(PER_KIND)})
    index = SimilarIndex(compared=compared)
    with database.transaction(read_only=True) as session:
        index.catch_up(session)
    right = 0
    for kind in range(20):
        found = like(database, admin, f"{kind}-{kind % PER_KIND}", index)
        distances = [each.distance for each in found]
        assert distances == sorted(distances)
        right += sum(each.view.asset.name.startswith(f"{kind}-") for each in found)
    assert right / 200 >= 0.95


def test_identical_content_comes_first_however_far_its_header_is(
    database: CatalogDatabase, admin: Principal, show: None
) -> None:
    add(database, admin, {"a": look(0, 0), "near": look(0, 1), "copy": look(19, 9), "other": look(7, 3)})
    add_content(database, ["a", "copy"], "1" * 64)
    add_content(database, ["other"], "2" * 64)
    found = like(database, admin, "a")
    assert [(each.view.asset.name, each.is_identical) for each in found] == [
        ("copy", True),
        ("near", False),
        ("other", False),
    ]
    assert found[0].distance == 0 < found[1].distance < found[2].distance
    assert [each.view.asset.name for each in like(database, admin, "a", limit=1)] == ["copy"]


@pytest.mark.parametrize("compared", [5000, 0])
def test_nothing_of_projects_that_are_not_seen_and_nothing_deleted_or_of_other_rules_is_found(
    database: CatalogDatabase,
    admin: Principal,
    show: None,
    make_caller: MakeCaller,
    compared: int,
) -> None:
    ours = make_caller("ours", "viewer", "show")
    make_caller("theirs", "viewer", "secret")
    add(database, admin, {"a": look(0, 0), "b": look(0, 1), "gone": look(0, 2), "old": look(0, 3)})
    add(database, admin, {"hidden": look(0, 0)}, "secret")
    add_content(database, ["a", "hidden"], "1" * 64)
    with database.transaction() as session:
        assets.delete_asset(session, admin, id_of(session, "gone"), version=1)
        of_old = AssetVector.asset_id == id_of(session, "old")
        session.execute(sa.update(AssetVector).where(of_old).values(embedding_version=0))
    index = SimilarIndex(compared=compared)
    with database.transaction(read_only=True) as session:
        index.catch_up(session)
    assert [each.view.asset.name for each in like(database, ours, "a", index)] == ["b"]
    assert [each.view.asset.name for each in like(database, admin, "a", index)] == ["hidden", "b"]


def test_the_index_follows_changes_and_is_kept_for_its_catalog_only(
    database: CatalogDatabase, admin: Principal, show: None, tmp_path: Path
) -> None:
    add(database, admin, {f"{kind}": look(kind, 0) for kind in range(6)})
    index = SimilarIndex(tmp_path)
    with database.transaction(read_only=True) as session:
        assert (index.catch_up(session), index.catch_up(session)) == (6, 0)
    index.save()
    (file,) = tmp_path.glob("similar-*.usearch")
    with database.transaction() as session:
        store_vectors(session, {id_of(session, "5"): (1, look(0, 0))})
    again = SimilarIndex(tmp_path, compared=0)
    with database.transaction(read_only=True) as session:
        # The changed one alone is new to it.
        assert again.catch_up(session) == 1
    assert like(database, admin, "0", again)[0].view.asset.name == "5"
    file.write_bytes(b"damaged")
    damaged = SimilarIndex(tmp_path)
    with database.transaction(read_only=True) as session:
        assert damaged.catch_up(session) == 6
    few = SimilarIndex(most=3, at_once=1)
    with database.transaction(read_only=True) as session:
        assert few.catch_up(session) == 3


def test_an_asset_without_header_or_content_is_like_nothing(
    database: CatalogDatabase, admin: Principal, show: None
) -> None:
    add(database, admin, {"a": look(0, 0)})
    with database.transaction() as session:
        assets.create_asset(session, admin, "show", "plain", kind="note")
    assert like(database, admin, "plain") == []
