"""Which files of a source one ingest works on, and why: those that need work, as the caller widens or narrows them.

Belongs here: that choice, in the order of work. Not here: what needs work by itself (`ingest.discovery.needs_work`),
or runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from exr_pipeline.errors import BadInputError
from exr_pipeline.ingest.discovery.needs_work import Candidate, needs_work
from exr_pipeline.ingest.outdated import outdated_pictures
from exr_pipeline.tables.selection import files_where

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.tables.store import FileVersion, TableStore


@dataclass(frozen=True, slots=True)
class Choice:
    """What a caller asks of an ingest, beyond the files that are new, changed or retryable.

    `outdated` adds the files whose pictures are missing or not what the settings would make now, `again` all that are
    known and unchanged. `where` is a condition in SQL (`tables.selection`); it leaves out files that are not in the
    tables yet. `limit` is the largest number of files. `only` names the products that are made; empty means everything.
    """

    outdated: bool = False
    again: bool = False
    where: str = ""
    limit: int | None = None
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """The files to work on, in order; how many were considered; and how many more are due beyond the limit."""

    candidates: Sequence[Candidate]
    considered: int
    left: int = 0


def choose(
    source: Location, listed: Sequence[ObjectInfo], tables: TableStore, choice: Choice, settings: Settings
) -> Chosen:
    """The files of a listing of `source` that an ingest works on.

    Archived files that are unchanged are left alone. Raises `BadInputError` if `where` holds for none of the files,
    `BadQueryError` if it is wrong, and `MisconfiguredError` if settings of pictures are.
    """
    if choice.where and listed:
        matching = files_where(tables, choice.where, url_prefix=source.url)
        considered = [info for info in listed if info.location.url in matching]
        if not considered:
            raise BadInputError(choice.where, f"no file below {source.url} in the tables matches it")
    else:
        considered = list(listed)
    known = tables.current_versions([info.location for info in considered])
    due = needs_work(considered, known, now=datetime.now(UTC), retry_after=timedelta(0))
    if choice.outdated:
        rest = _rest(considered, due, known)
        found = outdated_pictures(tables, [info.location for info in rest], choice.only, settings)
        due += [Candidate(info, "outdated", found[info.location]) for info in rest if info.location in found]
    if choice.again:
        due += [Candidate(info, "again") for info in _rest(considered, due, known)]
    due.sort(key=lambda candidate: candidate.info.location)
    chosen = due[: choice.limit]
    return Chosen(chosen, len(considered), len(due) - len(chosen))


def _rest(
    listed: Iterable[ObjectInfo], due: Iterable[Candidate], known: Mapping[Location, FileVersion]
) -> list[ObjectInfo]:
    """The files that are not due by themselves, but for those that are archived."""
    taken = {candidate.info.location for candidate in due}
    live = {location for location, version in known.items() if version.archived_at is None}
    wanted = live - taken
    return [info for info in listed if info.location in wanted]
