"""The product `movie` of a sequence: all frames at their true rate.

Belongs here: what is stored, written and shown of it. Not here: how it is made (`sequence_movies.sequence_movie`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from rich.filesize import decimal

from exr_pipeline.products.product import Facts, SequenceProduct, ServedLink, ServedPicture
from exr_pipeline.products.sequence_filmstrip import SEQUENCE_FILMSTRIP
from exr_pipeline.storage.spool import spool_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exr_pipeline.products.sequence_result import SequenceResult, SequenceWork, StoredMedium
    from exr_pipeline.sequence_movies.sequence_movie import MovieResult

_COLUMNS: Final = (
    *("movie_frames", "movie_s3_key", "movie_size_bytes", "movie_resolution", "movie_duration_seconds", "frame_rate"),
    *("time_code", "movie_preset", "encoder", "movie_view", "unreadable_frames"),
)


def _make(work: SequenceWork) -> StoredMedium:
    from exr_pipeline.sequence_movies.sequence_movie import make_movie

    preset, settings = work.preset, work.settings
    with spool_folder() as folder:
        out = folder / f"movie{preset.extension}"
        movie = make_movie(
            work.sequence,
            work.storage,
            out,
            settings=settings,
            preset=preset,
            missing=settings.sequence_missing,
            burn_in=("name", "frame", "timecode") if settings.sequence_burn_in else (),
            pool=work.pool,
            on_progress=work.on_progress,
        )
        return work.store(movie, f"sequence{preset.extension}", out, preset.content_type)


def _row(medium: StoredMedium | None) -> Mapping[str, Any]:
    if medium is None:
        return dict.fromkeys(_COLUMNS)
    movie = cast("MovieResult", medium.made)
    return {
        "movie_frames": movie.frames,
        "movie_s3_key": medium.at.path,
        "movie_size_bytes": medium.size_bytes,
        "movie_resolution": f"{movie.size.width}x{movie.size.height}",
        "movie_duration_seconds": float(movie.duration),
        "frame_rate": str(movie.rate),
        "time_code": movie.time_code,
        "movie_preset": movie.preset,
        "encoder": movie.encoder,
        "movie_view": movie.view,
        "unreadable_frames": json.dumps(_unreadable(movie), ensure_ascii=False),
    }


def _facts(medium: StoredMedium, result: SequenceResult) -> Facts:
    movie = cast("MovieResult", medium.made)
    strip = {"filmstrip": ServedPicture(SEQUENCE_FILMSTRIP.asset)} if "filmstrip" in result.media else {}
    return {
        "movie": ServedLink(SEQUENCE_MOVIE.asset),
        **strip,
        "uri": medium.at.url,
        "resolution": f"{movie.size.width}x{movie.size.height}",
        "frame rate": str(movie.rate),
        "duration": round(float(movie.duration), 3),
        "time code": movie.time_code or "",
        "size": decimal(medium.size_bytes),
        "view": movie.view,
        "color space": movie.provenance.source_color_space,
        "decided by": movie.provenance.color_rule,
        "encoder": movie.encoder,
        "unreadable frames": [f"{number}: {why}" for number, why in _unreadable(movie).items()],
        "warnings": list(movie.warnings),
        "seconds": round(movie.seconds, 3),
    }


def _unreadable(movie: MovieResult) -> dict[str, str]:
    return {number: why for number, why in movie.not_shown.items() if why != "missing"}


SEQUENCE_MOVIE: Final = SequenceProduct(
    name="movie",
    asset="sequence_mp4",
    kind="h264",
    description="All frames of a sequence as one movie at their frame rate, with time code. Missing frames are marked.",
    endings=("sequence.mp4", "sequence.mov", "sequence.webm", "sequence.mkv"),
    make=_make,
    row=_row,
    facts=_facts,
)
