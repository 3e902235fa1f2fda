"""Regions, servers and locations: where nodes and media are.

Belongs here: those services, the heartbeat of a node, and the location of an installation that has named none. Not
here: what is stored at a location (`transfers`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from exr_pipeline.catalog.errors import ConflictError, NotFoundError
from exr_pipeline.catalog.event_log import record
from exr_pipeline.catalog.ids import new_id
from exr_pipeline.catalog.models import Region, Server, StorageLocation, UtcTime
from exr_pipeline.catalog.principals import EVERY_PROJECT, Principal, needs
from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.storage.locations import Location

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exr_pipeline.settings import Settings

# A node that has not been heard of for so long is gone.
SILENT_SECONDS: Final = 30
ACTOR: Final = "serve"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_WRITABLE: Final = ("s3", "file")
_FOLDER: Final = ".assets"
_DEFAULT: Final = "default"


@needs("projects:read")
def regions(session: Session, principal: Principal) -> Sequence[Region]:
    """All regions, by name."""
    return session.scalars(sa.select(Region).order_by(Region.name)).all()


@needs("projects:read")
def servers(session: Session, principal: Principal) -> Sequence[Server]:
    """The nodes that are alive, by name."""
    alive = Server.heartbeat_at > database_now(session) - timedelta(seconds=SILENT_SECONDS)
    return session.scalars(sa.select(Server).where(alive).order_by(Server.name)).all()


@needs("projects:read")
def locations(session: Session, principal: Principal) -> Sequence[StorageLocation]:
    """All locations, in the order in which they are chosen."""
    return session.scalars(sa.select(StorageLocation).order_by(*_ORDER)).all()


@needs("places:manage")
def create_region(session: Session, principal: Principal, name: str, title: str = "") -> Region:
    """A new region. Needs the permission in all projects, as all that follow."""
    principal.require("places:manage", EVERY_PROJECT)
    if session.get(Region, name) is not None:
        raise ConflictError("region", f"there is one named {name!r} already")
    created = _add_region(session, name, title)
    record(session, principal.name, "region.created", name)
    return created


@needs("places:manage")
def create_location(
    session: Session,
    principal: Principal,
    name: str,
    url_root: str,
    *,
    region: str,
    writable: bool = True,
    priority: int = 100,
) -> StorageLocation:
    """A new location. Its root is a bucket or a folder, with a prefix or none, and lies in no other location."""
    principal.require("places:manage", EVERY_PROJECT)
    if session.get(Region, region) is None:
        raise NotFoundError("region", region)
    if session.scalar(sa.select(StorageLocation.id).where(StorageLocation.name == name)) is not None:
        raise ConflictError("location", f"there is one named {name!r} already")
    root = _checked_root(url_root)
    for other in session.scalars(sa.select(StorageLocation)):
        there = Location.from_url(other.url_root)
        if there.holds(root) or root.holds(there):
            raise ConflictError("location", f"it lies in the location {other.name!r}, or that one in it")
    created = _add_location(session, name, root, region, writable=writable, priority=priority)
    record(session, principal.name, "location.created", created.id, name=name, url_root=created.url_root)
    return created


@needs("places:manage")
def change_location(
    session: Session,
    principal: Principal,
    name: str,
    *,
    writable: bool | None = None,
    priority: int | None = None,
) -> StorageLocation:
    """Change what a location is used for. Its root stays: media lie below it."""
    principal.require("places:manage", EVERY_PROJECT)
    found = session.scalar(sa.select(StorageLocation).where(StorageLocation.name == name).with_for_update())
    if found is None:
        raise NotFoundError("location", name)
    found.writable = found.writable if writable is None else writable
    found.priority = found.priority if priority is None else priority
    record(session, principal.name, "location.changed", found.id, writable=found.writable, priority=found.priority)
    return found


def writable_location(session: Session, name: str | None) -> StorageLocation:
    """The location of a name, or the first that is writable. Raises `NotFoundError` for one that is not writable."""
    query = sa.select(StorageLocation).where(StorageLocation.writable).order_by(*_ORDER)
    if name is not None:
        query = query.where(StorageLocation.name == name)
    found = session.scalar(query.limit(1))
    if found is None:
        raise NotFoundError("writable location", name or _DEFAULT)
    return found


def ensure_location(session: Session, settings: Settings) -> None:
    """Make the location of an installation that has none: a hidden folder where its media go, or else its state is.

    It is below the root of outputs, or in the store of the first source.
    """
    if session.scalar(sa.select(StorageLocation.id).limit(1)) is not None:
        return
    if session.get(Region, settings.region) is None:
        _add_region(session, settings.region)
    root = _default_root(settings)
    created = _add_location(session, _DEFAULT, root, settings.region, writable=True, priority=100)
    record(session, ACTOR, "location.created", created.id, name=_DEFAULT, url_root=created.url_root)


def note_heartbeat(session: Session, name: str, *, region: str, url: str | None, version: str) -> None:
    """Say that a node is alive."""
    now = database_now(session)
    server = session.get(Server, name)
    if server is None:
        if session.get(Region, region) is None:
            _add_region(session, region)
        server = Server(name=name, started_at=now)
        session.add(server)
    server.region, server.url, server.version, server.heartbeat_at = region, url, version, now


def forget_server(session: Session, name: str) -> None:
    """Say that a node has ended."""
    session.execute(sa.delete(Server).where(Server.name == name))


def database_now(session: Session) -> datetime:
    """The database's clock, which all nodes share."""
    if session.get_bind().dialect.name == "sqlite":
        # All nodes are on its machine, whose clock has more digits.
        return datetime.now(UTC)
    return session.scalars(sa.select(sa.func.clock_timestamp(type_=UtcTime()))).one()


