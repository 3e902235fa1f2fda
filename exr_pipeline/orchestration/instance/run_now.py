"""Ingest from the command line: find what needs work, run it through Dagster in this process, say how it went.

Belongs here: starting runs without a daemon. Not here: printing (`cli`), the sensor's schedule
(`orchestration.sensors.files`).
"""

from __future__ import annotations

import re
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.ingest.choose import Choice, choose
from exr_pipeline.ingest.doubtful import DOUBTFUL_SQL
from exr_pipeline.ingest.outcome import FileOutcome, outcomes
from exr_pipeline.orchestration.instance.home import repository_origin
from exr_pipeline.storage.locations import Location, SourceRule
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.tables.specs import REJECTED, RETRYABLE, State

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.storage.compute_log_manager import CapturedLogContext

    from exr_pipeline.ingest.chunk import ChunkProgress
    from exr_pipeline.ingest.discovery.needs_work import Candidate
    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.sequence_movies.sequence_movie import MovieProgress
    from exr_pipeline.sequences.model import Sequence as FrameSequence
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.object_info import ObjectInfo


_PARTITION_TAG: Final = "dagster/partition"


class RunFailedError(RetryableError):
    """A run ended before all that it was to do had ended; the message has its reason."""


class RunInterruptedError(RetryableError):
    """Somebody pressed Ctrl-C; `done` files or sequences had ended by then, and the same call does the others."""

    def __init__(self, done: int) -> None:
        super().__init__(f"interrupted after {done} done: run the same command again to resume")
        self.done = done

    def __reduce__(self) -> tuple[type[RunInterruptedError], tuple[int]]:
        return type(self), (self.done,)


@dataclass
class IngestReport:
    """What an ingest found and did.

    Of the files that were listed, `considered` met the caller's condition, `chosen` are those to work on, and `left`
    more are due beyond the caller's limit. `outcomes` says what the chosen ones ended as; it is empty if nothing was to
    be done. `problem` says why a run ended early.
    """

    listed: int = 0
    considered: int = 0
    chosen: Sequence[Candidate] = ()
    left: int = 0
    outcomes: list[FileOutcome] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=list)
    problem: str | None = None

    @property
    def worked_on(self) -> int:
        """How many files were worked on."""
        return len(self.outcomes)

    @property
    def states(self) -> dict[State, int]:
        """How many of the files ended in which state."""
        return dict(Counter(outcome.state for outcome in self.outcomes))


@dataclass(frozen=True)
class _Ended:
    """How a run ended. `reason` is set if it failed, be it only because of a bad file."""

    run_id: str
    reason: str | None
    interrupted: bool = False
    outage: bool = False

    @property
    def is_last(self) -> bool:
        """Whether there is no use in another run now."""
        return self.interrupted or self.outage


@dataclass(frozen=True)
class IngestListener:
    """Who wants to know how an ingest goes: objects listed so far, files to do, files done and their run's progress."""

    on_listed: Callable[[int], None] = lambda _: None
    on_found: Callable[[int], None] = lambda _: None
    on_progress: Callable[[int, ChunkProgress], None] = lambda *_: None


def ingest_source(
    source: Location,
    settings: Settings,
    listener: IngestListener | None = None,
    *,
    choice: Choice | None = None,
    dry_run: bool = False,
) -> IngestReport:
    """Bring the files under a source that need work, and those of `choice`, into the tables, in runs of this process.

    A `dry_run` only chooses. Raises `RunInterruptedError` after Ctrl-C, and as `choose` does.
    """
    from exr_pipeline.orchestration.instance.command_runs import fail_dead_runs
    from exr_pipeline.orchestration.instance.key_migration import instance_for_work
    from exr_pipeline.orchestration.watched_pipeline import WatchedPipeline

    if not dry_run:
        with instance_for_work() as instance:
            fail_dead_runs(instance)
    listener, choice = listener or IngestListener(), choice or Choice()
    counter = _Counter(listener.on_progress)
    pipeline = WatchedPipeline(settings, on_progress=counter)
    if source.scheme == "file":
        pipeline.storage.local.add_root(source if source.key.endswith("/") else source.folder)
    listed: list[ObjectInfo] = []
    for info in _objects(source, pipeline):
        listed.append(info)
        listener.on_listed(len(listed))
    chosen = choose(source, listed, pipeline.tables, choice, settings)
    report = IngestReport(len(listed), chosen.considered, chosen.candidates, chosen.left)
    if dry_run:
        return report
    listener.on_found(len(report.chosen))
    if report.chosen:
        _conclude(report, len(report.chosen), _ingest(report.chosen, pipeline, choice.only), counter)
        report.outcomes = outcomes(pipeline.tables, [each.info.location for each in report.chosen], settings)
    return report


