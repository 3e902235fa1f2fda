"""The one step of every run: a chunk of partitions in, exact events per (asset, partition) out.

Belongs here: how a run's keys become work and its results events. Not here: the work (`ingest.chunk`).
Why one step, and why it fails when a file fails: docs/decisions/0002-one-step-per-chunk.md.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from types import MappingProxyType

import dagster as dg

from exr_pipeline.errors import MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.events.outbox import publish_after_work
from exr_pipeline.ingest.overlap import FinishedFile
from exr_pipeline.orchestration.instance.console import tidy_console
from exr_pipeline.orchestration.instance.step_events import announce, log_asset_events
from exr_pipeline.orchestration.io_managers import MediaIOManager, TableIOManager
from exr_pipeline.orchestration.partitions import locations_of
from exr_pipeline.orchestration.steps.file_events import file_events
from exr_pipeline.orchestration.steps.other_runs import events_of_finished, finished_by_others, in_turns
from exr_pipeline.orchestration.steps.progress import SECONDS_BETWEEN_PROGRESS
from exr_pipeline.orchestration.steps.run_tags import tag_outcome, tag_unfinished
from exr_pipeline.orchestration.steps.step_retries import (
    Context,
    after_outage,
    again_after_an_outage,
    run_again,
    without_finished,
)
from exr_pipeline.orchestration.watched_pipeline import WatchedPipeline
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.products.file_result import FileResult
from exr_pipeline.products.registry import products_shown_by
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import REJECTED, RETRYABLE
from exr_pipeline.telemetry.logs import about
from exr_pipeline.telemetry.start import flush_telemetry, start_telemetry
from exr_pipeline.telemetry.trace_context import is_traceparent
from exr_pipeline.untrusted_text import visible_line

REASONS_SHOWN = 50
REASONS_IN_TITLE = 3


@again_after_an_outage
def ingest_step(
    context: Context,
    partition_keys: Sequence[str],
    assets: Collection[dg.AssetKey],
    pipeline: Pipeline,
    media_io: MediaIOManager,
    table_io: TableIOManager,
    traces: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Make the selected assets of these files, and log an event for each that was made or could not be.

    Raises `Failure` after all files have ended, if some are rejected or retryable: what was announced and not
    materialized then shows as failed, everything else as materialized. Raises `RetryRequested` while files may still
    become reachable, or when Dagster's database is away; what this run, or the failed run that it resumes, has already
    made is not made again. `traces` has the traceparent, by partition key, of files that an event with a trace has
    named.
    """
    from exr_pipeline.ingest.chunk import ChunkIngest, ChunkProgress
    from exr_pipeline.ingest.media_files import needs_workers
    from exr_pipeline.pictures import PicturePool, PictureSettings

    tidy_console(context, pipeline.settings)
    start_telemetry(pipeline.settings)
    announce(context, assets, partition_keys)
    tag_unfinished(context.instance, context.run, len(partition_keys))
    left = without_finished(context, partition_keys, assets)
    wanted = products_shown_by({asset.path[-1] for asset in assets})
    failed: list[FileResult] = []
    began = datetime.now(UTC)
    last_told = time.monotonic()

    def written(batch: Sequence[FileResult]) -> None:
        log_asset_events(context, file_events(batch, assets))
        if bad := [result for result in batch if result.reason is not None]:
            failed.extend(bad)
            # In one: each entry of the log is a transaction.
            lines = [f"{result.state}: {result.location.url}: {result.reason}" for result in bad]
            context.log.warning("\n".join(lines))

    def progressed(progress: ChunkProgress) -> None:
        nonlocal last_told
        if progress.done == progress.total or time.monotonic() - last_told >= SECONDS_BETWEEN_PROGRESS:
            last_told = time.monotonic()
            context.log.info(str(progress))
        if isinstance(pipeline, WatchedPipeline) and pipeline.on_progress is not None:
            pipeline.on_progress(context.run.run_id, progress)

    def skipped(files: Sequence[FinishedFile]) -> None:
        log_asset_events(context, events_of_finished(context.instance, files, assets))
        failed.extend(_rejected(files))
        context.log.info(f"{len(files)} of the files were finished elsewhere")

    locations = in_turns(context, locations_of(left))
    workers = (
        PicturePool(PictureSettings.from_settings(pipeline.settings))
        if needs_workers(locations, wanted)
        else nullcontext()
    )
    try:
        with workers as pool:
            ingest = ChunkIngest(
                pipeline.settings,
                pipeline.storage,
                media=media_io,
                rows=table_io,
                pool=pool,
                retries=pipeline.retries,
            )
            with _interrupted_between_tasks(), about(run=context.run.run_id):
                ingest.run(
                    locations,
                    wanted,
                    on_written=written,
                    on_progress=progressed,
                    finished_elsewhere=finished_by_others(context, pipeline, wanted),
                    on_finished_elsewhere=skipped,
                    finished_earlier=len(partition_keys) - len(left),
                    traces=_by_location(traces),
                )
        publish_after_work(pipeline.tables, pipeline.settings, context.log, began=began)
    except MisconfiguredError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except (RetryableError, StateUnknownError) as error:
        raise after_outage(context, pipeline, error) from error
    finally:
        flush_telemetry()
    tag_outcome(context.instance, context.run, [result.state for result in failed], len(partition_keys))
    _raise_for(context, pipeline, failed, len(partition_keys))


def _by_location(traces: Mapping[str, str]) -> dict[Location, str]:
    """Traces by file. A run may have been asked for by hand, with anything in its configuration."""
    checked = {key: trace for key, trace in traces.items() if is_traceparent(trace)}
    return dict(zip(locations_of(list(checked)), checked.values(), strict=True))


@contextmanager
def _interrupted_between_tasks() -> Iterator[None]:
    """Have asyncio deal with Ctrl-C, which it does only in place of Python's own handler.

    Dagster's raises wherever the program is: in a callback of the loop that is lost, with a lock held it waits forever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _raise_for(context: Context, pipeline: Pipeline, failed: Sequence[FileResult], total: int) -> None:
    can_improve = any(result.state == RETRYABLE for result in failed)
    if can_improve and pipeline.retries.may_repeat_step(context.retry_number):
        raise run_again(pipeline)
    if failed:
        raise _failure(failed, total)


def _rejected(files: Sequence[FinishedFile]) -> list[FileResult]:
    return [FileResult(file.location, file.state, file.reason) for file in files if file.state == REJECTED]


def _failure(failed: Sequence[FileResult], total: int) -> dg.Failure:
    rejected = sum(result.state == REJECTED for result in failed)
    files = [
        dg.TableRecord({"file": result.location.url, "state": result.state, "reason": result.reason or ""})
        for result in failed[:REASONS_SHOWN]
    ]
    more = {"files not listed": len(failed) - len(files)} if len(failed) > len(files) else {}
    first = "; ".join(visible_line(f"{result.location.name}: {result.reason}") for result in failed[:REASONS_IN_TITLE])
    return dg.Failure(
        f"{rejected} of {total} files rejected, {len(failed) - rejected} retryable, the others succeeded: {first}"
        + ("; …" if len(failed) > REASONS_IN_TITLE else ""),
        metadata={"files": dg.MetadataValue.table(files), **more},
        allow_retries=False,
    )
