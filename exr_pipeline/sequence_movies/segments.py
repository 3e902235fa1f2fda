"""One segment of a movie, in a worker process: its frames fetched, decoded, marked and encoded as they come.

Belongs here: what happens to the frames of a segment. Not here: which segments there are, or joining them
(`sequence_movie`).
"""

from __future__ import annotations

import os
import struct
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

import numpy as np

from exr_pipeline.errors import BadInputError, ExrPipelineError, RetryableError
from exr_pipeline.pictures.still import Size
from exr_pipeline.sequence_movies.burn_in import with_burn_in, with_mark
from exr_pipeline.sequence_movies.encoder import MovieWriter
from exr_pipeline.sequence_movies.time_code import to_text
from exr_pipeline.storage.machine_errors import machine_trouble
from exr_pipeline.storage.verify import verify_copy
from exr_pipeline.workers.pool import processor_limit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from fractions import Fraction
    from types import TracebackType

    from numpy.typing import NDArray

    from exr_pipeline.frame_rates import ShownRate
    from exr_pipeline.pictures.picture_settings import PictureSettings
    from exr_pipeline.pictures.provenance import Provenance
    from exr_pipeline.pictures.shown import ShownPicture
    from exr_pipeline.sequence_movies.burn_in import BurnInField
    from exr_pipeline.sequence_movies.planned import PlannedFrame
    from exr_pipeline.sequence_movies.presets import MoviePreset
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.storage.objects import ObjectStorage

MissingPolicy = Literal["error", "hold", "black"]

_FETCHED_AHEAD: Final = 4
_DECODED_AHEAD: Final = 2
_PROGRESS: Final = struct.Struct("<qqq")


@dataclass(frozen=True, slots=True)
class Reading:
    """How frames are read: the same for all frames of a movie. `box` is the largest size of the picture."""

    settings: Settings
    pictures: PictureSettings
    box: Size
    with_alpha: bool


@dataclass(frozen=True, slots=True)
class Reference:
    """What the first frame that can be shown is like; where others differ, a warning says so."""

    size: Size
    full_size: Size
    color_space: str
    view: str
    provenance: Provenance
    shown_rate: ShownRate | None
    time_code: str | None


@dataclass(frozen=True, slots=True)
class Segment:
    """What a worker is told. `before` are the frames that precede it, nearest first, for holding one of them."""

    target: Path
    progress: Path
    spool: Path
    title: str
    frames: tuple[PlannedFrame, ...]
    before: tuple[PlannedFrame, ...]
    reading: Reading
    reference: Reference
    preset: MoviePreset
    rate: Fraction
    missing: MissingPolicy
    burn_in: tuple[BurnInField, ...]
    first_time_code: int | None
    drop_frame: bool
    threads: int


@dataclass(slots=True)
class SegmentReport:
    """What became of a segment: frames not shown with the reason, and per warning the frames that it is about."""

    not_shown: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)

    def warn(self, text: str, number: str) -> None:
        """Note a warning about a frame."""
        self.warnings.setdefault(text, []).append(number)


class SegmentProgress(NamedTuple):
    """How far a worker is: frames encoded, the place of the frame it is decoding (None while it fetches), its process.

    Places count the frames of `before` first. The process id is 0 while none has begun.
    """

    done: int
    decoding: int | None
    worker: int = 0


class ProgressFile:
    """Where a worker says how far it is, so that it can be read even after the worker has been killed."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._done = 0
        self._decoding = -1
        self._write()

    def decoding(self, place: int) -> None:
        """A frame is being decoded; -1 for none."""
        self._decoding = place
        self._write()

    def encoded(self) -> None:
        """One more frame has been encoded."""
        self._done += 1
        self._write()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _write(self) -> None:
        os.pwrite(self._file, _PROGRESS.pack(self._done, self._decoding, os.getpid()), 0)

    @staticmethod
    def read(path: Path) -> SegmentProgress:
        """What the file says; nothing done if there is none yet."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        if len(data) != _PROGRESS.size:
            return SegmentProgress(0, None)
        done, decoding, worker = _PROGRESS.unpack(data)
        return SegmentProgress(done, decoding if decoding >= 0 else None, worker)


_opened: list[tuple[Settings, ObjectStorage]] = []


