"""Search: what is asked for as conditions of assets, and how many of what is found have which kind, tag and so on.

Belongs here: that. Not here: the index of words (`texts`), the language of `where`, pages (`assets`).

What few assets have is asked of its index first. What many have is looked for in the order of the page, until the page
is full. Which of the two it is, one look at the index tells, since SQLite does not know beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from exr_pipeline.catalog import texts, where
from exr_pipeline.catalog.attributes import names_of
from exr_pipeline.catalog.file_facts import TYPES
from exr_pipeline.catalog.models import Asset, AssetAttribute, AssetTag, AssetText, Project, Tag
from exr_pipeline.catalog.principals import Principal, needs

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

FEW: Final = 5000
MOST_COUNTED: Final = 5000
MOST_VALUES: Final = 50


@dataclass(frozen=True, slots=True)
class AssetFilter:
    """What is looked for; all of it at once. `words`: each is part of the folder or the name, whatever its case.

    `where` is a condition on attributes (docs/catalog.md). Parts of others, such as frames, are found by their
    `parent_id`, or together with all others (`parts`).
    """

    project: str | None = None
    kind: str | None = None
    status: str | None = None
    tags: Sequence[str] = ()
    words: str = ""
    parent_id: str | None = None
    where: str = ""
    parts: bool = False


@dataclass(frozen=True, slots=True)
class Facets:
    """How many of the assets that were found have each value, most first, by what the values are of.

    `counted` are the latest of them, as many as were asked for; `is_all` says whether there are no more.
    """

    counted: int
    is_all: bool
    values: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)


@needs("assets:read")
def facets(session: Session, principal: Principal, wanted: AssetFilter, *, most: int = MOST_COUNTED) -> Facets:
    """Count what is found, at most so many of it, by kind, status, project, tag and format."""
    matches = (
        sa.select(Asset.id, Asset.kind, Asset.status, Project.name.label("project"))
        .join(Project, Project.id == Asset.project_id)
        .where(*conditions(wanted, session, principal))
        .order_by(Asset.created_at.desc(), Asset.id.desc())
        .limit(most + 1)
        .cte("matches")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    counts = sa.union_all(
        sa.select(sa.literal("").label("of"), sa.literal("").label("value"), sa.func.count()).select_from(matches),
        *(
            sa.select(sa.literal(name), matches.c[name], sa.func.count()).group_by(matches.c[name])
            for name in ("kind", "status", "project")
        ),
        sa.select(sa.literal("tag"), Tag.name, sa.func.count())
        .select_from(matches)
        .join(AssetTag, AssetTag.asset_id == matches.c.id)
        .join(Tag, Tag.id == AssetTag.tag_id)
        .group_by(Tag.name),
        sa.select(sa.literal("format"), AssetAttribute.text, sa.func.count(sa.distinct(matches.c.id)))
        .select_from(matches)
        .join(AssetAttribute, sa.and_(AssetAttribute.asset_id == matches.c.id, AssetAttribute.name == "format"))
        .where(AssetAttribute.text.is_not(None))
        .group_by(AssetAttribute.text),
    )
    values: dict[str, list[tuple[str, int]]] = {name: [] for name in ("kind", "status", "project", "tag", "format")}
    total = 0
    for name, value, count in session.execute(counts):
        if name:
            values[name].append((value, count))
        else:
            total = count
    ordered = {name: sorted(each, key=lambda pair: (-pair[1], pair[0]))[:MOST_VALUES] for name, each in values.items()}
    return Facets(min(total, most), total <= most, ordered)


def conditions(
    wanted: AssetFilter, session: Session, principal: Principal, *, few: int = FEW
) -> list[sa.ColumnElement[bool]]:
    """What is asked for as conditions of `Asset` joined with `Project`. Raises `BadInputError` for a wrong `where`.

    Where at most `few` fit a condition, they are looked at one by one, else each asset is asked whether it fits: what
    is found is the same.
    """
    found: list[sa.ColumnElement[bool]] = [
        Asset.deleted_at.is_(None),
        principal.sees(Asset.project_id, "assets:read"),
    ]
    if wanted.parent_id is not None:
        found.append(Asset.parent_id == wanted.parent_id)
    elif not wanted.parts:
        found.append(Asset.parent_id.is_(None))
    if wanted.project is not None:
        # By its identifier: SQLite uses no index of assets for a name of another table.
        named = session.scalar(sa.select(Project.id).where(Project.name == wanted.project))
        found.append(sa.false() if named is None else Asset.project_id == named)
    if wanted.kind is not None:
        found.append(Asset.kind == wanted.kind)
    if wanted.status is not None:
        found.append(Asset.status == wanted.status)
    if (with_words := texts.with_words(session, wanted.words)) is not None:
        found.append(_one_of(session, with_words, AssetText.asset_id, few))
    for name in wanted.tags:
        tagged = sa.select(AssetTag.asset_id).join(Tag, Tag.id == AssetTag.tag_id).where(Tag.name == name)
        found.append(_one_of(session, tagged, AssetTag.asset_id, few))
    if wanted.where.strip():
        known: dict[str, Set[bool]] = dict(TYPES)
        for name, types in names_of(wanted.project, session, principal).items():
            known[name] = known.get(name, set()) | types
        is_sqlite = session.get_bind().dialect.name == "sqlite"

        def has_attribute(fits: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
            with_it = sa.select(AssetAttribute.asset_id).where(fits)
            return _one_of(session, with_it, AssetAttribute.asset_id, few)

        found.append(where.condition(wanted.where, known, has_attribute, is_sqlite=is_sqlite))
    return found


def _one_of(
    session: Session, query: sa.Select[Any], asset_id: sa.SQLColumnExpression[str], few: int
) -> sa.ColumnElement[bool]:
    """Assets that a query of their identifiers finds."""
    found = session.scalar(sa.select(sa.func.count()).select_from(query.limit(few + 1).subquery())) or 0
    if found <= few:
        return Asset.id.in_(query)
    return sa.exists(query.where(asset_id == Asset.id).correlate(Asset))
