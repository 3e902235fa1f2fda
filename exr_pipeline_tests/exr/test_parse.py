"""Parsing: nothing is lost, and no bytes do anything worse than raise `HeaderError`."""

import os
import pickle
import random
import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import (
    KNOWN_TYPES,
    MAX_HEADER_BYTES,
    Attribute,
    Channel,
    Header,
    HeaderError,
    NeedMoreBytes,
    codec,
    parse,
    parse_header,
    validate,
    validate_chunk_offsets,
)
from exr_pipeline_tests.exr.headers import VALUES, any_header, header
from fuzz.mutations import mutated
from fuzz.oracle import examine

CORPUS = os.environ.get("EXR_PIPELINE_TEST_CORPUS")
needs_corpus = pytest.mark.skipif(
    CORPUS is None, reason="EXR_PIPELINE_TEST_CORPUS is unset: the OpenEXR sample images are not tested"
)


def corpus_files(*, damaged: bool) -> list[Path]:
    files = (path for path in Path(CORPUS or "").rglob("*exr") if path.is_file())
    return sorted(path for path in files if ("Damaged" in path.parts) == damaged)


def test_the_generated_headers_cover_every_type_of_the_format() -> None:
    assert set(VALUES) - {"studio:custom"} == KNOWN_TYPES


@given(any_header, st.binary(max_size=20))
def test_any_header_comes_back_with_its_values_and_its_bytes(built: Header, pixels: bytes) -> None:
    data = built.to_bytes()
    parsed = parse_header(data + pixels)
    assert parsed == built
    assert parsed.to_bytes() == data
    assert parsed.size == len(data)


def test_what_was_parsed_before_changes_nothing() -> None:
    same_names = [Attribute.of("a", "int", 1), Attribute.of("b", "string", "x"), Attribute.of("c", "float", 1.0)]
    others = [
        header(*same_names),
        header(*same_names[::-1]),
        header(Attribute.of("a", "string", "y"), Attribute.of("b", "int", 2)),
        header(Attribute.of("ab", "int", 3), Attribute("a", "int2", b"12", b"12"), Attribute.of("b", "string", "")),
        header(),
    ]
    for first in others:
        for second in others:
            parse_header(first.to_bytes())
            assert parse_header(second.to_bytes()) == second


def test_names_of_attributes_and_channels_are_kept_for_the_next_header_up_to_a_number() -> None:
    for start in range(0, 10_000, 500):
        names = [f"name{number}" for number in range(start, start + 500)]
        built = header(
            *(Attribute.of(name, "int", 1) for name in names),
            Attribute.of("more", "chlist", tuple(Channel(name, "HALF") for name in names)),
        )
        assert parse_header(built.to_bytes()) == built

    assert len(parse._heads) == parse._MOST_HEADS
    assert len(codec._channels) == codec._MOST_CHANNELS


@given(any_header, st.data())
def test_a_truncated_header_says_how_many_bytes_it_needs(built: Header, draw: st.DataObject) -> None:
    data = built.to_bytes()
    cut = draw.draw(st.integers(0, len(data) - 1))
    with pytest.raises(NeedMoreBytes) as caught:
        parse_header(data[:cut], name="a.exr")
    assert cut < caught.value.needed <= len(data) or len(data) == 8
    assert caught.value.name == "a.exr"


def test_reading_what_is_asked_for_takes_as_many_reads_as_there_are_values_at_most() -> None:
    data = header(Attribute.of("manifest", "string", "m" * 500_000)).to_bytes()
    available, reads = 64, 0
    while True:
        try:
            parse_header(data[:available])
            break
        except NeedMoreBytes as error:
            available = max(error.needed, available + 64)
            reads += 1
    assert available <= len(data) + 64
    assert reads < 15


def test_the_bytes_needed_inside_a_long_value_are_exact() -> None:
    data = header(Attribute.of("manifest", "string", "m" * 500_000)).to_bytes()
    with pytest.raises(NeedMoreBytes) as caught:
        parse_header(data[:65536])
    assert caught.value.needed == len(data)


