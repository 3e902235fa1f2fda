"""The one step of every run: a chunk of partitions in, exact events per (asset, partition) out.

Belongs here: how a run's keys become work and its results events. Not here: the work (`ingest.chunk`).
Why one step, and why it fails when a file fails: docs/decisions/0002-one-step-per-chunk.md.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Concatenate, ParamSpec

import dagster as dg

from exr_pipeline.errors import MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.ingest.overlap import FinishedFile
from exr_pipeline.orchestration.instance.console import tidy_console
from exr_pipeline.orchestration.instance.event_storage import (
    announce,
    is_outage,
    log_asset_events,
    materializations_of_run,
)
from exr_pipeline.orchestration.io_managers import MediaIOManager, TableIOManager
from exr_pipeline.orchestration.partitions import locations_of
from exr_pipeline.orchestration.steps.file_events import file_events
from exr_pipeline.orchestration.steps.other_runs import events_of_finished, finished_by_others, in_turns
from exr_pipeline.orchestration.steps.progress import SECONDS_BETWEEN_PROGRESS
from exr_pipeline.orchestration.steps.run_tags import tag_outcome, tag_unfinished
from exr_pipeline.orchestration.watched_pipeline import WatchedPipeline
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.products.file_result import FileResult
from exr_pipeline.products.registry import products_shown_by
from exr_pipeline.tables.specs import REJECTED, RETRYABLE
from exr_pipeline.untrusted_text import visible_line

RESUMED_TAG = "dagster/is_resume_retry"
PARENT_TAG = "dagster/parent_run_id"
Context = dg.AssetExecutionContext | dg.OpExecutionContext
_Rest = ParamSpec("_Rest")

# In the metadata of a failure: no file could be read, so that there is no use in another run now.
OUTAGE = "outage"
STEP_RETRIES = 2
STEP_RETRY_SECONDS = 30
REASONS_SHOWN = 50
REASONS_IN_TITLE = 3


def again_after_an_outage(
    step: Callable[Concatenate[Context, _Rest], None],
) -> Callable[Concatenate[Context, _Rest], None]:
    """Have a step tried again if Dagster's database is away for longer than each single statement waits for it.

    Else it would fail, for good, with rows in the tables whose events are missing: what they are of would show as
    failed.
    """

    @wraps(step)
    def guarded(context: Context, /, *args: _Rest.args, **options: _Rest.kwargs) -> None:
        try:
            step(context, *args, **options)
        except Exception as error:
            if is_outage(error) and context.retry_number < STEP_RETRIES:
                raise dg.RetryRequested(max_retries=STEP_RETRIES, seconds_to_wait=STEP_RETRY_SECONDS) from error
            raise

    return guarded


@again_after_an_outage
def ingest_step(
    context: Context,
    partition_keys: Sequence[str],
    assets: Collection[dg.AssetKey],
    pipeline: Pipeline,
    media_io: MediaIOManager,
    table_io: TableIOManager,
) -> None:
    """Make the selected assets of these files, and log an event for each that was made or could not be.

    Raises `Failure` after all files have ended, if some are rejected or retryable: what was announced and not
    materialized then shows as failed, everything else as materialized. Raises `RetryRequested` while files may still
    become reachable, or when Dagster's database is away; what this run, or the failed run that it resumes, has already
    made is not made again.
    """
    from exr_pipeline.ingest.chunk import ChunkIngest, Progress
    from exr_pipeline.ingest.media_files import needs_workers
    from exr_pipeline.pictures import PicturePool, PictureSettings

    tidy_console(context, pipeline.settings)
    announce(context, assets, partition_keys)
    tag_unfinished(context.instance, context.run, len(partition_keys))
    left = _without_finished(context, partition_keys, assets)
    wanted = products_shown_by({asset.path[-1] for asset in assets})
    failed: list[FileResult] = []
    last_told = time.monotonic()

    def written(batch: Sequence[FileResult]) -> None:
        log_asset_events(context, file_events(batch, assets))
        if bad := [result for result in batch if result.reason is not None]:
            failed.extend(bad)
            # In one: each entry of the log is a transaction.
            lines = [f"{result.state}: {result.location.url}: {result.reason}" for result in bad]
            context.log.warning("\n".join(lines))

    def progressed(progress: Progress) -> None:
        nonlocal last_told
        if progress.done == progress.total or time.monotonic() - last_told >= SECONDS_BETWEEN_PROGRESS:
            last_told = time.monotonic()
            context.log.info(str(progress))
        if isinstance(pipeline, WatchedPipeline) and pipeline.on_progress is not None:
            pipeline.on_progress(context.run.run_id, progress)

    def skipped(files: Sequence[FinishedFile]) -> None:
        log_asset_events(context, events_of_finished(context.instance, files, assets))
        failed.extend(_rejected(files))
        context.log.info(f"{len(files)} files were finished by another run in the meantime")

    locations = in_turns(context, locations_of(left))
    workers = (
        PicturePool(PictureSettings.from_settings(pipeline.settings))
        if needs_workers(locations, wanted)
        else nullcontext()
    )
    try:
        with workers as pool:
            ingest = ChunkIngest(pipeline.settings, pipeline.storage, media=media_io, rows=table_io, pool=pool)
            with _interrupted_between_tasks():
                ingest.run(
                    locations,
                    wanted,
                    on_written=written,
                    on_progress=progressed,
                    finished_elsewhere=finished_by_others(context, pipeline, wanted),
                    on_finished_elsewhere=skipped,
                    finished_earlier=len(partition_keys) - len(left),
                )
    except MisconfiguredError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except (RetryableError, StateUnknownError) as error:
        if context.retry_number < STEP_RETRIES:
            raise dg.RetryRequested(max_retries=STEP_RETRIES, seconds_to_wait=STEP_RETRY_SECONDS) from error
        # Neither the store nor the tables answer: another run would have no better luck.
        raise dg.Failure(f"The run could not go on: {error}", metadata={OUTAGE: True}, allow_retries=False) from error
    tag_outcome(context.instance, context.run, [result.state for result in failed], len(partition_keys))
    _raise_for(context, failed, len(partition_keys))


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


def _without_finished(
    context: Context,
    partition_keys: Sequence[str],
    assets: Collection[dg.AssetKey],
) -> list[str]:
    """The keys whose assets were not all made by an earlier attempt of this run, or by the run that it resumes."""
    parent_run_id = context.run.tags.get(PARENT_TAG) if context.run.tags.get(RESUMED_TAG) == "true" else None
    if context.retry_number == 0 and parent_run_id is None:
        return list(partition_keys)
    own = materializations_of_run(context.instance, context.run.run_id)
    inherited = materializations_of_run(context.instance, parent_run_id) if parent_run_id else []
    made: dict[str, set[dg.AssetKey]] = defaultdict(set)
    for materialization in (*own, *inherited):
        if materialization.partition is not None:
            made[materialization.partition].add(materialization.asset_key)
    finished = {key for key in partition_keys if made[key].issuperset(assets)}
    # This run has announced these keys anew: without an event of its own they would show as failed with it.
    log_asset_events(
        context,
        [
            materialization
            for materialization in inherited
            if materialization.partition in finished and materialization.asset_key in assets
        ],
    )
    context.log.info(f"{len(finished)} of {len(partition_keys)} files were finished by an earlier attempt")
    return [key for key in partition_keys if key not in finished]


def _raise_for(context: Context, failed: Sequence[FileResult], total: int) -> None:
    if any(result.state == RETRYABLE for result in failed) and context.retry_number < STEP_RETRIES:
        raise dg.RetryRequested(max_retries=STEP_RETRIES, seconds_to_wait=STEP_RETRY_SECONDS)
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
        f"{rejected} of {total} files rejected, {len(failed) - rejected} retryable, the others are done: {first}"
        + ("; …" if len(failed) > REASONS_IN_TITLE else ""),
        metadata={"files": dg.MetadataValue.table(files), **more},
        allow_retries=False,
    )
