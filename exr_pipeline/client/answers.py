"""What the catalog answers, as records.

Belongs here: those records. Not here: asking (`calls`). Fields that a later server adds are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self


class _Answer:
    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """The record of a JSON object."""
        return cls(**{field.name: found[field.name] for field in fields(cls)})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Asset(_Answer):
    """An asset. `version` is what a change of it has to name."""

    id: str
    parent_id: str | None
    project: str
    kind: str
    folder: str
    name: str
    status: str
    reason: str | None
    details: Mapping[str, Any]
    tags: Sequence[str]
    version: int
    created_by: str
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class MediaObject(_Answer):
    """A media object of an asset. `size` is in bytes; `content` is the path of its bytes at a server."""

    id: str
    role: str
    ordinal: int | None
    filename: str
    content_type: str
    size: int | None
    sha256: str | None
    status: str
    reason: str | None
    urls: Sequence[str]
    content: str


@dataclass(frozen=True, slots=True)
class Transfer(_Answer):
    """A file on its way. `received`: the numbers of the parts that the store has; sizes are in bytes."""

    id: str
    media_id: str
    state: str
    reason: str | None
    size: int
    part_size: int
    parts: int
    received: Sequence[int]
    bytes_checked: int
    direct: bool


@dataclass(frozen=True, slots=True)
class Event(_Answer):
    """Something that was done. `seq` is its place in the order of all."""

    seq: int
    id: str
    topic: str
    subject_id: str
    actor: str
    payload: Mapping[str, Any]
    at: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is: what is done now (`sending`, `verifying`, `fetching`), and bytes of all."""

    doing: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]
