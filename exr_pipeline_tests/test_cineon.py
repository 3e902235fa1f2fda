"""Cineon headers: field by field against what OpenImageIO reads of them, and damaged."""

import random
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenImageIO as Oiio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exr_pipeline.cineon import GENERIC_BYTES, HEADER_BYTES, parse_cineon_header
from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import HeaderError, NeedMoreBytes
from exr_pipeline.inspection import inspect_bytes
from exr_pipeline_tests.cineon_files import changed, cineon_bytes
from exr_pipeline_tests.inspection.files import source

CODES = np.arange(4 * 2 * 3).reshape(2, 4, 3)
GOOD = cineon_bytes(CODES)


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("bits", [8, 10, 16])
def test_fields_are_those_that_openimageio_reads(order: str, bits: int, tmp_path: Path) -> None:
    data = cineon_bytes(CODES, order, bits=bits, rate=23.976)
    path = tmp_path / "a.cin"
    path.write_bytes(data)
    opened = Oiio.ImageInput.open(str(path))
    spec = opened.spec()
    parsed = parse_cineon_header(data, file_size=len(data))

    assert parsed.byte_order == {">": "big", "<": "little"}[order]
    assert (parsed.width, parsed.height, parsed.bit_depth) == (spec.width, spec.height, bits)
    assert spec.getattribute("cineon:BitDepth") == (bits,) * 3
    assert parsed.components == tuple(spec.channelnames)
    assert parsed.value("version") == spec.getattribute("cineon:Version")
    assert parsed.value("label") == spec.getattribute("cineon:LabelText")
    assert parsed.value("source_file_name") == spec.getattribute("cineon:SourceImageFileName")
    assert parsed.value("input_device") == spec.getattribute("cineon:InputDevice")
    assert parsed.value("input_device_serial") == spec.getattribute("cineon:InputDeviceSerialNumber")
    assert parsed.value("frame_position") == spec.getattribute("cineon:FramePosition")
    assert parsed.value("film_frame_rate") == pytest.approx(spec.getattribute("cineon:FrameRate"))
    assert parsed.value("film_format") == spec.getattribute("cineon:Format")
    assert parsed.value("slate_information") == spec.getattribute("cineon:SlateInfo")
    code = "{film_manufacturer:02}{film_type:02}{film_perforation_offset:02}{film_prefix:06}{film_count:04}"
    stated = code.format(**{field.name: field.value for field in parsed.fields})
    assert stated == spec.getattribute("cineon:FilmEdgeCode") == "0217041234560789"
    assert f"{parsed.value('source_date')} {parsed.value('source_time')}" == spec.getattribute("DateTime")
    assert (parsed.frame_rate, parsed.interleave) == (Fraction(24000, 1001), "pixel")
    green = [field.value for field in parsed.elements[1]]
    assert green == [0, 2, bits, 4, 2, 0, 0, (1 << bits) - 1, pytest.approx(2.046)]


def test_undefined_fields_are_none() -> None:
    parsed = parse_cineon_header(GOOD)
    undefined = {field.name for field in parsed.fields if field.value is None}
    primaries = {f"{color}_primary_{axis}" for color in ("red", "green", "blue") for axis in "xy"}
    assert undefined == primaries | {"white_point_x", "white_point_y", "x_device_pitch", "y_device_pitch", "x_offset"}
    assert parsed.value("y_offset") == 3


def test_a_file_without_a_film_header_lacks_its_fields() -> None:
    data = cineon_bytes(CODES, film=False)
    parsed = parse_cineon_header(data[:GENERIC_BYTES], file_size=len(data))
    assert "film_frame_rate" not in {field.name for field in parsed.fields}
    assert (parsed.frame_rate, parsed.shown_rate) == (None, None)


