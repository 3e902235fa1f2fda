"""Pages of long lists by keyset: what comes after the last one seen, whatever was added or removed meanwhile.

Belongs here: a page and its cursor. Not here: what a list is of, or in which order.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from exr_pipeline.errors import BadInputError

USUAL_LIMIT: Final = 60
LONGEST: Final = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list, and the cursor of the next page; None after the last one."""

    items: Sequence[T]
    next: str | None


def to_cursor(key: str) -> str:
    """A cursor that stands behind the row of a key."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def from_cursor(cursor: str) -> str:
    """The key that a cursor stands behind. Raises `BadInputError` for what is not a cursor."""
    try:
        key = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        key = ""
    if not key or "\x00" in key:
        raise BadInputError("cursor", "it is not the cursor of a page")
    return key
