"""The log of what was done: written in the transaction of each change, read by those who follow or audit.

Belongs here: adding and reading events. Not here: delivering them to others.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from exr_pipeline.catalog.ids import new_id
from exr_pipeline.catalog.models import Event
from exr_pipeline.catalog.principals import Principal, needs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


def record(
    session: Session, actor: str, topic: str, subject_id: str, *, project_id: str | None = None, **payload: Any
) -> None:
    """Add an event to the transaction. `payload` never holds a secret."""
    session.add(Event(**event_row(actor, topic, subject_id, project_id=project_id, **payload)))


def event_row(
    actor: str, topic: str, subject_id: str, *, project_id: str | None = None, **payload: Any
) -> dict[str, Any]:
    """The columns of an event, for those who add many at once."""
    return {
        "id": new_id(),
        "topic": topic,
        "project_id": project_id,
        "subject_id": subject_id,
        "actor": actor,
        "payload": payload,
        "at": datetime.now(UTC),
    }


@needs("events:read")
def events_after(
    session: Session, principal: Principal, seq: int = 0, *, subject_id: str | None = None, limit: int = 100
) -> Sequence[Event]:
    """Events in their order, after one by its number. Those of no project are for who may manage accounts."""
    seen = principal.sees(Event.project_id, "events:read")
    if not principal.may("accounts:manage", "*"):
        seen = sa.and_(Event.project_id.is_not(None), seen)
    query = sa.select(Event).where(Event.seq > seq, seen)
    if subject_id is not None:
        query = query.where(Event.subject_id == subject_id)
    return session.scalars(query.order_by(Event.seq).limit(limit)).all()
