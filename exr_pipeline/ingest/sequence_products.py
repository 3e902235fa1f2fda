"""The media of one sequence, from its frames in storage to objects beside them and a row in the tables.

Belongs here: what is made, where it goes, and what a sequence ends as. Not here: making a movie or sheet
(`sequence_movies`).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from exr_pipeline import __version__
from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.ingest.discovery.settled_sequences import frames_hash
from exr_pipeline.ingest.products import media_tags
from exr_pipeline.sequences.find import resolve_sequence
from exr_pipeline.storage.locations import Location, output_location
from exr_pipeline.storage.spool import spool_folder
from exr_pipeline.tables.specs import READY, REJECTED, RETRYABLE, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from decimal import Decimal
    from types import TracebackType

    from exr_pipeline.sequence_movies.sequence_movie import MovieProgress, MovieResult
    from exr_pipeline.sequence_movies.sheets import Sheet
    from exr_pipeline.sequences.model import Sequence
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.tables.store import TableStore


_FRAMES_LISTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which media a run makes of each sequence."""

    movie: bool = True
    contact_sheet: bool = True
    filmstrip: bool = True


@dataclass(frozen=True, slots=True)
class PixelFindings:
    """What is wrong with pixels of a sequence, by the numbers of its frames, as their own ingest found it.

    Frames without a row, or without pictures, are in neither.
    """

    black: tuple[Decimal, ...] = ()
    nonfinite: tuple[Decimal, ...] = ()


@dataclass(slots=True)
class SequenceProducts:
    """One sequence at the end of a run: its state, the reason if it is not ready, and what was made of it and where.

    `location` is that of its pattern. What was not wanted or not made is None.
    """

    location: Location
    state: State = RETRYABLE
    reason: str | None = None
    sequence: Sequence | None = None
    pixels: PixelFindings = PixelFindings()
    movie: MovieResult | None = None
    movie_at: Location | None = None
    movie_bytes: int = 0
    contact_sheet: Sheet | None = None
    contact_sheet_at: Location | None = None
    filmstrip: Sheet | None = None
    filmstrip_at: Location | None = None
    seconds: float = 0.0

    @property
    def url(self) -> str:
        """The URL of the pattern, with its `#` readable."""
        return self.location.url.replace("%23", "#")


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
        self, location: Location, wanted: Wanted, *, on_progress: Callable[[MovieProgress], None] | None = None
    ) -> SequenceProducts:
        """Make what is wanted of the sequence of this pattern as it lies in storage now, and write its row.

        Raises `RetryableError` or `StateUnknownError` if the tables can't be written, and `MisconfiguredError`.
        """
        started = time.monotonic()
        products = SequenceProducts(location)
        try:
            products.sequence = resolve_sequence(location, self._storage, udim="")
        except BadInputError as error:
            products.state, products.reason = REJECTED, error.reason
        except RetryableError as error:
            products.reason = str(error)
        else:
            products.pixels = self._pixel_findings(products.sequence)
            self._make_all(products, products.sequence, wanted, on_progress)
        products.seconds = time.monotonic() - started
        self._write_row(products, wanted)
        return products

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
        products: SequenceProducts,
        sequence: Sequence,
        wanted: Wanted,
        on_progress: Callable[[MovieProgress], None] | None,
    ) -> None:
        """Each medium by itself: frames that make no movie by the policy may still make a sheet."""
        from exr_pipeline.sequence_movies.sheets import contact_sheet, sequence_filmstrip

        def movie() -> None:
            self._make_movie(products, sequence, on_progress)

        def sheet() -> None:
            made = contact_sheet(sequence, self._storage, settings=self._settings, pool=self._pool)
            products.contact_sheet_at = self._store(sequence, "contact_sheet.jpg", made.jpeg, "image/jpeg")
            products.contact_sheet = made

        def strip() -> None:
            made = sequence_filmstrip(sequence, self._storage, settings=self._settings, pool=self._pool)
            products.filmstrip_at = self._store(sequence, "filmstrip.jpg", made.jpeg, "image/jpeg")
            products.filmstrip = made

        products.state = READY
        for make, is_wanted in ((movie, wanted.movie), (sheet, wanted.contact_sheet), (strip, wanted.filmstrip)):
            if not is_wanted:
                continue
            try:
                make()
            except BadInputError as error:
                if products.state == READY:
                    products.state, products.reason = REJECTED, _reason(error, sequence)
            except RetryableError as error:
                products.state, products.reason = RETRYABLE, str(error)

    def _make_movie(
        self, products: SequenceProducts, sequence: Sequence, on_progress: Callable[[MovieProgress], None] | None
    ) -> None:
        from exr_pipeline.sequence_movies.sequence_movie import make_movie

        with spool_folder() as folder:
            out = folder / f"movie{self._preset.extension}"
            movie = make_movie(
                sequence,
                self._storage,
                out,
                settings=self._settings,
                preset=self._preset,
                missing=self._settings.sequence_missing,
                burn_in=("name", "frame", "timecode") if self._settings.sequence_burn_in else (),
                pool=self._pool,
                on_progress=on_progress,
            )
            products.movie_bytes = out.stat().st_size
            products.movie_at = self._store(
                sequence, f"sequence{self._preset.extension}", out, self._preset.content_type
            )
            products.movie = movie

    def _store(self, sequence: Sequence, ending: str, data: bytes | Path, content_type: str) -> Location:
        # A # in a key would have to be escaped in every URL.
        named = sequence.folder.child(f"{sequence.prefix}{'@' * sequence.padding}{sequence.suffix}")
        target = output_location(named, ending, output_root=self._settings.output_root, sources=self._settings.sources)
        tags = media_tags(ending.partition(".")[0])
        self._storage.write(target, data, content_type=content_type, tags=tags)
        return target

    def _write_row(self, products: SequenceProducts, wanted: Wanted) -> None:
        import pyarrow as pa

        stored = self._tables.read("sequence_outputs", locations=[products.location]).to_pylist()
        row = sequence_row(products, wanted, stored[0] if stored else {}, now=datetime.now(UTC))
        self._tables.write({"sequence_outputs": pa.Table.from_pylist([row])}, now=datetime.now(UTC))


