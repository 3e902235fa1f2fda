"""Pictures of Cineon files: code values that are known, and what OpenImageIO would read wrongly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exr_pipeline.errors import BadInputError
from exr_pipeline.pictures.decode.open_source import open_source
from exr_pipeline.pictures.decode.source import Source
from exr_pipeline_tests.cineon_files import changed, cineon_bytes, write_cineon

CODES = np.random.default_rng(1).integers(0, 1024, (20, 64, 3))


def read(path: Path) -> tuple[Source, np.ndarray]:
    source = open_source(str(path), path.name, max_image_mb=64)
    (rows,) = source.placed(0)
    return source, rows.pixels


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("bits", [8, 10, 16])
def test_the_code_values_of_each_channel_are_read_in_both_byte_orders(tmp_path: Path, bits: Any, order: Any) -> None:
    codes = CODES >> 2 if bits == 8 else CODES << (bits - 10)

    source, decoded = read(write_cineon(tmp_path / "x.cin", codes, order, bits=bits, rate=25.0))

    assert (source.layer.kind, source.layer.channels) == ("rgb", ("R", "G", "B"))
    assert source.shown_rate is not None
    assert source.shown_rate.rate == 25
    assert np.abs(decoded * ((1 << bits) - 1) - codes).max() < 0.02


def test_channels_in_another_order_are_shown_as_what_they_are(tmp_path: Path) -> None:
    data = cineon_bytes(CODES)
    for index, code in enumerate((3, 2, 1)):
        data = changed(data, 197 + 28 * index, "B", code)
    (tmp_path / "x.cin").write_bytes(data)

    _, decoded = read(tmp_path / "x.cin")

    assert np.abs(decoded[..., ::-1] * 1023 - CODES).max() < 0.02


def test_one_channel_is_luminance(tmp_path: Path) -> None:
    source, decoded = read(write_cineon(tmp_path / "x.cin", CODES[:, :63, :1]))

    assert source.layer.kind == "luminance"
    assert np.abs(decoded * 1023 - CODES[:, :63, :1]).max() < 0.02


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ((680, "B", 1), "interleaving by line is not supported"),
        ((680, "B", 2), "interleaving by channel is not supported"),
        ((680, "B", 9), "interleaving by unknown is not supported"),
        ((682, "B", 1), "signed samples are not supported"),
        ((684, "I", 16), "line padding is not supported"),
        ((681, "B", 0x85), "damaged pixels, or an unknown packing"),
    ],
)
def test_what_would_be_shown_wrongly_is_refused(tmp_path: Path, field: Any, problem: Any) -> None:
    (tmp_path / "x.cin").write_bytes(changed(cineon_bytes(CODES), *field))

    with pytest.raises(BadInputError, match=rf"^x\.cin: .*{problem}"):
        read(tmp_path / "x.cin")


def test_lines_of_one_channel_that_end_within_a_word_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="end within a word"):
        read(write_cineon(tmp_path / "x.cin", CODES[:, :, :1]))


def test_a_picture_larger_than_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write_cineon(tmp_path / "x.cin", np.zeros((600, 600, 3)))

    with pytest.raises(BadInputError, match="more than the limit of 1 MiB"):
        open_source(str(path), "x.cin", max_image_mb=1)
