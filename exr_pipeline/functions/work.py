"""What a function does with the objects that events name: the same as a run, as one chunk, with an answer for each.

Belongs here: clients that live as long as the process, the chunk, and what its outcome means to the platform. Not here:
the forms of events and answers (`events`, `answer`), or any platform (`dataengine`, `aws_lambda`, `cloud_run`).
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.events.completed_jobs import Job
from exr_pipeline.events.outbox import outbox_rows, publish_after_work
from exr_pipeline.events.sinks import sink_names
from exr_pipeline.extras import is_installed
from exr_pipeline.functions.answer import failed, is_retryable, made, persisted, skipped
from exr_pipeline.functions.credentials import function_settings, has_tables, names_credentials
from exr_pipeline.functions.events import read_event
from exr_pipeline.ingest.chunk import ChunkIngest
from exr_pipeline.ingest.media_files import needs_workers
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.products.registry import FILE_PRODUCTS, PRODUCT_NAMES, products_named
from exr_pipeline.retries import RetryPolicy
from exr_pipeline.storage.locations import Location, SourceRule
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.storage.store_errors import MissingObjectError
from exr_pipeline.tables.specs import REJECTED, RETRYABLE
from exr_pipeline.telemetry.logs import about, set_up_logs
from exr_pipeline.telemetry.start import flush_telemetry, start_telemetry
from exr_pipeline.telemetry.trace_context import in_trace

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pyarrow as pa

    from exr_pipeline.events.notifications import ObjectEvent
    from exr_pipeline.functions.answer import Answer, ErrorClass
    from exr_pipeline.functions.events import Request, Toggles
    from exr_pipeline.pictures import PicturePool
    from exr_pipeline.products.file_result import FileResult
    from exr_pipeline.products.product import FileProduct
    from exr_pipeline.settings import Settings
    from exr_pipeline.tables.specs import TableName
    from exr_pipeline.tables.store import FileVersion, Mark, Queue, TableStore

# A call ends within minutes, and the platform calls again. Thousands are called at once: not all at the same moment.
FUNCTION_RETRIES: Final = RetryPolicy(attempts=3, first_pause_seconds=0.5, pause_factor=3, jitter=0.5)
_NO_TABLES: Final = "no tables are configured: set VAST_DB_BUCKET with its endpoint and keys"


class TryAgainError(RetryableError):
    """A file or a write is retryable: the platform is to send the event again.

    `answers` has what would be answered, for each event.
    """

    def __init__(self, message: str, answers: Sequence[list[Answer]]) -> None:
        super().__init__(message)
        self.answers = list(answers)

    def __reduce__(self) -> tuple[type[TryAgainError], tuple[str, list[list[Answer]]]]:
        return type(self), (str(self), self.answers)


class FunctionWork:
    """What one process of a function keeps from call to call: settings, clients, workers that render pictures.

    `secrets` is what the platform hands over, such as `ctx.secrets`. Where a platform has no shared memory for
    worker processes, pictures are rendered `in_process`. `tracer` is the platform's own, if it has one.
    """

    def __init__(
        self,
        *,
        secrets: Any = None,
        log: logging.Logger | None = None,
        in_process: bool = False,
        tracer: Any = None,
    ) -> None:
        self.log = log or logging.getLogger("exr_pipeline.functions")
        self._secrets = secrets
        self._in_process = in_process
        self._open = ExitStack()
        atexit.register(self.close)
        # Runtimes may call from several threads at once.
        self._lock = Lock()
        self._pool: PicturePool | None = None
        self._pipeline = Pipeline(function_settings(secrets))
        self.settings = self._pipeline.settings
        set_up_logs(self.settings, self.log)
        start_telemetry(self.settings, tracer=tracer)
        if not has_tables(self.settings):
            self.log.warning("rows are not written: %s", _NO_TABLES)

    def close(self) -> None:
        """End the workers."""
        self._open.close()
        self._pool = None

    def answer(self, event: Any) -> list[Answer]:
        """Do what one event asks for; an answer for each object that it names, none for a test event.

        Raises `TryAgainError` if the platform is to send the event again, and `EXR_PIPELINE_RAISE_RETRYABLE` is on.
        """
        return self.answer_all([event])[0]

    def answer_all(self, events: Sequence[Any]) -> list[list[Answer]]:
        """Do what these events ask for, in one transaction; answers in their order. Raises as `answer` does.

        Events that bring credentials of their own are one transaction each.
        """
        requests = [self._read(event) for event in events]
        try:
            answers = self._run(requests)
        finally:
            # Between calls the process may be frozen.
            flush_telemetry()
        again = [answer for answered in answers for answer in answered if is_retryable(answer)]
        if again and self.settings.raise_retryable:
            raise TryAgainError(f"{again[0]['file']['uri']}: {again[0]['error']}", answers)
        return answers

    def _read(self, event: Any) -> Request | Answer:
        try:
            return read_event(event)
        except BadInputError as error:
            self.log.warning("event refused: %s", error.reason)
            return failed(None, error.reason, "bad event")

    def _run(self, requests: Sequence[Request | Answer]) -> list[list[Answer]]:
        """Outside an event loop that may run in this thread: that of the runtime, whose handlers may be coroutines."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._answers(requests)
        with ThreadPoolExecutor(1, thread_name_prefix="function") as thread:
            return thread.submit(self._answers, requests).result()

    def _answers(self, requests: Sequence[Request | Answer]) -> list[list[Answer]]:
        answers: list[list[Answer]] = [[] for _ in requests]
        together: list[tuple[int, Request]] = []
        for index, request in enumerate(requests):
            if isinstance(request, dict):
                answers[index] = [request]
            elif names_credentials(request.payload):
                answers[index] = self._with_its_own(request)
            else:
                together.append((index, request))
        made_of = _Call(self, self._pipeline).answers([request for _, request in together])
        for (index, _), answer in zip(together, made_of, strict=True):
            answers[index] = answer
        return answers

    def _with_its_own(self, request: Request) -> list[Answer]:
        try:
            settings = function_settings(self._secrets, request.payload)
        except BadInputError as error:
            return [failed(None, error.reason, "bad event")]
        except MisconfiguredError as error:
            return [failed(None, str(error), "misconfigured")]
        return _Call(self, Pipeline(settings)).answers([request])[0]

    def pool(self, settings: Settings) -> PicturePool:
        """The workers that render pictures, started when first needed."""
        from exr_pipeline.pictures import PicturePool, PictureSettings
        from exr_pipeline.pictures.picture_pool import InProcessPicturePool

        with self._lock:
            if self._pool is None:
                made: Any = InProcessPicturePool if self._in_process else PicturePool
                self._pool = self._open.enter_context(made(PictureSettings.from_settings(settings)))
            return self._pool


