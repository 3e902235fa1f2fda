"""Which files of a source need work: a listing compared with what the tables know.

Belongs here: the comparison, as plain functions. Not here: listing objects, or asking for runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from exr_pipeline.retries import POLICY
from exr_pipeline.tables.specs import REJECTED, RETRYABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.tables.store import FileVersion

# `outdated`: its pictures are not what they would be now; `again`: somebody asked for it, although nothing has changed.
# `elsewhere`: it needs no work, since something other than Dagster has done it, and is only to be shown.
Need = Literal["new", "changed", "retry", "outdated", "again", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that needs work, and why; `detail` says in words what is outdated."""

    info: ObjectInfo
    need: Need
    detail: str = ""


def needs_work(
    listed: Iterable[ObjectInfo],
    known: Mapping[Location, FileVersion],
    *,
    now: datetime,
    retry_after: timedelta,
) -> list[Candidate]:
    """The listed files whose present version is not in the tables, or is due for another try, in listed order.

    A version is recognised by its entity tag: an upload within the same second or with an older date is still seen.
    A rejected version is final until it is put there anew, be it with the same bytes: it may have been away meanwhile.
    A retryable one is due after the growing waits of `exr_pipeline.retries`, of which `retry_after` is the first, and
    so is one that may not be looked up, after a long one. A file that was taken for deleted and is there again needs
    work, whether or not it changed: its media may be gone. Any other archived file needs work once it has changed.
    """
    found: list[Candidate] = []
    for info in listed:
        version = known.get(info.location)
        if version is None:
            found.append(Candidate(info, "new"))
        elif version.etag is None and version.state == REJECTED and version.deleted_at is None:
            # It has no entity tag to know it by.
            due = POLICY.is_due_unreadable(now=now, last_tried=version.last_inspected, retry_after=retry_after)
            if version.archived_at is None and due:
                found.append(Candidate(info, "retry"))
            elif info.last_modified >= version.last_inspected:
                found.append(Candidate(info, "changed"))
        elif (
            version.deleted_at is not None
            or version.etag != info.etag
            or (version.state == REJECTED and version.mtime != info.last_modified)
        ):
            found.append(Candidate(info, "changed"))
        elif version.state == RETRYABLE and POLICY.is_due(
            now=now,
            last_tried=version.last_inspected,
            failing_since=version.retryable_since,
            retry_after=retry_after,
        ):
            found.append(Candidate(info, "retry"))
    return found


def finished_elsewhere(listed: Iterable[ObjectInfo], known: Mapping[Location, FileVersion]) -> list[Candidate]:
    """Of listed files that no run has ever been asked for, those that have nevertheless ended as ready or rejected."""
    return [
        Candidate(info, "elsewhere")
        for info in listed
        if (version := known.get(info.location)) is not None
        and version.state != RETRYABLE
        and version.etag == info.etag
        and version.archived_at is None
        and version.deleted_at is None
    ]


@dataclass(frozen=True, slots=True)
class Sighting:
    """A file that was not yet settled: its entity tag, and when this version was first seen."""

    etag: str | None
    since: datetime


def settled(
    candidates: Iterable[Candidate],
    sightings: Mapping[str, Sighting],
    *,
    now: datetime,
    settle: timedelta,
) -> tuple[list[Candidate], dict[str, Sighting]]:
    """Split candidates into those that nobody writes any more and those to be looked at again.

    A file is settled once it is older than `settle` by its own date, or once this same version was first seen that long
    ago (for stores whose clock is ahead of ours). `sightings` maps URLs to what was seen before; the second result
    is the mapping to keep for next time.
    """
    ready: list[Candidate] = []
    waiting: dict[str, Sighting] = {}
    for candidate in candidates:
        info = candidate.info
        before = sightings.get(info.location.url)
        since = before.since if before is not None and before.etag == info.etag else now
        if now - info.last_modified >= settle or now - since >= settle:
            ready.append(candidate)
        else:
            waiting[info.location.url] = Sighting(info.etag, since)
    return ready, waiting


def in_chunks(candidates: Iterable[Candidate], size: int) -> list[list[Candidate]]:
    """Candidates in an order worth running again (by folder, sequence and frame), cut into chunks of at most `size`."""
    ordered = sorted(candidates, key=lambda candidate: candidate.info.location)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]
