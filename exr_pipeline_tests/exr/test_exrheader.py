"""A second opinion: names, types and every value that the OpenEXR project's `exrheader` prints are ours too."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from exr_pipeline.exr import KNOWN_TYPES, Attribute, Header, KeyCode, Rational, TileDescription, parse_header
from exr_pipeline.exr.codec import TYPES
from exr_pipeline_tests.exr.exrheader import VALUELESS, expected, printed
from exr_pipeline_tests.exr.test_parse import corpus_files, needs_corpus
from fuzz.seeds import EXAMPLES, attributes, file_of, headers

# Numbers that the library takes for these; the others take any bits.
BOUNDED: dict[str, Callable[[random.Random], object]] = {
    "compression": lambda generator: generator.randrange(10),
    "envmap": lambda generator: generator.randrange(2),
    "deepImageState": lambda generator: generator.randrange(4),
    "keycode": lambda generator: KeyCode(
        generator.randrange(100),
        generator.randrange(100),
        generator.randrange(1_000_000),
        generator.randrange(10_000),
        generator.randrange(120),
        generator.randrange(1, 16),
        generator.randrange(20, 121),
    ),
    "lineOrder": lambda generator: generator.randrange(3),
    "rational": lambda generator: Rational(generator.randint(-(1 << 31), (1 << 31) - 1), generator.randint(1, 1 << 20)),
    "tiledesc": lambda generator: TileDescription(
        generator.randint(1, 4096), generator.randint(1, 4096), generator.choice([0, 1, 2, 0x11, 0x12])
    ),
}


def attribute_of(kind: str, generator: random.Random) -> Attribute:
    name = f"{generator.choice('aAzZ_')}/{kind}"
    if kind in BOUNDED:
        return Attribute.of(name, kind, BOUNDED[kind](generator))
    if (size := TYPES[kind].size) is not None:
        return Attribute(name, kind, None, generator.randbytes(size))
    return Attribute.of(name, kind, EXAMPLES[kind])


def check(path: Path, header: Header) -> None:
    path.write_bytes(file_of(header))
    assert printed(path) == expected(parse_header(path.read_bytes()))


@pytest.mark.parametrize("name", sorted(headers()))
def test_each_kind_of_file_says_the_same(name: str, tmp_path: Path) -> None:
    check(tmp_path / "a.exr", headers()[name])


@pytest.mark.parametrize("seed", range(20))
def test_any_values_of_every_type_are_the_same(seed: int, tmp_path: Path) -> None:
    generator = random.Random(seed)
    extra = [attribute_of(kind, generator) for kind in sorted(KNOWN_TYPES)]
    check(tmp_path / "a.exr", Header.build([attributes(*extra)]))


def test_it_prints_values_of_all_types_but_a_few() -> None:
    assert {kind for kind in VALUELESS if kind in KNOWN_TYPES} == VALUELESS - {"studio:odd"}
    assert len(KNOWN_TYPES - VALUELESS) == 23


def test_another_value_would_be_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    path.write_bytes(file_of(headers()["every-type"]))
    for kind in KNOWN_TYPES - VALUELESS - {"preview"}:
        header = parse_header(path.read_bytes())
        attribute = header.parts[0].get(f"a_{kind}")
        assert attribute is not None
        raw = bytearray(attribute.raw)
        if kind == "stringvector":
            raw[4] ^= 1
        elif kind in {"box2f", "chromaticities", "double", "float", "m33f", "m44f", "v2f", "v3f"}:
            # The last number's exponent: what is printed has six digits.
            raw[-2] ^= 0x10
        else:
            raw[0] ^= 1
        changed = attribute._replace(raw=bytes(raw))
        listed = [changed if item is attribute else item for item in header.parts[0].attributes]
        assert expected(parse_header(Header.build([listed]).to_bytes())) != printed(path), kind


@needs_corpus
def test_real_files_say_the_same() -> None:
    files = corpus_files(damaged=False)
    assert files
    for path in files:
        assert printed(path) == expected(parse_header(path.read_bytes())), path
