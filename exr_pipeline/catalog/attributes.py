"""Attributes: single values of assets that `where` compares, of their files and of their details.

Belongs here: which values those are, keeping them, and which names there are. Not here: comparing them (`where`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from exr_pipeline.catalog.models import Asset, AssetAttribute, AttributeName, Project
from exr_pipeline.catalog.principals import Principal, needs
from exr_pipeline.catalog.projects import find_project

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Origin = Literal["file", "details"]
# What an attribute is of: a number or a text. A truth is 1 or 0.
Values = Mapping[str, str | float]

MOST: Final = 300
LONGEST_NAME: Final = 255
# Longer texts are compared by their beginning.
LONGEST_TEXT: Final = 255
_DEEPEST: Final = 4


@dataclass(frozen=True, slots=True)
class KnownAttribute:
    """A name that `where` may use, and what its values are."""

    name: str
    type: Literal["number", "text"]


@needs("assets:read")
def attributes(session: Session, principal: Principal, project: str | None = None) -> Sequence[KnownAttribute]:
    """The attributes that assets have, of one project or of all that the caller may look into, by name.

    One that is a number here and a text there is listed twice.
    """
    query = sa.select(AttributeName.name, AttributeName.is_number).distinct()
    query = query.where(principal.sees(AttributeName.project_id, "assets:read"))
    if project is not None:
        query = query.where(AttributeName.project_id == find_project(session, principal, project, "assets:read").id)
    rows = session.execute(query.order_by(AttributeName.name, AttributeName.is_number))
    return [KnownAttribute(name, "number" if is_number else "text") for name, is_number in rows]


def values_in(details: Mapping[str, Any], *, prefix: str = "", depth: int = 0) -> dict[str, str | float]:
    """The single values in details: those of objects in them by `object.name`; lists and nulls have none."""
    found: dict[str, str | float] = {}
    for key, value in details.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < _DEEPEST:
            found |= values_in(value, prefix=f"{name}.", depth=depth + 1)
        elif (single := single_value(value)) is not None and 0 < len(name) <= LONGEST_NAME and "\x00" not in name:
            found[name] = single
    return found


def single_value(value: object) -> str | float | None:
    """A value as it is compared; None for what is none: a list, a null, not a finite number."""
    if isinstance(value, str):
        # PostgreSQL keeps no null characters, and no halves of characters.
        return value.replace("\x00", "").encode(errors="replace").decode()[:LONGEST_TEXT]
    if isinstance(value, bool | int | float):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    return None


def store_attributes(session: Session, values: Mapping[str, Values], origin: Origin) -> None:
    """Keep the values of assets, by their identifiers, in place of those of the same origin. At most `MOST` of each."""
    wanted = {
        (asset_id, name): (value, None) if isinstance(value, str) else (None, float(value))
        for asset_id, of_asset in values.items()
        for name, value in list(of_asset.items())[:MOST]
    }
    columns = (AssetAttribute.asset_id, AssetAttribute.name, AssetAttribute.text, AssetAttribute.number)
    of_origin = sa.and_(AssetAttribute.asset_id.in_(values), AssetAttribute.origin == origin)
    stored = {
        (asset_id, name): (text, number)
        for asset_id, name, text, number in session.execute(sa.select(*columns).where(of_origin))
    }
    changed = {key[0] for key in wanted.keys() ^ stored.keys()}
    changed |= {key[0] for key, value in wanted.items() if stored.get(key, value) != value}
    if not changed:
        return
    if outdated := changed & {asset_id for asset_id, _ in stored}:
        session.execute(
            sa.delete(AssetAttribute).where(AssetAttribute.asset_id.in_(outdated), AssetAttribute.origin == origin)
        )
    rows = [
        {"asset_id": asset_id, "name": name, "origin": origin, "text": text, "number": number}
        for (asset_id, name), (text, number) in sorted(wanted.items(), key=lambda each: each[0])
        if asset_id in changed
    ]
    if rows:
        session.execute(sa.insert(AssetAttribute), rows)
        note_names(session, changed, rows)


def note_names(session: Session, assets: set[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep the names of attributes by project."""
    projects = dict(session.execute(sa.select(Asset.id, Asset.project_id).where(Asset.id.in_(assets))).all())
    used = {(projects[row["asset_id"]], row["name"], row["text"] is None) for row in rows}
    known = session.execute(
        sa.select(AttributeName.project_id, AttributeName.name, AttributeName.is_number).where(
            AttributeName.project_id.in_({project for project, _, _ in used})
        )
    )
    new = used - {(project, name, is_number) for project, name, is_number in known}
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    columns = ("project_id", "name", "is_number")
    if new:
        # Two at once may find the same one missing.
        statement = insert(AttributeName).on_conflict_do_nothing()
        session.execute(statement, [dict(zip(columns, each, strict=True)) for each in sorted(new)])


def move_names(session: Session, asset_ids: Sequence[str]) -> None:
    """Keep the names of attributes of assets that are in another project now."""
    query = sa.select(AssetAttribute.asset_id, AssetAttribute.name, AssetAttribute.text)
    rows = [dict(row) for row in session.execute(query.where(AssetAttribute.asset_id.in_(asset_ids))).mappings()]
    if rows:
        note_names(session, set(asset_ids), rows)


def names_of(project: str | None, session: Session, principal: Principal) -> dict[str, set[bool]]:
    """By name, whether its values are numbers, in the projects that the caller may look into."""
    query = sa.select(AttributeName.name, AttributeName.is_number).distinct()
    query = query.where(principal.sees(AttributeName.project_id, "assets:read"))
    if project is not None:
        query = query.join(Project, Project.id == AttributeName.project_id).where(Project.name == project)
    found: dict[str, set[bool]] = {}
    for name, is_number in session.execute(query):
        found.setdefault(name, set()).add(is_number)
    return found
