"""Default deny: every service refuses who has no right to it, and shows nothing of other projects."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest

from exr_pipeline import catalog
from exr_pipeline.catalog import (
    accounts,
    assets,
    attributes,
    collections,
    event_log,
    projects,
    relations,
    schemas,
    similar,
)
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.errors import ForbiddenError, NotFoundError
from exr_pipeline.catalog.models import AssetMedia, Media, MediaLocation
from exr_pipeline.catalog.principals import PERMISSIONS, ROLES, Principal
from exr_pipeline.catalog.search import AssetFilter
from exr_pipeline_tests.catalog.conftest import MakeCaller

NOBODY = Principal("0", "nobody", {})


def services() -> dict[str, Callable[..., Any]]:
    """Every public function of the catalog that is called for somebody."""
    found: dict[str, Callable[..., Any]] = {}
    for info in pkgutil.walk_packages(catalog.__path__, f"{catalog.__name__}."):
        if "migrations" in info.name:
            continue
        module = importlib.import_module(info.name)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            parameters = list(inspect.signature(function).parameters)
            is_here = function.__module__ == info.name and not name.startswith("_")
            # What is told which permission to look for is a part of services, not one.
            if is_here and parameters[:2] == ["session", "principal"] and "permission" not in parameters:
                found[f"{info.name.rpartition('.')[2]}.{name}"] = function
    del found["idempotency.once"]  # it does what a service does, whose permission is asked for there
    return found


SERVICES = services()


def arguments(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = list(inspect.signature(function).parameters.values())[2:]
    return {each.name: "x" for each in parameters if each.default is inspect.Parameter.empty}


def test_there_are_services() -> None:
    assert len(SERVICES) > 20


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_states_its_permission_and_refuses_whoever_lacks_it(name: str) -> None:
    service = SERVICES[name]
    permission = service.needs  # type: ignore[attr-defined]
    assert permission in PERMISSIONS
    limited = Principal("1", "limited", {"*": "admin"}, frozenset(PERMISSIONS) - {permission})
    weaker = [Principal("2", role, {"*": role}) for role in ROLES if permission not in ROLES[role]]
    for caller in (NOBODY, limited, *weaker):
        # It is refused before it looks at anything: there is no session.
        with pytest.raises(ForbiddenError, match=permission):
            service(None, caller, **arguments(service))


def test_a_role_in_one_project_reaches_nothing_of_another(database: CatalogDatabase, make_caller: MakeCaller) -> None:
    ours, theirs = make_caller("ours", "manager", "show-a"), make_caller("theirs", "viewer", "show-b")
    with database.transaction() as session:
        view = assets.create_asset(session, ours, "show-a", "hero", kind="image")
        assets.set_tags(session, ours, view.asset.id, ["final"], version=1)
        now, project_id = view.asset.created_at, view.asset.project_id
        common = {"filename": "a.exr", "content_type": "image/x-exr", "status": "ready"}
        session.add(Media(id="m", project_id=project_id, created_at=now, updated_at=now, **common))
        session.flush()
        session.add(AssetMedia(asset_id=view.asset.id, media_id="m", role="source"))
        session.add(MediaLocation(media_id="m", url="s3://bucket/a.exr"))
    with database.transaction(read_only=True) as session:
        wanted = [view.asset.id, "gone"]
        assert list(assets.assets_by_id(session, ours, wanted)) == [view.asset.id]
        assert [part.urls for part in assets.media_of_each(session, ours, wanted)[view.asset.id]] == [
            ["s3://bucket/a.exr"]
        ]
        assert assets.assets_by_id(session, theirs, wanted) == {}
        assert assets.media_of_each(session, theirs, wanted) == {}
    with database.transaction(read_only=True) as session:
        assert [each.name for each in projects.projects(session, theirs)] == ["show-b"]
        assert assets.assets(session, theirs, AssetFilter()).items == []
        assert [each.topic for each in event_log.events_after(session, theirs)] == ["project.created"]
        for look in (
            lambda: projects.project(session, theirs, "show-a"),
            lambda: assets.asset(session, theirs, view.asset.id),
            lambda: assets.media_of(session, theirs, view.asset.id),
            lambda: assets.tags(session, theirs, "show-a"),
            lambda: attributes.attributes(session, theirs, "show-a"),
            lambda: collections.collections(session, theirs, "show-a"),
            lambda: relations.relations(session, theirs, view.asset.id),
            lambda: schemas.schemas(session, theirs, "show-a"),
            lambda: similar.similar(session, theirs, view.asset.id, similar.SimilarIndex()),
        ):
            # As of something that is not there.
            with pytest.raises(NotFoundError):
                look()
    with database.transaction() as session, pytest.raises(NotFoundError):
        assets.create_asset(session, ours, "show-b", "x", kind="image")


def test_who_may_read_a_project_and_not_write_in_it_is_told_so(
    database: CatalogDatabase, make_caller: MakeCaller
) -> None:
    editor, viewer = make_caller("editor", "editor", "show-a"), make_caller("viewer", "viewer", "show-a")
    both = make_caller("both", "editor", "show-b")
    with database.transaction() as session:
        accounts.set_role(session, Principal("0", "root", {"*": "admin"}), "both", "viewer", project="show-a")
        view = assets.create_asset(session, editor, "show-a", "hero", kind="image")
    with database.transaction() as session:
        with pytest.raises(ForbiddenError):
            assets.set_tags(session, viewer, view.asset.id, ["x"], version=1)
        with pytest.raises(ForbiddenError):
            assets.delete_asset(session, editor, view.asset.id, version=1)
        grants = {**both.grants, view.asset.project_id: "viewer"}
        with pytest.raises(ForbiddenError, match="in the project"):
            assets.change_asset(session, Principal(both.account_id, "both", grants), view.asset.id, version=1)
