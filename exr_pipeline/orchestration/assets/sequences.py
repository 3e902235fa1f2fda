"""The assets of a sequence of frames: movie, contact sheet and filmstrip, their one step and its events.

Belongs here: specs, step and events of sequences. Not here: the media themselves (`ingest.sequence_products`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from rich.filesize import decimal

from exr_pipeline import __version__
from exr_pipeline.errors import MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.ingest.discovery.settled_sequences import frames_hash
from exr_pipeline.orchestration.assets.sequence_checks import evaluate_sequence_checks
from exr_pipeline.orchestration.assets.specs import SEQUENCE_MP4, SOURCE_FILE, TABLE_IO
from exr_pipeline.orchestration.instance.console import tidy_console
from exr_pipeline.orchestration.instance.event_storage import AssetEvent, announce, log_asset_events
from exr_pipeline.orchestration.instance.names import DATA_VERSION_TAG
from exr_pipeline.orchestration.partitions import sequences_partitions
from exr_pipeline.orchestration.steps.file_events import media_link, picture, served_picture, without_empty
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
from exr_pipeline.retries import try_each
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import RETRYABLE, TABLES
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from exr_pipeline.ingest.sequence_products import SequenceProducts
    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.sequence_movies.sequence_movie import MovieProgress
    from exr_pipeline.sequence_movies.sheets import Sheet

CONTACT_SHEET: Final = dg.AssetKey("contact_sheet")
FILMSTRIP: Final = dg.AssetKey("filmstrip")
SEQUENCE_ASSETS: Final = (SEQUENCE_MP4, CONTACT_SHEET, FILMSTRIP)

SEQUENCES_JOB: Final = "sequences"
SEQUENCES_PER_RUN: Final = 20

_TABLE_SCHEMA: Final = dg.TableSchema(
    [dg.TableColumn(column.name, column.type, column.meaning) for column in TABLES["sequence_outputs"].columns]
)


def _spec(key: dg.AssetKey, kind: str, description: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        # Any file may belong to any sequence: Dagster knows no closer relation between two dynamic sets.
        deps=[dg.AssetDep(SOURCE_FILE, partition_mapping=dg.AllPartitionMapping())],
        description=description,
        group_name="sequences",
        kinds={kind},
        metadata={"table": "sequence_outputs", "dagster/column_schema": _TABLE_SCHEMA},
        partitions_def=sequences_partitions,
        skippable=True,
    ).with_io_manager_key(TABLE_IO)


SEQUENCE_SPECS: Final = (
    _spec(
        SEQUENCE_MP4,
        "h264",
        "All frames of a sequence as one movie at their true rate, with time code; what is missing is marked.",
    ),
    _spec(CONTACT_SHEET, "jpeg", "Evenly chosen frames of a sequence on one sheet, with their numbers."),
    _spec(FILMSTRIP, "jpeg", "Evenly chosen frames of a sequence in one row, for scrubbing by hovering over it."),
)


def build_sequences_job() -> Any:
    """The job over a range of sequences that the sensor and the command line start."""
    return dg.define_asset_job(
        SEQUENCES_JOB,
        selection=dg.AssetSelection.assets(*SEQUENCE_ASSETS),
        description="Make movies, contact sheets and filmstrips of sequences.",
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
    from exr_pipeline.ingest.sequence_products import SequenceMaker, Wanted

    tidy_console(context, pipeline.settings)
    announce(context, assets, partition_keys)
    tag_unfinished(context.instance, context.run, len(partition_keys))
    left = without_finished(context, partition_keys, assets)
    wanted = Wanted(movie=SEQUENCE_MP4 in assets, contact_sheet=CONTACT_SHEET in assets, filmstrip=FILMSTRIP in assets)
    failed: list[SequenceProducts] = []
    try:
        with SequenceMaker(pipeline.settings, pipeline.storage, pipeline.tables) as maker:

            def make(key: str) -> tuple[str, SequenceProducts]:
                location = Location.from_partition_key(key)
                return key, maker.make(location, wanted, on_progress=_Progress(context, pipeline, location))

            def trouble(made: tuple[str, SequenceProducts]) -> str | None:
                products = made[1]
                return products.reason or "" if products.state == RETRYABLE and not products.was_tried_alone else None

            def paused(count: int, seconds: float, reason: str) -> None:
                context.log.warning(f"{count} sequences could not be made; trying again in {seconds:g} s: {reason}")

            made = try_each(left, make, trouble, pipeline.retries, what="sequence could be made", on_pause=paused)
            for number, (key, products) in enumerate(made, 1):
                log_asset_events(context, sequence_events(products, key, assets))
                if products.reason is not None:
                    failed.append(products)
                    context.log.warning(f"{products.state}: {products.url}: {products.reason}")
                context.log.info(f"{number}/{len(left)} sequences, the latest in {products.seconds:.1f} s")
        if SEQUENCE_MP4 in assets:
            for evaluation in evaluate_sequence_checks(pipeline.tables):
                context.log_event(evaluation)  # type: ignore[arg-type]  # it takes them, its annotation lags behind
    except MisconfiguredError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except (RetryableError, StateUnknownError) as error:
        raise after_outage(context, pipeline, error) from error
    tag_outcome(context.instance, context.run, [products.state for products in failed], len(partition_keys))
    can_improve = any(products.state == RETRYABLE for products in failed)
    if can_improve and pipeline.retries.may_repeat_step(context.retry_number):
        raise run_again(pipeline)
    if failed:
        first = "; ".join(f"{products.url}: {products.reason}" for products in failed[:3])
        raise dg.Failure(
            f"{len(failed)} of {len(partition_keys)} sequences could not be made, the others are done: {first}",
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


def sequence_events(
    products: SequenceProducts, partition: str, assets: Collection[dg.AssetKey]
) -> Iterator[AssetEvent]:
    """One event per selected asset: a materialization of what was made, or an observation with the reason."""
    made = {
        SEQUENCE_MP4: _movie_metadata(products, partition),
        CONTACT_SHEET: _sheet_metadata(
            products.contact_sheet, products.contact_sheet_at, served_picture(CONTACT_SHEET, partition)
        ),
        FILMSTRIP: _sheet_metadata(products.filmstrip, products.filmstrip_at, served_picture(FILMSTRIP, partition)),
    }
    version = "" if products.sequence is None else frames_hash(products.sequence)
    for asset in assets:
        metadata = made[asset]
        if metadata is None:
            yield dg.AssetObservation(
                asset,
                partition=partition,
                description=f"{products.state}: {products.reason}",
                metadata={"state": products.state, "reason": products.reason or "", "frames": products.url},
            )
        else:
            yield dg.AssetMaterialization(
                asset,
                partition=partition,
                metadata=without_empty({**metadata, **_sequence_metadata(products)}),
                tags={DATA_VERSION_TAG: f"{version}-{__version__}"},
            )


def _sequence_metadata(products: SequenceProducts) -> dict[str, Any]:
    sequence = products.sequence
    if sequence is None:
        return {}
    return {
        "frames": products.url,
        "frame range": sequence.frame_range,
        "frame count": len(sequence),
        "missing frames": sequence.missing_count,
    }


def _movie_metadata(products: SequenceProducts, partition: str) -> dict[str, Any] | None:
    movie = products.movie
    if movie is None or products.movie_at is None:
        return None
    strip = products.filmstrip
    unreadable = [f"{number}: {why}" for number, why in movie.not_shown.items() if why != "missing"]
    return {
        "movie": media_link(SEQUENCE_MP4, partition),
        **({"filmstrip": served_picture(FILMSTRIP, partition)} if strip is not None else {}),
        "uri": products.movie_at.url,
        "resolution": f"{movie.size.width}x{movie.size.height}",
        "frame rate": str(movie.rate),
        "duration": round(float(movie.duration), 3),
        "time code": movie.time_code or "",
        "size": decimal(products.movie_bytes),
        "view": movie.view,
        "color space": movie.source_color_space,
        "decided by": movie.color_rule,
        "encoder": movie.encoder,
        "unreadable frames": unreadable,
        "warnings": list(movie.warnings),
        "seconds": round(movie.seconds, 3),
    }


def _sheet_metadata(
    sheet: Sheet | None, location: Location | None, shown: dg.MarkdownMetadataValue
) -> dict[str, Any] | None:
    if sheet is None or location is None:
        return None
    return {
        "picture": shown,
        "preview": picture("jpeg", sheet.preview_jpeg),
        "uri": location.url,
        "resolution": f"{sheet.width}x{sheet.height}",
        "frames shown": len(sheet.frames),
        "frame size": f"{sheet.frame_size.width}x{sheet.frame_size.height}",
        "size": decimal(len(sheet.jpeg)),
        "view": sheet.view,
    }
