"""Requests that bear a key are done once: the same again has the answer of the first.

Belongs here: keeping answers in the transaction of their effect. Not here: where a key comes from (the edge).
Source: draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from exr_pipeline.catalog.errors import ConflictError
from exr_pipeline.catalog.models import IdempotencyKey
from exr_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exr_pipeline.catalog.principals import Principal

KEPT_HOURS: Final = 24
_LONGEST: Final = 200

# A status and a body.
Answer = tuple[int, dict[str, Any]]


def once(session: Session, principal: Principal, key: str, request: bytes, action: Callable[[], Answer]) -> Answer:
    """The answer of `action`, or the one that the same request of the same account had before.

    Raises `ConflictError` if the key was used for another request. Two at once: the second has a `ConflictError` from
    the database, and finds the answer when it asks again.
    """
    if not 0 < len(key) <= _LONGEST:
        raise BadInputError("Idempotency-Key", f"it does not have 1 to {_LONGEST} characters")
    now, hashed = datetime.now(UTC), hashlib.sha256(request).hexdigest()
    session.execute(sa.delete(IdempotencyKey).where(IdempotencyKey.expires_at < now))
    before = session.get(IdempotencyKey, (principal.account_id, key))
    if before is not None:
        if before.request_sha256 != hashed:
            raise ConflictError("Idempotency-Key", "it was used for another request")
        return before.status, before.answer
    status, answer = action()
    session.add(
        IdempotencyKey(
            account_id=principal.account_id,
            key=key,
            request_sha256=hashed,
            status=status,
            answer=answer,
            expires_at=now + timedelta(hours=KEPT_HOURS),
        )
    )
    return status, answer
