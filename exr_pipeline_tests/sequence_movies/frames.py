"""Tiny sequences whose frames say their own number in stripes, and reading it back."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import numpy as np

from exr_pipeline.sequences import Sequence, resolve_sequence
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.pictures.files import write_rgb

WIDTH, HEIGHT, BITS = 64, 36, 8


class InlinePool:
    """Does a `WorkerPool`'s work in this process, at once: for tests of what is made, not of who makes it."""

    def __init__(self, *, workers: int, memory_mb: int, reads_storage: bool = False) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, function: Any, name: str, timeout: float | None, *args: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        try:
            answer.set_result(function(*args))
        except Exception as error:  # noqa: BLE001 - as a pool hands it on
            answer.set_exception(error)
        return answer


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture with eight stripes, bright for the bits of the number that are set."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    stripes = np.repeat(np.array(bits, np.float32) * 0.5, width // BITS)
    return np.broadcast_to(stripes[np.newaxis, :, np.newaxis], (height, width, 3)).copy()


def number_of(rgb: np.ndarray, low: int = 40) -> int:
    """The number that a picture says, from its upper third (burn-in is at the bottom, marks are thin)."""
    rows = rgb[rgb.shape[0] // 8 : rgb.shape[0] // 3]
    stripes = np.array_split(rows.astype(float).mean(axis=2), BITS, axis=1)
    return sum(int(np.median(stripe) > low) << bit for bit, stripe in enumerate(stripes))


def write_frames(folder: Path, numbers: range | list[int], *, base: int = 1001, **attributes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        write_rgb(folder / f"shot.{base + number}.exr", numbered(number), **attributes)
    return folder


def settings(folder: Path, **changes: object) -> Settings:
    changes = {"workers": 2, "state_dir": folder / "state", "movie_segment_frames": 12, **changes}
    return Settings(_env_file=None, **changes)  # type: ignore[arg-type]


def sequence_in(folder: Path, storage: ObjectStorage) -> Sequence:
    return resolve_sequence(Location("file", "", f"{folder}/".lstrip("/")), storage)


def decoded(path: Path) -> list[np.ndarray]:
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
