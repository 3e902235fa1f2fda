"""Which files of finished work may be retired, and which are: what the tables say, in bounded memory.

Belongs here: the choice, as rows of `files` give it. Not here: partitions, or runs that are under way
(`orchestration.maintenance.archive`).
"""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import nlargest
from itertools import islice
from typing import IO, TYPE_CHECKING, Final

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.merge import instant
from exr_pipeline.tables.specs import READY, REJECTED

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from datetime import datetime

    import pyarrow as pa

    from exr_pipeline.tables.store import TableStore

_COLUMNS: Final = ("uri", "file_id", "state", "mtime", "last_inspected", "archived_at", "deleted_at")


@dataclass(frozen=True)
class Scope:
    """Files below a prefix and of a show; each narrows the other, and without either it is all files.

    `text` is how the user named them.
    """

    prefix: Location | None = None
    in_show: Callable[[Location], bool] | None = None
    text: str = "every file"

    @property
    def is_narrow(self) -> bool:
        """Whether it is not all files."""
        return self.prefix is not None or self.in_show is not None

    def holds(self, location: Location) -> bool:
        """Whether a file, or the pattern of a sequence, is meant."""
        below = self.prefix is None or self.prefix.holds(location)
        return below and (self.in_show is None or self.in_show(location))


def require_criterion(setting: str, *criteria: object) -> None:
    """Raises `MisconfiguredError`, naming `setting`, if there are no criteria: who says nothing means no file."""
    if not any(criteria):
        raise MisconfiguredError(
            setting,
            "no files are selected",
            "give a URL prefix such as s3://bucket/, a show, or (to archive) an age or a number of files to keep",
        )


def require_files(tables: TableStore, scope: Scope) -> None:
    """Raises `BadInputError` if the tables hold no file of the scope: a name that fits nothing is a wrong name."""
    with closing(_batches(tables, scope)) as batches:
        if not any(batch.num_rows for batch in batches):
            raise BadInputError(scope.text, "no such file in the tables")


def age_limit(
    tables: TableStore, scope: Scope, *, older_than: timedelta | None, most_live: int | None, now: datetime
) -> timedelta | None:
    """From which age on files are to be archived: from `older_than` on, and so that at most `most_live` stay live.

    Of the files that are neither archived nor gone, those touched last stay. None if there is no limit at all. In
    bounded memory: as many moments as files may stay.
    """
    if most_live is None:
        return older_than
    live = (
        _touched(mtime, inspected)
        for batch in _batches(tables, scope)
        for mtime, inspected in _rows(_split(batch)[0], "mtime", "last_inspected")
    )
    latest = nlargest(most_live + 1, live)
    beyond = now - latest[-1] if len(latest) > most_live else timedelta.max
    return beyond if older_than is None else min(beyond, older_than)


def _touched(mtime: str | None, inspected: str | None) -> datetime:
    return max(instant(mtime), instant(inspected))


@dataclass
class ArchivePlan:
    """What a look at the tables found: how many files are chosen, and how many others are left and why."""

    chosen: int = 0
    archived: int = 0
    unfinished: int = 0
    recent: int = 0
    _spool: IO[str] | None = field(default=None, repr=False)

    def choose(self, uri: str, file_id: str) -> None:
        """Note a version; it goes to disk."""
        self.chosen += 1
        if self._spool is not None:
            # A URL has neither tabs nor line ends.
            self._spool.write(f"{uri}\t{file_id}\n")

    def batches(self, size: int) -> Iterator[dict[Location, str]]:
        """The chosen files with their file_id."""
        if self._spool is None:
            return
        self._spool.seek(0)
        while lines := list(islice(self._spool, size)):
            pairs = (line.rstrip("\n").split("\t") for line in lines)
            yield {Location.from_url(uri): file_id for uri, file_id in pairs}

    def locations(self) -> Iterator[Location]:
        """The chosen files."""
        for batch in self.batches(1000):
            yield from batch


@contextmanager
def to_archive(
    tables: TableStore, scope: Scope, *, older_than: timedelta | None, now: datetime
) -> Iterator[ArchivePlan]:
    """The files of a scope whose work is finished and that nothing has touched since an age: to be archived.

    Finished: the current version is ready or rejected. Touched: modified in its store, or inspected, whichever is
    later. Files that are archived or gone from their store are left out.
    """
    with _opened() as found:
        for batch in _batches(tables, scope):
            live, archived = _split(batch)
            found.archived += archived.num_rows
            for uri, file_id, state, mtime, inspected in _rows(live, *_COLUMNS[:5]):
                if state not in {READY, REJECTED}:
                    found.unfinished += 1
                elif older_than is not None and now - _touched(mtime, inspected) < older_than:
                    found.recent += 1
                else:
                    found.choose(uri, file_id)
        yield found


@contextmanager
def to_unarchive(tables: TableStore, scope: Scope) -> Iterator[ArchivePlan]:
    """The archived files of a scope that are still in their store."""
    with _opened() as found:
        for batch in _batches(tables, scope):
            for uri, file_id in _rows(_split(batch)[1], "uri", "file_id"):
                found.choose(uri, file_id)
        yield found


@contextmanager
def _opened() -> Iterator[ArchivePlan]:
    # The tables may be locked as long as they are read, and hold any number of files: those chosen wait on disk.
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as spool:
        yield ArchivePlan(_spool=spool)


def _batches(tables: TableStore, scope: Scope) -> Generator[pa.RecordBatch, None, None]:
    """The files of a scope, also those that are gone. Not row by row: most of them were archived long ago."""
    import pyarrow as pa

    bucket, prefix = (scope.prefix.bucket, scope.prefix.path) if scope.prefix else (None, "")
    for batch in tables.scan("files", columns=_COLUMNS, bucket=bucket, prefix=prefix):
        if scope.is_narrow:
            uris = batch.column("uri").to_pylist()
            yield batch.filter(pa.array([scope.holds(Location.from_url(uri)) for uri in uris], pa.bool_()))
        else:
            yield batch


def _split(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Those that are live, and those that are archived; without those that are gone from their store."""
    import pyarrow.compute as pc

    there = batch.filter(pc.is_null(batch.column("deleted_at")))
    is_live = pc.is_null(there.column("archived_at"))
    return there.filter(is_live), there.filter(pc.invert(is_live))


def _rows(batch: pa.RecordBatch, *columns: str) -> Iterator[tuple[str, ...]]:
    return zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def live_files(tables: TableStore, below: Location | None = None) -> Iterator[Location]:
    """The files below a folder that are neither archived nor gone; take them quickly, see `TableStore.scan`."""
    bucket, prefix = (below.bucket, below.path) if below else (None, "")
    for batch in tables.scan("files", columns=("uri", "archived_at", "deleted_at"), bucket=bucket, prefix=prefix):
        for row in batch.to_pylist():
            if row["archived_at"] is None and row["deleted_at"] is None:
                yield Location.from_url(row["uri"])


def with_frames_among(sequences: Iterable[Location], files: Iterable[Location]) -> set[Location]:
    """The sequences, given by their patterns (`beauty.####.exr`), that one of these files may be a frame of.

    By folder and name without the number; a name that only looks like a frame's counts.
    """
    by_folder: dict[Location, list[tuple[str, str, Location]]] = {}
    for sequence in sequences:
        before, _, rest = sequence.name.partition("#")
        by_folder.setdefault(sequence.folder, []).append((before, rest.rpartition("#")[2], sequence))
    found: set[Location] = set()
    for file in files:
        for before, after, sequence in by_folder.get(file.folder, ()):
            if file.name.startswith(before) and file.name.endswith(after):
                found.add(sequence)
    return found
