"""The trace that work belongs to, as the text that events carry: `traceparent` of W3C Trace Context.

Belongs here: checking and keeping that text, which also works where no spans are recorded. Not here: spans
(`recording`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeGuard

# Version 00. A trace or a span whose identifier is zero is none.
_FORM: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")

_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def is_traceparent(text: object) -> TypeGuard[str]:
    """Whether it is a traceparent of version 00. Whoever sends events may write anything into it."""
    return isinstance(text, str) and _FORM.fullmatch(text) is not None


def traceparent_of(trace_id: int, span_id: int, flags: int) -> str:
    """The text for these identifiers."""
    return f"00-{trace_id:032x}-{span_id:016x}-{flags & 0xFF:02x}"


def ids_of(traceparent: str) -> tuple[str, str]:
    """The identifiers of trace and span, in hexadecimal."""
    _, trace_id, span_id, _ = traceparent.split("-")
    return trace_id, span_id


def current_traceparent() -> str | None:
    """The trace that this work belongs to, if any."""
    return _current.get()


@contextmanager
def in_trace(traceparent: str | None) -> Iterator[str | None]:
    """Have the block belong to a trace."""
    token = _current.set(traceparent)
    try:
        yield traceparent
    finally:
        _current.reset(token)
