"""Damaged movies, sounds and pictures in bulk: `python -m fuzz.media [--mutations N] [--seed N] [--only NAME]`.

Belongs here: whole files of each container, their damage, and what must hold: pictures, or a rejection with a reason
of ours, within the limits of a worker. Not here: headers of OpenEXR and DPX (`campaign`), the changes themselves
(`mutations`).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.footage.probe import probe_media
from exr_pipeline.footage.render import render_media
from exr_pipeline.footage.stills import inspect_still
from exr_pipeline.formats import category_of, plays
from exr_pipeline.inspection import SourceFile
from exr_pipeline.pictures import PicturePool, PictureSettings
from exr_pipeline.sample.writers import REC709, ExrPart, exr_bytes, exr_time_code, rgb_channels
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.cineon_files import cineon_bytes
from exr_pipeline_tests.footage.made import movie
from exr_pipeline_tests.pictures.files import write_deep_exr, write_dpx, write_luminance_chroma_exr, write_mip_exr
from fuzz.mutations import mutated, overwritten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Reasons that are not about the file but about what happened to the worker.
RETRYABLE: Final = "to be tried again: "
UNTYPED: Final = re.compile(rf"cannot render the picture: |worker process crashed|processor time|{RETRYABLE}")
_SMALL: Final[dict[str, Any]] = {"frames": 6, "rate": Fraction(24), "size": (64, 48)}
_MOVIES: Final[dict[str, dict[str, Any]]] = {
    "h264.mp4": {"time_code": "01:00:00:00", "rotation": 90},
    "prores.mov": {"video": "prores_ks", "pixel_format": "yuv422p10le", "audio": "pcm_s16le"},
    "animation.mov": {"video": "qtrle", "pixel_format": "rgb24", "audio": None},
    "png.mov": {"video": "png", "pixel_format": "rgba", "audio": None},
    "prores4444.mov": {"video": "prores_ks", "pixel_format": "yuva444p10le", "audio": None},
    "vp8.webm": {"video": "libvpx", "pixel_format": "yuva420p", "audio": None, "options": {"auto-alt-ref": "0"}},
    "ffv1.mkv": {"video": "ffv1", "audio": "flac"},
    "vp9.webm": {"video": "libvpx-vp9", "audio": "libopus", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "mpeg4.avi": {"video": "mpeg4", "audio": "libmp3lame"},
    "mpeg2.mxf": {"video": "mpeg2video", "pixel_format": "yuv422p", "audio": "pcm_s16le", "rate": Fraction(25)},
    "h264.ts": {},
    "mpeg2.mpg": {"video": "mpeg2video", "audio": "mp2", "rate": Fraction(25)},
    "wmv.wmv": {"video": "wmv2", "audio": None},
    "flv.flv": {"video": "flv", "audio": "aac"},
}
_SOUNDS: Final = {
    "pcm.wav": "pcm_s24le",
    "flac.flac": "flac",
    "mp3.mp3": "libmp3lame",
    "aac.m4a": "aac",
    "opus.ogg": "libopus",
    "pcm.aif": "pcm_s16be",
    "pcm.caf": "pcm_s16be",
}


def whole_files(folder: Path) -> dict[str, bytes]:
    """A small valid file of each container and kind of picture, by name."""
    files = {}
    for name, options in _MOVIES.items():
        files[name] = movie(folder / name, **{**_SMALL, **options}).read_bytes()
    for name, codec in _SOUNDS.items():
        files[name] = movie(folder / name, **{**_SMALL, "video": None, "audio": codec}).read_bytes()
    return files | _stills() | _renders(folder)


def _rgb() -> NDArray[np.float32]:
    y, x = np.mgrid[0:48, 0:64].astype(np.float32)
    return np.stack([x / 64, y / 48, np.full_like(x, 0.2)], axis=-1)


def _stills() -> dict[str, bytes]:
    import cv2

    small = (_rgb() * 255).astype(np.uint8)
    pictures = {
        "a.png": np.dstack([small, small[:, :, 0]]),
        "deep.png": small.astype(np.uint16) * 257,
        "a.jpg": small,
        "a.tif": small,
        "float.tif": _rgb(),
    }
    return {name: cv2.imencode(name[name.index(".") :], pixels)[1].tobytes() for name, pixels in pictures.items()}


def _renders(folder: Path) -> dict[str, bytes]:
    rgb = _rgb()
    attributes = {
        "framesPerSecond": Fraction(24),
        "timeCode": exr_time_code(24),
        "chromaticities": REC709,
        "oiio:ColorSpace": "ACEScg",
        "colorInteropID": "lin_ap1_scene",
        "Orientation": 6,
        "pixelAspectRatio": 2.0,
    }
    files = {
        f"{compression}.exr": exr_bytes([ExrPart(rgb_channels(rgb), attributes=attributes, compression=compression)])
        for compression in ("none", "zip", "piz", "pxr24", "dwaa", "b44")
    }
    two = [ExrPart(rgb_channels(rgb), name="main"), ExrPart({"Z": rgb[:, :, 0]}, name="depth")]
    files["two.exr"] = exr_bytes(two)
    sizes = [32 >> level for level in range(6)]
    write_mip_exr(folder / "mip.exr", [np.ones((size, size, 3), np.float32) for size in sizes])
    write_deep_exr(folder / "deep.exr", [(0.5, 0.2, 0.1, 0.5, 1.0), (0.1, 0.2, 0.3, 1.0, 2.0)])
    write_luminance_chroma_exr(folder / "yc.exr", rgb[:, :, 0], rgb[::2, ::2, 1], rgb[::2, ::2, 2])
    write_dpx(folder / "a.dpx", rgb, transfer=3, orientation=2, rate=24.0)
    files["a.cin"] = cineon_bytes(rgb[:, :63] * 1023)
    return files | {name: (folder / name).read_bytes() for name in ("mip.exr", "deep.exr", "yc.exr", "a.dpx")}


def mutations(files: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` damaged copies of each file: a third keep their structure, some are cut."""
    for name, data in sorted(files.items()):
        generator = random.Random(f"{seed} {name}")  # noqa: S311 - repeatable, not secret
        for index in range(count):
            if index % 3:
                damaged = mutated(data, generator, reach=512 if index % 3 == 1 else len(data))
            else:
                damaged = overwritten(data, generator)
            if index % 8 == 7:
                damaged = damaged[: generator.randrange(1, len(damaged) + 1)]
            yield f"{index}.{name}", damaged