def function_products(settings: Settings) -> tuple[FileProduct, ...]:
    """What a function makes: `EXR_PIPELINE_FUNCTION_PRODUCTS`, else all that the installed extras can make."""
    unknown = [name for name in settings.function_products if name not in PRODUCT_NAMES]
    if unknown:
        raise MisconfiguredError(
            "EXR_PIPELINE_FUNCTION_PRODUCTS",
            f"{unknown[0]!r} is not a product",
            f"choose from {', '.join(PRODUCT_NAMES)}",
        )
    if settings.function_products:
        return products_named(settings.function_products)
    return FILE_PRODUCTS if is_installed("pictures") else products_named(("header",))


class _Call:
    """The objects of some events, as one chunk."""

    def __init__(self, work: FunctionWork, pipeline: Pipeline) -> None:
        self._work = work
        self._log = work.log
        self._pipeline = pipeline
        self._settings = pipeline.settings
        self._began = datetime.now(UTC)
        self._products: tuple[FileProduct, ...] = ()
        self._results: dict[Location, FileResult] = {}
        self._before: dict[Location, FileVersion | None] = {}

    def answers(self, requests: Sequence[Request]) -> list[list[Answer]]:
        """The answers for each of the events."""
        try:
            self._products = function_products(self._settings)
            wanted = {event: self._place(event) for request in requests for event in request.objects}
            traces = {
                place: event.traceparent
                for event, place in wanted.items()
                if place is not None and event.traceparent is not None
            }
            trouble = self._ingest([place for place in dict.fromkeys(wanted.values()) if place is not None], traces)
        except MisconfiguredError as error:
            return self._all_failed(requests, error, "authentication" if _is_about_keys(error) else "misconfigured")
        except RetryableError as error:
            return self._all_failed(requests, error, "connection")
        answers = [
            [self._answer(event, wanted[event], request.toggles, trouble) for event in request.objects]
            for request in requests
        ]
        self._publish(requests, answers)
        return answers

    def _publish(self, requests: Sequence[Request], answers: Sequence[Sequence[Answer]]) -> None:
        """Publish what was written, and the ends of jobs that events name, but those that are to be tried again."""
        if not (has_tables(self._settings) and sink_names(self._settings)):
            return
        now = datetime.now(UTC)
        ended = [
            job.ended(subject=answered[0]["file"]["uri"], error=_errors(answered), outputs=_outputs(answered), now=now)
            for request, answered in zip(requests, answers, strict=True)
            if (job := Job.of(request.payload)) is not None and answered and not any(map(is_retryable, answered))
        ]
        tables = self._pipeline.tables
        if ended:
            tables.write({"outbox": outbox_rows(ended, self._settings, now=now, traces=self._traces_now())}, now=now)
        publish_after_work(tables, self._settings, self._log, began=self._began)

    def _traces_now(self) -> dict[str, str]:
        """The traces of the files of this call, by URL."""
        found = {location.url: result.traceparent for location, result in self._results.items()}
        return {url: traceparent for url, traceparent in found.items() if traceparent is not None}

    def _place(self, event: ObjectEvent) -> Location | None:
        """Where the object is, None if it needs no work."""
        location = event.location
        if event.action != "created" or not self._is_source(location):
            return None
        if event.as_written is not None and not self._is_there(location) and self._is_there(event.as_written):
            return event.as_written
        return location

    def _is_source(self, location: Location) -> bool:
        """Whether the sensor would ingest it: an event about what a function has made must not make more of it."""
        sources, rule = self._rule
        return rule.accepts(location) and (not sources or any(source.holds(location) for source in sources))

    @cached_property
    def _rule(self) -> tuple[list[Location], SourceRule]:
        """The folders of the sources, and which files of them are ingested."""
        sources = [Location.from_url(url).as_folder() for url in self._settings.sources]
        return sources, SourceRule.of(self._settings.source_kinds, OutputPlace.from_settings(self._settings))

    def _is_there(self, location: Location) -> bool:
        try:
            self._pipeline.storage.head(location)
        except MissingObjectError:
            return False
        except BadInputError:
            return True
        return True

    def _ingest(self, locations: Collection[Location], traces: Mapping[Location, str]) -> tuple[ErrorClass, str] | None:
        """Make everything of these files; what kept their rows from being written, if anything did."""
        if not locations:
            return None
        rows: Any = self._pipeline.tables if has_tables(self._settings) else _NoTables()
        pool = self._work.pool(self._settings) if needs_workers(locations, self._products) else None
        chunk = ChunkIngest(
            self._settings.model_copy(update={"write_seconds": math.inf}),
            self._pipeline.storage,
            media=self._pipeline.storage,
            rows=_Remembering(rows, self),
            pool=pool,
            retries=FUNCTION_RETRIES,
            header_bytes_per_write=1 << 62,
        )
        try:
            chunk.run(list(locations), self._products, on_written=self._written, traces=traces)
        except StateUnknownError as error:
            return "transaction", str(error)
        except RetryableError as error:
            return "connection", str(error)
        return None

    def _written(self, batch: Sequence[FileResult]) -> None:
        for result in batch:
            self._results[result.location] = result
            with about(file=result.location.url), in_trace(result.traceparent):
                if result.reason is None:
                    self._log.info("%s: %s", result.location.url, result.state)
                else:
                    self._log.warning("%s: %s: %s", result.location.url, result.state, result.reason)

    def remember(self, locations: Collection[Location], found: Mapping[Location, FileVersion]) -> None:
        """Keep what the tables knew of these files at first: before anything was written."""
        for location in locations:
            self._before.setdefault(location, found.get(location))

    def _answer(
        self, event: ObjectEvent, place: Location | None, toggles: Toggles, trouble: tuple[ErrorClass, str] | None
    ) -> Answer:
        if place is None:
            return skipped(event.location, _why_skipped(event))
        result = self._results.get(place)
        if result is None:
            kind, reason = trouble or ("connection", "it was not reached")
            return failed(place, reason, kind)
        if result.state == RETRYABLE:
            return failed(place, result.reason or "", "connection")
        return made(result, toggles, self._persistence(result))

    def _persistence(self, result: FileResult) -> Answer:
        file_id = None if result.source is None else result.source.file_id
        if not has_tables(self._settings):
            return persisted("skipped", file_id=file_id, message=_NO_TABLES)
        known = self._before.get(result.location)
        is_new = known is None or known.file_id != file_id
        what = "rejected" if result.state == REJECTED else "inserted" if is_new else "known already"
        return persisted("success", file_id=file_id, inserted=is_new, message=what)

    def _all_failed(self, requests: Sequence[Request], error: Exception, kind: ErrorClass) -> list[list[Answer]]:
        self._log.error("%s", error)
        return [[failed(event.location, str(error), kind) for event in request.objects] for request in requests]


