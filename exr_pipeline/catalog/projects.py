"""Projects: the shows that assets belong to, and that roles are given in.

Belongs here: making, finding and changing them. Not here: their assets (`assets`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from exr_pipeline.catalog.errors import ConflictError, NotFoundError, StaleError
from exr_pipeline.catalog.event_log import record
from exr_pipeline.catalog.ids import new_id
from exr_pipeline.catalog.models import Project
from exr_pipeline.catalog.principals import EVERY_PROJECT, Principal, needs
from exr_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exr_pipeline.catalog.principals import Permission

# A name is part of addresses.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@needs("projects:read")
def projects(session: Session, principal: Principal) -> Sequence[Project]:
    """The projects that the caller may look into, by name."""
    query = sa.select(Project).where(principal.sees(Project.id, "projects:read")).order_by(Project.name)
    return session.scalars(query).all()


@needs("projects:read")
def project(session: Session, principal: Principal, name: str) -> Project:
    """One project by its name."""
    return find_project(session, principal, name, "projects:read")


@needs("projects:write")
def create_project(session: Session, principal: Principal, name: str, title: str = "") -> Project:
    """A new project. Needs the permission in all projects."""
    principal.require("projects:write", EVERY_PROJECT)
    if session.scalar(sa.select(Project.id).where(Project.name == name)) is not None:
        raise ConflictError("project", f"there is one named {name!r} already")
    created = add_project(session, name, title)
    record(session, principal.name, "project.created", created.id, project_id=created.id, name=name)
    return created


@needs("projects:write")
def rename_project(session: Session, principal: Principal, name: str, title: str, *, version: int) -> Project:
    """Give a project, as the caller has read it (`version`), another title."""
    found = find_project(session, principal, name, "projects:read")
    principal.require("projects:write", found.id)
    # Whoever changes it too waits, and then finds another version.
    session.refresh(found, with_for_update=True)
    require_version("project", found.version, version)
    found.title, found.version = title, found.version + 1
    record(session, principal.name, "project.changed", found.id, project_id=found.id, title=title)
    return found


def find_project(session: Session, principal: Principal, name: str, permission: Permission) -> Project:
    """A project by its name, if the permission reaches it; else `NotFoundError`."""
    found = session.scalar(sa.select(Project).where(Project.name == name))
    if found is None or not principal.may(permission, found.id):
        raise NotFoundError("project", name)
    return found


def add_project(session: Session, name: str, title: str = "") -> Project:
    """Add a row. Raises `BadInputError` for a name that cannot be part of an address."""
    if not NAME.fullmatch(name):
        raise BadInputError("name", "it is not letters, digits, dots, dashes and underscores, at most 100")
    created = Project(id=new_id(), name=name, title=title or name, version=1, created_at=datetime.now(UTC))
    session.add(created)
    session.flush()
    return created


def require_version(kind: str, present: int, read: int) -> None:
    """Raise `StaleError` unless a thing still is as the caller has read it."""
    if present != read:
        raise StaleError(kind, f"it was changed meanwhile (version {present}, not {read})")
