"""Which sequences need their media made (again): those that have settled and are new, have changed, or are due again.

Belongs here: that decision. Not here: making media (`ingest.sequence_maker`), or starting runs (the sensor).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exr_pipeline.formats import FRAME_FORMATS
from exr_pipeline.ingest.doubtful import DOUBTFUL
from exr_pipeline.retries import POLICY
from exr_pipeline.sequences.find import find_sequences
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import RETRYABLE

if TYPE_CHECKING:
    from exr_pipeline.sequences.model import Sequence
    from exr_pipeline.tables.store import TableStore

# How late a row may appear in the tables with the time that it says: clocks differ, and a write may wait for others.
LOOK_BACK: Final = timedelta(minutes=5)
FOLDERS_REMEMBERED: Final = 2000

# What tells when a retryable sequence is due again.
_WHEN: Final = ("state", "generated_timestamp", "retryable_since")


@dataclass
class Watermark:
    """Up to when folders were looked at, the latest change of those that might be met again, and those still due.

    `runs` is up to when runs that ended badly were looked at.
    """

    since: str = ""
    seen: dict[str, str] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    runs: str = ""


class _KnownFile(NamedTuple):
    """A file as the tables have it."""

    location: Location
    etag: str


def frames_hash(sequence: Sequence) -> str:
    """A hash of the names and versions of a sequence's frames: another one means that its media are outdated."""
    digest = hashlib.sha256()
    for frame in sequence.frames:
        digest.update(f"{frame.location.key}\0{frame.etag}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def settled_folders(
    tables: TableStore,
    mark: Watermark,
    *,
    now: datetime,
    quiet: timedelta,
    limit: int,
    most_remembered: int = FOLDERS_REMEMBERED,
) -> list[str]:
    """URLs of at most about `limit` folders that have changed and then been quiet, oldest change first.

    Moves the watermark on: a folder comes once per change, but none is missed. What is in `again` comes first.
    Of more recent changes than can be remembered, some wait until none can appear beside them any more.
    """
    again, mark.again = mark.again, []
    horizon = (now - quiet).astimezone(UTC).isoformat()
    changed = {folder.url: moment for folder, moment in tables.folders_changed_since(mark.since).items()}
    due = sorted(
        (moment, url) for url, moment in changed.items() if moment <= horizon and mark.seen.get(url, "") < moment
    )
    # Up to here no row appears any more, so that what was visited need not be remembered.
    settled = (now - quiet - LOOK_BACK).astimezone(UTC).isoformat()
    remembered = sum(moment > settled for moment in mark.seen.values())
    chosen = due[: max(most_remembered - remembered, 0) + sum(moment <= settled for moment, _ in due)][:limit]
    # Those of the same moment as the last one would be passed over.
    chosen += [one for one in due[len(chosen) :] if chosen and one[0] == chosen[-1][0]]
    reached = chosen[-1][0] if chosen and len(chosen) < len(due) else horizon
    mark.since = max(mark.since, min(reached, settled))
    mark.seen |= {url: moment for moment, url in chosen}
    latest = sorted(((moment, url) for url, moment in mark.seen.items() if moment > mark.since), reverse=True)
    mark.seen = {url: moment for moment, url in latest[:most_remembered]}
    return list(dict.fromkeys([*again, *(url for _, url in chosen)]))


def sequences_in(tables: TableStore, folder: Location, *, udim: str) -> list[Sequence]:
    """The sequences that the tables know directly in a folder; frames that could not be reached yet are left out."""
    columns = ("uri", "file_path", "etag", "state", "format", "deleted_at")
    frames = [
        _KnownFile(Location.from_url(row["uri"]), row["etag"] or "")
        for batch in tables.scan("files", columns=columns, bucket=folder.bucket, prefix=folder.path)
        for row in batch.to_pylist()
        if "/" not in row["file_path"][len(folder.path) :]
        and row["state"] != RETRYABLE
        and row["deleted_at"] is None
        and (row["format"] is None or row["format"] in FRAME_FORMATS)
    ]
    return find_sequences(frames, udim=udim)


def outdated(tables: TableStore, sequences: list[Sequence], *, now: datetime, retry_after: timedelta) -> list[Sequence]:
    """Those of the sequences whose media are not made, are of other frames, or are `retryable` and due again.

    So are those that lack frames, or were rejected, for a reason that is no evidence against a file.
    """
    if not sequences:
        return []
    rows = tables.read(
        "sequence_outputs",
        columns=("bucket", "sequence_path", "frames_hash", "reason", "unreadable_frames", *_WHEN),
        locations=[sequence.location for sequence in sequences],
    ).to_pylist()
    made = {
        (row["bucket"], row["sequence_path"]): row["frames_hash"]
        for row in rows
        if (
            not _is_due(row, now, retry_after)
            if row["state"] == RETRYABLE
            else not DOUBTFUL.search(f"{row['reason']} {row['unreadable_frames']}")
        )
    }
    return [
        sequence
        for sequence in sequences
        if made.get((sequence.location.bucket, sequence.location.path)) != frames_hash(sequence)
    ]


def due_again(tables: TableStore, *, now: datetime, quiet: timedelta, retry_after: timedelta) -> list[Location]:
    """The `retryable` sequences that have waited long enough and whose folder is quiet, the longest untried first.

    Asks the tables for rows of that state only. What is not quiet comes by `settled_folders` once it is.
    """
    rows = tables.read("sequence_outputs", columns=("uri", *_WHEN), state=RETRYABLE).to_pylist()
    due = [
        (row["generated_timestamp"] or "", Location.from_url(row["uri"]))
        for row in rows
        if _is_due(row, now, retry_after)
    ]
    if not due:
        return []
    horizon = (now - quiet).astimezone(UTC).isoformat()
    changing = tables.folders_changed_since(horizon)
    return [location for _, location in sorted(due) if location.folder not in changing]


def _is_due(row: dict[str, Any], now: datetime, retry_after: timedelta) -> bool:
    tried, since = row["generated_timestamp"], row["retryable_since"]
    return tried is None or POLICY.is_due(
        now=now,
        last_tried=datetime.fromisoformat(tried),
        failing_since=datetime.fromisoformat(since) if since else None,
        retry_after=retry_after,
    )
