"""Damaged movies, sounds and pictures in worker processes: pictures, or a reason of ours. `fuzz.media` tries more."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.errors import BadInputError
from exr_pipeline.footage.probe import probe_media
from exr_pipeline.pictures import PicturePool
from exr_pipeline_tests.footage.made import movie
from exr_pipeline_tests.pictures.files import picture_settings
from fuzz.media import UNTYPED, examine, mutations, whole_files


@pytest.mark.usefixtures("lasting_workers")
def test_damaged_files_of_every_container_are_shown_or_rejected_with_a_reason(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    files = whole_files(whole)
    settings = picture_settings()
    with PicturePool(settings) as pool:
        for name, data in files.items():
            assert examine(pool, whole / name, settings, data) == "accepted", name
        for name, data in mutations(files, 1, seed=7):
            reason = examine(pool, tmp_path / name, settings, data)
            assert not UNTYPED.search(reason), f"{name}: {reason}"


@pytest.mark.parametrize(
    ("name", "options", "tag"),
    [
        ("a.mp4", {"audio": None}, b"avc1"),
        ("a.avi", {"video": "mpeg4", "audio": None}, b"FMP4"),
        ("sound.mov", {"video": None, "audio": "pcm_s16le"}, b"sowt"),
    ],
)
def test_a_stream_of_an_unknown_codec_is_bad_input(
    tmp_path: Path, name: str, options: dict[str, Any], tag: bytes
) -> None:
    path = movie(tmp_path / name, frames=3, **options)
    data = path.read_bytes()
    assert tag in data
    path.write_bytes(data.replace(tag, b"zzzz"))
    with pytest.raises(BadInputError, match=r"stream 0 has an unknown codec|neither pictures nor sound"):
        probe_media(str(path), name)


def test_streams_that_come_up_only_while_reading_are_read(tmp_path: Path) -> None:
    # An FLV has no list of streams: the sound is the first that is seen.
    path = movie(tmp_path / "a.flv", video="flv", frames=24, rate=Fraction(24))
    assert {stream.type: stream.frame_count for stream in probe_media(str(path), "a.flv").streams} == {
        "audio": None,
        "video": 24,
    }
