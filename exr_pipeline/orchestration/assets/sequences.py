"""The assets of a sequence of frames: movie, contact sheet and filmstrip, their one step and its events.

Belongs here: specs, step and events of sequences. Not here: the media themselves (`products`, `ingest.sequence_maker`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from exr_pipeline import __version__
from exr_pipeline.errors import MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.events.outbox import publish_after_work
from exr_pipeline.ingest.discovery.settled_sequences import frames_hash
from exr_pipeline.orchestration.assets.sequence_checks import evaluate_sequence_checks
from exr_pipeline.orchestration.assets.specs import SOURCE_FILE, TABLE_IO
from exr_pipeline.orchestration.instance.console import tidy_console
from exr_pipeline.orchestration.instance.names import DATA_VERSION_TAG
from exr_pipeline.orchestration.instance.step_events import AssetEvent, announce, log_asset_events
from exr_pipeline.orchestration.partitions import sequences_partitions
from exr_pipeline.orchestration.steps.file_events import shown_facts
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
from exr_pipeline.products.registry import SEQUENCE_PRODUCTS
from exr_pipeline.products.sequence_movie import SEQUENCE_MOVIE
from exr_pipeline.retries import try_each
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import RETRYABLE, TABLES
from exr_pipeline.telemetry.instruments import TRIED_AGAIN
from exr_pipeline.telemetry.logs import about
from exr_pipeline.telemetry.recording import record
from exr_pipeline.telemetry.start import flush_telemetry, start_telemetry
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.products.product import SequenceProduct
    from exr_pipeline.products.sequence_result import SequenceResult
    from exr_pipeline.sequence_movies.sequence_movie import MovieProgress

SEQUENCE_ASSETS: Final = tuple(dg.AssetKey(product.asset) for product in SEQUENCE_PRODUCTS)

SEQUENCES_JOB: Final = "sequences"
SEQUENCES_PER_RUN: Final = 20

_TABLE_SCHEMA: Final = dg.TableSchema(
    [dg.TableColumn(column.name, column.type, column.meaning) for column in TABLES["sequence_outputs"].columns]
)


def _spec(product: SequenceProduct) -> dg.AssetSpec:
    return dg.AssetSpec(
        dg.AssetKey(product.asset),
        # Any file may belong to any sequence: Dagster knows no closer relation between two dynamic sets.
        deps=[dg.AssetDep(SOURCE_FILE, partition_mapping=dg.AllPartitionMapping())],
        description=product.description,
        group_name="sequences",
        kinds={product.kind},
        metadata={"table": "sequence_outputs", "dagster/column_schema": _TABLE_SCHEMA},
        partitions_def=sequences_partitions,
        skippable=True,
    ).with_io_manager_key(TABLE_IO)


SEQUENCE_SPECS: Final = tuple(_spec(product) for product in SEQUENCE_PRODUCTS)


def build_sequences_job() -> Any:
    """The job over a range of sequences that the sensor and the command line start."""
    return dg.define_asset_job(
        SEQUENCES_JOB,
        selection=dg.AssetSelection.assets(*SEQUENCE_ASSETS),
        description="Render movies, contact sheets and filmstrips of sequences.",
        executor_def=dg.in_process_executor,
    )


@again_after_an_outage
def sequences_step(
    context: Context,
    partition_keys: Sequence[str],
    assets: Collection[dg.AssetKey],
    pipeline: Pipeline,
) -> None:
    """Make the selected assets of these sequences one after another, each on all workers.

    Raises `Failure` after all have ended if some could not be made; the others are materialized. Raises
    `RetryRequested` while some may still be made, or when Dagster's database is away; what this run, or the failed run
    that it resumes, has already made is not made again.
    """
    from exr_pipeline.ingest.sequence_maker import SequenceMaker

    tidy_console(context, pipeline.settings)
    start_telemetry(pipeline.settings)
    announce(context, assets, partition_keys)
    tag_unfinished(context.instance, context.run, len(partition_keys))
    left = without_finished(context, partition_keys, assets)
    wanted = [product for product in SEQUENCE_PRODUCTS if dg.AssetKey(product.asset) in assets]
    failed: list[SequenceResult] = []
    began = datetime.now(UTC)
    try:
        with (
            about(run=context.run.run_id),
            SequenceMaker(pipeline.settings, pipeline.storage, pipeline.tables) as maker,
        ):

            def make(key: str) -> tuple[str, SequenceResult]:
                location = Location.from_partition_key(key)
                return key, maker.make(location, wanted, on_progress=_Progress(context, pipeline, location))

            def trouble(made: tuple[str, SequenceResult]) -> str | None:
                result = made[1]
                return result.reason or "" if result.state == RETRYABLE and not result.was_tried_alone else None

            def paused(count: int, seconds: float, reason: str) -> None:
                record(TRIED_AGAIN, "sequence", value=count)
                context.log.warning(f"{count} sequences failed, trying again in {seconds:g} s: {reason}")

            made = try_each(left, make, trouble, pipeline.retries, what="sequence could be rendered", on_pause=paused)
            for number, (key, result) in enumerate(made, 1):
                log_asset_events(context, sequence_events(result, key, assets))
                if result.reason is not None:
                    failed.append(result)
                    context.log.warning(f"{result.state}: {result.url}: {result.reason}")
                context.log.info(f"{number}/{len(left)} sequences, the last one in {result.seconds:.1f} s")
        publish_after_work(pipeline.tables, pipeline.settings, context.log, began=began)
        if SEQUENCE_MOVIE in wanted:
            for evaluation in evaluate_sequence_checks(pipeline.tables):
                context.log_event(evaluation)  # type: ignore[arg-type]  # it takes them, its annotation lags behind
    except MisconfiguredError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except (RetryableError, StateUnknownError) as error:
        raise after_outage(context, pipeline, error) from error
    finally:
        flush_telemetry()
    tag_outcome(context.instance, context.run, [result.state for result in failed], len(partition_keys))
    can_improve = any(result.state == RETRYABLE for result in failed)
    if can_improve and pipeline.retries.may_repeat_step(context.retry_number):
        raise run_again(pipeline)
    if failed:
        first = "; ".join(f"{result.url}: {result.reason}" for result in failed[:3])
        raise dg.Failure(
            f"{len(failed)} of {len(partition_keys)} sequences failed, the others succeeded: {first}",
            allow_retries=False,
        )


class _Progress:
    """Tells the run's log every few seconds how far a movie is."""

    def __init__(self, context: Context, pipeline: Pipeline, location: Location) -> None:
        self._context, self._pipeline, self._location = context, pipeline, location
        self._told = time.monotonic()

    def __call__(self, progress: MovieProgress) -> None:
        if progress.done == progress.total or time.monotonic() - self._told >= SECONDS_BETWEEN_PROGRESS:
            self._told = time.monotonic()
            left = "" if progress.seconds_left is None else f", about {progress.seconds_left:.0f} s left"
            name = visible_line(self._location.name)
            self._context.log.info(
                f"{name}: {progress.done}/{progress.total} frames, {progress.rate:.1f} frames/s{left}"
            )
        pipeline = self._pipeline
        if isinstance(pipeline, WatchedPipeline) and pipeline.on_movie_progress is not None:
            pipeline.on_movie_progress(self._location, progress)


def sequence_events(result: SequenceResult, partition: str, assets: Collection[dg.AssetKey]) -> Iterator[AssetEvent]:
    """One event per selected asset: a materialization of what was made, or an observation with the reason."""
    version = "" if result.sequence is None else frames_hash(result.sequence)
    for product in SEQUENCE_PRODUCTS:
        asset, medium = dg.AssetKey(product.asset), result.media.get(product.name)
        if asset not in assets:
            continue
        if medium is None:
            yield dg.AssetObservation(
                asset,
                partition=partition,
                description=f"{result.state}: {result.reason}",
                metadata={"state": result.state, "reason": result.reason or "", "frames": result.url},
            )
        else:
            facts = {**product.facts(medium, result), **_sequence_facts(result)}
            yield dg.AssetMaterialization(
                asset,
                partition=partition,
                metadata=shown_facts(facts, partition),
                tags={DATA_VERSION_TAG: f"{version}-{__version__}"},
            )


def _sequence_facts(result: SequenceResult) -> dict[str, Any]:
    sequence = result.sequence
    if sequence is None:
        return {}
    return {
        "frames": result.url,
        "frame range": sequence.frame_range,
        "frame count": len(sequence),
        "missing frames": sequence.missing_count,
    }
