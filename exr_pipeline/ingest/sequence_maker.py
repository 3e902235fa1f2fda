"""The media of one sequence, from its frames in storage to objects beside them and a row in the tables.

Belongs here: the order of work, and what a sequence ends as. Not here: what is made (`products`), or how
(`sequence_movies`).
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self

from exr_pipeline import __version__
from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.events.outbox import with_events
from exr_pipeline.ingest.discovery.settled_sequences import frames_hash
from exr_pipeline.products.registry import SEQUENCE_PRODUCTS
from exr_pipeline.products.sequence_movie import SEQUENCE_MOVIE
from exr_pipeline.products.sequence_result import PixelFindings, SequenceResult, SequenceWork
from exr_pipeline.sequences.find import resolve_sequence
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.tables.merge import retryable_since
from exr_pipeline.tables.specs import READY, REJECTED, RETRYABLE, TABLES
from exr_pipeline.telemetry.logs import about
from exr_pipeline.telemetry.recording import span, stage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from decimal import Decimal
    from types import TracebackType

    from exr_pipeline.products.product import SequenceProduct
    from exr_pipeline.sequence_movies.sequence_movie import MovieProgress
    from exr_pipeline.sequences.model import Sequence
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.tables.specs import TableName
    from exr_pipeline.tables.store import TableStore


_FRAMES_LISTED: Final = 10_000


class SequenceMaker:
    """Makes media of sequences, one sequence after another, each on all workers; use as a context manager.

    Raises `MisconfiguredError` if the preset or the OCIO config cannot be used.
    """

    def __init__(self, settings: Settings, storage: ObjectStorage, tables: TableStore) -> None:
        from exr_pipeline.color.config import load_config
        from exr_pipeline.pictures.picture_settings import PictureSettings
        from exr_pipeline.sequence_movies.presets import find_preset, load_presets
        from exr_pipeline.workers.pool import WorkerPool

        self._settings = settings
        self._storage = storage
        self._tables = tables
        self._preset = find_preset(settings.movie_preset, load_presets(settings.movie_presets))
        pictures = PictureSettings.from_settings(settings)
        load_config(pictures)
        self._pool = WorkerPool(workers=pictures.workers, memory_mb=pictures.worker_memory_mb, reads_storage=True)

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, trace)

    def make(
        self,
        location: Location,
        wanted: Collection[SequenceProduct] = SEQUENCE_PRODUCTS,
        *,
        on_progress: Callable[[MovieProgress], None] | None = None,
    ) -> SequenceResult:
        """Make what is wanted of the sequence of this pattern as it lies in storage now, and write its row.

        Raises `RetryableError` or `StateUnknownError` if the tables can't be written, and `MisconfiguredError`.
        """
        with (
            about(file=location.url),
            span("make sequence", **{"exr_pipeline.sequence": location.url}) as traceparent,
        ):
            started = time.monotonic()
            result = SequenceResult(location)
            self._find_and_make(result, wanted, on_progress)
            result.seconds = time.monotonic() - started
            self._write_row(result, wanted, traceparent)
            return result

    def _find_and_make(
        self,
        result: SequenceResult,
        wanted: Collection[SequenceProduct],
        on_progress: Callable[[MovieProgress], None] | None,
    ) -> None:
        try:
            result.sequence = resolve_sequence(result.location, self._storage, udim="")
        except BadInputError as error:
            result.state, result.reason = REJECTED, error.reason
        except RetryableError as error:
            result.reason = str(error)
        else:
            result.pixels = self._pixel_findings(result.sequence)
            self._make_all(result, result.sequence, wanted, on_progress)

    def _pixel_findings(self, sequence: Sequence) -> PixelFindings:
        columns = ("s3_key", "nan_pixels", "inf_pixels", "is_black")
        locations = [frame.location for frame in sequence.frames]
        rows = self._tables.read("proxy_outputs", columns=columns, locations=locations).to_pylist()
        row_of = {row["s3_key"]: row for row in rows}
        found = [(frame.number, row) for frame in sequence.frames if (row := row_of.get(frame.location.path))]
        return PixelFindings(
            black=tuple(number for number, row in found if row["is_black"]),
            nonfinite=tuple(number for number, row in found if row["nan_pixels"] or row["inf_pixels"]),
        )

    def _make_all(
        self,
        result: SequenceResult,
        sequence: Sequence,
        wanted: Collection[SequenceProduct],
        on_progress: Callable[[MovieProgress], None] | None,
    ) -> None:
        """Each product by itself: frames that make no movie by the policy may still make a sheet."""
        from exr_pipeline.workers.pool import WorkerLostError

        outputs = OutputPlace.from_settings(self._settings)
        work = SequenceWork(
            sequence, self._settings, self._storage, outputs, self._pool, self._preset, on_progress=on_progress
        )
        result.state = READY
        for product in wanted:
            try:
                result.media[product.name] = product.make(work)
            except BadInputError as error:
                if result.state == READY:
                    result.state, result.reason = REJECTED, _reason(error, sequence)
            except RetryableError as error:
                result.state, result.reason = RETRYABLE, str(error)
                result.was_tried_alone = isinstance(error, WorkerLostError)

    def _write_row(self, result: SequenceResult, wanted: Collection[SequenceProduct], traceparent: str | None) -> None:
        import pyarrow as pa

        stored = self._tables.read("sequence_outputs", locations=[result.location]).to_pylist()
        row = sequence_row(result, wanted, stored[0] if stored else {}, now=datetime.now(UTC))
        now = datetime.now(UTC)
        rows: dict[TableName, pa.Table] = {"sequence_outputs": pa.Table.from_pylist([row])}
        traces = {result.location.url: traceparent} if traceparent else {}
        with stage("write_rows"):
            self._tables.write(with_events(rows, self._settings, now=now, traces=traces), now=now)


def _reason(error: BadInputError, sequence: Sequence) -> str:
    return error.reason if error.name == sequence.url else str(error)


def sequence_row(
    result: SequenceResult, wanted: Collection[SequenceProduct], stored: Mapping[str, Any], *, now: datetime
) -> dict[str, Any]:
    """The row of a sequence: what was made now over what is stored of media that were not wanted."""
    sequence = result.sequence
    row: dict[str, Any] = {
        **stored,
        "bucket": result.location.bucket,
        "sequence_path": result.location.path,
        "uri": result.url,
        "partition_key": result.location.partition_key,
        "state": result.state,
        "reason": result.reason,
        "retryable_since": retryable_since(
            result.state,
            stored.get("state"),
            stored.get("retryable_since"),
            stored.get("generated_timestamp"),
            clock=now.isoformat(),
        ),
        "processing_time_seconds": result.seconds,
        "generated_timestamp": now.isoformat(),
        "generator_version": __version__,
    }
    if sequence is None:
        return row
    now_made_of = frames_hash(sequence)
    # While a medium is still of other frames, the sequence is not done.
    if set(wanted) == set(SEQUENCE_PRODUCTS) or stored.get("frames_hash") == now_made_of:
        row["frames_hash"] = now_made_of
    row |= {
        "first_frame": str(sequence.first),
        "last_frame": str(sequence.last),
        "frame_count": len(sequence),
        "missing_frames": _ranges(sequence.missing()) or None,
        "black_frames": _ranges(result.pixels.black) or None,
        "nonfinite_frames": _ranges(result.pixels.nonfinite) or None,
    }
    for product in wanted:
        row |= product.row(result.media.get(product.name))
    return row | _columns_of_all(result, row)


def _columns_of_all(result: SequenceResult, row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that are about every medium of the sequence."""
    media = [result.media[product.name] for product in SEQUENCE_PRODUCTS if product.name in result.media]
    if not media:
        return {}
    movie = result.media.get(SEQUENCE_MOVIE.name)
    made = media[0].made
    of_table = {column.name for column in TABLES["sequence_outputs"].columns} - {"library_versions"}
    record = made.provenance.columns()
    columns = {name: value for name, value in record.items() if name in of_table}
    columns["output_bucket"] = media[0].at.bucket
    stills = [medium for medium in media if medium is not movie]
    if stills:
        columns["still_view"] = stills[0].made.view
    # Those of the movie are about all frames, those of a sheet about some.
    if movie is not None or not row.get("movie_s3_key"):
        columns["library_versions"] = record["library_versions"]
        columns["warnings"] = json.dumps(made.warnings, ensure_ascii=False)
    return columns


def _ranges(numbers: Iterable[Decimal | int]) -> str:
    """Frame numbers as ranges: `1005-1007,1010`."""
    import fileseq

    # A stray number may leave millions missing.
    listed = list(islice(numbers, _FRAMES_LISTED + 1))
    text = str(fileseq.FrameSet(listed[:_FRAMES_LISTED]).frange) if listed else ""
    return f"{text},…" if len(listed) > _FRAMES_LISTED else text
