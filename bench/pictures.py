"""Thumbnail and proxy of 2K and 4K renders of 24 channels, beside three oiiotool processes and bare decoding.

Belongs here: one file at a time in a warm worker. Not here: fetching, storing and rows (`ingest`).
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.inputs import ENCODINGS, FOUR_K, TINY, TWO_K, Renders
from bench.predecessor import PictureChain, ffmpeg
from bench.report import Report, Table
from bench.sides import Side, Work, interleaved, started
from bench.size import Size

_PROXY_BOX: Final = (1920, 1080)
_BLOCK_LINES: Final = 64  # whole chunks and tiles
_LARGE: Final = 30 << 20  # bytes: more than a picture of 1920x1080 in float, less than glibc's limit of 32 MiB
_CORES: Final = len(os.sched_getaffinity(0))
_NO_FFMPEG: Final = (
    "ffmpeg is not installed: one file alone is measured without the movie on both sides; ours with all cores busy "
    "makes it."
)


class Ours(Work):
    """`render`, as a worker of the pool runs it: one thread, libraries loaded, color tables baked."""

    def __init__(self, with_movie: bool) -> None:
        from exr_pipeline.pictures import PictureSettings, held_frame
        from exr_pipeline.settings import Settings

        self.settings = PictureSettings.from_settings(Settings(_env_file=None))
        if not with_movie:
            setattr(held_frame, "held_frame", _no_movie)  # noqa: B010 - the benchmark leaves a step out, on both sides

    def run(self, path: str) -> None:
        """Decode, color, thumbnail, proxy, preview."""
        from exr_pipeline.pictures.render import render_picture

        self.made = render_picture(path, Path(path).name, thumbnail=True, proxy=True, settings=self.settings)

    def check(self, path: str) -> list[str]:
        """The sizes of what was made."""
        assert self.made.thumbnail is not None
        assert self.made.proxy is not None
        return [f"{picture.width}x{picture.height}" for picture in (self.made.thumbnail, self.made.proxy)]


def _no_movie(*_args: Any, **_options: Any) -> tuple[bytes, int]:
    return b"", 1


class Predecessor(Work):
    """Three oiiotool processes, and ffmpeg."""

    def __init__(self) -> None:
        self.chain = PictureChain.found()
        self.folder = tempfile.TemporaryDirectory(prefix="exr_pipeline_bench_")

    def run(self, path: str) -> None:
        """Detect, thumbnail, proxy, movie."""
        self.made = self.chain.run(Path(path), Path(self.folder.name))

    def check(self, path: str) -> list[int]:
        """The bytes of what was made."""
        return [file.stat().st_size for file in self.made]

    def close(self) -> None:
        """Remove the outputs."""
        self.folder.cleanup()


class OursAtOnce(Work):
    """A file for each core at once, in the worker processes of a pool, as an ingest renders them."""

    def __init__(self) -> None:
        from exr_pipeline.pictures import PicturePool, PictureSettings
        from exr_pipeline.settings import Settings

        self.pool = PicturePool(PictureSettings.from_settings(Settings(_env_file=None)))
        self.pool.__enter__()

    def run(self, path: str) -> None:
        """The same file in every worker."""
        self.made = [future.result() for future in [self.pool.submit(path, Path(path).name) for _ in range(_CORES)]]

    def check(self, path: str) -> int:
        """How many were made."""
        return len(self.made)

    def close(self) -> None:
        """End the workers."""
        self.pool.__exit__(None, None, None)


class PredecessorAtOnce(Work):
    """A file for each core at once, each by processes one after the other."""

    def __init__(self) -> None:
        self.chains = [Predecessor() for _ in range(_CORES)]

    def run(self, path: str) -> None:
        """The same file in every chain."""
        with ThreadPoolExecutor(_CORES) as threads:
            for future in [threads.submit(chain.run, path) for chain in self.chains]:
                future.result()

    def check(self, path: str) -> int:
        """How many were made."""
        return sum(bool(chain.check(path)) for chain in self.chains)

    def close(self) -> None:
        """Remove the outputs."""
        for chain in self.chains:
            chain.close()


class Decoding(Work):
    """A side that only decodes, its heap as that of a worker that has made pictures."""

    def __init__(self) -> None:
        import numpy as np

        # Once something of this size was freed, glibc keeps smaller memory that is freed. Until then each block's comes
        # from the system anew, which makes decoding of PIZ half as slow again.
        np.ones(_LARGE, np.uint8)


class OwnDecode(Decoding):
    """What `Ours` reads of the file, and nothing else: the part of its time that is decoding."""

    def run(self, path: str) -> None:
        """Only decode."""
        from exr_pipeline.pictures.decode.open_source import open_source
        from exr_pipeline.pictures.still import Size

        source = open_source(path, Path(path).name, max_image_mb=1 << 20)
        self.lines = sum(len(rows.pixels) for rows in source.placed(source.level(Size(*_PROXY_BOX))))

    def check(self, path: str) -> int:
        """How many lines there were."""
        return self.lines


class BareDecode(Decoding):
    """OpenImageIO reads R, G and B of the part and level that a 1080p proxy needs, as half, in one thread."""

    def run(self, path: str) -> None:
        """Only decode."""
        import OpenImageIO as Oiio

        Oiio.attribute("threads", 1)
        Oiio.attribute("exr_threads", -1)
        source: Any = Oiio.ImageInput.open(path)
        level = 0
        while source.seek_subimage(0, level + 1) and _is_enough(source.spec()):
            level += 1
        source.seek_subimage(0, level)
        spec = source.spec()
        names = list(spec.channelnames)
        low, high = names.index("R"), names.index("B") + 1
        # In blocks, whose memory is used again: a whole picture at once takes longer at 4K.
        for top in range(spec.y, spec.y + spec.height, _BLOCK_LINES):
            end = min(top + _BLOCK_LINES, spec.y + spec.height)
            if spec.tile_height:
                edges = (spec.x, spec.x + spec.width, top, end, 0, 1)
                pixels = source.read_tiles(0, level, *edges, low, high, "half")
            else:
                pixels = source.read_scanlines(0, level, top, end, 0, low, high, "half")
            if pixels is None:
                raise RuntimeError(source.geterror())
        source.close()


def _is_enough(spec: Any) -> bool:
    scale: float = min(_PROXY_BOX[0] / spec.width, _PROXY_BOX[1] / spec.height)
    return scale <= 1


def run(size: Size, folder: Path) -> Report:
    """Every encoding at both sizes."""
    rounds = size.files or size.rounds(3)
    # The sides' processes inherit it; a worker of the pool has it, and a second thread that waits takes processor time.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with_movie = ffmpeg() is not None
    ratios = Table(
        [
            "render",
            "x the predecessor's files/s, all cores busy",
            "x faster than the predecessor, one file alone",
            "x bare decoding, CPU",
            "share of decoding, CPU",
        ]
    )
    figures = Table(
        [
            "render",
            "MB",
            "ours, files/s, all cores",
            "predecessor, files/s, all cores",
            "ours, s",
            "predecessor, s",
            "decoding, s",
            "ours, CPU s",
            "predecessor, CPU s",
            "decoding, CPU s",
            "ours, MiB",
            "predecessor, MiB",
            "decoding, MiB",
        ]
    )
    for render_size in (TINY,) if size.tiny else (TWO_K, FOUR_K):
        frame = Renders(render_size)
        for encoding in ENCODINGS[3:] if size.tiny else ENCODINGS:
            path = frame.write(encoding, folder / "render.exr")
            # New processes for each file: else the peak would be that of the largest before it.
            sides = [
                Side("ours", partial(Ours, with_movie)),
                Side("predecessor", Predecessor),
                Side("decode", BareDecode),
                Side("our decoding", OwnDecode),
            ]
            with started(sides):
                for warmed in (sides[0], *sides[2:]):
                    warmed.ask(str(path))
                interleaved(sides, rounds, str(path))
            at_once = [Side("ours", OursAtOnce), Side("predecessor", PredecessorAtOnce)]
            with started(at_once):
                # Each worker loads its libraries with its first file.
                for _ in range(2):
                    at_once[0].ask(str(path))
                interleaved(at_once, rounds, str(path))
            rates = [_CORES / side.median for side in at_once]
            ours, theirs, decoding, own = sides
            name = f"{render_size.name} {encoding}"
            ratios.add(
                name,
                rates[0] / rates[1],
                theirs.median / ours.median,
                ours.cpu_median / decoding.cpu_median,
                f"{own.cpu_median / ours.cpu_median:.0%}",
            )
            figures.add(
                name,
                path.stat().st_size / 1e6,
                *rates,
                *(side.median for side in sides[:3]),
                *(side.cpu_median for side in sides[:3]),
                *(side.peak_mib for side in sides[:3]),
            )
    return Report(
        "pictures",
        "Thumbnail and proxy of one 24-channel half-float render from a local file. Ours is one thread of a warm "
        "worker (decode once, H.264 of one second); the predecessor is `oiiotool --info -v`, `oiiotool` to the "
        f"thumbnail, `oiiotool` to the proxy frame{' and `ffmpeg` to a one-frame movie' if with_movie else ''}, on all "
        "cores. *All cores busy*: as many files at once as there are cores, ours in the workers of a pool. "
        "Bare decoding, what the picture cannot do without, reads only R, G and B, at full resolution, of the part and "
        f"mip level that are shown. Medians of {rounds} turns.",
        ratios,
        figures,
        [
            "The published predecessor carries all channels along and writes a full-size EXR between conversion and "
            "resizing, once per output: six processes, several times slower. Three processes that pick R, G and B "
            "first are its favourable reading.",
            "Ours and bare decoding are one thread each, so they are compared by processor time, which other programs "
            "on the machine change less.",
            *([] if with_movie else [_NO_FFMPEG]),
        ],
    )
