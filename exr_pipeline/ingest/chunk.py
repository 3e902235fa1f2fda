"""A chunk of files from fetch to row: overlapped, bounded in memory, one bad file never failing its neighbours.

Belongs here: the order of work and what each file ends as. Not here: pixels, headers, storage or tables themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from exr_pipeline.errors import BadInputError, RetryableError, StateUnknownError
from exr_pipeline.ingest.in_flight import InFlight
from exr_pipeline.ingest.media_files import is_media, make_media
from exr_pipeline.ingest.products import FileProducts, MediaWriter, delete_media, last_known, rows_of, write_media
from exr_pipeline.ingest.read_header import HeaderReader, first_bytes, headers_at_once, inspect_local, source_file
from exr_pipeline.storage.locations import output_locations
from exr_pipeline.storage.machine_errors import machine_trouble
from exr_pipeline.storage.spool import spool_folder
from exr_pipeline.storage.store_errors import MissingObjectError
from exr_pipeline.storage.verify import verify_copy, verify_start
from exr_pipeline.tables.specs import READY, REJECTED, RETRYABLE
from exr_pipeline.workers.pool import WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import pyarrow as pa

    from exr_pipeline.ingest.overlap import FinishedFile
    from exr_pipeline.pictures import PicturePool
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location, OutputLocations
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.tables.specs import State, TableName
    from exr_pipeline.tables.store import FileVersion, Mark

log = logging.getLogger(__name__)

# Manifests and previews of megabytes in every frame: a write holds its rows in memory several times over.
HEADER_BYTES_PER_WRITE = 32 << 20
# Files looked up in the tables at a time, just before their turn, for what other runs have done in the meantime.
GROUP_WITH_PICTURES = 16
GROUP_OF_HEADERS = 500
# A chunk is one write, unless it takes longer: then what is finished is in the tables soon, for whoever looks, and a
# worker that is killed loses little.
SECONDS_BETWEEN_WRITES = 5.0
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 1.0
# Short outages are waited for, file by file. In a longer one each file would take minutes to fail.
FAILURES_OF_AN_OUTAGE = 20
PATIENCE_SECONDS = 30.0


class RowStore(Protocol):
    """What a chunk needs of a table store."""

    def write(self, rows: Mapping[TableName, pa.Table], *, now: datetime) -> None:
        """Write the rows of many files in one transaction."""

    def current_versions(self, locations: Collection[Location]) -> dict[Location, FileVersion]:
        """What the tables know of these files."""

    def mark(self, versions: Mapping[Location, str], mark: Mark, *, now: datetime) -> set[Location]:
        """Mark these versions, by file_id."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which products a run makes of each file. Headers are always read: they decide the file's state."""

    thumbnail: bool = True
    proxy: bool = True

    @property
    def pictures(self) -> bool:
        """Whether pixels have to be read."""
        return self.thumbnail or self.proxy


