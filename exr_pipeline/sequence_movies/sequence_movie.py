"""The movie of a sequence: planned as segments, encoded by workers beside each other, resumed, joined.

Belongs here: the plan, supervision, what is kept for another attempt. Not here: what happens to the frames of a segment
(`segments`) or encoding (`encoder`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.frame_rates import DEFAULT_RATE, FASTEST, SLOWEST, shown_rate
from exr_pipeline.pictures.picture_settings import PictureSettings
from exr_pipeline.pictures.still import Size
from exr_pipeline.sequence_movies.encoder import join
from exr_pipeline.sequence_movies.planned import PlannedFrame, planned_frames
from exr_pipeline.sequence_movies.segments import (
    MissingPolicy,
    ProgressFile,
    Reading,
    Reference,
    Segment,
    SegmentProgress,
    SegmentReport,
    encode_segment,
    in_words,
    look_at,
)
from exr_pipeline.sequence_movies.time_code import can_drop, counted_rate, to_frames, to_text
from exr_pipeline.storage.deadlines import AwakeClock
from exr_pipeline.storage.private_files import make_folder_like_parent, share_like_folder
from exr_pipeline.workers.pool import (
    WorkerEndedError,
    WorkerLostError,
    WorkerPool,
    clock_limit,
    given_or_own,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from exr_pipeline.pictures.provenance import Provenance
    from exr_pipeline.sequence_movies.burn_in import BurnInField
    from exr_pipeline.sequence_movies.presets import MoviePreset
    from exr_pipeline.sequences import Sequence
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.objects import ObjectStorage

# Part of what a segment's name is made from: another number where the same input gives other bytes.
_VERSION: Final = 1
_LARGEST: Final = Size(16384, 16384)
# Shorter segments cost more than they gain.
_SHORTEST: Final = 12
_BEFORE: Final = 8
_LOOK_SECONDS: Final = 0.05
_UNEXPLAINED: Final = 3
_KEPT_SECONDS: Final = 7 * 86400.0
_UNSEEN: Final = SegmentProgress(0, None)


@dataclass(frozen=True, slots=True)
class MovieProgress:
    """Frames encoded of all, frames per second so far, and seconds to go (None while unknown)."""

    done: int
    total: int
    rate: float
    seconds_left: float | None


OnMovieProgress = Callable[[MovieProgress], None]


@dataclass(frozen=True, slots=True)
class MovieResult:
    """What was made and how. `not_shown` are frames without or with a damaged file, and why, by their number."""

    frames: int
    not_shown: dict[str, str]
    missing: MissingPolicy
    size: Size
    rate: Fraction
    rate_rule: str
    duration: Fraction
    time_code: str | None
    time_code_rule: str
    preset: str
    encoder: str
    content_type: str
    color_space: str
    view: str
    provenance: Provenance
    warnings: tuple[str, ...]
    segments: int
    reused_segments: int
    seconds: float


def make_movie(
    sequence: Sequence,
    storage: ObjectStorage,
    out: Path,
    *,
    settings: Settings,
    preset: MoviePreset,
    pictures: PictureSettings | None = None,
    rate: Fraction | None = None,
    missing: MissingPolicy = "hold",
    burn_in: tuple[BurnInField, ...] = (),
    box: Size | None = None,
    work: Path | None = None,
    pool: WorkerPool | None = None,
    on_progress: OnMovieProgress | None = None,
) -> MovieResult:
    """Encode all frames of a sequence, in order, into the local file `out`, which is put in place when it is whole.

    `rate` is in frames per second; without it what the first frame states, else 24. `missing` says what becomes of
    frames that have no file or a damaged one: an error, the last frame held, or black, both crossed out. `box` bounds
    the size instead of the preset's. `pictures` replaces the settings of color and limits. Finished segments are kept
    in `work` (in the state folder unless given) until the movie is whole, and used by the next attempt.

    Raises `BadInputError` naming the file where a frame is at fault and the policy is `error`, or no frame can be
    shown; `RetryableError` where storage does not answer, a frame changes meanwhile, or another process is making the
    same movie; `MisconfiguredError` for settings and presets that cannot be used.
    """
    started = time.monotonic()
    if rate is not None and not SLOWEST <= rate <= FASTEST:
        raise MisconfiguredError(
            "--fps",
            f"{rate} is not between {SLOWEST} and {FASTEST}",
            "write frames per second, such as 24 or 24000/1001",
        )
    pictures = pictures or PictureSettings.from_settings(settings)
    if missing == "error":
        _refuse_gaps(sequence)
    frames = planned_frames(sequence, storage)
    reading = Reading(settings, pictures, box or preset.size or _LARGEST, preset.has_alpha)
    name = _digest([sequence.key, preset.model_dump(mode="json"), reading.box, burn_in, missing, str(rate)])
    with (
        _own_folder(work or settings.state_dir / "movies", name) as folder,
        given_or_own(pool, workers=pictures.workers, memory_mb=pictures.worker_memory_mb) as workers,
    ):
        making = _Making(sequence, reading, preset, missing, burn_in, folder, workers, on_progress)
        result = making.movie(frames, rate, out, started)
        for leftover in folder.iterdir():
            if leftover.is_file() and leftover.name != _LOCK:
                leftover.unlink()
        return result


def _refuse_gaps(sequence: Sequence) -> None:
    gaps = sequence.missing_count
    if gaps:
        listed = ", ".join(str(number) for number, _ in zip(sequence.missing(), range(10), strict=False))
        more = f" and {gaps - 10} more" if gaps > 10 else ""
        raise BadInputError(
            sequence.url,
            f"{gaps} frames are missing: {listed}{more}; with `hold` or `black` the movie is rendered all the same",
        )


def _digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


_LOCK: Final = "lock"
_SPOOL: Final = "spool"


@contextmanager
def _own_folder(work: Path, name: str) -> Iterator[Path]:
    """The work folder of one movie, locked; folders that nobody came back to for a week are removed."""
    folder = work / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_old(work, folder)
        lock = (folder / _LOCK).open("wb")
    except OSError as error:
        raise MisconfiguredError(
            "EXR_PIPELINE_STATE_DIR", f"{work} cannot be used: {error.strerror}", "set it to a writable folder"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RetryableError(f"another process is rendering the same movie, in {folder}") from None
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        spool = folder / _SPOOL
        try:
            yield folder
        finally:
            shutil.rmtree(spool, ignore_errors=True)


def _remove_old(work: Path, mine: Path) -> None:
    for folder in work.iterdir():
        with suppress(OSError):
            if folder == mine:
                continue
            if time.time() - folder.stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(folder)
                continue
            # Whole sources, if the process that fetched them was killed. One that has the lock is at work.
            with (folder / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder / _SPOOL, ignore_errors=True)


@dataclass(slots=True)
class _Job:
    """A segment in work: where its frames begin in the movie, its file, and what is known of it."""

    start: int
    frames: int
    path: Path
    report: SegmentReport | None = None
    segment: Segment | None = None
    future: Future[SegmentReport] | None = None
    seen: SegmentProgress = _UNSEEN
    seen_at: float = 0.0
    reason: str = ""
    stood_still: int = 0
    unexplained: int = 0


class _Making:
    """One attempt at one movie."""

    def __init__(
        self,
        sequence: Sequence,
        reading: Reading,
        preset: MoviePreset,
        missing: MissingPolicy,
        burn_in: tuple[BurnInField, ...],
        folder: Path,
        pool: WorkerPool,
        on_progress: OnMovieProgress | None,
    ) -> None:
        self._sequence = sequence
        self._reading = reading
        self._preset = preset
        self._missing = missing
        self._burn_in = burn_in
        self._folder = folder
        self._pool = pool
        self._on_progress = on_progress
        self._spools = 0
        self._told = -1
        self._frame_seconds = reading.pictures.worker_timeout_seconds
        self._clock = AwakeClock()

    def movie(self, frames: list[PlannedFrame], rate: Fraction | None, out: Path, started: float) -> MovieResult:
        first, reference = self._reference(frames)
        rate, rate_rule, rate_warnings = _rate(rate, reference)
        code, drop, code_rule, code_warnings = self._time_code(reference, first, rate)
        plan = _Plan(reference, rate, code, drop, self._threads(len(frames)))
        jobs = self._jobs(frames, plan)
        reused = [job for job in jobs if self._reuse(job)]
        self._encode(frames, jobs, plan)
        text = None if code is None else to_text(code, rate, drop=drop)
        self._join(jobs, out, rate, text)
        not_shown: dict[str, str] = {}
        warnings: dict[str, list[str]] = {}
        for job in jobs:
            assert job.report is not None
            not_shown |= job.report.not_shown
            for warning, numbers in job.report.warnings.items():
                warnings.setdefault(warning, []).extend(numbers)
        return MovieResult(
            frames=len(frames),
            not_shown=not_shown,
            missing=self._missing,
            size=reference.size,
            rate=rate,
            rate_rule=rate_rule,
            duration=len(frames) / rate,
            time_code=text,
            time_code_rule=code_rule,
            preset=self._preset.name,
            encoder=str(self._preset),
            content_type=self._preset.content_type,
            color_space=reference.color_space,
            view=reference.view,
            provenance=reference.provenance,
            warnings=(*rate_warnings, *code_warnings, *in_words(warnings)),
            segments=len(jobs),
            reused_segments=len(reused),
            seconds=time.monotonic() - started,
        )

    def _reference(self, frames: list[PlannedFrame]) -> tuple[int, Reference]:
        """The first frame that can be shown, by its place. Those before it get their problem noted in `frames`."""
        first_error: BadInputError | None = None
        for place, frame in enumerate(frames):
            if frame.location is None:
                continue
            spool = self._spool()
            call = self._pool.call(look_at, frame.location.url, self._frame_seconds, frame, self._reading, spool)
            try:
                return place, call.result()
            except BadInputError as error:
                if self._missing == "error":
                    raise
                first_error = first_error or error
                frames[place] = replace(frame, problem=error.reason)
        assert first_error is not None
        raise BadInputError(self._sequence.url, f"no frame can be decoded, the first error is: {first_error}")

    def _spool(self) -> Path:
        self._spools += 1
        spool = self._folder / _SPOOL / str(self._spools)
        spool.mkdir(parents=True)
        return spool

    def _time_code(
        self, reference: Reference, place: int, rate: Fraction
    ) -> tuple[int | None, bool, str, tuple[str, ...]]:
        """Frames since midnight at the movie's first frame, whether numbers are dropped, where that comes from.

        The last are warnings of a stated time code that is not kept as it is.
        """
        text = reference.time_code
        if counted_rate(rate) is None:
            rule = f"none: no time code exists at {rate} frames per second"
            return None, False, rule, (f"timeCode {text} is ignored: {rule}",) if text else ()
        if not text:
            return int(self._sequence.first), False, "frame number", ()
        stated = to_frames(text, rate)
        if stated is None:
            said = f"timeCode {text} is not valid at {rate} frames per second: the frame number is used instead"
            return int(self._sequence.first), False, "frame number", (said,)
        drops = text[-3] in ";."
        said = f"timeCode {text} is drop-frame, which is not valid at {rate} frames per second: non-drop is used"
        return (
            stated - place,
            drops and can_drop(rate),
            "timeCode of the frames",
            (said,) if drops and not can_drop(rate) else (),
        )

    def _threads(self, frames: int) -> int:
        return max(1, self._reading.pictures.workers // -(-frames // self._length(frames)))

    def _length(self, frames: int) -> int:
        """Frames per segment: so many segments that every worker has one, unless they get short."""
        share = -(-frames // self._reading.pictures.workers)
        return min(self._reading.settings.movie_segment_frames, max(_SHORTEST, share))

    def _jobs(self, frames: list[PlannedFrame], plan: _Plan) -> list[_Job]:
        length = self._length(len(frames))
        jobs = []
        for start in range(0, len(frames), length):
            count = min(length, len(frames) - start)
            jobs.append(_Job(start, count, self._path(frames, start, count, plan)))
        return jobs

    def _path(self, frames: list[PlannedFrame], start: int, count: int, plan: _Plan) -> Path:
        """The file of a segment, named by all that decides its bytes."""
        reading = self._reading
        digest = _digest(
            [
                _VERSION,
                [asdict(frame) for frame in (*self._before(frames, start), *frames[start : start + count])],
                self._preset.model_dump(mode="json"),
                {**asdict(reading.pictures), "workers": 0, "worker_timeout_seconds": 0, "worker_memory_mb": 0},
                reading.box,
                asdict(plan),
                self._missing,
                self._burn_in,
                start if self._burn_in else 0,
            ]
        )
        return self._folder / f"{digest}{self._preset.extension}"

    def _before(self, frames: list[PlannedFrame], start: int) -> tuple[PlannedFrame, ...]:
        if self._missing != "hold":
            return ()
        there = (frame for frame in reversed(frames[:start]) if frame.location is not None and not frame.problem)
        return tuple(frame for frame, _ in zip(there, range(_BEFORE), strict=False))

    def _reuse(self, job: _Job) -> bool:
        try:
            report = json.loads(job.path.with_suffix(".json").read_text("utf-8"))
        except (OSError, ValueError):
            return False
        job.report = SegmentReport(**report)
        return job.path.exists()

    def _encode(self, frames: list[PlannedFrame], jobs: list[_Job], plan: _Plan) -> None:
        """Have the workers encode what is not there yet, a segment each at a time."""
        began = time.monotonic()
        waiting = [job for job in reversed(jobs) if job.report is None]
        found = sum(job.frames for job in jobs if job.report is not None)
        running: list[_Job] = []
        self._tell(jobs, found, began)
        while waiting or running:
            while waiting and len(running) < self._reading.pictures.workers:
                job = waiting.pop()
                self._begin(frames, job, plan)
                running.append(job)
            wait([job.future for job in running if job.future], _LOOK_SECONDS, return_when="FIRST_COMPLETED")
            for job in list(running):
                assert job.future is not None
                if job.future.done():
                    if self._ended(frames, job):
                        running.remove(job)
                    else:
                        self._begin(frames, job, plan)
                else:
                    self._watch(job)
            self._tell(jobs, found, began)
        self._tell(jobs, found, began)

    def _begin(self, frames: list[PlannedFrame], job: _Job, plan: _Plan) -> None:
        spool = self._spool()
        job.path = self._path(frames, job.start, job.frames, plan)
        job.segment = Segment(
            target=spool / f"segment{self._preset.extension}",
            progress=spool / "progress",
            spool=spool,
            title=self._sequence.pattern,
            frames=tuple(frames[job.start : job.start + job.frames]),
            before=self._before(frames, job.start),
            reading=self._reading,
            reference=plan.reference,
            preset=self._preset,
            rate=plan.rate,
            missing=self._missing,
            burn_in=self._burn_in,
            first_time_code=None if plan.time_code is None else plan.time_code + job.start,
            drop_frame=plan.drop_frame,
            threads=plan.threads,
        )
        job.seen, job.seen_at = _UNSEEN, self._clock()
        job.future = self._pool.call(encode_segment, self._sequence.url, None, job.segment)

    def _watch(self, job: _Job) -> None:
        """End a worker that stands still at one frame. Fetching, and the processor time of a frame, have own limits."""
        assert job.segment is not None
        assert job.future is not None
        seen = ProgressFile.read(job.segment.progress)
        now = self._clock()
        # One that died is waiting for its second attempt.
        if seen != job.seen or seen.decoding is None or not _is_alive(seen.worker):
            job.seen, job.seen_at = seen, now
        elif now - job.seen_at > clock_limit(self._frame_seconds):
            job.future.cancel()

    def _ended(self, frames: list[PlannedFrame], job: _Job) -> bool:
        """Keep what a worker made: True; note which frame it died of: False, the segment is to be begun again."""
        assert job.segment is not None
        assert job.future is not None
        if job.future.cancelled():
            shutil.rmtree(job.segment.spool, ignore_errors=True)
            job.stood_still += 1
            if job.stood_still > 1:
                raise WorkerLostError(self._sequence.url, "a worker process hung at one frame, twice")
            return False
        try:
            report = job.future.result()
        except WorkerEndedError as error:
            job.reason = error.reason
        else:
            self._keep(job, report)
            return True
        place = ProgressFile.read(job.segment.progress).decoding
        shutil.rmtree(job.segment.spool, ignore_errors=True)
        reason = job.reason
        blamed = None if place is None else (*job.segment.before, *job.segment.frames)[place]
        if blamed is not None and blamed.location is not None:
            if self._missing == "error":
                raise BadInputError(blamed.location.url, reason)
            frames[frames.index(blamed)] = replace(blamed, problem=reason)
            return False
        job.unexplained += 1
        if job.unexplained >= _UNEXPLAINED:
            raise BadInputError(self._sequence.url, f"{_UNEXPLAINED} workers ended while encoding it: {reason}")
        return False

    def _keep(self, job: _Job, report: SegmentReport) -> None:
        assert job.segment is not None
        job.segment.target.replace(job.path)
        # The report comes last: where it is, the segment is whole.
        written = job.segment.spool / "report"
        written.write_text(json.dumps(asdict(report)), "utf-8")
        written.replace(job.path.with_suffix(".json"))
        shutil.rmtree(job.segment.spool, ignore_errors=True)
        job.report = report

    def _tell(self, jobs: list[_Job], found: int, began: float) -> None:
        if self._on_progress is None:
            return
        done = sum(job.frames if job.report is not None else job.seen.done for job in jobs)
        total = sum(job.frames for job in jobs)
        if done == self._told:
            return
        self._told = done
        rate = (done - found) / max(time.monotonic() - began, 1e-6)
        self._on_progress(MovieProgress(done, total, rate, (total - done) / rate if rate else None))

    def _join(self, jobs: list[_Job], out: Path, rate: Fraction, time_code: str | None) -> None:
        temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
        try:
            make_folder_like_parent(out.parent)
            join([(job.path, job.frames) for job in jobs], temporary, self._preset, rate=rate, time_code=time_code)
            with temporary.open("rb") as file:
                share_like_folder(file.fileno(), out.parent)
            temporary.replace(out)
        except OSError as error:
            raise RetryableError(f"{out}: not written: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _rate(chosen: Fraction | None, reference: Reference) -> tuple[Fraction, str, tuple[str, ...]]:
    """The movie's rate, where it comes from, and what is to be said about it."""
    stated = reference.shown_rate if chosen is None else shown_rate(chosen)
    if stated is None:
        return DEFAULT_RATE, "default", ()
    rule = "framesPerSecond of the frames" if chosen is None else "chosen"
    return stated.rate, rule, (stated.warning,) if stated.warning else ()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What holds for all segments, beside the frames."""

    reference: Reference
    rate: Fraction
    time_code: int | None
    drop_frame: bool
    threads: int
