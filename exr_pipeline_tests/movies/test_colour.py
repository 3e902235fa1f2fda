"""Patches of known colours through a movie of a sequence, compared with calculations of others.

Tolerance in 8-bit code values over the middle of a patch: 1 on average and 4 at most, the codec's error at CRF 18.
"""

from pathlib import Path

import av
import numpy as np
import pytest

from exr_pipeline.movies.presets import load_presets
from exr_pipeline.movies.sequence_movie import make_movie
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.movies.frames import InlinePool, sequence_in, settings
from exr_pipeline_tests.pictures.expected import COLOURS, SOURCES, rec1886, rgb_of, viewed
from exr_pipeline_tests.pictures.files import patch_means, patches, write_rgb

DISPLAY = "Rec.1886 Rec.709 - Display"


@pytest.mark.parametrize("view", ["un-tone-mapped", None])
def test_each_frame_of_a_movie_is_shown_by_its_own_source_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str | None
):
    monkeypatch.setattr("exr_pipeline.pictures.pool.WorkerPool", InlinePool)
    folder = tmp_path / "f"
    folder.mkdir()
    for number, (attributes, values, *_) in enumerate(SOURCES, start=1001):
        write_rgb(folder / f"shot.{number}.exr", patches(values), **attributes)
    chosen = settings(tmp_path, ocio=None, ocio_config_path=None, **({"proxy_view": view} if view else {}))
    storage = ObjectStorage(chosen)

    result = make_movie(
        sequence_in(folder, storage), storage, tmp_path / "a.mp4", settings=chosen, preset=load_presets()["review"]
    )

    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = [rgb_of(frame) for frame in container.decode(video=0)]
    assert (result.not_shown, len(frames)) == ({}, len(SOURCES))
    for frame, (*_, rec709, space, _rule) in zip(frames, SOURCES, strict=True):
        expected = rec1886(rec709) if view else viewed("Linear Rec.709 (sRGB)", DISPLAY, rec709)
        error = np.abs(patch_means(frame, len(COLOURS)) - expected)
        assert error.mean() <= 1, (space, error)
        assert error.max() <= 4, (space, error)