@dataclass(slots=True)
class Progress:
    """How far a chunk is. `earlier` files of the same run were finished by an earlier attempt, and are not in `total`.

    `trouble` says why nothing goes on at the moment.
    """

    total: int
    earlier: int = 0
    trouble: str = ""
    ready: int = 0
    rejected: int = 0
    retryable: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Files that have ended, one way or another."""
        return self.ready + self.rejected + self.retryable

    def count(self, state: State) -> None:
        """Count one file that ended in a state."""
        setattr(self, state, getattr(self, state) + 1)

    def summary(self) -> str:
        """How the files ended so far, how fast, and how long the rest will take."""
        rate = self.done / max(time.monotonic() - self.started, 1e-3)
        left = f", about {(self.total - self.done) / rate:.0f} s left" if 0 < self.done < self.total else ""
        return (
            f"({self.ready} ready, {self.rejected} rejected, {self.retryable} retryable), {rate:.1f} files/s{left}"
            + (f"; {self.trouble}" if self.trouble else "")
        )

    def __str__(self) -> str:
        return f"{self.done}/{self.total} files {self.summary()}"


@dataclass(frozen=True, slots=True)
class _OtherRuns:
    """Whom to ask and whom to tell what other runs have finished."""

    finished: Callable[[Sequence[Location]], Sequence[FinishedFile]]
    on_finished: Callable[[Sequence[FinishedFile]], None]


class OutageError(RetryableError):
    """Nothing at all could be read for a while: there is no use in going on with the other files."""


class _Patience:
    """Is over once many files in a row could not be read, and none has been for a while."""

    def __init__(self) -> None:
        self._failures = 0
        self._since = time.monotonic()
        self.reason = ""

    def saw(self, products: FileProducts) -> None:
        """Count how a file ended."""
        if products.state == RETRYABLE:
            self._failures += 1
            self.reason = products.reason or ""
        else:
            self._failures, self._since = 0, time.monotonic()

    @property
    def is_over(self) -> bool:
        return self._failures >= FAILURES_OF_AN_OUTAGE and time.monotonic() - self._since >= PATIENCE_SECONDS

    @property
    def verdict(self) -> str:
        seconds = time.monotonic() - self._since
        return f"no file could be read for {seconds:.0f} s, the last {self._failures} in a row: {self.reason}"


class _Queue:
    """The files of one pass, handed out one by one, without those that another run has finished by then."""

    def __init__(
        self,
        locations: Sequence[Location],
        group: int,
        others: _OtherRuns,
        progress: Progress,
        overtaken: Collection[Location],
    ) -> None:
        self._groups = (locations[start : start + group] for start in range(0, len(locations), group))
        self._next: deque[Location] = deque()
        self._taking = asyncio.Lock()
        self._others = others
        self._progress = progress
        self._overtaken = overtaken

    async def take(self) -> Location | None:
        """The next file to work on, None after the last."""
        async with self._taking:
            while not self._next:
                group = next(self._groups, None)
                if group is None:
                    return None
                asked = [location for location in group if location not in self._overtaken]
                done = await asyncio.to_thread(self._others.finished, asked)
                if done:
                    for file in done:
                        self._progress.count(file.state)
                    self._others.on_finished(done)
                skipped = {file.location for file in done}
                self._next.extend(location for location in group if location not in skipped)
            return self._next.popleft()


class ChunkIngest:
    """Brings chunks of files into the tables and their pictures into object storage.

    `pool` renders pictures in worker processes and may be None when no pictures are wanted. `media` and `rows` receive
    what is made: a `MediaWriter` such as `ObjectStorage`, a `RowStore` such as a table store.
    """

    def __init__(
        self,
        settings: Settings,
        storage: ObjectStorage,
        *,
        media: MediaWriter,
        rows: RowStore,
        pool: PicturePool | None,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._media = media
        self._rows = rows
        self._pool = pool
        self._media_at_once = asyncio.Semaphore()
        self._in_flight = InFlight(0)
        self._patience = _Patience()
        # Files of which another run made a newer version's media before ours were stored: those are made once more.
        self._overtaken: set[Location] = set()

    def run(
        self,
        locations: Sequence[Location],
        wanted: Wanted,
        *,
        on_written: Callable[[Sequence[FileProducts]], None],
        on_progress: Callable[[Progress], None] = lambda _: None,
        finished_elsewhere: Callable[[Sequence[Location]], Sequence[FinishedFile]] = lambda _: (),
        on_finished_elsewhere: Callable[[Sequence[FinishedFile]], None] = lambda _: None,
        finished_earlier: int = 0,
    ) -> Progress:
        """Ingest files; each ends as ready, rejected or retryable, and is reported once its rows are written.

        `finished_elsewhere` is asked in another thread, just before the turn of a few files, which of them another run
        has finished; those are reported to `on_finished_elsewhere` in this thread and not worked on.

        `on_written` is called in this thread with batches of files, after their media and rows are in place. Retryable
        failures are tried again within this call, with growing pauses, before a file ends as retryable.

        Raises `OutageError` if no file at all could be read for a while, `RetryableError` or `StateUnknownError` if the
        tables can't be written, `MisconfiguredError` if a setting is wrong: then files not yet reported have not ended.
        """
        others = _OtherRuns(finished_elsewhere, on_finished_elsewhere)
        progress = Progress(len(locations), finished_earlier)
        return asyncio.run(self._run(locations, wanted, others, progress, on_written, on_progress))

    async def _run(
        self,
        locations: Sequence[Location],
        wanted: Wanted,
        others: _OtherRuns,
        progress: Progress,
        on_written: Callable[[Sequence[FileProducts]], None],
        on_progress: Callable[[Progress], None],
    ) -> Progress:
        # Each takes disk space of its own size while workers are at it.
        self._media_at_once = asyncio.Semaphore(self._settings.workers + 1)
        self._patience = _Patience()
        with spool_folder() as spool:
            left = list(locations)
            for attempt in range(ATTEMPTS):
                last = attempt == ATTEMPTS - 1
                left = await self._pass(left, wanted, others, spool, progress, last, on_written, on_progress)
                if not left:
                    break
                pause = FIRST_PAUSE_SECONDS * 4**attempt
                log.warning("%d files could not be reached or were overtaken; trying again in %.0f s", len(left), pause)
                progress.trouble = f"{len(left)} not reached, tried again in {pause:.0f} s: {self._patience.reason}"
                on_progress(progress)
                await asyncio.sleep(pause)
                progress.trouble = ""
        return progress

    async def _pass(
        self,
        locations: Sequence[Location],
        wanted: Wanted,
        others: _OtherRuns,
        spool: Path,
        progress: Progress,
        last: bool,
        on_written: Callable[[Sequence[FileProducts]], None],
        on_progress: Callable[[Progress], None],
    ) -> list[Location]:
        """One attempt at each location; returns those to be tried again (none on the last attempt)."""
        again: list[Location] = []
        finished: list[FileProducts] = []
        group = GROUP_WITH_PICTURES if wanted.pictures else GROUP_OF_HEADERS
        queue = _Queue(locations, group, others, progress, self._overtaken)
        headers = HeaderReader(self._storage)
        header_bytes = 0
        writing = asyncio.Lock()
        stopped = False
        wrote_at = time.monotonic()

        async def flush() -> None:
            nonlocal header_bytes, wrote_at
            async with writing:
                wrote_at = time.monotonic()
                batch, finished[:], header_bytes = finished[:], [], 0
                if batch and not stopped:
                    overtaken = await self._write_rows(batch)
                    if not last:
                        again.extend(overtaken)
                        self._overtaken |= overtaken
                        batch = [products for products in batch if products.location not in overtaken]
                    for products in batch:
                        progress.count(products.state)
                    on_written(batch)
                    on_progress(progress)

        async def work() -> None:
            nonlocal stopped, header_bytes
            try:
                while not (stopped or self._patience.is_over) and (location := await queue.take()) is not None:
                    products = await self._file(location, wanted, spool, headers)
                    self._patience.saw(products)
                    if products.state == RETRYABLE and not last and not products.was_tried_alone:
                        again.append(location)
                        continue
                    finished.append(products)
                    header_bytes += products.inspection.header_bytes if products.inspection is not None else 0
                    due = time.monotonic() - wrote_at >= SECONDS_BETWEEN_WRITES
                    if due or header_bytes >= HEADER_BYTES_PER_WRITE:
                        await flush()
            except BaseException:
                stopped = True
                raise

        # After an error the others end the file they are at: fetching threads can't be cancelled and use the spool.
        if wanted.pictures:
            first, ahead = self._settings.workers, self._settings.fetches
        else:
            first, ahead = headers_at_once(self._settings.header_fetches), 0
        self._in_flight = InFlight(first)
        await self._in_flight.run(work, most=min(first + ahead, len(locations)))
        await flush()
        if self._patience.is_over:
            raise OutageError(self._patience.verdict)
        return again

    async def _file(self, location: Location, wanted: Wanted, spool: Path, headers: HeaderReader) -> FileProducts:
        products = FileProducts(location)
        try:
            if is_media(location):
                async with self._media_at_once:
                    await self._with_pixels(products, wanted, spool)
            elif wanted.pictures:
                await self._with_pixels(products, wanted, spool)
            else:
                products.source, data = await headers.start(location)
                products.inspection = await headers.inspect(products.source, data)
            products.state = READY
        except BadInputError as error:
            products.state, products.reason = REJECTED, error.reason
            products.is_gone = isinstance(error, MissingObjectError)
        except RetryableError as error:
            products.state, products.reason = RETRYABLE, str(error).removeprefix(f"{location.url}: ")
            products.was_tried_alone = isinstance(error, WorkerLostError)
        except OSError as error:
            # This machine's disk is full, or a local file went away while it was read.
            products.state, products.reason = RETRYABLE, machine_trouble(error) or f"not read: {error.strerror}"
        return products

    async def _with_pixels(self, products: FileProducts, wanted: Wanted, spool: Path) -> None:
        """Fetch the file once, read its header and render from the same bytes, and store the media."""
        assert self._pool is not None, "pictures are wanted, or files that only workers open, so there is a pool"
        location = products.location
        proxy_path = spool / f"{uuid.uuid4().hex}.mp4"
        path = self._storage.local_path(location)
        spooled = None
        try:
            if path is None:
                path = spooled = spool / uuid.uuid4().hex
                info = await self._storage.download_async(location, path)
            else:
                info = await self._storage.head_async(location)
            products.source = source_file(info)
            try:
                with self._in_flight.at_workers():
                    await self._inspect_and_render(products, path, proxy_path, wanted)
            except BadInputError:
                await asyncio.to_thread(verify_copy, self._storage, info, path)
                raise
            if spooled is not None and products.inspection is not None and products.inspection.warnings:
                # The header is odd: a byte that was changed on its way may have made it so.
                start = await asyncio.to_thread(first_bytes, path)
                await verify_start(self._storage, location, info.etag, info.size, start)
            if spooled is None and (await self._storage.head_async(location)).etag != info.etag:
                raise RetryableError(f"{location.url}: changed while it was read")
            if products.pictures is not None:
                outputs = self._outputs(location)
                await write_media(self._media, outputs, products.pictures)
                products.outputs = outputs
        finally:
            if spooled is not None:
                spooled.unlink(missing_ok=True)
            if is_media(location):
                proxy_path.unlink(missing_ok=True)

    async def _inspect_and_render(self, products: FileProducts, path: Path, proxy_path: Path, wanted: Wanted) -> None:
        assert self._pool is not None
        assert products.source is not None
        if is_media(products.location):
            await make_media(products, path, proxy_path, wanted, self._pool, self._settings)
            return
        products.inspection = await asyncio.to_thread(inspect_local, path, products.source)
        products.pictures = await asyncio.wrap_future(
            self._pool.submit(str(path), products.location.url, thumbnail=wanted.thumbnail, proxy=wanted.proxy)
        )

    async def _write_rows(self, batch: Sequence[FileProducts]) -> set[Location]:
        """Write the rows; returns files whose media another run made of a newer version before these were stored."""
        for attempt in range(ATTEMPTS):
            try:
                # Before the rows, which are all that tells later that there is something to delete.
                for outdated in await asyncio.to_thread(self._settle, batch):
                    await delete_media(self._media, outdated, self._outputs(outdated))
                return await asyncio.to_thread(self._write_rows_once, batch)
            except (RetryableError, StateUnknownError) as error:
                if attempt == ATTEMPTS - 1:
                    raise
                pause = FIRST_PAUSE_SECONDS * 4**attempt
                log.warning("%s; trying again in %.0f s", error, pause)
                await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _settle(self, batch: Sequence[FileProducts]) -> list[Location]:
        """Complete what files are by what the tables know; returns those whose media nothing stands for any more."""
        known = self._rows.current_versions([products.location for products in batch])
        outdated: list[Location] = []
        for products in batch:
            version = known.get(products.location)
            if products.source is None:
                products.source = last_known(products.location, version)
            elif version is not None and version.etag != products.source.etag and products.state == REJECTED:
                outdated.append(products.location)
            elif version is not None and _was_rejected_for_its_pixels(version, products):
                products.state, products.reason = REJECTED, version.reason
        return outdated

    def _write_rows_once(self, batch: Sequence[FileProducts]) -> set[Location]:
        now = datetime.now(UTC)
        self._rows.write(rows_of(batch, now=now), now=now)
        sources = {products.location: products.source for products in batch if products.source is not None}
        gone = {p.location: sources[p.location].file_id for p in batch if p.is_gone}
        # What was only away for a moment may return as the version that it was.
        self._rows.mark(gone, "deleted", now=now)
        shown = [products.location for products in batch if products.outputs is not None]
        current = self._rows.current_versions(shown)
        return {location for location in shown if current[location].file_id != sources[location].file_id}

    def _outputs(self, location: Location) -> OutputLocations:
        return output_locations(location, output_root=self._settings.output_root, sources=self._settings.sources)


def _was_rejected_for_its_pixels(version: FileVersion, products: FileProducts) -> bool:
    """Whether this same version is known as rejected although its header is good, and this run read no pixels."""
    assert products.source is not None
    same = version.etag == products.source.etag and version.header_hash is not None and version.deleted_at is None
    return same and version.state == REJECTED and products.state == READY and products.pictures is None
