"""Contact sheets and filmstrips of sequences: a few evenly chosen frames in one JPEG.

Belongs here: which frames, and how a contact sheet lays them out. Not here: reading frames (`segments`), or the form of
a filmstrip, which movies share (`pictures.filmstrip`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.errors import BadInputError
from exr_pipeline.pictures.filmstrip import FILMSTRIP_ENCODER, FILMSTRIP_FRAMES, FRAME_BOX, evenly, filmstrip
from exr_pipeline.pictures.picture_settings import PictureSettings
from exr_pipeline.pictures.still import Size, jpeg, jpeg_encoder, preview
from exr_pipeline.sequence_movies.burn_in import labelled, with_mark
from exr_pipeline.sequence_movies.planned import planned_frames
from exr_pipeline.sequence_movies.segments import Reading, differences, in_words, letterboxed, still_of
from exr_pipeline.storage.spool import spool_folder
from exr_pipeline.workers.pool import WorkerPool, given_or_own

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from exr_pipeline.pictures.provenance import Provenance
    from exr_pipeline.sequence_movies.planned import PlannedFrame
    from exr_pipeline.sequence_movies.segments import Still
    from exr_pipeline.sequences import Sequence as FrameSequence
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.objects import ObjectStorage

CONTACT_FRAMES: Final = 36
CONTACT_SIZE: Final = Size(2048, 2048)
_CELL: Final = Size(480, 480)
_GAP: Final = 4
_BACKGROUND: Final = 24
_QUALITY: Final = 88


@dataclass(frozen=True, slots=True)
class Sheet:
    """A JPEG of `columns` x `rows` frames, each `frame_size` pixels; `frames` are their numbers, row by row.

    In a filmstrip frame number n begins at pixel n * `frame_size.width`. `not_shown` are those of `frames` without or
    with a damaged file, and why. `preview_jpeg` is a smaller one for web pages. `warnings` are what a viewer should
    know, with the numbers of frames.
    """

    jpeg: bytes
    preview_jpeg: bytes
    width: int
    height: int
    columns: int
    rows: int
    frame_size: Size
    frames: tuple[str, ...]
    not_shown: dict[str, str]
    color_space: str
    view: str
    provenance: Provenance
    encoder: str
    warnings: tuple[str, ...]


def contact_sheet(
    sequence: FrameSequence,
    storage: ObjectStorage,
    *,
    settings: Settings,
    pictures: PictureSettings | None = None,
    frames: int = CONTACT_FRAMES,
    size: Size = CONTACT_SIZE,
    pool: WorkerPool | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Sheet:
    """A grid of at most `frames` evenly chosen frames, each with its number, within `size` pixels.

    Frames without or with a damaged file are crossed out. Raises `BadInputError` if no frame can be shown.
    """
    planned = _chosen(planned_frames(sequence, storage), frames)
    columns = ceil(sqrt(len(planned)))
    rows = ceil(len(planned) / columns)
    cell = Size(
        *(
            max(16, min(limit, (side - _GAP) // count - _GAP))
            for limit, side, count in zip(_CELL, size, (columns, rows), strict=True)
        )
    )
    stills = _Stills(sequence, planned, cell, settings, pictures, pool, on_progress)
    frame = stills.size
    canvas = np.full(
        (_GAP + rows * (frame.height + _GAP), _GAP + columns * (frame.width + _GAP), 3), _BACKGROUND, np.uint8
    )
    for index, (rgb, one) in enumerate(zip(stills.pixels, planned, strict=True)):
        row, column = divmod(index, columns)
        top, left = _GAP + row * (frame.height + _GAP), _GAP + column * (frame.width + _GAP)
        canvas[top : top + frame.height, left : left + frame.width] = labelled(rgb, one.number)
    size = Size(canvas.shape[1], canvas.shape[0])
    data = jpeg(canvas, quality=_QUALITY)
    return stills.sheet(data, preview(canvas), size, columns, rows, encoder=jpeg_encoder(_QUALITY))


def sequence_filmstrip(
    sequence: FrameSequence,
    storage: ObjectStorage,
    *,
    settings: Settings,
    pictures: PictureSettings | None = None,
    frames: int = FILMSTRIP_FRAMES,
    pool: WorkerPool | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Sheet:
    """At most `frames` evenly chosen frames side by side, all of one size within 160x90 pixels, for hover-scrubbing.

    Frames without or with a damaged file are crossed out. Raises `BadInputError` if no frame can be shown.
    """
    planned = _chosen(planned_frames(sequence, storage), frames)
    stills = _Stills(sequence, planned, FRAME_BOX, settings, pictures, pool, on_progress)
    made = filmstrip(stills.pixels)
    size = Size(made.width, made.height)
    return stills.sheet(made.jpeg, made.preview_jpeg, size, len(planned), 1, encoder=FILMSTRIP_ENCODER)


def _chosen(planned: Sequence[PlannedFrame], count: int) -> list[PlannedFrame]:
    return [planned[index] for index in evenly(len(planned), count)]


class _Stills:
    """The chosen frames in one size, those that cannot be shown black and crossed out."""

    def __init__(
        self,
        sequence: FrameSequence,
        planned: list[PlannedFrame],
        box: Size,
        settings: Settings,
        pictures: PictureSettings | None,
        pool: WorkerPool | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._planned = planned
        self.not_shown: dict[str, str] = {}
        found = self._read(
            sequence, box, settings, pictures or PictureSettings.from_settings(settings), pool, on_progress
        )
        shown = [still for still in found if still is not None]
        if not shown:
            number, reason = next(iter(self.not_shown.items()))
            raise BadInputError(sequence.url, f"none of the selected frames can be decoded, frame {number}: {reason}")
        self.reference = shown[0].reference
        self.warnings: dict[str, list[str]] = {}
        for frame, still in zip(planned, found, strict=True):
            for text in () if still is None else (*differences(still.reference, self.reference), *still.warnings):
                self.warnings.setdefault(text, []).append(frame.number)
        self.size = self.reference.size
        black = np.zeros((self.size.height, self.size.width, 3), np.uint8)
        self.pixels: list[NDArray[np.uint8]] = [
            with_mark(black, "MISSING" if frame.location is None else "DAMAGED")
            if still is None
            else letterboxed(still.rgb, self.size)
            for frame, still in zip(planned, found, strict=True)
        ]

    def _read(
        self,
        sequence: FrameSequence,
        box: Size,
        settings: Settings,
        pictures: PictureSettings,
        pool: WorkerPool | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> list[Still | None]:
        reading = Reading(settings, pictures, box, with_alpha=False)
        found: list[Still | None] = []
        with (
            spool_folder() as folder,
            given_or_own(pool, workers=pictures.workers, memory_mb=pictures.worker_memory_mb) as workers,
        ):
            calls = []
            for index, frame in enumerate(self._planned):
                spool = folder / str(index)
                spool.mkdir()
                name = sequence.url if frame.location is None else frame.location.url
                timeout = pictures.worker_timeout_seconds
                there = frame.location is not None
                calls.append(workers.call(still_of, name, timeout, frame, reading, spool) if there else None)
            for done, (frame, call) in enumerate(zip(self._planned, calls, strict=True), 1):
                try:
                    found.append(None if call is None else call.result())
                    if call is None:
                        self.not_shown[frame.number] = "missing"
                except BadInputError as error:
                    found.append(None)
                    self.not_shown[frame.number] = error.reason
                if on_progress is not None:
                    on_progress(done, len(self._planned))
        return found

    def sheet(self, data: bytes, preview_jpeg: bytes, size: Size, columns: int, rows: int, *, encoder: str) -> Sheet:
        return Sheet(
            jpeg=data,
            preview_jpeg=preview_jpeg,
            width=size.width,
            height=size.height,
            columns=columns,
            rows=rows,
            frame_size=self.size,
            frames=tuple(frame.number for frame in self._planned),
            not_shown=self.not_shown,
            color_space=self.reference.color_space,
            view=self.reference.view,
            provenance=self.reference.provenance,
            encoder=encoder,
            warnings=in_words(self.warnings),
        )