def examine(pool: PicturePool, path: Path, settings: PictureSettings, data: bytes) -> str:
    """How a file of these bytes at `path` is taken: `accepted`, or the reason of its rejection."""
    path.write_bytes(data)
    timeout = settings.worker_timeout_seconds
    try:
        if plays(path.name):
            media = pool.call(probe_media, path.name, timeout, str(path), path.name).result()
            target = str(path.with_suffix(".proxy"))
            whole = pool.call(
                render_media,
                path.name,
                timeout,
                str(path),
                path.name,
                media,
                thumbnail=True,
                proxy_path=target,
                settings=settings,
            )
            whole.result()
        else:
            if category_of(path.name) == "still":
                pool.call(inspect_still, path.name, timeout, str(path), _source(path, data)).result()
            pool.submit(str(path), path.name).result()
    except BadInputError as error:
        return error.reason
    except RetryableError as error:
        return f"{RETRYABLE}{error}"
    finally:
        path.unlink()
        path.with_suffix(".proxy").unlink(missing_ok=True)
    return "accepted"


def _source(path: Path, data: bytes) -> SourceFile:
    return SourceFile(Location("file", "", str(path)), len(data), datetime(2026, 4, 2, tzinfo=UTC))


def main() -> None:
    """Judge what the command asks for; print the findings, and how many were taken how."""
    parser = argparse.ArgumentParser(description="Judge damaged movies, sounds and pictures.")
    parser.add_argument("--mutations", type=int, default=50, help="how many damaged copies of each file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="files whose names hold this text")
    parser.add_argument("--keep", type=Path, help="a folder for the files of the findings")
    arguments = parser.parse_args()
    settings = PictureSettings.from_settings(Settings(workers=2, worker_timeout_seconds=60))
    started = time.perf_counter()
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, PicturePool(settings) as pool, ThreadPoolExecutor(2) as threads:
        whole = Path(folder) / "whole"
        whole.mkdir()
        files = {name: data for name, data in whole_files(whole).items() if arguments.only in name}

        def judge(case: tuple[str, bytes]) -> None:
            name, data = case
            path = Path(folder) / name
            reason = examine(pool, path, settings, data)
            if UNTYPED.search(reason):
                sys.stdout.write(f"{name}: {reason}\n")
                sys.stdout.flush()
                if arguments.keep:
                    (arguments.keep / name).write_bytes(data)
                outcomes["findings"] += 1
            outcomes["accepted" if reason == "accepted" else "rejected"] += 1

        for _ in threads.map(judge, mutations(files, arguments.mutations, arguments.seed)):
            pass
    sys.stdout.write(json.dumps({**outcomes, "seconds": round(time.perf_counter() - started, 1)}) + "\n")


if __name__ == "__main__":
    main()