def _reason(error: BadInputError, sequence: Sequence) -> str:
    return error.reason if error.name == sequence.url else str(error)


def sequence_row(
    products: SequenceProducts, wanted: Wanted, stored: Mapping[str, Any], *, now: datetime
) -> dict[str, Any]:
    """The row of a sequence: what was made now over what is stored of media that were not wanted."""
    sequence, movie = products.sequence, products.movie
    row: dict[str, Any] = {
        **stored,
        "bucket": products.location.bucket,
        "sequence_path": products.location.path,
        "uri": products.url,
        "partition_key": products.location.partition_key,
        "state": products.state,
        "reason": products.reason,
        "processing_time_seconds": products.seconds,
        "generated_timestamp": now.isoformat(),
        "generator_version": __version__,
    }
    if sequence is None:
        return row
    now_made_of = frames_hash(sequence)
    # While a medium is still of other frames, the sequence is not done.
    if wanted == Wanted() or stored.get("frames_hash") == now_made_of:
        row["frames_hash"] = now_made_of
    row |= {
        "first_frame": str(sequence.first),
        "last_frame": str(sequence.last),
        "frame_count": len(sequence),
        "missing_frames": _ranges(sequence.missing()) or None,
        "black_frames": _ranges(products.pixels.black) or None,
        "nonfinite_frames": _ranges(products.pixels.nonfinite) or None,
    }
    if wanted.movie:
        row |= _movie_columns(products, movie)
    if wanted.contact_sheet:
        sheet = products.contact_sheet
        row |= {
            "contact_sheet_s3_key": products.contact_sheet_at.path if products.contact_sheet_at else None,
            "contact_sheet_size_bytes": len(sheet.jpeg) if sheet else None,
            "contact_sheet_encoder": sheet.encoder if sheet else None,
        }
    if wanted.filmstrip:
        strip = products.filmstrip
        row |= {
            "filmstrip_s3_key": products.filmstrip_at.path if products.filmstrip_at else None,
            "filmstrip_size_bytes": len(strip.jpeg) if strip else None,
            "filmstrip_encoder": strip.encoder if strip else None,
        }
    made_at = products.movie_at or products.contact_sheet_at or products.filmstrip_at
    if made_at is not None:
        row["output_bucket"] = made_at.bucket
    shown = movie or products.contact_sheet or products.filmstrip
    if shown is not None:
        row |= {
            "source_colorspace": shown.source_color_space,
            "color_rule": shown.color_rule,
            "ocio_config": shown.ocio_config,
            "ocio_config_hash": shown.ocio_config_hash,
        }
    still = products.contact_sheet or products.filmstrip
    if still is not None:
        row["still_view"] = still.view
    # Those of the movie are about all frames, those of a sheet about some.
    if shown is not None and (movie is not None or not row.get("movie_s3_key")):
        row |= {
            "library_versions": json.dumps(shown.library_versions, sort_keys=True),
            "warnings": json.dumps(shown.warnings, ensure_ascii=False),
        }
    return row


def _movie_columns(products: SequenceProducts, movie: MovieResult | None) -> dict[str, Any]:
    if movie is None or products.movie_at is None:
        columns = (
            "movie_frames movie_s3_key movie_size_bytes movie_resolution movie_duration_seconds frame_rate time_code "
            "movie_preset encoder movie_view unreadable_frames"
        )
        return dict.fromkeys(columns.split())
    unreadable = {number: why for number, why in movie.not_shown.items() if why != "missing"}
    return {
        "movie_frames": movie.frames,
        "movie_s3_key": products.movie_at.path,
        "movie_size_bytes": products.movie_bytes,
        "movie_resolution": f"{movie.size.width}x{movie.size.height}",
        "movie_duration_seconds": float(movie.duration),
        "frame_rate": str(movie.rate),
        "time_code": movie.time_code,
        "movie_preset": movie.preset,
        "encoder": movie.encoder,
        "movie_view": movie.view,
        "unreadable_frames": json.dumps(unreadable, ensure_ascii=False),
    }


def _ranges(numbers: Iterable[Decimal | int]) -> str:
    """Frame numbers as ranges: `1005-1007,1010`."""
    import fileseq

    # A stray number may leave millions missing.
    listed = list(islice(numbers, _FRAMES_LISTED + 1))
    text = str(fileseq.FrameSet(listed[:_FRAMES_LISTED]).frange) if listed else ""
    return f"{text},…" if len(listed) > _FRAMES_LISTED else text
