"""What GraphQL gives, and how the shapes of REST become that. Docstrings are the schema's descriptions.

Belongs here: those types. Not here: the fields that callers begin with (`queries`, `mutations`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NewType, TypeVar

import strawberry
from pydantic import BaseModel
from strawberry.scalars import JSON

from exr_pipeline.catalog import assets, event_log
from exr_pipeline.catalog.pages import USUAL_LIMIT
from exr_pipeline.catalog.search import AssetFilter
from exr_pipeline.service.graphql.arguments import Slice, checked
from exr_pipeline.service.graphql.context import Context
from exr_pipeline.service.rest import shapes

if TYPE_CHECKING:
    from exr_pipeline.catalog.assets import AssetView
    from exr_pipeline.catalog.pages import Page

T = TypeVar("T")
Info = strawberry.Info[Context, None]
Long = NewType("Long", int)
# Before the first event.
BEGINNING: Final = Long(0)


def of_shape(kind: type[T], shape: BaseModel) -> T:
    """A shape as a type that has the same fields, but for those that are resolved when they are asked for."""
    names = [each.name for each in fields(kind) if each.init]  # type: ignore[arg-type]
    return kind(**{name: getattr(shape, name) for name in names})


@strawberry.type
class RoleInProject:
    """A role in a project, by the identifier of the project; `*` for all projects."""

    project: str
    role: str


@strawberry.type
class Me:
    """The caller, and the permissions that its token is limited to; null if it is not."""

    name: str
    roles: list[RoleInProject]
    scopes: list[str] | None


@strawberry.type
class Project:
    """A project. `version` counts its changes."""

    id: strawberry.ID
    name: str
    title: str
    version: int
    created_at: datetime

    @strawberry.field
    def tags(self, info: Info) -> list[Tag]:
        """The tags of the project."""
        return tags_of(info, self.name)


@strawberry.type
class Tag:
    """A tag of a project: its color (#rrggbb), and how many assets have it."""

    name: str
    color: str | None
    assets: int


@strawberry.type
class Media:
    """A media object of an asset. `content`: the address of its bytes in this service."""

    id: strawberry.ID
    role: str
    ordinal: int | None
    filename: str
    content_type: str
    size: Long | None
    sha256: str | None
    status: str
    reason: str | None
    file_id: str | None
    urls: list[str]
    content: str


@strawberry.type
class Event:
    """Something that was done. `seq` is its place in the order of all events."""

    seq: Long
    id: strawberry.ID
    topic: str
    subject_id: str
    actor: str
    payload: JSON
    at: datetime


@strawberry.type
class Asset:
    """An asset. `version` counts its changes: send it with a change."""

    id: strawberry.ID
    parent_id: strawberry.ID | None
    project: str
    kind: str
    folder: str
    name: str
    status: str
    reason: str | None
    details: JSON
    tags: list[str]
    version: int
    created_by: str
    created_at: datetime
    updated_at: datetime

    @strawberry.field
    async def media(self, info: Info) -> list[Media]:
        """Its media objects, by role and place."""
        return [of_shape(Media, shapes.of_media(part)) for part in await info.context.media.load(self.id)]

    @strawberry.field
    async def parent(self, info: Info) -> Asset | None:
        """The asset that it is a part of, such as the sequence of a frame."""
        view = None if self.parent_id is None else await info.context.asset.load(self.parent_id)
        return None if view is None else of_asset(view)

    @strawberry.field
    def children(self, info: Info, cursor: str | None = None, limit: int = USUAL_LIMIT) -> AssetPage:
        """Its parts, such as the frames of a sequence."""
        wanted = checked(Slice, cursor=cursor, limit=limit)
        info.context.charge(wanted.limit)
        found = AssetFilter(parent_id=self.id)
        return of_page(info.context.read(assets.assets, found, cursor=wanted.cursor, limit=wanted.limit))

    @strawberry.field
    def events(self, info: Info, after: Long = BEGINNING, limit: int = USUAL_LIMIT) -> list[Event]:
        """What was done to it, oldest first, after an event by its number."""
        return events_after(info, after, limit, subject_id=self.id)


@strawberry.type
class AssetPage:
    """A page of assets. `next`: the cursor of the page after it; null after the last."""

    items: list[Asset]
    next: str | None


@strawberry.type
class Token:
    """A token without its secret. `scopes`: the permissions that it is limited to, if it is."""

    id: strawberry.ID
    label: str
    scopes: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@strawberry.type
class CreatedToken(Token):
    """A new token. `secret` is in the first answer only."""

    secret: str | None


@strawberry.type
class Account:
    """An account and its roles."""

    name: str
    kind: str
    has_password: bool
    disabled_at: datetime | None
    roles: list[RoleInProject]


def of_roles(roles: Mapping[str, str]) -> list[RoleInProject]:
    """Roles by project as a list."""
    return [RoleInProject(project=project, role=role) for project, role in roles.items()]


def of_asset(view: AssetView) -> Asset:
    """A row as a type."""
    return of_shape(Asset, shapes.of_asset(view))


def of_page(page: Page[AssetView]) -> AssetPage:
    """A page of rows as a type."""
    return AssetPage(items=[of_asset(view) for view in page.items], next=page.next)


def of_account(shape: shapes.AccountShape) -> Account:
    """A shape as a type."""
    values: dict[str, Any] = shape.model_dump()
    return Account(**values | {"roles": of_roles(shape.roles)})


def tags_of(info: Info, project: str) -> list[Tag]:
    """The tags of a project."""
    found: Iterable[Any] = info.context.read(assets.tags, project)
    return [Tag(name=tag.name, color=tag.color, assets=count) for tag, count in found]


def events_after(info: Info, after: int, limit: int, *, subject_id: str | None = None) -> list[Event]:
    """A part of the log."""
    wanted = checked(Slice, after=after, limit=limit)
    info.context.charge(wanted.limit)
    found = info.context.read(event_log.events_after, wanted.after, subject_id=subject_id, limit=wanted.limit)
    return [of_shape(Event, shapes.of_event(event)) for event in found]
