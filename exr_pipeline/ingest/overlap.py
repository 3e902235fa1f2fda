"""What another run has finished in the meantime: two runs over the same files share the work instead of repeating it.

Belongs here: the question to the tables. Not here: the order of work (`chunk`), or what Dagster shows.
Why tables and not locks: docs/decisions/0007-overlapping-runs.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline import __version__
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.merge import CLOCKS_DIFFER_BY, instant
from exr_pipeline.tables.specs import READY, REJECTED, State

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from exr_pipeline.products.product import FileProduct
    from exr_pipeline.tables.specs import TableName
    from exr_pipeline.tables.store import TableStore

_FILE_COLUMNS: Final = (
    *("bucket", "file_path", "file_id", "uri", "etag", "size_bytes", "mtime", "format", "state", "reason"),
    *("seen_at", "last_inspected", "deleted_at"),
)


@dataclass(frozen=True, slots=True)
class FinishedFile:
    """A file that needs no more work, as the tables have it: its row of `files`, and its outputs if they are wanted."""

    location: Location
    state: State
    reason: str | None
    etag: str | None
    row: Mapping[str, Any] = field(repr=False)
    outputs: Mapping[str, Any] | None = field(default=None, repr=False)


def finished_since(
    tables: TableStore, locations: Collection[Location], wanted: Collection[FileProduct], since: datetime
) -> list[FinishedFile]:
    """Those of the files that have ended as ready or rejected with what is wanted, all of it met and made since then.

    Met: the version was in its store after `since`, so that a run that was asked for at `since` gives the same answer.
    One query, and a second one only if pictures are wanted and some file is ready.
    """
    by_key = {(location.bucket, location.path): location for location in locations}
    in_files, in_outputs = _evidence(wanted, "files"), _evidence(wanted, "proxy_outputs")
    rows = [
        row
        for row in tables.read("files", columns=(*_FILE_COLUMNS, *in_files), locations=locations).to_pylist()
        if row["state"] in (READY, REJECTED) and row["deleted_at"] is None and _is_after(row["seen_at"], since)
        if row["state"] == REJECTED or all(row[column] for column in in_files)
    ]
    ready = [by_key[row["bucket"], row["file_path"]] for row in rows if row["state"] == READY]
    outputs: dict[tuple[str, str], dict[str, Any]] = {}
    if in_outputs and ready:
        made = tables.read("proxy_outputs", locations=ready).to_pylist()
        outputs = {(row["s3_bucket"], row["file_id"]): row for row in made if _is_good(row, in_outputs, since)}
    found = []
    for row in rows:
        output = outputs.get((row["bucket"], row["file_id"]))
        if row["state"] == REJECTED or not in_outputs or output is not None:
            location = by_key[row["bucket"], row["file_path"]]
            found.append(FinishedFile(location, row["state"], row["reason"], row["etag"], row, output))
    return found


def _evidence(wanted: Collection[FileProduct], table: TableName) -> tuple[str, ...]:
    """The columns of a table that are not null once these products were made."""
    return tuple(product.evidence for product in wanted if product.evidence and product.table == table)


def _is_good(outputs: Mapping[str, Any], evidence: Collection[str], since: datetime) -> bool:
    """Whether these were made since, by this version of the program, and none of those wanted is missing."""
    missing = any(not outputs[column] for column in evidence)
    same = outputs["generator_version"] == __version__
    return not missing and same and _is_after(outputs["generated_timestamp"], since)


def _is_after(text: str | None, since: datetime) -> bool:
    # A time in the future, which a clock that was ahead wrote, tells of nothing that was done since.
    latest = datetime.now(UTC) + CLOCKS_DIFFER_BY
    return text is not None and since.astimezone(UTC) <= instant(text) <= latest
