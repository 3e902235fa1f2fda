"""A chunk of files from fetch to row: overlapped, bounded in memory, one bad file never failing its neighbours.

Belongs here: the order of work and what each file ends as. Not here: pixels, headers, storage or tables themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from exr_pipeline.errors import BadInputError, RetryableError, StateUnknownError
from exr_pipeline.events.outbox import events_of_marked, with_events
from exr_pipeline.ingest.in_flight import InFlight
from exr_pipeline.ingest.media_files import is_media, make_media, render_in
from exr_pipeline.ingest.output_names import OutputNames
from exr_pipeline.ingest.read_header import HeaderReader, first_bytes, headers_at_once, inspect_local, source_file
from exr_pipeline.ingest.store_results import MediaWriter, last_known, objects_to_delete, rows_of, store_objects
from exr_pipeline.inspection import SourceFile
from exr_pipeline.products.file_result import FileResult
from exr_pipeline.products.registry import FILE_PRODUCTS, most_needed
from exr_pipeline.retries import POLICY, OutageError, Patience, RetryPolicy
from exr_pipeline.storage.machine_errors import machine_trouble
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.storage.spool import spool_folder
from exr_pipeline.storage.store_errors import MissingObjectError
from exr_pipeline.storage.verify import verify_copy, verify_start
from exr_pipeline.tables.specs import READY, REJECTED, RETRYABLE
from exr_pipeline.telemetry.instruments import FILES, TRIED_AGAIN
from exr_pipeline.telemetry.logs import about
from exr_pipeline.telemetry.recording import has_tracer, record, record_stage, span, stage
from exr_pipeline.telemetry.trace_context import current_traceparent
from exr_pipeline.workers.pool import WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import pyarrow as pa

    from exr_pipeline.ingest.overlap import FinishedFile
    from exr_pipeline.pictures import PicturePool
    from exr_pipeline.products.product import ByteReader, FileProduct
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.object_info import OnBlock
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.tables.specs import State, TableName
    from exr_pipeline.tables.store import FileVersion, Mark, Queue

log = logging.getLogger(__name__)

# Files looked up in the tables at a time, just before their turn, for what other runs have done in the meantime.
GROUP_WITH_PICTURES = 16
GROUP_OF_HEADERS = 500
# Manifests and previews of megabytes in every frame: a write holds its rows in memory several times over.
HEADER_BYTES_PER_WRITE = 32 << 20
_READ = "file could be read"


class RowStore(Protocol):
    """What a chunk needs of a table store."""

    def write(self, rows: Mapping[TableName, pa.Table], *, now: datetime) -> None:
        """Write the rows of many files in one transaction."""

    def current_versions(self, locations: Collection[Location]) -> dict[Location, FileVersion]:
        """What the tables know of these files."""

    def read(self, table: TableName, *, columns: Sequence[str], locations: Collection[Location]) -> pa.Table:
        """The current rows of these files."""

    def mark(
        self, versions: Mapping[Location, str], mark: Mark, *, now: datetime, queue: Queue | None = None
    ) -> set[Location]:
        """Mark these versions, by file_id; `queue` gives rows that are written along."""


@dataclass(slots=True)
class ChunkProgress:
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


class _Queue:
    """The files of one pass, handed out one by one, without those that another run has finished by then."""

    def __init__(
        self,
        locations: Sequence[Location],
        group: int,
        others: _OtherRuns,
        progress: ChunkProgress,
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

    `pool` renders pictures in worker processes and may be None when no product needs them. `media` and `rows` receive
    what is made: a `MediaWriter` such as `ObjectStorage`, a `RowStore` such as a table store. `retries` says how often
    and when files and writes of rows are tried again. A chunk is one write, unless it takes longer than
    `settings.write_seconds`, or the headers behind its rows add up to `header_bytes_per_write`: then what is finished
    is in the tables soon, for whoever looks, and a worker that is killed loses little.
    """

    def __init__(
        self,
        settings: Settings,
        storage: ObjectStorage,
        *,
        media: MediaWriter,
        rows: RowStore,
        pool: PicturePool | None,
        retries: RetryPolicy = POLICY,
        header_bytes_per_write: int = HEADER_BYTES_PER_WRITE,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._media = media
        self._rows = rows
        self._pool = pool
        self._retries = retries
        self._header_bytes_per_write = header_bytes_per_write
        self._outputs = OutputPlace.from_settings(settings)
        self._names = OutputNames(settings, storage, rows)
        self._media_at_once = asyncio.Semaphore()
        self._in_flight = InFlight(0)
        self._patience = Patience(self._retries, _READ)
        # Files of which another run made a newer version's media before ours were stored: those are made once more.
        self._overtaken: set[Location] = set()
        self._traces: Mapping[Location, str] = {}

    def run(
        self,
        locations: Sequence[Location],
        wanted: Sequence[FileProduct],
        *,
        on_written: Callable[[Sequence[FileResult]], None],
        on_progress: Callable[[ChunkProgress], None] = lambda _: None,
        finished_elsewhere: Callable[[Sequence[Location]], Sequence[FinishedFile]] = lambda _: (),
        on_finished_elsewhere: Callable[[Sequence[FinishedFile]], None] = lambda _: None,
        finished_earlier: int = 0,
        traces: Mapping[Location, str] = MappingProxyType({}),
    ) -> ChunkProgress:
        """Make the `wanted` products of files. Each ends as ready, rejected or retryable, and is then reported.

        Headers are read whatever is wanted: they decide the file's state.

        `finished_elsewhere` is asked in another thread, just before the turn of a few files, which of them another run
        has finished; those are reported to `on_finished_elsewhere` in this thread and not worked on.

        `on_written` is called in this thread with batches of files, after their media and rows are in place. Retryable
        failures are tried again within this call, with growing pauses, before a file ends as retryable.

        `traces` has the traceparent of each file that an event with a trace has named. Others belong to the trace of
        the chunk.

        Raises `OutageError` if no file at all could be read for a while, `RetryableError` or `StateUnknownError` if the
        tables can't be written, `MisconfiguredError` if a setting is wrong: then files not yet reported have not ended.
        """
        others = _OtherRuns(finished_elsewhere, on_finished_elsewhere)
        progress = ChunkProgress(len(locations), finished_earlier)
        self._traces = traces
        with span("ingest chunk", files=len(locations)):
            return asyncio.run(self._run(locations, wanted, others, progress, on_written, on_progress))

    async def _run(
        self,
        locations: Sequence[Location],
        wanted: Sequence[FileProduct],
        others: _OtherRuns,
        progress: ChunkProgress,
        on_written: Callable[[Sequence[FileResult]], None],
        on_progress: Callable[[ChunkProgress], None],
    ) -> ChunkProgress:
        # Each takes disk space of its own size while workers are at it.
        self._media_at_once = asyncio.Semaphore(self._settings.workers + 1)
        self._patience = Patience(self._retries, _READ)
        with spool_folder() as spool:
            left = list(locations)
            for pause in self._retries.attempts_and_pauses:
                last = pause is None
                left = await self._pass(left, wanted, others, spool, progress, last, on_written, on_progress)
                if pause is None or not left:
                    break
                log.warning(
                    "%d files could not be read or were changed by another run: trying again in %.0f s",
                    len(left),
                    pause,
                )
                record(TRIED_AGAIN, "file", value=len(left))
                progress.trouble = (
                    f"{len(left)} could not be read, trying again in {pause:.0f} s: {self._patience.reason}"
                )
                on_progress(progress)
                await asyncio.sleep(pause)
                progress.trouble = ""
        return progress

    async def _pass(
        self,
        locations: Sequence[Location],
        wanted: Sequence[FileProduct],
        others: _OtherRuns,
        spool: Path,
        progress: ChunkProgress,
        last: bool,
        on_written: Callable[[Sequence[FileResult]], None],
        on_progress: Callable[[ChunkProgress], None],
    ) -> list[Location]:
        """One attempt at each location; returns those to be tried again (none on the last attempt)."""
        again: list[Location] = []
        finished: list[FileResult] = []
        whole = most_needed(wanted) != "header"
        group = GROUP_WITH_PICTURES if whole else GROUP_OF_HEADERS
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
                        batch = [result for result in batch if result.location not in overtaken]
                    _count(batch, progress)
                    on_written(batch)
                    on_progress(progress)

        async def work() -> None:
            nonlocal stopped, header_bytes
            try:
                while not (stopped or self._patience.is_over) and (location := await queue.take()) is not None:
                    result = await self._watched_file(location, wanted, spool, headers)
                    self._patience.saw(result.reason or "" if result.state == RETRYABLE else None)
                    if result.state == RETRYABLE and not last and not result.was_tried_alone:
                        again.append(location)
                        continue
                    finished.append(result)
                    header_bytes += result.inspection.header_bytes if result.inspection is not None else 0
                    due = time.monotonic() - wrote_at >= self._settings.write_seconds
                    if due or header_bytes >= self._header_bytes_per_write:
                        await flush()
            except BaseException:
                stopped = True
                raise

        # After an error the others end the file they are at: fetching threads can't be cancelled and use the spool.
        if whole:
            first, ahead = self._settings.workers, self._settings.fetches
        else:
            first, ahead = headers_at_once(self._settings.header_fetches), 0
        self._in_flight = InFlight(first)
        await self._in_flight.run(work, most=min(first + ahead, len(locations)))
        await flush()
        if self._patience.is_over:
            raise OutageError(self._patience.verdict)
        return again

    async def _watched_file(
        self, location: Location, wanted: Sequence[FileProduct], spool: Path, headers: HeaderReader
    ) -> FileResult:
        parent = self._traces.get(location)
        # A span takes a good part of the time that a header does: there, only an event that brought a trace gets one.
        has_span = parent is not None or (has_tracer() and most_needed(wanted) != "header")
        around = span("ingest file", parent=parent, **{"exr_pipeline.file": location.url}) if has_span else None
        with about(file=location.url), around or nullcontext(current_traceparent()) as traceparent:
            result = await self._file(location, wanted, spool, headers)
            result.traceparent = traceparent
            if result.reason is not None:
                log.info("%s: %s", result.state, result.reason)
        return result

    async def _file(
        self, location: Location, wanted: Sequence[FileProduct], spool: Path, headers: HeaderReader
    ) -> FileResult:
        result = FileResult(location)
        try:
            if is_media(location):
                async with self._media_at_once:
                    await self._whole_file(result, wanted, spool)
            elif most_needed(wanted) != "header":
                await self._whole_file(result, wanted, spool)
            else:
                with stage("fetch", with_span=False) as fetch:
                    result.source, data = await headers.start(location)
                    fetch.size_bytes = len(data)
                with stage("read_header", with_span=False):
                    result.inspection = await headers.inspect(result.source, data)
            result.state = READY
        except BadInputError as error:
            result.state, result.reason = REJECTED, error.reason
            result.is_gone = isinstance(error, MissingObjectError)
            result.error = "not found" if result.is_gone else "bad input"
        except RetryableError as error:
            result.state, result.reason = RETRYABLE, str(error).removeprefix(f"{location.url}: ")
            result.was_tried_alone = isinstance(error, WorkerLostError)
            result.error = "worker lost" if result.was_tried_alone else "store"
        except OSError as error:
            # This machine's disk is full, or a local file went away while it was read.
            result.state, result.reason = RETRYABLE, machine_trouble(error) or f"not read: {error.strerror}"
            result.error = "machine"
        if result.state == RETRYABLE:
            # Made of bytes that may not be those of the file.
            result.read.clear()
            result.stored.clear()
        return result

    async def _whole_file(self, result: FileResult, wanted: Sequence[FileProduct], spool: Path) -> None:
        """Fetch the file once, make every product from the same bytes, and store its objects."""
        location = result.location
        proxy_path = spool / f"{uuid.uuid4().hex}.mp4"
        path = self._storage.local_path(location)
        readers = {product.name: product.reader() for product in wanted if product.reader is not None}
        on_block = _shown_to(list(readers.values())) if readers else None
        spooled = None
        try:
            with stage("fetch") as fetch:
                if path is None:
                    path = spooled = spool / uuid.uuid4().hex
                    info = await self._storage.download_async(location, path, on_block=on_block)
                else:
                    info = await self._storage.head_async(location)
                    if on_block is not None:
                        await self._storage.read_through_async(location, on_block=on_block)
                fetch.size_bytes = info.size
            result.source = source_file(info)
            result.read = {name: reader.result() for name, reader in readers.items()}
            try:
                with self._in_flight.at_workers():
                    await self._inspect_and_render(result, path, proxy_path, wanted)
                if result.pictures is not None:
                    record_stage("decode", result.pictures.decode_seconds)
                    record_stage("encode", result.pictures.seconds - result.pictures.decode_seconds)
            except BadInputError:
                await asyncio.to_thread(verify_copy, self._storage, info, path)
                raise
            if spooled is not None and result.inspection is not None and result.inspection.warnings:
                # The header is odd: a byte that was changed on its way may have made it so.
                start = await asyncio.to_thread(first_bytes, path)
                await verify_start(self._storage, location, info.etag, info.size, start)
            if spooled is None and (await self._storage.head_async(location)).etag != info.etag:
                raise RetryableError(f"{location.url}: the file changed while it was read")
            await self._store(result)
        finally:
            if spooled is not None:
                spooled.unlink(missing_ok=True)
            if is_media(location):
                proxy_path.unlink(missing_ok=True)

    async def _store(self, result: FileResult) -> None:
        after, warning = await asyncio.to_thread(self._names.of, result.location)
        if warning is not None and result.pictures is not None:
            result.pictures = replace(result.pictures, warnings=(*result.pictures.warnings, warning))
        compatibility = self._settings.compatibility
        with stage("store") as store:
            store.size_bytes = await store_objects(
                self._media, self._outputs, result, after=after, compatibility=compatibility
            )

    async def _inspect_and_render(
        self, result: FileResult, path: Path, proxy_path: Path, wanted: Sequence[FileProduct]
    ) -> None:
        assert isinstance(result.source, SourceFile)
        if is_media(result.location):
            await make_media(result, path, proxy_path, wanted, self._workers(), self._settings)
            return
        with stage("read_header"):
            result.inspection = await asyncio.to_thread(inspect_local, path, result.source)
        if most_needed(wanted) == "picture":
            result.pictures = await render_in(self._workers(), path, result.location.url, wanted)

    def _workers(self) -> PicturePool:
        assert self._pool is not None, "pictures are wanted, or files that only workers open, so there is a pool"
        return self._pool

    async def _write_rows(self, batch: Sequence[FileResult]) -> set[Location]:
        """Write the rows; returns files whose media another run made of a newer version before these were stored."""
        # One moment for all attempts: what an earlier one has written is then not counted again.
        now = datetime.now(UTC)
        for pause in self._retries.attempts_and_pauses:
            try:
                # Before the rows, which are all that tells later that there is something to delete.
                for outdated in await asyncio.to_thread(self._settle, batch):
                    await self._media.delete_async(outdated)
                return await asyncio.to_thread(self._write_rows_once, batch, now)
            except (RetryableError, StateUnknownError) as error:
                if pause is None:
                    raise
                log.warning("%s: trying again in %.0f s", error, pause)
                record(TRIED_AGAIN, "rows")
                await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _settle(self, batch: Sequence[FileResult]) -> list[Location]:
        """Complete what files are by what the tables know; returns the media that nothing stands for any more."""
        known = self._rows.current_versions([result.location for result in batch])
        outdated: list[Location] = []
        for result in batch:
            version = known.get(result.location)
            if result.source is None:
                result.source = last_known(result.location, version)
            elif version is not None and version.etag != result.source.etag and result.state == REJECTED:
                outdated.append(result.location)
            elif version is not None and _was_rejected_for_its_pixels(version, result):
                result.state, result.reason = REJECTED, version.reason
        return self._media_of(outdated)

    def _media_of(self, sources: Collection[Location]) -> list[Location]:
        if not sources:
            return []
        keys = [f"{thing.name}_s3_key" for product in FILE_PRODUCTS for thing in product.objects]
        columns = ("s3_bucket", "s3_key", "output_bucket", *keys)
        rows = self._rows.read("proxy_outputs", columns=columns, locations=sources).to_pylist()
        known = {(row["s3_bucket"], row["s3_key"]): row for row in rows}
        compatibility = self._settings.compatibility
        return [
            location
            for source in sources
            for location in objects_to_delete(
                self._outputs, source, known.get((source.bucket, source.path), {}), compatibility
            )
        ]

    def _write_rows_once(self, batch: Sequence[FileResult], now: datetime) -> set[Location]:
        traces = {result.location.url: result.traceparent for result in batch if result.traceparent is not None}
        with stage("write_rows"):
            rows = with_events(rows_of(batch, now=now), self._settings, now=now, traces=traces)
            self._rows.write(rows, now=now)
        sources = {result.location: result.source for result in batch if result.source is not None}
        gone = {p.location: sources[p.location].file_id for p in batch if p.is_gone}
        # What was only away for a moment may return as the version that it was.
        self._rows.mark(gone, "deleted", now=now, queue=events_of_marked(self._settings, now=now, traces=traces))
        shown = [result.location for result in batch if result.stored]
        current = self._rows.current_versions(shown)
        return {location for location in shown if current[location].file_id != sources[location].file_id}


def _count(batch: Sequence[FileResult], progress: ChunkProgress) -> None:
    for result in batch:
        progress.count(result.state)
        record(FILES, result.state, _kind(result), result.error)


def _kind(result: FileResult) -> str:
    """What the tables have as the format of the file, empty if it could not be read."""
    if result.inspection is not None:
        return result.inspection.format
    return "" if result.media is None else result.media.format


def _shown_to(readers: Sequence[ByteReader]) -> OnBlock:
    def show(block: Any) -> None:
        for reader in readers:
            reader.update(block)

    return show


def _was_rejected_for_its_pixels(version: FileVersion, result: FileResult) -> bool:
    """Whether this same version is known as rejected although its header is good, and this run read no pixels."""
    assert result.source is not None
    same = version.etag == result.source.etag and version.header_hash is not None and version.deleted_at is None
    return same and version.state == REJECTED and result.state == READY and result.pictures is None
