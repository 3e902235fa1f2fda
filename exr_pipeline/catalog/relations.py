"""Relations between assets: what one is derived from, what it is made of, and which one it is a new version of.

Belongs here: those. Not here: parts, such as frames of a sequence (`Asset.parent_id`), or collections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

import sqlalchemy as sa

from exr_pipeline.catalog.assets import AssetView, find_asset, views_of
from exr_pipeline.catalog.errors import ConflictError, NotFoundError
from exr_pipeline.catalog.event_log import record
from exr_pipeline.catalog.models import Asset, AssetRelation
from exr_pipeline.catalog.principals import Principal, needs
from exr_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

RelationKind = Literal["derived_from", "made_of", "version_of"]
KINDS: Final[tuple[RelationKind, ...]] = get_args(RelationKind)
MOST: Final = 1000
# "relation" in ASCII as a number: one that adds a relation waits for the other, so that two make no circle together.
_LOCK: Final = int.from_bytes(b"relation", "big") >> 1


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation as one of its assets sees it: from it (`is_from`), or from the other to it."""

    kind: str
    is_from: bool
    other: AssetView


@needs("assets:read")
def relations(session: Session, principal: Principal, asset_id: str) -> Sequence[Relation]:
    """The relations of an asset with others that the caller may see, at most `MOST`, by kind and name."""
    found = find_asset(session, principal, asset_id, "assets:read")
    there, here = AssetRelation.other_id, AssetRelation.asset_id
    related = sa.union_all(
        sa.select(AssetRelation.kind, sa.true().label("is_from"), there.label("id")).where(here == found.id),
        sa.select(AssetRelation.kind, sa.false().label("is_from"), here.label("id")).where(there == found.id),
    ).subquery()
    query = (
        sa.select(related.c.kind, related.c.is_from, Asset)
        .join(Asset, Asset.id == related.c.id)
        .where(Asset.deleted_at.is_(None), principal.sees(Asset.project_id, "assets:read"))
        .order_by(related.c.kind, related.c.is_from.desc(), Asset.name, Asset.id)
        .limit(MOST)
    )
    rows = session.execute(query).all()
    views = views_of(session, [asset for _, _, asset in rows])
    return [Relation(kind, is_from, view) for (kind, is_from, _), view in zip(rows, views, strict=True)]


@needs("assets:write")
def relate(session: Session, principal: Principal, asset_id: str, kind: str, other_id: str) -> None:
    """Say that an asset is derived from, made of, or a new version of another. Saying it twice is the same as once.

    Raises `ConflictError` if the other one leads back to it.
    """
    if kind not in KINDS:
        raise BadInputError("kind", f"it is not one of {', '.join(KINDS)}")
    # Before any row is: two that wait for each other's rows would not end.
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    found = find_asset(session, principal, asset_id, "assets:write")
    other = find_asset(session, principal, other_id, "assets:read")
    if session.get(AssetRelation, (found.id, kind, other.id)) is not None:
        return
    if _leads_to(session, other.id, found.id):
        raise ConflictError("relation", "the other asset comes from this one: an asset cannot come from itself")
    count = sa.select(sa.func.count()).select_from(AssetRelation).where(AssetRelation.asset_id == found.id)
    if (session.scalar(count) or 0) >= MOST:
        raise BadInputError("relation", f"the asset has {MOST} of them already: put the others into a collection")
    session.add(AssetRelation(asset_id=found.id, kind=kind, other_id=other.id))
    session.flush()
    payload = {"kind": kind, "other": other.id}
    record(session, principal.name, "asset.related", found.id, project_id=found.project_id, **payload)


@needs("assets:write")
def unrelate(session: Session, principal: Principal, asset_id: str, kind: str, other_id: str) -> None:
    """Take back that an asset is related with another."""
    found = find_asset(session, principal, asset_id, "assets:write")
    relation = session.get(AssetRelation, (found.id, kind, other_id))
    if relation is None:
        raise NotFoundError("relation", f"{kind} {other_id}")
    session.delete(relation)
    session.flush()
    payload = {"kind": kind, "other": other_id}
    record(session, principal.name, "asset.unrelated", found.id, project_id=found.project_id, **payload)


def _leads_to(session: Session, start: str, end: str) -> bool:
    reached = sa.select(sa.cast(start, sa.String()).label("id")).cte("reached", recursive=True)
    onward = sa.select(AssetRelation.other_id).join(reached, AssetRelation.asset_id == reached.c.id)
    # UNION drops what was reached before, so it ends.
    reached = reached.union(onward)
    return session.scalar(sa.select(reached.c.id).where(reached.c.id == end).limit(1)) is not None
