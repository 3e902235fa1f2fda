"""Assets: making, finding, changing and tagging them, and the media objects that belong to them.

Belongs here: those services. Not here: what makes assets of ingested files (`projection`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from exr_pipeline.catalog.attributes import store_attributes, values_in
from exr_pipeline.catalog.errors import ConflictError, NotFoundError
from exr_pipeline.catalog.event_log import record
from exr_pipeline.catalog.ids import new_id
from exr_pipeline.catalog.models import (
    Asset,
    AssetMedia,
    AssetTag,
    Media,
    MediaLocation,
    Project,
    Tag,
    UtcTime,
)
from exr_pipeline.catalog.pages import USUAL_LIMIT, Page, from_cursor, to_cursor
from exr_pipeline.catalog.principals import Principal, needs
from exr_pipeline.catalog.projects import find_project, require_version
from exr_pipeline.catalog.schemas import check_details
from exr_pipeline.catalog.search import FEW, AssetFilter, conditions
from exr_pipeline.catalog.texts import store_texts
from exr_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exr_pipeline.catalog.principals import Permission

MOST_TAGS: Final = 100
_KIND: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_COLOR: Final = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class MediaOfAsset:
    """A media object as part of an asset, and where its bytes are."""

    media: Media
    role: str
    ordinal: int | None
    urls: Sequence[str]


@dataclass(frozen=True, slots=True)
class AssetView:
    """An asset with the name of its project and its tags."""

    asset: Asset
    project: str
    tags: Sequence[str] = field(default=())


@needs("assets:read")
def assets(
    session: Session,
    principal: Principal,
    wanted: AssetFilter,
    *,
    cursor: str | None = None,
    limit: int = USUAL_LIMIT,
    few: int = FEW,
) -> Page[AssetView]:
    """A page of the assets that the caller may see, latest made first. `few`: see `conditions`."""
    query = (
        sa.select(Asset, Project.name)
        .join(Project, Project.id == Asset.project_id)
        .where(*conditions(wanted, session, principal, few=few))
        .order_by(Asset.created_at.desc(), Asset.id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(sa.tuple_(Asset.created_at, Asset.id) < _before(cursor))
    rows = session.execute(query).all()
    found = _with_tags(session, [(asset, project) for asset, project in rows[:limit]])
    return Page(found, _cursor_at(found[-1].asset) if len(rows) > limit else None)


@needs("assets:read")
def asset(session: Session, principal: Principal, asset_id: str) -> AssetView:
    """One asset."""
    found = find_asset(session, principal, asset_id, "assets:read")
    return _view(session, found)


@needs("assets:read")
def assets_by_id(session: Session, principal: Principal, asset_ids: Sequence[str]) -> Mapping[str, AssetView]:
    """Several assets by their identifiers, without those that are not there or that the caller may not see."""
    query = (
        sa.select(Asset, Project.name)
        .join(Project, Project.id == Asset.project_id)
        .where(Asset.id.in_(asset_ids), Asset.deleted_at.is_(None), principal.sees(Asset.project_id, "assets:read"))
    )
    rows = [(asset, project) for asset, project in session.execute(query)]
    return {view.asset.id: view for view in _with_tags(session, rows)}


@needs("assets:read")
def media_of(session: Session, principal: Principal, asset_id: str) -> Sequence[MediaOfAsset]:
    """The media objects of an asset, by role and place."""
    found = find_asset(session, principal, asset_id, "assets:read")
    return media_of_each(session, principal, [found.id]).get(found.id, ())


@needs("assets:read")
def media_of_each(
    session: Session, principal: Principal, asset_ids: Sequence[str]
) -> Mapping[str, Sequence[MediaOfAsset]]:
    """The media objects of several assets, each by role and place, without assets that the caller may not see."""
    query = (
        sa.select(AssetMedia, Media)
        .join(Media, Media.id == AssetMedia.media_id)
        .join(Asset, Asset.id == AssetMedia.asset_id)
        .where(Asset.id.in_(asset_ids), Asset.deleted_at.is_(None), principal.sees(Asset.project_id, "assets:read"))
        .order_by(AssetMedia.role, AssetMedia.ordinal, Media.id)
    )
    rows = session.execute(query).all()
    urls = _urls(session, [media.id for _, media in rows])
    found: dict[str, list[MediaOfAsset]] = {}
    for part, media in rows:
        of_asset = MediaOfAsset(media, part.role, part.ordinal, urls.get(media.id, ()))
        found.setdefault(part.asset_id, []).append(of_asset)
    return found


@needs("assets:read")
def media(session: Session, principal: Principal, media_id: str) -> tuple[Media, Sequence[str]]:
    """One media object, and where its bytes are."""
    found = session.get(Media, media_id)
    if found is None or not principal.may("assets:read", found.project_id):
        raise NotFoundError("media object", media_id)
    return found, _urls(session, [media_id]).get(media_id, ())


@needs("assets:write")
def create_asset(
    session: Session,
    principal: Principal,
    project: str,
    name: str,
    *,
    kind: str,
    folder: str = "",
    details: Mapping[str, Any] | None = None,
) -> AssetView:
    """A new asset without media. A name is taken once per project, kind and folder."""
    of_project = find_project(session, principal, project, "projects:read")
    principal.require("assets:write", of_project.id)
    if not _KIND.fullmatch(kind):
        raise BadInputError("kind", "it is not a word of lower-case letters, digits, dashes and underscores")
    check_details(session, of_project.id, kind, details or {})
    now = datetime.now(UTC)
    created = Asset(
        id=new_id(),
        project_id=of_project.id,
        kind=kind,
        folder=folder.strip("/"),
        name=_checked_name(name),
        status="pending",
        details=dict(details or {}),
        version=1,
        created_by=principal.name,
        created_at=now,
        updated_at=now,
    )
    _refuse_second(session, created, name)
    session.add(created)
    session.flush()
    _index(session, created)
    record(session, principal.name, "asset.created", created.id, project_id=of_project.id, name=name, kind=kind)
    return AssetView(created, project)


@needs("assets:write")
def change_asset(
    session: Session,
    principal: Principal,
    asset_id: str,
    *,
    version: int,
    name: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> AssetView:
    """Change an asset, as the caller has read it (`version`). `details` replace what was there."""
    found = find_asset(session, principal, asset_id, "assets:write")
    require_version("asset", found.version, version)
    if name is not None and name != found.name:
        _refuse_second(session, found, _checked_name(name))
        found.name = name
    if details is not None:
        check_details(session, found.project_id, found.kind, details)
        found.details = dict(details)
    session.flush()
    _index(session, found)
    _note_change(session, principal, found, "asset.changed")
    return _view(session, found)


@needs("assets:delete")
def delete_asset(session: Session, principal: Principal, asset_id: str, *, version: int) -> None:
    """Take an asset out of the catalog, as the caller has read it. The bytes of its media stay where they are."""
    found = find_asset(session, principal, asset_id, "assets:delete")
    require_version("asset", found.version, version)
    found.deleted_at, found.deleted_by = datetime.now(UTC), principal.name
    _note_change(session, principal, found, "asset.deleted")


@needs("assets:write")
def set_tags(session: Session, principal: Principal, asset_id: str, names: Sequence[str], *, version: int) -> AssetView:
    """Give an asset exactly these tags, in place of those it has. Tags that the project does not have are made."""
    found = find_asset(session, principal, asset_id, "assets:write")
    require_version("asset", found.version, version)
    wanted = list(dict.fromkeys(_checked_tag(name) for name in names))
    if len(wanted) > MOST_TAGS:
        raise BadInputError("tags", f"there are more than {MOST_TAGS}")
    known = session.scalars(sa.select(Tag).where(Tag.project_id == found.project_id, Tag.name.in_(wanted))).all()
    by_name = {tag.name: tag for tag in known}
    for name in wanted:
        if name not in by_name:
            by_name[name] = Tag(id=new_id(), project_id=found.project_id, name=name)
            session.add(by_name[name])
    session.execute(sa.delete(AssetTag).where(AssetTag.asset_id == found.id))
    session.flush()
    session.add_all(AssetTag(asset_id=found.id, tag_id=by_name[name].id) for name in wanted)
    _note_change(session, principal, found, "asset.tagged", tags=wanted)
    return _view(session, found)


@needs("assets:read")
def tags(session: Session, principal: Principal, project: str) -> Sequence[tuple[Tag, int]]:
    """The tags of a project by name, and how many assets have each."""
    of_project = find_project(session, principal, project, "assets:read")
    query = (
        sa.select(Tag, sa.func.count(Asset.id))
        .outerjoin(AssetTag, AssetTag.tag_id == Tag.id)
        .outerjoin(Asset, sa.and_(Asset.id == AssetTag.asset_id, Asset.deleted_at.is_(None)))
        .where(Tag.project_id == of_project.id)
        .group_by(Tag.id)
        .order_by(Tag.name)
    )
    return [(tag, count) for tag, count in session.execute(query)]


@needs("assets:write")
def color_tag(session: Session, principal: Principal, project: str, name: str, color: str | None) -> Tag:
    """Give a tag of a project a color (#rrggbb), or none; the tag is made if there is none of that name."""
    of_project = find_project(session, principal, project, "projects:read")
    principal.require("assets:write", of_project.id)
    if color is not None and not _COLOR.fullmatch(color.lower()):
        raise BadInputError("color", "it is not #rrggbb")
    tag = session.scalar(sa.select(Tag).where(Tag.project_id == of_project.id, Tag.name == name))
    if tag is None:
        tag = Tag(id=new_id(), project_id=of_project.id, name=_checked_tag(name))
        session.add(tag)
    tag.color = None if color is None else color.lower()
    session.flush()
    record(session, principal.name, "tag.colored", tag.id, project_id=of_project.id, name=name, color=tag.color)
    return tag


def _cursor_at(asset: Asset) -> str:
    return to_cursor(f"{asset.created_at.isoformat()}|{asset.id}")


def _before(cursor: str) -> sa.Tuple:
    moment, _, asset_id = from_cursor(cursor).partition("|")
    try:
        created_at = datetime.fromisoformat(moment)
    except ValueError:
        raise BadInputError("cursor", "it is not the cursor of a page") from None
    if created_at.tzinfo is None:
        raise BadInputError("cursor", "it is not the cursor of a page")
    return sa.tuple_(sa.literal(created_at, UtcTime()), sa.literal(asset_id))


def find_asset(session: Session, principal: Principal, asset_id: str, permission: Permission) -> Asset:
    """One asset, if the permission reaches it; else `NotFoundError`, or `ForbiddenError` if it may be read."""
    # Whoever changes it too waits, and then finds another version.
    changes = permission != "assets:read"
    found = session.get(Asset, asset_id, with_for_update=changes or None, populate_existing=changes)
    if found is None or found.deleted_at is not None or not principal.may("assets:read", found.project_id):
        raise NotFoundError("asset", asset_id)
    principal.require(permission, found.project_id)
    return found


def _index(session: Session, asset: Asset) -> None:
    store_texts(session, [(asset.id, asset.folder, asset.name)])
    store_attributes(session, {asset.id: values_in(asset.details)}, "details")


def _refuse_second(session: Session, asset: Asset, name: str) -> None:
    same = sa.select(Asset.id).where(
        Asset.project_id == asset.project_id,
        Asset.kind == asset.kind,
        Asset.folder == asset.folder,
        Asset.name == name,
        Asset.deleted_at.is_(None),
        Asset.id != asset.id,
    )
    if session.scalar(same) is not None:
        raise ConflictError("asset", f"there is a {asset.kind} named {name!r} in this folder already")


def _note_change(session: Session, principal: Principal, asset: Asset, topic: str, **payload: Any) -> None:
    asset.version += 1
    asset.updated_at = datetime.now(UTC)
    session.flush()
    record(session, principal.name, topic, asset.id, project_id=asset.project_id, version=asset.version, **payload)


def views_of(session: Session, found: Sequence[Asset]) -> list[AssetView]:
    """Assets with the names of their projects and their tags."""
    query = sa.select(Project.id, Project.name).where(Project.id.in_({asset.project_id for asset in found}))
    projects = {row.id: row.name for row in session.execute(query)}
    return _with_tags(session, [(asset, projects[asset.project_id]) for asset in found])


def _view(session: Session, asset: Asset) -> AssetView:
    return views_of(session, [asset])[0]


def _with_tags(session: Session, rows: Sequence[tuple[Asset, str]]) -> list[AssetView]:
    query = (
        sa.select(AssetTag.asset_id, Tag.name)
        .join(Tag, Tag.id == AssetTag.tag_id)
        .where(AssetTag.asset_id.in_([asset.id for asset, _ in rows]))
        .order_by(Tag.name)
    )
    names: dict[str, list[str]] = {}
    for asset_id, name in session.execute(query):
        names.setdefault(asset_id, []).append(name)
    return [AssetView(asset, project, names.get(asset.id, [])) for asset, project in rows]


def _urls(session: Session, media_ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    query = sa.select(MediaLocation).where(MediaLocation.media_id.in_(media_ids)).order_by(MediaLocation.url)
    for place in session.scalars(query):
        found.setdefault(place.media_id, []).append(place.url)
    return found


def _checked_name(name: str) -> str:
    if not name.strip() or "/" in name or "\x00" in name:
        raise BadInputError("name", "it is empty, or has a slash or a null character")
    return name


def _checked_tag(name: str) -> str:
    if not name.strip() or len(name) > 100 or "\x00" in name:
        raise BadInputError("tag", "it is empty, longer than 100 characters, or has a null character")
    return name