def _storage(settings: Settings) -> ObjectStorage:
    """The object storage of this worker, opened once for all frames that come with the same settings."""
    from exr_pipeline.storage.objects import ObjectStorage

    if not _opened or _opened[0][0] != settings:
        _opened[:] = [(settings, ObjectStorage(settings))]
    return _opened[0][1]


class FrameFiles:
    """The files of some frames as local paths, in order: a few are fetched ahead, and removed once they are used."""

    def __init__(self, frames: tuple[PlannedFrame, ...], spool: Path, storage: ObjectStorage) -> None:
        self._frames = frames
        self._spool = spool
        self._storage = storage
        self._threads = ThreadPoolExecutor(_FETCHED_AHEAD, thread_name_prefix="fetch")
        self._fetching: dict[int, Future[Path]] = {}
        self._fetched: dict[int, ObjectInfo] = {}
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        for place in list(self._fetching):
            self.drop(place)

    def path(self, place: int) -> Path:
        """The local file of a frame. Raises what `ObjectStorage.download` does, `RetryableError` if it changed."""
        location = self._frames[place].location
        assert location is not None
        local = self._storage.local_path(location)
        if local is not None:
            return local
        self._next = max(self._next, place)
        while self._next < min(place + _FETCHED_AHEAD, len(self._frames)):
            self._fetch(self._next)
            self._next += 1
        if place not in self._fetching:
            self._fetch(place)
        return self._fetching[place].result()

    def drop(self, place: int) -> None:
        """The file is no longer needed."""
        if place in self._fetching:
            del self._fetching[place]
            (self._spool / str(place)).unlink(missing_ok=True)

    def check(self, place: int) -> None:
        """Raises `RetryableError` if a local file is no longer what was planned."""
        frame = self._frames[place]
        assert frame.location is not None
        if frame.etag and self._storage.local_path(frame.location) is not None:
            self._compare(frame, self._storage.head(frame.location).etag)

    def verify(self, place: int) -> None:
        """Raises `RetryableError` unless the bytes of a frame that was read are the file's own."""
        frame = self._frames[place]
        assert frame.location is not None
        local = self._storage.local_path(frame.location)
        if local is not None:
            verify_copy(self._storage, self._storage.head(frame.location), local)
        elif place in self._fetched:
            verify_copy(self._storage, self._fetched[place], self._spool / str(place))

    def _fetch(self, place: int) -> None:
        frame = self._frames[place]
        if frame.location is not None and not frame.problem:
            self._fetching[place] = self._threads.submit(self._download, place, frame, self._spool / str(place))

    def _download(self, place: int, frame: PlannedFrame, path: Path) -> Path:
        assert frame.location is not None
        info = self._fetched[place] = self._storage.download(frame.location, path)
        self._compare(frame, info.etag)
        return path

    @staticmethod
    def _compare(frame: PlannedFrame, etag: str) -> None:
        if frame.etag and etag != frame.etag:
            assert frame.location is not None
            raise RetryableError(f"{frame.location.url}: the file changed while the movie was rendered")


def show_frame(files: FrameFiles, place: int, frame: PlannedFrame, reading: Reading, **how: Any) -> ShownPicture:
    """The picture of a frame. Raises `BadInputError` for whatever is wrong with the file."""
    from exr_pipeline.pictures.shown import show

    assert frame.location is not None
    name = frame.location.url
    try:
        path = files.path(place)
        how = {"medium": "video", "even_sides": True, "with_alpha": reading.with_alpha, **how}
        shown = show(str(path), name, box=reading.box, settings=reading.pictures, **how)
        files.check(place)
    except BadInputError:
        files.verify(place)
        raise
    except ExrPipelineError:
        raise
    except Exception as error:
        if trouble := machine_trouble(error):
            raise RetryableError(f"{name}: {trouble}") from error
        files.verify(place)
        # Whatever a library says of one file, its neighbours go on.
        reason = " ".join(str(error).split())
        raise BadInputError(name, f"cannot render the picture: {type(error).__name__}: {reason}") from error
    finally:
        files.drop(place)
    return shown