def _objects(source: Location, pipeline: Pipeline) -> Iterator[ObjectInfo]:
    """The files to ingest under a folder, or the one file that is named."""
    settings = pipeline.settings
    rule = SourceRule.of(settings.source_kinds, OutputPlace.from_settings(settings))
    if rule.accepts(source, below=source.folder.key):
        yield pipeline.storage.head(source)
        return
    for info in pipeline.storage.iter_objects(source):
        if rule.accepts(info.location, below=source.key):
            yield info


def retry_failed(
    settings: Settings, url_prefix: str = "", listener: IngestListener | None = None, *, doubtful: bool = False
) -> IngestReport:
    """Try again every known file that is rejected, retryable, not finished or shown as failed, in one run.

    If `doubtful`, only files that were rejected for what is no evidence against them, as earlier versions did.
    Raises `BadInputError` if no known file is below the prefix, and `RunInterruptedError` after Ctrl-C.
    """
    from exr_pipeline.orchestration.instance.command_runs import fail_dead_runs
    from exr_pipeline.orchestration.instance.key_migration import instance_for_work
    from exr_pipeline.orchestration.jobs import FAILED_STATES, RETRY_JOB, Selection, select_partitions
    from exr_pipeline.orchestration.partitions import locations_of
    from exr_pipeline.orchestration.watched_pipeline import WatchedPipeline

    listener = listener or IngestListener()
    counter = _Counter(listener.on_progress)
    pipeline = WatchedPipeline(settings, on_progress=counter)
    with instance_for_work() as instance:
        # Else their files would be passed over as in progress.
        fail_dead_runs(instance)
        selection = Selection(
            states=[REJECTED] if doubtful else FAILED_STATES,
            where=DOUBTFUL_SQL if doubtful else "",
            url_prefix=url_prefix,
        )
        # That nothing has failed is good news.
        keys = select_partitions(selection, pipeline, instance, must_fit={"url_prefix"})
        listener.on_found(len(keys))
        report = IngestReport(listed=len(keys), considered=len(keys))
        if keys:
            config = {"ops": {"ingest_selected_files": {"config": {"partitions": keys}}}}
            _conclude(report, len(keys), [_execute(RETRY_JOB, instance, pipeline, config)], counter)
            report.outcomes = outcomes(pipeline.tables, locations_of(keys), settings)
    return report


class _Counter:
    """Hands progress on, and counts what has ended: nothing else tells a file of this run from its earlier row."""

    def __init__(self, on_progress: Callable[[int, ChunkProgress], None]) -> None:
        self._on_progress = on_progress
        self._ended: dict[str, int] = {}

    def __call__(self, run_id: str, progress: ChunkProgress) -> None:
        # Another attempt of a run begins with what the one before has finished.
        self._ended[run_id] = progress.earlier + progress.done
        self._on_progress(self.ended, progress)

    @property
    def ended(self) -> int:
        return sum(self._ended.values())


def _conclude(report: IngestReport, files: int, runs: Sequence[_Ended], counter: _Counter) -> None:
    report.run_ids = [run.run_id for run in runs]
    if any(run.interrupted for run in runs):
        raise RunInterruptedError(min(counter.ended, files))
    if counter.ended < files:
        report.problem = _first_reason(runs)


def _first_reason(runs: Sequence[_Ended]) -> str:
    return next((run.reason for run in runs if run.reason is not None), "the run ended too early")