class _NoTables:
    """Rows that go nowhere: what was written is known for as long as the chunk takes."""

    def __init__(self) -> None:
        self._known: dict[Location, FileVersion] = {}

    def write(self, rows: Mapping[TableName, pa.Table], *, now: datetime) -> None:
        """Know these files."""
        from exr_pipeline.tables.merge import instant
        from exr_pipeline.tables.store import FileVersion

        for row in rows["files"].to_pylist():
            location = Location.from_url(row["uri"])
            self._known[location] = FileVersion(row["file_id"], row["etag"], instant(row["mtime"]), row["state"], now)

    def current_versions(self, locations: Collection[Location]) -> dict[Location, FileVersion]:
        """What was written."""
        return {location: self._known[location] for location in locations if location in self._known}

    def read(self, table: TableName, *, columns: Sequence[str], locations: Collection[Location]) -> pa.Table:
        """No rows."""
        from exr_pipeline.tables.specs import arrow_schema

        return arrow_schema(table).empty_table().select(list(columns))

    def mark(
        self, versions: Mapping[Location, str], mark: Mark, *, now: datetime, queue: Queue | None = None
    ) -> set[Location]:
        """Mark nothing."""
        return set()


class _Remembering:
    """The tables, with what they knew of the files before."""

    def __init__(self, tables: TableStore | _NoTables, call: _Call) -> None:
        self._tables = tables
        self._call = call
        self.write = tables.write
        self.read = tables.read
        self.mark = tables.mark

    def current_versions(self, locations: Collection[Location]) -> dict[Location, FileVersion]:
        """What the tables know of these files."""
        found = self._tables.current_versions(locations)
        self._call.remember(locations, found)
        return found


def _errors(answers: Sequence[Answer]) -> str | None:
    return next((answer["error"] for answer in answers if answer["status"] == "error"), None)


def _outputs(answers: Sequence[Answer]) -> dict[str, str]:
    """The URIs of the pictures of the first object that has some."""
    for answer in answers:
        bucket = answer["file"].get("bucket")
        found = {name: answer.get(f"{name}_key") for name in ("thumbnail", "proxy")}
        if bucket and any(found.values()):
            return {f"{name}_uri": f"s3://{bucket}/{key}" for name, key in found.items() if key}
    return {}


def _why_skipped(event: ObjectEvent) -> str:
    if event.action == "created":
        return "not a source file: of a kind that is not ingested, hidden, an output, or below no configured source"
    if event.action == "deleted":
        return "deleted objects are found by the sensor or by `exr-pipeline reconcile`"
    return f"nothing to do for an event of this type ({event.action})"


def _is_about_keys(error: MisconfiguredError) -> bool:
    return any(word in error.setting for word in ("ACCESS_KEY", "SECRET_KEY", "CREDENTIALS", "AWS_PROFILE"))
