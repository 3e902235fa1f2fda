"""Places: only an administrator names one, none lies in another, and nodes that are silent are gone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from exr_pipeline.catalog import places
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.errors import ConflictError, ForbiddenError, NotFoundError
from exr_pipeline.catalog.models import Server
from exr_pipeline.catalog.principals import Principal
from exr_pipeline.errors import BadInputError
from exr_pipeline.settings import Settings
from exr_pipeline_tests.catalog.conftest import MakeCaller


@pytest.fixture
def region(database: CatalogDatabase, admin: Principal) -> str:
    with database.transaction() as session:
        return places.create_region(session, admin, "here", "Here").name


def test_the_first_writable_location_by_priority_is_the_usual_one(
    database: CatalogDatabase, admin: Principal, region: str
) -> None:
    with database.transaction() as session:
        for name, priority in (("b", 2), ("a", 3), ("c", 1)):
            places.create_location(session, admin, name, f"s3://{name}/x", region=region, priority=priority)
        assert places.writable_location(session, None).name == "c"
        places.change_location(session, admin, "c", writable=False)
        assert places.writable_location(session, None).name == "b"
        places.change_location(session, admin, "a", priority=0)
        assert places.writable_location(session, None).name == "a"
        assert places.writable_location(session, "b").name == "b"
        with pytest.raises(NotFoundError):
            places.writable_location(session, "c")
        assert [each.name for each in places.locations(session, admin)] == ["a", "c", "b"]


@pytest.mark.parametrize(
    "url",
    [
        *("http://169.254.169.254/latest", "gs://bucket/x", "az://bucket/x", "bucket", "s3://", "file:///"),
        *("file:///a/../etc", "s3://bucket/a//b", "s3://bucket/../x", "file://host/x", "s3://bucket/a%0Ab"),
    ],
)
def test_a_root_is_a_bucket_or_a_folder_and_nothing_else(
    database: CatalogDatabase, admin: Principal, region: str, url: str
) -> None:
    with database.transaction() as session, pytest.raises(BadInputError, match="url_root"):
        places.create_location(session, admin, "x", url, region=region)


def test_no_location_lies_in_another_and_none_is_there_twice(
    database: CatalogDatabase, admin: Principal, region: str
) -> None:
    with database.transaction() as session:
        places.create_location(session, admin, "x", "s3://bucket/a/b", region=region)
        for name, url in (("y", "s3://bucket/a"), ("y", "s3://bucket/a/b/c"), ("x", "s3://other/a")):
            with pytest.raises(ConflictError):
                places.create_location(session, admin, name, url, region=region)
        places.create_location(session, admin, "y", "s3://bucket/a/bc", region=region)
        with pytest.raises(NotFoundError, match="region"):
            places.create_location(session, admin, "z", "s3://other", region="nowhere")
        with pytest.raises(ConflictError):
            places.create_region(session, admin, region)


def test_whoever_is_administrator_of_one_project_only_makes_no_places(
    database: CatalogDatabase, region: str, make_caller: MakeCaller
) -> None:
    local = make_caller("local", "admin", "show-a")
    with database.transaction() as session:
        for make in (
            lambda: places.create_region(session, local, "there"),
            lambda: places.create_location(session, local, "x", "s3://bucket", region=region),
            lambda: places.change_location(session, local, "x", writable=False),
        ):
            with pytest.raises(ForbiddenError):
                make()
        assert [each.title for each in places.regions(session, local)] == ["Here"]


def test_a_node_is_there_while_it_is_heard_of(database: CatalogDatabase, admin: Principal) -> None:
    for _ in range(2):
        with database.transaction() as session:
            places.note_heartbeat(session, "one", region="here", url="https://one", version="1")
            places.note_heartbeat(session, "two", region="here", url=None, version="1")
    with database.transaction() as session:
        assert [(each.name, each.url) for each in places.servers(session, admin)] == [
            ("one", "https://one"),
            ("two", None),
        ]
        silent = session.get_one(Server, "one")
        silent.heartbeat_at -= timedelta(seconds=places.SILENT_SECONDS + 1)
        places.forget_server(session, "two")
        assert places.servers(session, admin) == []


@pytest.mark.parametrize(
    ("values", "root"),
    [
        ({"sources": "s3://renders/show", "output_root": "s3://media/{source}"}, "s3://media/.assets/"),
        ({"sources": "gs://renders,s3://renders/show"}, "s3://renders/.assets/"),
        ({"sources": "file:///renders"}, "file:///renders/.assets/"),
        ({}, None),
    ],
)
def test_an_installation_without_a_location_gets_a_hidden_one_where_its_media_are(
    database: CatalogDatabase, admin: Principal, tmp_path: Path, values: dict[str, str], root: str | None
) -> None:
    settings = Settings(_env_file=None, state_dir=tmp_path, **values)  # type: ignore[arg-type]
    for _ in range(2):
        with database.transaction() as session:
            places.ensure_location(session, settings)
    with database.transaction() as session:
        (found,) = places.locations(session, admin)
        assert found.url_root == (root or f"file://{tmp_path}/assets/")
        assert (found.region, found.writable) == ("default", True)