_ORDER: Final = (StorageLocation.priority, StorageLocation.created_at, StorageLocation.id)


def _add_region(session: Session, name: str, title: str = "") -> Region:
    if not _NAME.fullmatch(name):
        raise BadInputError("region", "its name is not letters, digits, dots, colons, dashes and underscores")
    created = Region(name=name, title=title or name)
    session.add(created)
    session.flush()
    return created


def _add_location(
    session: Session, name: str, root: Location, region: str, *, writable: bool, priority: int
) -> StorageLocation:
    if not _NAME.fullmatch(name):
        raise BadInputError("location", "its name is not letters, digits, dots, colons, dashes and underscores")
    created = StorageLocation(
        id=new_id(),
        name=name,
        url_root=root.url,
        region=region,
        writable=writable,
        priority=priority,
        created_at=datetime.now(UTC),
    )
    session.add(created)
    session.flush()
    return created


def _checked_root(url: str) -> Location:
    try:
        root = Location.from_url(url).as_folder()
    except MisconfiguredError as error:
        raise BadInputError("url_root", error.problem) from None
    if root.scheme not in _WRITABLE:
        raise BadInputError("url_root", "it is neither s3://bucket/prefix nor file:///folder")
    parts = root.key.removesuffix("/").split("/")
    if (root.key and any(part in {"", ".", ".."} for part in parts)) or not root.key.isprintable():
        raise BadInputError("url_root", "it has an empty, . or .. component, or control characters")
    if root.scheme == "file" and not root.key:
        raise BadInputError("url_root", "it is the root of this machine: name a folder")
    return root


def _default_root(settings: Settings) -> Location:
    before = (settings.output_root or "").partition("{source}")[0]
    for url in (before, *settings.sources):
        scheme = url.partition("://")[0]
        if scheme == "s3":
            return Location("s3", Location.from_url(url).bucket, f"{_FOLDER}/")
        if scheme == "file":
            return Location.from_url(url).child(f"{_FOLDER}/")
    return Location("file", "", str((settings.state_dir / "assets").absolute())[1:]).as_folder()