def test_errors_survive_pickling_with_what_they_know() -> None:
    for error in (HeaderError("a.exr", "odd", 17), NeedMoreBytes("a.exr", 9, 90)):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (copy.name, copy.reason, copy.offset) == (error.name, error.reason, error.offset)
        assert isinstance(copy, BadInputError)
        assert f"byte {error.offset}" in copy.reason
    assert pickle.loads(pickle.dumps(NeedMoreBytes("a.exr", 9, 90))).needed == 90


def damaged(change: bytes, at: int) -> bytes:
    data = bytearray(header().to_bytes())
    data[at : at + len(change)] = change
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "offset", "problem"),
    [
        (b"GIF89a", 0, "not an EXR file"),
        (damaged(b"\x03", 4), 4, "version 3"),
        (damaged(b"\0", 17), 17, "has no type"),
        (damaged(struct.pack("<i", -1), 24), 24, "declares -1 bytes"),
        (damaged(struct.pack("<i", 1 << 30), 24), 24, "longer than"),
        (b"\x76\x2f\x31\x01\x02\0\0\0" + b"n" * 256, 8, "longer than 255"),
        (b"\x76\x2f\x31\x01\x02\0\0\0f\0float\0\x05\0\0\0", 16, "declares 5 bytes"),
        (b"\x76\x2f\x31\x01\x02\0\0\0p\0preview\0\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0", 22, "preview"),
        (b"\x76\x2f\x31\x01\x02\0\0\0s\0stringvector\0\x04\0\0\0\xff\xff\xff\xff\0", 27, "string longer"),
        (b"\x76\x2f\x31\x01\x02\0\0\0c\0chlist\0\x03\0\0\0R\0\0\0", 22, "truncated"),
        (b"\x76\x2f\x31\x01\x02\0\0\0c\0chlist\0\x02\0\0\0\0\0\0", 22, "extra bytes after the channel list"),
    ],
)
def test_damage_is_reported_with_its_place(data: bytes, offset: int, problem: str) -> None:
    with pytest.raises(HeaderError, match=problem) as caught:
        parse_header(data)
    assert not isinstance(caught.value, NeedMoreBytes)
    assert caught.value.offset == offset


def test_text_that_is_not_utf_8_is_kept() -> None:
    raw = b"caf\xe9"
    parsed = parse_header(Header.build([[Attribute("n\udcff", "string", "", raw)]]).to_bytes())
    attribute = parsed.parts[0].attributes[0]
    assert attribute.raw == raw
    assert attribute.value.encode("utf-8", "surrogateescape") == raw
    assert attribute.name.encode("utf-8", "surrogateescape") == b"n\xff"


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(b"\x76\x2f\x31\x01\x02\0\0\0" + b"a\0b\0\0\0\0\0" * 2_000_000, id="attributes"),
        pytest.param(b"\x76\x2f\x31\x01\x02\x10\0\0" + b"a\0b\0\0\0\0\0\0" * 1_800_000, id="parts"),
        pytest.param(
            b"\x76\x2f\x31\x01\x02\0\0\0" + Attribute("s", "stringvector", (), b"\x02\0\0\0ab" * 2_600_000).to_bytes(),
            id="strings",
        ),
        pytest.param(
            b"\x76\x2f\x31\x01\x02\0\0\0" + Attribute("f", "floatvector", (), bytes(4 * 200_000)).to_bytes() * 20,
            id="float vectors",
        ),
        pytest.param(
            b"\x76\x2f\x31\x01\x02\0\0\0"
            + Attribute.of("c", "chlist", (Channel("R", "HALF"),) * 60_000).to_bytes() * 14,
            id="channels",
        ),
        pytest.param(b"\x76\x2f\x31\x01\x02\0\0\0" + b"a\0b\0\xff\xff\xff\0" + bytes(16 << 20), id="bytes"),
    ],
)
def test_a_header_of_too_many_things_is_refused_in_bounded_memory(flood: bytes) -> None:
    assert len(flood) <= MAX_HEADER_BYTES + 100
    tracemalloc.start()
    try:
        with pytest.raises(HeaderError) as caught:
            parse_header(flood)
        assert not isinstance(caught.value, NeedMoreBytes)
        assert tracemalloc.get_traced_memory()[1] < 150e6
    finally:
        tracemalloc.stop()


