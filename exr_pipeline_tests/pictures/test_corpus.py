"""Real files: those of the OpenEXR project's image collection, damaged ones among them."""

import os
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from exr_pipeline.errors import BadInputError
from exr_pipeline.pictures import PicturePool
from exr_pipeline.pictures.render import render_picture
from exr_pipeline_tests.pictures.files import picture_settings

CORPUS = os.environ.get("EXR_PIPELINE_TEST_CORPUS")
pytestmark = pytest.mark.skipif(
    CORPUS is None, reason="EXR_PIPELINE_TEST_CORPUS is not set: pictures of real files are NOT tested"
)


def thumbnail(name: str, **settings: object) -> np.ndarray:
    path = Path(CORPUS or "") / name
    pictures = render_picture(str(path), name, thumbnail=True, proxy=False, settings=picture_settings(**settings))
    return simplejpeg.decode_jpeg(pictures.thumbnail.data).astype(int)


def test_every_file_has_a_picture_or_a_reason() -> None:
    files = sorted(path for path in Path(CORPUS or "").rglob("*") if path.is_file())
    with PicturePool(picture_settings()) as pool:
        futures = {path: pool.submit(str(path), path.name, proxy=False) for path in files}

    outcomes = {path: future.exception() for path, future in futures.items()}
    assert {type(error) for error in outcomes.values() if not isinstance(error, BadInputError)} == {type(None)}
    broken = [path for path, error in outcomes.items() if error and path.suffix in {".exr", ".dpx"}]
    assert broken == []


def test_the_same_picture_in_rec709_luminance_chroma_and_xyz_looks_the_same() -> None:
    of_rec709 = thumbnail("Chromaticities/Rec709.exr")
    of_chroma = thumbnail("Chromaticities/Rec709_YC.exr")
    of_xyz = thumbnail("Chromaticities/XYZ.exr")

    assert np.abs(of_rec709 - of_xyz).mean() < 1
    assert np.abs(of_rec709 - of_chroma).mean() < 3


def test_stereo_files_show_the_same_view_in_one_part_and_in_many() -> None:
    assert np.array_equal(thumbnail("Beachball/multipart.0001.exr"), thumbnail("Beachball/singlepart.0001.exr"))
