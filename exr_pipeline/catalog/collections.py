"""Collections: assets of a project put together by hand, and lineups, which are saved searches.

Belongs here: those. Not here: searching (`search`, `assets`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from exr_pipeline.catalog.assets import AssetView, assets, views_of
from exr_pipeline.catalog.errors import ConflictError, NotFoundError
from exr_pipeline.catalog.event_log import record
from exr_pipeline.catalog.ids import new_id
from exr_pipeline.catalog.models import Asset, Collection, CollectionAsset, Project
from exr_pipeline.catalog.pages import USUAL_LIMIT, Page, from_cursor, to_cursor
from exr_pipeline.catalog.principals import Principal, needs
from exr_pipeline.catalog.projects import find_project, require_version
from exr_pipeline.catalog.search import AssetFilter, conditions
from exr_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exr_pipeline.catalog.principals import Permission

MOST_AT_ONCE: Final = 1000
MOST_COLLECTIONS: Final = 1000
_LONGEST_NAME: Final = 100


@needs("assets:read")
def collections(session: Session, principal: Principal, project: str) -> Sequence[Collection]:
    """The collections and lineups of a project, by name."""
    of_project = find_project(session, principal, project, "assets:read")
    query = sa.select(Collection).where(Collection.project_id == of_project.id).order_by(Collection.name)
    return session.scalars(query).all()


@needs("assets:read")
def collection(session: Session, principal: Principal, collection_id: str) -> Collection:
    """One collection or lineup."""
    return _find(session, principal, collection_id, "assets:read")


@needs("assets:read")
def assets_of(
    session: Session,
    principal: Principal,
    collection_id: str,
    *,
    cursor: str | None = None,
    limit: int = USUAL_LIMIT,
) -> Page[AssetView]:
    """A page of a collection in its order, or of what a lineup finds now for this caller, latest made first."""
    found = _find(session, principal, collection_id, "assets:read")
    if found.query is not None:
        project = session.get_one(Project, found.project_id)
        return assets(session, principal, _filter(project.name, found.query), cursor=cursor, limit=limit)
    query = (
        sa.select(Asset, CollectionAsset.ordinal)
        .join(CollectionAsset, CollectionAsset.asset_id == Asset.id)
        .where(CollectionAsset.collection_id == found.id, Asset.deleted_at.is_(None))
        .where(principal.sees(Asset.project_id, "assets:read"))
        .order_by(CollectionAsset.ordinal)
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(CollectionAsset.ordinal > _after(cursor))
    rows = session.execute(query).all()
    views = views_of(session, [asset for asset, _ in rows[:limit]])
    return Page(views, to_cursor(str(rows[limit - 1][1])) if len(rows) > limit else None)


@needs("assets:write")
def create_collection(
    session: Session, principal: Principal, project: str, name: str, query: Mapping[str, Any] | None = None
) -> Collection:
    """A new collection without assets, or with a `query` (the fields of `AssetFilter`) a lineup."""
    of_project = find_project(session, principal, project, "projects:read")
    principal.require("assets:write", of_project.id)
    _check_name(session, of_project.id, name)
    count = sa.select(sa.func.count(Collection.id)).where(Collection.project_id == of_project.id)
    if (session.scalar(count) or 0) >= MOST_COLLECTIONS:
        raise BadInputError("collection", f"the project has {MOST_COLLECTIONS} already: delete one first")
    now = datetime.now(UTC)
    created = Collection(
        id=new_id(),
        project_id=of_project.id,
        name=name,
        query=None if query is None else _checked(session, principal, of_project.name, query),
        version=1,
        created_by=principal.name,
        created_at=now,
        updated_at=now,
    )
    session.add(created)
    session.flush()
    record(session, principal.name, "collection.created", created.id, project_id=of_project.id, name=name)
    return created


@needs("assets:write")
def change_collection(
    session: Session,
    principal: Principal,
    collection_id: str,
    *,
    version: int,
    name: str | None = None,
    query: Mapping[str, Any] | None = None,
) -> Collection:
    """Give a collection, as the caller has read it, another name, or a lineup another search."""
    found = _find(session, principal, collection_id, "assets:write")
    require_version("collection", found.version, version)
    if name is not None and name != found.name:
        _check_name(session, found.project_id, name)
        found.name = name
    if query is not None:
        if found.query is None:
            raise BadInputError("query", "this collection is put together by hand: make a lineup beside it")
        project = session.get_one(Project, found.project_id)
        found.query = _checked(session, principal, project.name, query)
    _note_change(session, principal, found, "collection.changed")
    return found


@needs("assets:write")
def delete_collection(session: Session, principal: Principal, collection_id: str, *, version: int) -> None:
    """Delete a collection, as the caller has read it. Its assets stay."""
    found = _find(session, principal, collection_id, "assets:write")
    require_version("collection", found.version, version)
    session.delete(found)
    session.flush()
    name = found.name
    record(session, principal.name, "collection.deleted", found.id, project_id=found.project_id, name=name)


@needs("assets:write")
def add_assets(session: Session, principal: Principal, collection_id: str, asset_ids: Sequence[str]) -> Collection:
    """Add assets of the same project at the end, those that are in it already excepted."""
    found = _find_by_hand(session, principal, collection_id)
    wanted = list(dict.fromkeys(asset_ids))
    if len(wanted) > MOST_AT_ONCE:
        raise BadInputError("assets", f"there are more than {MOST_AT_ONCE}: add them in several requests")
    of_project = sa.and_(Asset.project_id == found.project_id, Asset.deleted_at.is_(None))
    there = set(session.scalars(sa.select(Asset.id).where(Asset.id.in_(wanted), of_project)))
    if missing := next((each for each in wanted if each not in there), None):
        raise NotFoundError("asset of the project", missing)
    members = sa.select(CollectionAsset.asset_id).where(CollectionAsset.collection_id == found.id)
    known = set(session.scalars(members.where(CollectionAsset.asset_id.in_(wanted))))
    last = sa.select(sa.func.max(CollectionAsset.ordinal)).where(CollectionAsset.collection_id == found.id)
    start = (session.scalar(last) or 0) + 1
    new = [each for each in wanted if each not in known]
    session.add_all(
        CollectionAsset(collection_id=found.id, asset_id=each, ordinal=start + place) for place, each in enumerate(new)
    )
    _note_change(session, principal, found, "collection.filled", added=new)
    return found


@needs("assets:write")
def remove_asset(session: Session, principal: Principal, collection_id: str, asset_id: str) -> Collection:
    """Take an asset out of a collection."""
    found = _find_by_hand(session, principal, collection_id)
    member = session.get(CollectionAsset, (found.id, asset_id))
    if member is None:
        raise NotFoundError("asset of the collection", asset_id)
    session.delete(member)
    _note_change(session, principal, found, "collection.emptied", removed=[asset_id])
    return found


def _find(session: Session, principal: Principal, collection_id: str, permission: Permission) -> Collection:
    # Whoever changes it too waits, and then finds another version.
    changes = permission != "assets:read"
    found = session.get(Collection, collection_id, with_for_update=changes or None, populate_existing=changes)
    if found is None or not principal.may("assets:read", found.project_id):
        raise NotFoundError("collection", collection_id)
    principal.require(permission, found.project_id)
    return found


def _find_by_hand(session: Session, principal: Principal, collection_id: str) -> Collection:
    found = _find(session, principal, collection_id, "assets:write")
    if found.query is not None:
        raise BadInputError("collection", "it is a lineup, whose assets are those that its search finds")
    return found


def _check_name(session: Session, project_id: str, name: str) -> None:
    if not name.strip() or len(name) > _LONGEST_NAME or "\x00" in name:
        raise BadInputError("name", f"it is empty, longer than {_LONGEST_NAME} characters, or has a null character")
    same = sa.select(Collection.id).where(Collection.project_id == project_id, Collection.name == name)
    if session.scalar(same) is not None:
        raise ConflictError("collection", f"there is one named {name!r} already")


def _filter(project: str, query: Mapping[str, Any]) -> AssetFilter:
    """What a lineup looks for, within its project."""
    known = {each.name for each in fields(AssetFilter)} - {"project"}
    if unknown := sorted(query.keys() - known):
        raise BadInputError("query", f"it has {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return AssetFilter(project=project, **query)


def _checked(session: Session, principal: Principal, project: str, query: Mapping[str, Any]) -> dict[str, Any]:
    """A search as it is kept, once it has been tried."""
    wanted = _filter(project, query)
    conditions(wanted, session, principal)
    kept = asdict(wanted) | {"tags": list(wanted.tags)}
    return {name: value for name, value in kept.items() if name != "project"}


def _after(cursor: str) -> int:
    try:
        return int(from_cursor(cursor))
    except ValueError:
        raise BadInputError("cursor", "it is not the cursor of a page") from None


def _note_change(session: Session, principal: Principal, found: Collection, topic: str, **payload: Any) -> None:
    found.version += 1
    found.updated_at = datetime.now(UTC)
    session.flush()
    record(session, principal.name, topic, found.id, project_id=found.project_id, version=found.version, **payload)
