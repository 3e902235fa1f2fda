"""Contact sheets and filmstrips, decoded again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exr_pipeline.errors import BadInputError
from exr_pipeline.pictures.still import Size
from exr_pipeline.sequence_movies.sheets import Sheet, contact_sheet, sequence_filmstrip
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.pictures.files import write_rgb
from exr_pipeline_tests.sequence_movies.frames import InlinePool, number_of, sequence_in, settings, write_frames


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exr_pipeline.workers.pool.WorkerPool", InlinePool)


def made(make: Any, folder: Path, **options: Any) -> tuple[Sheet, np.ndarray]:
    import simplejpeg

    chosen = settings(folder.parent)
    storage = ObjectStorage(chosen)
    sheet = make(sequence_in(folder, storage), storage, settings=chosen, **options)
    pixels = simplejpeg.decode_jpeg(sheet.jpeg)
    assert pixels.shape == (sheet.height, sheet.width, 3)
    return sheet, pixels


def test_a_filmstrip_is_cut_into_its_frames_by_its_width(tmp_path: Path) -> None:
    sheet, pixels = made(sequence_filmstrip, write_frames(tmp_path / "f", range(100)), frames=10)
    assert (sheet.columns, sheet.rows, sheet.width) == (10, 1, 10 * sheet.frame_size.width)
    cells = np.split(pixels, 10, axis=1)
    assert [number_of(cell) for cell in cells] == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]
    assert sheet.frames == tuple(str(1001 + number) for number in range(5, 100, 10))


@pytest.mark.parametrize("make", [contact_sheet, sequence_filmstrip])
def test_what_a_viewer_should_know_is_told_with_the_numbers_of_frames(tmp_path: Path, make: Any) -> None:
    folder = write_frames(tmp_path / "f", range(2), colorspace="made up")
    write_rgb(folder / "shot.1003.exr", np.full((18, 32, 3), np.nan, np.float32))
    sheet, _ = made(make, folder)
    (unknown, *others) = sorted(sheet.warnings, key=lambda warning: "made up" not in warning)
    assert "'made up'" in unknown
    assert unknown.endswith("(frames 1001, 1002)")
    assert sorted(others) == [
        "32x18 pixels instead of 64x36: scaled to the size of the first frame (frame 1003)",
        "NaN or infinite pixels were replaced (frame 1003)",
    ]


def test_a_sheet_says_how_it_was_made(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", range(2))
    sheet, _ = made(contact_sheet, folder)
    strip, _ = made(sequence_filmstrip, folder)
    assert (sheet.encoder, strip.encoder) == (
        "libjpeg-turbo, quality 88, 4:4:4",
        "libjpeg-turbo, quality 85, 4:2:0",
    )
    assert sheet.provenance.library_versions == strip.provenance.library_versions
    assert {"OpenColorIO", "OpenImageIO", "simplejpeg"} <= set(sheet.provenance.library_versions)


def test_a_filmstrip_of_few_frames_has_no_more(tmp_path: Path) -> None:
    sheet, _ = made(sequence_filmstrip, write_frames(tmp_path / "f", range(3)))
    assert sheet.columns == 3


def test_a_contact_sheet_is_a_grid_in_order_within_its_size(tmp_path: Path) -> None:
    sheet, pixels = made(contact_sheet, write_frames(tmp_path / "f", range(7)), size=Size(220, 200))
    assert (sheet.columns, sheet.rows) == (3, 3)
    assert sheet.width <= 220
    assert sheet.height <= 200
    width, height = sheet.frame_size
    numbers = []
    for index in range(7):
        row, column = divmod(index, 3)
        top, left = 4 + row * (height + 4), 4 + column * (width + 4)
        numbers.append(number_of(pixels[top : top + height, left : left + width]))
    assert numbers == list(range(7))
    assert len(sheet.preview_jpeg) < len(sheet.jpeg)


@pytest.mark.parametrize("make", [contact_sheet, sequence_filmstrip])
def test_missing_and_damaged_frames_are_crossed_out(tmp_path: Path, make: Any) -> None:
    folder = write_frames(tmp_path / "f", [0, 2, 3])
    (folder / "shot.1003.exr").write_text("not an image")
    sheet, pixels = made(make, folder)
    assert sheet.frames == ("1001", "1002", "1003", "1004")
    assert sheet.not_shown["1002"] == "missing"
    assert "1003" in sheet.not_shown
    red = pixels[..., 0].astype(int) - pixels[..., 1:].max(axis=2)
    assert red.max() > 100


def test_a_sequence_without_a_good_frame_is_bad_input(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", range(2))
    for path in folder.iterdir():
        path.write_text("not an image")
    with pytest.raises(BadInputError, match="none of the selected frames can be decoded, frame 1001"):
        made(contact_sheet, folder)