def make_sequences(
    source: Location,
    settings: Settings,
    on_found: Callable[[int], None] = lambda _: None,
    on_progress: Callable[[Location, MovieProgress], None] | None = None,
    *,
    also_outdated: bool = False,
) -> dict[str, int]:
    """Make the media of every sequence under a source that the tables know and whose media are of other frames.

    With `also_outdated`, of those too whose media are not what the settings would make now. Runs in this process,
    without waiting for quiet. Returns how many sequences ended in which state. Raises `BadInputError` if the tables
    know no sequence there, `RunFailedError` if some did not come so far, `RunInterruptedError` after Ctrl-C.
    """
    from exr_pipeline.ingest.discovery.settled_sequences import outdated, sequences_in
    from exr_pipeline.ingest.outdated import outdated_sequences
    from exr_pipeline.orchestration.watched_pipeline import WatchedPipeline

    pipeline = WatchedPipeline(settings, on_movie_progress=on_progress)
    folders = [folder for folder in pipeline.tables.folders_changed_since("") if folder.url.startswith(source.url)]
    due: list[FrameSequence] = []
    is_known = False
    for folder in sorted(folders):
        found = sequences_in(pipeline.tables, folder, udim=settings.udim_hint)
        is_known = is_known or bool(found)
        of_folder = outdated(pipeline.tables, found, now=datetime.now(UTC), retry_after=timedelta(0))
        if also_outdated:
            taken = {sequence.key for sequence in of_folder}
            rest = [sequence for sequence in found if sequence.key not in taken]
            of_folder += outdated_sequences(pipeline.tables, rest, settings)
        due += of_folder
    if not is_known:
        raise BadInputError(source.url, "no ingested file below it is a frame of a sequence")
    on_found(len(due))
    if not due:
        return {}
    return _make([sequence.location for sequence in due], pipeline)


def retry_sequences(
    settings: Settings,
    url_prefix: str = "",
    on_found: Callable[[int], None] = lambda _: None,
    on_progress: Callable[[Location, MovieProgress], None] | None = None,
) -> dict[str, int]:
    """Try again every sequence that is rejected or retryable, however long ago its latest try was.

    Returns and raises what `make_sequences` does; nothing is raised if there is none.
    """
    from exr_pipeline.orchestration.watched_pipeline import WatchedPipeline

    pipeline = WatchedPipeline(settings, on_movie_progress=on_progress)
    urls = [
        url
        for state in (REJECTED, RETRYABLE)
        for url in pipeline.tables.read("sequence_outputs", columns=["uri"], state=state).column("uri").to_pylist()
    ]
    failed = sorted(location for location in map(Location.from_url, urls) if location.url.startswith(url_prefix))
    on_found(len(failed))
    return _make(failed, pipeline) if failed else {}


def _make(sequences: Sequence[Location], pipeline: Pipeline) -> dict[str, int]:
    """Make the media of sequences in runs of this process; returns how many ended in which state."""
    from exr_pipeline.orchestration.instance.command_runs import fail_dead_runs
    from exr_pipeline.orchestration.instance.key_migration import instance_for_work
    from exr_pipeline.orchestration.partitions import SEQUENCES
    from exr_pipeline.orchestration.sensors.sequences import requests

    keys = {location.partition_key for location in sequences}
    started = datetime.now(UTC)
    with instance_for_work() as instance:
        fail_dead_runs(instance)
        known = instance.get_dynamic_partitions(SEQUENCES)
        new = sorted(keys - set(known))
        if new:
            instance.add_dynamic_partitions(SEQUENCES, new)
        runs = _until_the_last(
            _execute(str(request.job_name), instance, pipeline, {}, request.tags, request.partition_key)
            for request in requests(new, keys, known)
        )
    rows = pipeline.tables.read(
        "sequence_outputs", columns=["state", "generated_timestamp"], locations=sequences
    ).to_pylist()
    # A row from before is of other frames, or of an earlier try.
    states = [row["state"] for row in rows if datetime.fromisoformat(row["generated_timestamp"]) >= started]
    if any(run.interrupted for run in runs):
        raise RunInterruptedError(len(states))
    if len(states) < len(sequences):
        left = len(sequences) - len(states)
        raise RunFailedError(f"{left} of {len(sequences)} sequences were not rendered: {_first_reason(runs)}")
    return dict(Counter(states))


