"""A sequence of 2K renders of 24 channels to one MP4, beside oiiotool, PNG and ffmpeg, and beside its own halves.

Belongs here: movies of local sequences. Not here: single files (`pictures`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

from bench.inputs import TINY, TWO_K, Renders
from bench.pictures import BareDecode
from bench.predecessor import PictureChain
from bench.report import Report, Table
from bench.sides import Side, Work, interleaved, started
from bench.size import Size

_DISTINCT: Final = 6  # The others are links to these: an encoder sees motion all the same.
_STEP: Final = 16
_FIRST: Final = 1001


class _Folder(Work):
    """A side that writes into a folder of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="exr_pipeline_bench_"))

    def close(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.folder)


class Ours(_Folder):
    """`make_movie` with its worker processes started afresh, as the command does."""

    def run(self, frames: str) -> None:
        """Decode, color, encode, join."""
        from exr_pipeline.sequence_movies.presets import load_presets
        from exr_pipeline.sequence_movies.sequence_movie import make_movie
        from exr_pipeline.sequences import resolve_sequence
        from exr_pipeline.settings import Settings
        from exr_pipeline.storage.locations import Location
        from exr_pipeline.storage.objects import ObjectStorage

        settings = Settings(_env_file=None, state_dir=self.folder / "state")
        storage = ObjectStorage(settings)
        sequence = resolve_sequence(Location("file", "", frames.lstrip("/") + "/"), storage)
        self.made = make_movie(
            sequence, storage, self.folder / "movie.mp4", settings=settings, preset=load_presets()["review"]
        )

    def check(self, frames: str) -> int:
        """The number of frames, all of them shown."""
        assert not self.made.not_shown
        return self.made.frames


class Predecessor(_Folder):
    """A process of oiiotool per frame, and one of ffmpeg."""

    def run(self, frames: str) -> None:
        """Convert each frame to PNG, encode them."""
        chain = PictureChain.found()
        for number, path in enumerate(sorted(Path(frames).iterdir())):
            chain.to_frame(path, self.folder / f"frame.{number:04}.png")
        chain.encode(("-framerate", "24", "-i", str(self.folder / "frame.%04d.png")), self.folder / "movie.mp4")

    def check(self, frames: str) -> int:
        """The bytes of the movie."""
        return (self.folder / "movie.mp4").stat().st_size


class DecodeAlone(Work):
    """Only the decoding, by as many worker processes, started afresh as well."""

    def run(self, frames: str) -> None:
        """Read R, G and B of every frame."""
        from exr_pipeline.workers.pool import WorkerPool

        with WorkerPool(workers=len(os.sched_getaffinity(0)), memory_mb=4096) as pool:
            calls = [pool.call(_decode, str(path), None, str(path)) for path in sorted(Path(frames).iterdir())]
            for call in calls:
                call.result()


@cache
def _decoder() -> BareDecode:
    """That of this worker."""
    return BareDecode()


def _decode(path: str) -> None:
    _decoder().run(path)


class EncodeAlone(_Folder):
    """Only the encoding, of frames in memory, on all cores."""

    def prepare(self, frames: str) -> None:
        """Show the frames that differ."""
        from exr_pipeline.pictures import PictureSettings
        from exr_pipeline.pictures.shown import show
        from exr_pipeline.pictures.still import Size as PictureSize
        from exr_pipeline.settings import Settings

        settings = PictureSettings.from_settings(Settings(_env_file=None))
        paths = sorted(Path(frames).iterdir())
        box = PictureSize(1920, 1080)
        self.shown: list[Any] = [
            show(str(path), path.name, medium="video", box=box, settings=settings, even_sides=True).rgb
            for path in paths[:_DISTINCT]
        ]
        self.count = len(paths)

    def run(self, frames: str) -> None:
        """Encode as many frames as there are."""
        from fractions import Fraction

        from exr_pipeline.pictures.still import Size as PictureSize
        from exr_pipeline.sequence_movies.encoder import MovieWriter
        from exr_pipeline.sequence_movies.presets import load_presets

        height, width = self.shown[0].shape[:2]
        with MovieWriter(
            self.folder / "movie.mp4",
            load_presets()["review"],
            size=PictureSize(width, height),
            rate=Fraction(24),
            threads=len(os.sched_getaffinity(0)),
        ) as writer:
            for index in range(self.count):
                writer.write(self.shown[index % len(self.shown)])


def _frames(folder: Path, originals: list[Path], count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        os.link(originals[index % len(originals)], folder / f"render.{_FIRST + index}.exr")
    return folder


def run(size: Size, folder: Path) -> Report:
    """A sequence of ZIP renders, and one ten times as long for its memory."""
    count = size.count(48, 3)
    rounds, their_rounds = size.rounds(6), size.rounds(2)
    render_size = TINY if size.tiny else TWO_K
    render = Renders(render_size)
    originals = [
        render.moved(index * _STEP).write("ZIP", folder / f"original{index}.exr") for index in range(_DISTINCT)
    ]
    frames = _frames(folder / "frames", originals, count)
    has_ffmpeg = PictureChain.found().ffmpeg is not None
    ours, decoding, encoding = (
        Side("ours", Ours),
        Side("decode", DecodeAlone),
        Side("encode", EncodeAlone),
    )
    theirs = [Side("predecessor", Predecessor)] if has_ffmpeg else []
    sides = [ours, *theirs, decoding, encoding]
    with started(sides):
        interleaved(sides, their_rounds, str(frames))
        interleaved([ours, decoding, encoding], rounds - their_rounds, str(frames))
    long = Side("ours, ten times as long", Ours)
    with started([long]):
        interleaved([long], 1, str(_frames(folder / "long", originals, 10 * count)))
    alone = max(decoding.median, encoding.median)
    ratios = Table(
        [
            "frames",
            "x faster than the predecessor",
            "x the slower half alone",
            "x bare decoding, CPU",
            "x a worker's memory",
        ]
    )
    name = f"{count} of {render_size.name}"
    ratios.add(
        name,
        theirs[0].median / ours.median if theirs else None,
        ours.median / alone,
        ours.cpu_median / decoding.cpu_median,
        None,
    )
    ratios.add(f"{10 * count} of {render_size.name}", None, None, None, long.worker_peak_mib / ours.worker_peak_mib)
    figures = Table(["side", "frames", "s", "CPU s", "frames/s", "MiB, a worker", "MiB, all processes"])
    for side, number in [*((side, count) for side in sides), (long, 10 * count)]:
        worker = side.worker_peak_mib or None
        figures.add(side.name, number, side.median, side.cpu_median, number / side.median, worker, side.peak_mib)
    return Report(
        "sequence",
        f"A sequence of {count} {render_size.name} 24-channel half-float ZIP renders to an H.264 movie within "
        "1920x1080. Ours starts its worker processes, one per core; the predecessor is a process of `oiiotool` to PNG "
        "per frame, and `ffmpeg` with the same encoder. The slower half is the greater of: decoding R, G and B of all "
        "frames by as many worker processes, also started afresh; encoding as many frames that are in memory. "
        f"Medians of {rounds} turns, of {their_rounds} for the predecessor.",
        ratios,
        figures,
        [
            f"{_DISTINCT} frames differ, the others are links to them.",
            *([] if has_ffmpeg else ["ffmpeg is not installed: the predecessor is left out."]),
        ],
    )