def look_at(frame: PlannedFrame, reading: Reading, spool: Path) -> Reference:
    """What the movie will be like if this is its first frame. Raises `BadInputError` if it cannot be shown."""
    with FrameFiles((frame,), spool, _storage(reading.settings)) as files:
        return _reference(show_frame(files, 0, frame, reading))


class Still(NamedTuple):
    """A frame as a still: its pixels, what they are, and what a viewer should know."""

    rgb: NDArray[np.uint8]
    reference: Reference
    warnings: tuple[str, ...]


def still_of(frame: PlannedFrame, reading: Reading, spool: Path) -> Still:
    """A frame as a still. Raises `BadInputError` if it cannot be shown."""
    with FrameFiles((frame,), spool, _storage(reading.settings)) as files:
        shown = show_frame(files, 0, frame, reading, medium="still", even_sides=False)
    return Still(shown.rgb, _reference(shown), _warnings(shown))


def differences(reference: Reference, first: Reference) -> list[str]:
    """What a viewer should know of a frame that is not like the first."""
    found = []
    if reference.full_size != first.full_size:
        size, expected = (f"{size.width}x{size.height}" for size in (reference.full_size, first.full_size))
        found.append(f"{size} pixels instead of {expected}: scaled to the size of the first frame")
    here, there = reference.provenance, first.provenance
    if here.layer != there.layer:
        found.append(f"shows {here.layer} instead of {there.layer}")
    if here.source_color_space != there.source_color_space:
        found.append(f"source color space {here.source_color_space} instead of {there.source_color_space}")
    return found