def _ingest(candidates: Sequence[Candidate], pipeline: Pipeline, only: Sequence[str]) -> list[_Ended]:
    from exr_pipeline.orchestration.instance.key_migration import instance_for_work
    from exr_pipeline.orchestration.partitions import FILES
    from exr_pipeline.orchestration.sensors.files import existing_partitions, run_requests
    from exr_pipeline.products.registry import products_named

    keys = [candidate.info.location.partition_key for candidate in candidates]
    with instance_for_work() as instance:
        known = existing_partitions(instance, keys)
        if only:
            # Runs over ranges make everything.
            instance.add_dynamic_partitions(FILES, [key for key in keys if key not in known])
            known = set(keys)
        assets = [product.asset for product in products_named(only)]
        added, requests = run_requests(candidates, known, pipeline.settings, assets=assets)
        instance.add_dynamic_partitions(FILES, added)
        return _until_the_last(
            _execute(str(request.job_name), instance, pipeline, dict(request.run_config), request.tags)
            for request in requests
        )


def _until_the_last(runs: Iterator[_Ended]) -> list[_Ended]:
    ended: list[_Ended] = []
    for run in runs:
        ended.append(run)
        if run.is_last:
            break
    return ended


def _execute(
    job_name: str,
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    run_config: dict[str, Any],
    tags: Mapping[str, str] | None = None,
    partition_key: str | None = None,
) -> _Ended:
    """Run a job of the definitions here and now, as a run that the page shows like those of the daemon."""
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.execution.api import execute_run

    from exr_pipeline.orchestration.build import build_defs
    from exr_pipeline.orchestration.instance.command_runs import CommandProcess

    defs = build_defs(settings=pipeline.settings, resource_overrides={"pipeline": pipeline})
    job = defs.resolve_job_def(job_name)
    run_id = str(uuid.uuid4())
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    # `execute_in_process` is public, but its runs are of no code location, and most of the page leaves them out.
    run = instance.create_run_for_job(
        job,
        run_config={**run_config, **quiet},
        run_id=run_id,
        tags={
            **job.run_tags,
            **(tags or {}),
            **({_PARTITION_TAG: partition_key} if partition_key else {}),
            **CommandProcess.own().to_tags(run_id),
        },
        remote_job_origin=repository_origin().get_job_origin(job_name),
    )
    with _log_capture_unaware_of_interrupts(instance):
        result = execute_run(InMemoryJob(job), run, instance)
    reason = None if result.success else _reason(result)
    return _Ended(result.run_id, reason, _was_interrupted(result), _was_outage(result))


@contextmanager
def _log_capture_unaware_of_interrupts(instance: dg.DagsterInstance) -> Iterator[None]:
    """Have Ctrl-C reach only this process, not the programs that Dagster starts to capture a step's output.

    They would print tracebacks of their own, and what a step says while it ends would be lost. Dagster ends them.
    """
    manager = instance.compute_log_manager
    capture = manager.capture_logs

    @contextmanager
    def unaware(log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        with ExitStack() as captured:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                context = captured.enter_context(capture(log_key))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield context

    manager.capture_logs = unaware  # type: ignore[method-assign]
    try:
        yield
    finally:
        manager.capture_logs = capture  # type: ignore[method-assign]


def _was_interrupted(result: dg.JobExecutionResult) -> bool:
    from dagster._core.events import RunFailureReason
    from dagster._core.execution.plan.objects import ErrorSource

    if result.success:
        return False
    steps = (event.step_failure_data for event in result.get_step_failure_events())
    reason = result.get_run_failure_event().job_failure_data.failure_reason
    # The latter where Ctrl-C came between two attempts of a step.
    return any(step.error_source == ErrorSource.INTERRUPT for step in steps) or (
        reason == RunFailureReason.UNEXPECTED_TERMINATION
    )


def _was_outage(result: dg.JobExecutionResult) -> bool:
    from exr_pipeline.orchestration.steps.step_retries import OUTAGE

    failures = (event.step_failure_data.user_failure_data for event in result.get_step_failure_events())
    return any(failure is not None and OUTAGE in (failure.metadata or {}) for failure in failures)


def _reason(result: dg.JobExecutionResult) -> str:
    for event in result.get_step_failure_events():
        failure = event.step_failure_data
        if failure.user_failure_data is not None and failure.user_failure_data.description:
            return failure.user_failure_data.description
        if failure.error is not None:
            # The name of a class of ours is nothing to a user.
            return re.sub(r"^exr_pipeline[\w.]*: ", "", (failure.error.cause or failure.error).message)
    return result.get_run_failure_event().message or "the run failed"
