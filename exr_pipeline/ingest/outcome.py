"""What the files of an ingest ended as, by the tables: state, reason, and where their pictures are.

Belongs here: that question to the tables. Not here: printing it (`cli`), or what a run does (`chunk`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.tables.specs import READY, RETRYABLE, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.tables.store import TableStore


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What a file ended as. `thumbnail` and `proxy` say where they are; None if there is none."""

    location: Location
    state: State
    reason: str | None = None
    thumbnail: Location | None = None
    proxy: Location | None = None


def outcomes(tables: TableStore, locations: Sequence[Location], settings: Settings) -> list[FileOutcome]:
    """What these files ended as, in their order.

    A file that has no row counts as retryable: its run ended before the row was written.
    """
    known = tables.current_versions(locations)
    ready = [location for location in locations if location in known and known[location].state == READY]
    columns = ("s3_bucket", "s3_key", "output_bucket", "thumbnail_s3_key", "proxy_s3_key")
    rows = tables.read("proxy_outputs", columns=columns, locations=ready).to_pylist() if ready else []
    made = {(row["s3_bucket"], row["s3_key"]): row for row in rows}
    place = OutputPlace.from_settings(settings)

    def picture(location: Location, kind: str) -> Location | None:
        row = made.get((location.bucket, location.path)) or {}
        path = row.get(f"{kind}_s3_key")
        return place.named(location, row["output_bucket"], path) if path else None

    def outcome(location: Location) -> FileOutcome:
        version = known.get(location)
        if version is None:
            return FileOutcome(location, RETRYABLE)
        return FileOutcome(
            location, version.state, version.reason, picture(location, "thumbnail"), picture(location, "proxy")
        )

    return [outcome(location) for location in locations]