@pytest.mark.parametrize("size", [0, 3, 4, 100, GENERIC_BYTES - 1, GENERIC_BYTES, HEADER_BYTES - 1])
def test_a_truncated_header_says_how_many_bytes_it_needs(size: int) -> None:
    with pytest.raises(NeedMoreBytes) as caught:
        parse_cineon_header(GOOD[:size])
    assert caught.value.needed == (GENERIC_BYTES if size < GENERIC_BYTES else HEADER_BYTES)


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ((193, "B", 9), "unsupported number of image elements: 9"),
        ((193, "B", 0), "unsupported number of image elements: 0"),
        ((193, "B", 255), "unsupported number of image elements: undefined"),
        ((200, "I", 0), "image element 0 has no size"),
        ((204, "I", 0xFFFFFFFF), "image element 0 has no size"),
        ((200, "I", 1 << 21), "invalid image size: 2097152x2"),
        ((198, "B", 11), "unsupported bit depth 11"),
        ((228, "I", 5), "differs from the first in size or bit depth"),
        ((4, "I", 100), "data offset points into the header"),
        ((4, "I", 0xFFFFFFFF), "data offset points into the header"),
    ],
)
def test_nonsense_is_refused_with_its_place(field: tuple[int, str, object], problem: str) -> None:
    with pytest.raises(HeaderError, match=problem) as caught:
        parse_cineon_header(changed(GOOD, *field))
    assert caught.value.offset in {field[0], 228 - 4}


def test_a_file_that_is_shorter_than_its_picture_is_truncated() -> None:
    data = cineon_bytes(np.zeros((30, 40, 3)))
    with pytest.raises(HeaderError, match="truncated") as caught:
        parse_cineon_header(data[:-400], file_size=len(data) - 400)
    assert caught.value.offset == len(data) - 400


def test_random_bytes_behind_the_magic_raise_nothing_else() -> None:
    generator = random.Random(1)
    for _ in range(500):
        data = GOOD[:4] + generator.randbytes(HEADER_BYTES)
        try:
            parse_cineon_header(data, file_size=len(data))
        except BadInputError:
            continue


@given(st.lists(st.tuples(st.integers(4, HEADER_BYTES - 1), st.integers(0, 255)), max_size=12), st.sampled_from("><"))
def test_a_damaged_header_is_refused_or_makes_sense(changes: list[tuple[int, int]], order: str) -> None:
    data = bytearray(cineon_bytes(CODES, order))
    for offset, value in changes:
        data[offset] = value
    try:
        inspection = inspect_bytes(bytes(data), source("a.cin", size=len(data)))
    except BadInputError:
        return
    (part,) = inspection.parts
    assert 0 < part.display_window.width * part.display_window.height * len(part.channels) <= 8 * len(data)
    assert part.frame_rate is None or Fraction(part.frame_rate) > 0


def test_what_a_header_says_becomes_facts() -> None:
    inspection = inspect_bytes(GOOD, source("a.1001.cin", size=len(GOOD)))
    (part,) = inspection.parts
    assert (inspection.format, part.type, part.compression) == ("cineon", "cineon", "none")
    assert part.line_order == "increasingY"
    assert [(channel.name, channel.type) for channel in part.channels] == [(name, "UINT10") for name in "RGB"]
    assert (part.display_window.width, part.display_window.height, part.frame_rate) == (4, 2, "24/1")
    assert {"label", "film_prefix", "element2.high_quantity"} <= {attribute.name for attribute in part.attributes}


def test_the_hash_of_a_header_is_that_of_its_make_up() -> None:
    def hashed(data: bytes) -> str:
        return inspect_bytes(data, source("a.1001.cin", size=len(data))).header_hash

    assert hashed(GOOD) == hashed(changed(GOOD, 1068, "I", 8))
    assert len({hashed(GOOD), hashed(changed(GOOD, 192, "B", 2)), hashed(cineon_bytes(CODES, "<"))}) == 3


@pytest.mark.parametrize(("designators", "names"), [((1, 2, 2), ""), ((0, 200, 3), ""), ((4, 5, 6), "RGB")])
def test_channels_that_cannot_be_told_apart_are_numbered(designators: tuple[int, ...], names: str) -> None:
    data = GOOD
    for index, code in enumerate(designators):
        data = changed(data, 197 + 28 * index, "B", code)
    expected = tuple(names) if names else tuple(f"component{index}" for index in range(3))
    assert parse_cineon_header(data).components == expected


def test_a_rate_of_almost_nothing_is_no_rate() -> None:
    assert parse_cineon_header(changed(GOOD, 1072, "f", 1e-9)).frame_rate is None
    assert parse_cineon_header(changed(GOOD, 1072, "4s", struct.pack(">f", float("inf")))).frame_rate is None