def in_words(warnings: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Warnings with the numbers of the frames that they are about, the middle of a long list left out."""
    return tuple(f"{text} ({_numbers(numbers)})" for text, numbers in warnings.items())


def _numbers(numbers: list[str]) -> str:
    shown = numbers if len(numbers) <= 6 else [*numbers[:5], f"… {len(numbers)} frames"]
    return f"frame {shown[0]}" if len(shown) == 1 else f"frames {', '.join(shown)}"


def _warnings(shown: ShownPicture) -> tuple[str, ...]:
    replaced = ("NaN or infinite pixels were replaced",) if shown.nan_pixels or shown.inf_pixels else ()
    return (*shown.warnings, *replaced)


def _reference(shown: ShownPicture) -> Reference:
    height, width = shown.rgb.shape[:2]
    return Reference(
        size=Size(width, height),
        full_size=Size(shown.full_width, shown.full_height),
        color_space=shown.color_space,
        view=shown.view,
        provenance=shown.provenance,
        shown_rate=shown.shown_rate,
        time_code=shown.time_code,
    )


def encode_segment(segment: Segment) -> SegmentReport:
    """Decode and encode a segment into its target file.

    Raises `BadInputError`, naming the file, for a frame that cannot be shown where the policy is `error`.
    """
    report = SegmentReport()
    progress = ProgressFile(segment.progress)
    all_frames = (*segment.before, *segment.frames)
    files = FrameFiles(all_frames, segment.spool, _storage(segment.reading.settings))
    writer = MovieWriter(
        segment.target,
        segment.preset,
        size=segment.reference.size,
        rate=segment.rate,
        threads=segment.threads,
    )
    try:
        with files, writer:
            encoding = _Encoding(segment, files, progress, report)
            for index, frame in enumerate(segment.frames):
                writer.write(*encoding.finished(index, frame))
                progress.encoded()
    finally:
        progress.close()
    return report


class _Encoding:
    """The frames of a segment on their way from file to encoder."""

    def __init__(self, segment: Segment, files: FrameFiles, progress: ProgressFile, report: SegmentReport) -> None:
        self._segment = segment
        self._files = files
        self._progress = progress
        self._report = report
        self._shown = self._decoded_ahead()
        self._last: tuple[NDArray[np.uint8], NDArray[np.uint8] | None] | None = None
        self._last_number = ""
        self._lock = Lock()

    def _decode(self, place: int, frame: PlannedFrame) -> ShownPicture | BadInputError:
        if frame.location is None or frame.problem:
            name = self._segment.title if frame.location is None else frame.location.url
            return BadInputError(name, frame.problem or f"frame {frame.number} is missing")
        # One at a time, so that it is known which one a worker died of.
        with self._lock:
            try:
                self._files.path(place)
                self._progress.decoding(place)
                reading = self._segment.reading
                with processor_limit(reading.pictures.worker_timeout_seconds):
                    return show_frame(self._files, place, frame, reading)
            except BadInputError as error:
                return error
            finally:
                self._progress.decoding(-1)

    def _decoded_ahead(self) -> Iterator[ShownPicture | BadInputError]:
        offset = len(self._segment.before)
        with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
            pending: deque[Future[ShownPicture | BadInputError]] = deque()
            for index, frame in enumerate(self._segment.frames):
                pending.append(thread.submit(self._decode, offset + index, frame))
                if len(pending) > _DECODED_AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def finished(self, index: int, frame: PlannedFrame) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """The pixels of the next frame as they are encoded: color, and alpha where the movie has it."""
        shown = next(self._shown)
        if isinstance(shown, BadInputError):
            rgb, alpha = self._stand_in(frame, shown)
        else:
            rgb, alpha = self._fitted(shown)
            self._compare(shown, frame)
            self._last, self._last_number = (rgb, alpha), frame.number
        return self._burnt_in(index, frame, rgb, alpha)

    def _stand_in(
        self, frame: PlannedFrame, error: BadInputError
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        if self._segment.missing == "error":
            raise error
        if frame.location is not None:
            self._report.warn(f"not shown: {error.reason}", frame.number)
        self._report.not_shown[frame.number] = error.reason if frame.location is not None else "missing"
        what = "MISSING" if frame.location is None else "DAMAGED"
        held = self._held() if self._segment.missing == "hold" else None
        if held is None:
            black = np.zeros((self._segment.reference.size.height, self._segment.reference.size.width, 3), np.uint8)
            return with_mark(black, f"{what} {frame.number}"), None
        rgb, alpha = held
        marked = with_mark(rgb, f"{what} {frame.number}, HELD {self._last_number}")
        return marked, _covering(alpha, rgb, marked)

    def _held(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None] | None:
        """The last frame that was shown, if need be one before the segment."""
        if self._last is None:
            for place, frame in enumerate(self._segment.before):
                shown = self._decode(place, frame)
                if not isinstance(shown, BadInputError):
                    self._last, self._last_number = self._fitted(shown), frame.number
                    break
        return self._last

    def _fitted(self, shown: ShownPicture) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        size = self._segment.reference.size
        alpha = None if shown.alpha is None else letterboxed(shown.alpha, size)
        return letterboxed(shown.rgb, size), alpha

    def _compare(self, shown: ShownPicture, frame: PlannedFrame) -> None:
        for text in (*differences(_reference(shown), self._segment.reference), *_warnings(shown)):
            self._report.warn(text, frame.number)

    def _burnt_in(
        self, index: int, frame: PlannedFrame, rgb: NDArray[np.uint8], alpha: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        segment = self._segment
        texts: dict[BurnInField, str] = {}
        if "name" in segment.burn_in:
            texts["name"] = segment.title if frame.location is None else frame.location.name
        if "frame" in segment.burn_in:
            texts["frame"] = frame.number
        if "timecode" in segment.burn_in and segment.first_time_code is not None:
            texts["timecode"] = to_text(segment.first_time_code + index, segment.rate, drop=segment.drop_frame)
        if not texts:
            return rgb, alpha
        burnt = with_burn_in(rgb, texts)
        return burnt, _covering(alpha, rgb, burnt)


def _covering(
    alpha: NDArray[np.uint8] | None, before: NDArray[np.uint8], after: NDArray[np.uint8]
) -> NDArray[np.uint8] | None:
    """Alpha that also covers what was drawn."""
    return None if alpha is None else np.where((before != after).any(axis=2), np.uint8(255), alpha)


def letterboxed(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """A picture scaled to fit into a size, in its middle, black around it."""
    import cv2

    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    scale = min(size.width / width, size.height / height)
    inner = Size(max(1, round(width * scale)), max(1, round(height * scale)))
    scaled = cv2.resize(pixels, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.zeros((size.height, size.width, *pixels.shape[2:]), np.uint8)
    top, left = (size.height - inner.height) // 2, (size.width - inner.width) // 2
    canvas[top : top + inner.height, left : left + inner.width] = scaled
    return canvas
