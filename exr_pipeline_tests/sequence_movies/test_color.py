"""Patches of known colors through a movie of a sequence, compared with calculations of others.

Tolerance in 8-bit code values over the middle of a patch: 1 on average and 4 at most, the codec's error at CRF 18.
"""

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from exr_pipeline.sequence_movies.presets import load_presets
from exr_pipeline.sequence_movies.sequence_movie import MovieResult, make_movie
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.cineon_files import write_cineon
from exr_pipeline_tests.pictures.expected import SOURCES, rec1886, rgb_of, viewed
from exr_pipeline_tests.pictures.files import patch_means, patches, write_dpx, write_rgb
from exr_pipeline_tests.sequence_movies.frames import InlinePool, sequence_in, settings

DISPLAY = "Rec.1886 Rec.709 - Display"


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[MovieResult, list[np.ndarray]]:
    """The movie of the folder's sequence, and its frames, decoded."""
    monkeypatch.setattr("exr_pipeline.workers.pool.WorkerPool", InlinePool)
    chosen = settings(folder.parent, ocio=None, ocio_config_path=None, **changes)
    storage = ObjectStorage(chosen)
    target = folder.parent / "a.mp4"
    sequence = sequence_in(folder, storage)
    result = make_movie(sequence, storage, target, settings=chosen, preset=load_presets()["review"])
    with av.open(str(target)) as container:
        return result, [rgb_of(frame) for frame in container.decode(video=0)]


@pytest.mark.parametrize("view", ["un-tone-mapped", None])
def test_each_frame_of_a_movie_is_shown_by_its_own_source_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str | None
) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for number, (attributes, values, *_) in enumerate(SOURCES, start=1001):
        write_rgb(folder / f"shot.{number}.exr", patches(values), **attributes)

    result, frames = made(folder, monkeypatch, **({"proxy_view": view} if view else {}))

    assert (result.not_shown, len(frames)) == ({}, len(SOURCES))
    for frame, (*_, rec709, space, _rule) in zip(frames, SOURCES, strict=True):
        expected = rec1886(rec709) if view else viewed("Linear Rec.709 (sRGB)", DISPLAY, rec709)
        assert_patches(frame, expected, space)


def assert_patches(frame: np.ndarray, expected: np.ndarray, what: str) -> None:
    error = np.abs(patch_means(frame, len(expected)) - expected)
    assert error.mean() <= 1, (what, error)
    assert error.max() <= 4, (what, error)


@pytest.mark.parametrize("format_", ["DPX", "Cineon"])
def test_film_scans_are_shown_as_printing_density(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    codes = np.array([[445, 445, 445], [95, 95, 95], [685, 685, 685], [600, 500, 400]])
    (tmp_path / "f").mkdir()
    for number in (1, 2):
        if format_ == "DPX":
            write_dpx(tmp_path / f"f/scan.{number}.dpx", patches(codes / 1023), transfer=1)
        else:
            write_cineon(tmp_path / f"f/scan.{number}.cin", patches(codes))

    _, frames = made(tmp_path / "f", monkeypatch)

    black = 10 ** ((95 - 685) * 0.002 / 0.6)
    light = (10 ** ((codes - 685) * 0.002 / 0.6) - black) / (1 - black)
    assert len(frames) == 2
    for frame in frames:
        assert_patches(frame, viewed("Linear Rec.709 (sRGB)", DISPLAY, light), format_)


def test_png_frames_are_shown_as_light_of_srgb_and_given_no_view_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = np.array([[128, 128, 128], [255, 255, 255], [30, 90, 200], [220, 120, 40]])
    (tmp_path / "f").mkdir()
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"f/paint.{number}.png"), patches(codes).astype(np.uint8)[..., ::-1])

    _, frames = made(tmp_path / "f", monkeypatch)

    light = np.where(codes / 255 <= 0.04045, codes / 255 / 12.92, ((codes / 255 + 0.055) / 1.055) ** 2.4)
    assert len(frames) == 2
    for frame in frames:
        assert_patches(frame, rec1886(light), "PNG")
