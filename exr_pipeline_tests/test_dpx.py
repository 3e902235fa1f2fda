"""DPX headers: of files that OpenImageIO wrote, and made up byte by byte."""

import os
import random
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import OpenImageIO as Oiio
import pytest

from exr_pipeline.dpx import GENERIC_BYTES, HEADER_BYTES, parse_dpx_header
from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import HeaderError, NeedMoreBytes
from exr_pipeline.frame_rates import nominal_frame_rate

CORPUS = os.environ.get("EXR_PIPELINE_TEST_CORPUS")


def made_up(order: str = ">", **fields: tuple[int, str, object]) -> bytes:
    """A header that is undefined but for the essentials (10-bit RGB, 4x2, filled A) and the fields given."""
    data = bytearray(b"\xff" * HEADER_BYTES)
    data[0:4] = b"SDPX" if order == ">" else b"XPDS"
    essentials: dict[str, tuple[int, str, object]] = {
        "data_offset": (4, "I", HEADER_BYTES),
        "version": (8, "8s", b"V2.0"),
        "elements": (770, "H", 1),
        "width": (772, "I", 4),
        "height": (776, "I", 2),
        "descriptor": (800, "B", 50),
        "transfer": (801, "B", 1),
        "bits": (803, "B", 10),
        "packing": (804, "H", 1),
        "encoding": (806, "H", 0),
    }
    for offset, layout, value in (essentials | fields).values():
        struct.pack_into(order + layout, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize("byte_order", ["big", "little"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_fields_that_openimageio_writes_are_read(byte_order: str, bits: int, tmp_path: Path) -> None:
    path = tmp_path / "a.dpx"
    spec = Oiio.ImageSpec(33, 21, 3, "uint8" if bits == 8 else "uint16")
    spec.attribute("oiio:BitsPerSample", bits)
    spec.attribute("oiio:Endian", byte_order)
    spec.attribute("Software", "the test")
    spec.attribute("dpx:Transfer", "Printing density")
    spec.attribute("dpx:FrameRate", 23.976)
    spec.attribute("dpx:TimeCode", "01:02:03:04")
    spec.attribute("PixelAspectRatio", 2.0)
    output = Oiio.ImageOutput.create(str(path))
    assert output.open(str(path), spec)
    picture = Oiio.ImageBuf(spec)
    assert output.write_image(picture.get_pixels(spec.format))
    output.close()
    data = path.read_bytes()
    parsed = parse_dpx_header(data, file_size=len(data))
    (element,) = parsed.elements
    assert parsed.byte_order == byte_order
    assert (parsed.width, parsed.height) == (33, 21)
    assert (element.descriptor, element.bit_depth, element.encoding) == ("RGB", bits, "none")
    assert element.transfer == "printing density"
    assert element.components == ("R", "G", "B")
    assert parsed.value("creator") == "the test"
    assert parsed.frame_rate == Fraction(24000, 1001)
    assert parsed.time_code is not None
    assert parsed.time_code.to_text() == "01:02:03:04"
    assert parsed.data_offset >= HEADER_BYTES
    with pytest.raises(BadInputError, match="truncated"):
        parse_dpx_header(data, file_size=parsed.data_offset + 33 * 21 * 3 - 1)


@pytest.mark.parametrize("order", [">", "<"])
def test_undefined_fields_are_none(order: str) -> None:
    parsed = parse_dpx_header(made_up(order))
    assert parsed.byte_order == {">": "big", "<": "little"}[order]
    defined = {field.name for field in parsed.fields if field.value is not None}
    assert defined == {"data_offset", "version", "element_count", "width", "height"}
    assert parsed.frame_rate is None
    assert parsed.time_code is None
    assert parsed.orientation is None
    assert parsed.pixel_aspect_ratio is None
    assert parsed.elements[0].colorimetric is None


def test_a_number_made_of_the_undefined_pattern_is_none() -> None:
    garbage = struct.pack(">f", float(0x7F800000))
    parsed = parse_dpx_header(made_up(gamma=(1948, "4s", garbage)))
    assert parsed.value("gamma") is None


def test_the_version_is_read_and_industry_headers_may_be_absent() -> None:
    industry: dict[str, Any] = {
        "industry": (28, "I", 0),
        "data_offset": (4, "I", GENERIC_BYTES),
        "version": (8, "8s", b"V1.0"),
    }
    parsed = parse_dpx_header(made_up(**industry)[:GENERIC_BYTES])
    assert parsed.value("version") == "V1.0"
    assert parsed.value("time_code") is None
    assert "time_code" not in {field.name for field in parsed.fields}


@pytest.mark.parametrize("size", [0, 3, 4, 100, GENERIC_BYTES - 1, GENERIC_BYTES, HEADER_BYTES - 1])
def test_a_truncated_header_says_how_many_bytes_it_needs(size: int) -> None:
    with pytest.raises(NeedMoreBytes) as caught:
        parse_dpx_header(made_up()[:size])
    assert caught.value.needed == (GENERIC_BYTES if size < GENERIC_BYTES else HEADER_BYTES)


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ((770, "H", 9), "unsupported number of image elements: 9"),
        ((770, "H", 0xFFFF), "unsupported number of image elements: undefined"),
        ((772, "I", 0), "the image has no size"),
        ((776, "I", 0xFFFFFFFF), "the image has no size"),
        ((772, "I", 1 << 21), "invalid image size: 2097152x2"),
        ((803, "B", 11), "unsupported bit depth 11"),
        ((800, "B", 77), "descriptor 77"),
        ((808, "I", 100), "data offset points into the header"),
    ],
)
def test_nonsense_is_refused_with_its_place(field: tuple[int, str, object], problem: str) -> None:
    with pytest.raises(HeaderError, match=problem) as caught:
        parse_dpx_header(made_up(field=field))
    assert caught.value.offset == field[0]


def test_a_time_code_that_is_not_decimal_is_none() -> None:
    assert parse_dpx_header(made_up(time_code=(1920, "I", 0x01020304))).time_code is not None
    assert parse_dpx_header(made_up(time_code=(1920, "I", 0x0A020304))).time_code is None


@pytest.mark.parametrize(
    ("stated", "meant"),
    [
        (23.976, "24000/1001"),
        (23.98, "24000/1001"),
        (24.0, "24"),
        (25.0, "25"),
        (29.97, "30000/1001"),
        (59.94, "60000/1001"),
        (12.5, "25/2"),
    ],
)
def test_a_rounded_rate_is_the_one_that_it_stands_for(stated: float, meant: str) -> None:
    assert nominal_frame_rate(stated) == Fraction(meant)


def test_random_bytes_behind_the_magic_raise_nothing_else() -> None:
    generator = random.Random(1)
    for _ in range(3000):
        data = bytearray(made_up(generator.choice("<>")))
        for _ in range(generator.randint(1, 30)):
            data[generator.randrange(4, 1000)] = generator.randrange(256)
        try:
            parsed = parse_dpx_header(bytes(data), file_size=generator.randrange(1, 10_000))
        except BadInputError:
            continue
        assert parsed.width > 0
        assert parsed.frame_rate is None or parsed.frame_rate > 0


@pytest.mark.skipif(CORPUS is None, reason="EXR_PIPELINE_TEST_CORPUS is unset: the DPX sample image is not tested")
def test_the_sample_image_is_read() -> None:
    data = (Path(CORPUS or "") / "dpx" / "dpx_nuke_10bits_rgb.dpx").read_bytes()
    parsed = parse_dpx_header(data, file_size=len(data))
    assert (parsed.width, parsed.height, parsed.value("creator")) == (512, 512, "Nuke")
    assert parsed.elements[0].value("low_quantity") is None
    assert (parsed.elements[0].bit_depth, parsed.elements[0].packing) == (10, "filled A")