@settings(max_examples=200)
@given(any_header, st.randoms(use_true_random=False))
def test_mutated_headers_of_all_types_never_raise_anything_else(built: Header, generator: random.Random) -> None:
    examine(mutated(built.to_bytes(), generator))


def test_attributes_written_by_the_openexr_library_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    stored = {
        "aBytes": OpenEXR.Bytes(b"\x00\x01", "image/odd"),
        "aFloat": 1.5,
        "aInt": -7,
        "aKeyCode": OpenEXR.KeyCode(1, 2, 3, 4, 5, 6, 20),
        "aRational": Fraction(24000, 1001),
        "aString": "häppi",
        "aStrings": ["left", "right"],
        "aTimeCode": OpenEXR.TimeCode(12, 34, 56, 7, *[0] * 14),
    }
    OpenEXR.File(dict(stored), {"RGB": np.zeros((5, 7, 3), np.float16), "Z": np.ones((5, 7), np.float32)}).write(
        str(path)
    )
    data = path.read_bytes()
    parsed = parse_header(data)
    (part,) = parsed.parts
    assert parsed.to_bytes() == data[: parsed.size]
    assert [(channel.name, channel.type) for channel in part.channels] == [
        ("B", "HALF"),
        ("G", "HALF"),
        ("R", "HALF"),
        ("Z", "FLOAT"),
    ]
    assert part.value("aBytes") == ("image/odd", b"\x00\x01")
    assert part.value("aFloat") == 1.5
    assert part.value("aInt") == -7
    assert part.value("aKeyCode") == (1, 2, 3, 4, 5, 6, 20)
    assert part.value("aRational").to_text() == "24000/1001"
    assert part.value("aString") == "häppi"
    assert part.value("aStrings") == ("left", "right")
    assert part.value("aTimeCode").to_text() == "12:34:56:07"
    assert part.data_window == (0, 0, 6, 4)
    assert part.data_window is not None
    assert (part.data_window.width, part.data_window.height) == (7, 5)


@needs_corpus
def test_every_sample_image_comes_back_byte_for_byte_without_an_error() -> None:
    files = corpus_files(damaged=False)
    assert files
    for path in files:
        data = path.read_bytes()
        parsed = parse_header(data, name=path.name)
        assert parsed.to_bytes() == data[: parsed.size], path
        findings = validate(parsed, file_size=len(data))
        findings += validate_chunk_offsets(parsed, data, file_size=len(data))
        assert [finding for finding in findings if finding.severity == "error"] == [], path


@pytest.mark.parametrize(
    ("name", "layer", "component"),
    [("R", "", "R"), ("R.", "", "R"), ("a.b.R", "a.b", "R"), ("a.R.", "a", "R"), (".R", "", "R"), ("..", "", "..")],
)
def test_a_dot_at_the_end_of_a_channels_name_makes_no_layer(name: str, layer: str, component: str) -> None:
    assert (Channel(name, "HALF").layer, Channel(name, "HALF").component) == (layer, component)


def test_odd_bytes_of_a_name_are_spelled_as_bytes_in_the_reason() -> None:
    data = header().to_bytes()
    start = data.index(b"pixelAspectRatio")
    odd = data[:start] + b"caf\xdd\0float\0\xff\xff\xff\x7f" + data[start:]

    with pytest.raises(BadInputError) as error:
        parse_header(odd, name="x.exr")

    assert r"attribute 'caf\xdd' of type 'float' declares 2147483647 bytes" in error.value.reason
