"""Validation: each kind of nonsense is found, and what the OpenEXR library writes has no findings."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import OpenImageIO as Oiio
import pytest

from exr_pipeline.exr import (
    Attribute,
    Box2i,
    Channel,
    Finding,
    Header,
    HeaderError,
    TileDescription,
    chunk_count,
    levels,
    parse_header,
    refuse,
    uncompressed_bytes,
    validate,
    validate_chunk_offsets,
)
from exr_pipeline_tests.exr.headers import attributes, header

TILED = {"type": "tiledimage", "tiles": TileDescription(16, 16, 1)}


def test_a_plain_header_has_no_findings() -> None:
    assert validate(header()) == []
    assert validate(header(**TILED)) == []


@pytest.mark.parametrize(
    ("changes", "code", "severity", "attribute"),
    [
        ({"channels": None}, "missing-attribute", "error", "channels"),
        ({"compression": None}, "missing-attribute", "error", "compression"),
        ({"dataWindow": None}, "missing-attribute", "error", "dataWindow"),
        ({"displayWindow": None}, "missing-attribute", "error", "displayWindow"),
        ({"screenWindowWidth": None}, "missing-attribute", "warning", "screenWindowWidth"),
        ({"type": "tiledimage"}, "missing-attribute", "error", "tiles"),
        ({"type": "deepscanline", "compression": 0}, "missing-attribute", "error", "chunkCount"),
        ({"compression": 14}, "unknown-code", "error", "compression"),
        ({"lineOrder": 3}, "unknown-code", "warning", "lineOrder"),
        ({"lineOrder": 2}, "line-order", "warning", "lineOrder"),
        ({"pixelAspectRatio": 0.0}, "pixel-aspect-ratio", "error", "pixelAspectRatio"),
        ({"pixelAspectRatio": float("nan")}, "pixel-aspect-ratio", "error", "pixelAspectRatio"),
        ({"screenWindowWidth": -1.0}, "screen-window", "error", "screenWindowWidth"),
        ({"dataWindow": Box2i(0, 0, -1, 5)}, "empty-window", "error", "dataWindow"),
        ({"displayWindow": Box2i(0, 9, 5, 5)}, "empty-window", "error", "displayWindow"),
        ({"dataWindow": Box2i(0, 0, 2_000_000, 5)}, "absurd-window", "error", "dataWindow"),
        ({"dataWindow": Box2i(0, 0, 999_999, 999_999)}, "absurd-window", "error", "dataWindow"),
        ({"dataWindow": Box2i(1 << 30, 0, (1 << 30) + 4, 5)}, "absurd-window", "error", "dataWindow"),
        ({"channels": ()}, "no-channels", "error", "channels"),
        ({"channels": (Channel("A", "HALF"), Channel("A", "HALF"))}, "duplicate-channel", "error", "channels"),
        ({"channels": (Channel("B", "HALF"), Channel("A", "HALF"))}, "channel-order", "warning", "channels"),
        ({"channels": (Channel("A", "TYPE_9"),)}, "unknown-pixel-type", "error", "channels"),
        ({"channels": (Channel("A", "HALF", x_sampling=0),)}, "sampling", "error", "channels"),
        ({"channels": (Channel("A", "HALF", y_sampling=3),)}, "sampling", "error", "channels"),
        ({**TILED, "channels": (Channel("A", "HALF", x_sampling=2),)}, "sampling", "error", "channels"),
        ({**TILED, "tiles": TileDescription(0, 16)}, "tile-size", "error", "tiles"),
        ({**TILED, "tiles": TileDescription(16, 16, 3)}, "tile-mode", "error", "tiles"),
        ({**TILED, "tiles": TileDescription(16, 16, 0x21)}, "tile-mode", "error", "tiles"),
        ({"chunkCount": 3}, "chunk-count", "error", "chunkCount"),
        ({"type": "voxels"}, "type-mismatch", "warning", "type"),
        ({"type": "deepscanline", "chunkCount": 2}, "deep-compression", "error", "compression"),
    ],
)
def test_nonsense_is_found(changes: dict[str, Any], code: str, severity: str, attribute: str) -> None:
    findings = validate(header(**changes))
    assert (code, severity, 0, attribute) in {
        (finding.code, finding.severity, finding.part_index, finding.attribute) for finding in findings
    }
    assert [finding.severity for finding in findings] == sorted(finding.severity for finding in findings)


def test_a_standard_attribute_of_another_type_is_an_error_and_not_a_value() -> None:
    parsed = header(Attribute.of("dataWindow", "string", "everything"), dataWindow=None)
    assert parsed.parts[0].data_window is None
    assert "wrong-type" in {finding.code for finding in validate(parsed)}


def test_duplicate_and_long_names_are_warnings() -> None:
    extra = Attribute.of("n" * 40, "int", 1)
    built = Header.build([attributes(extra, extra)], flags=0)
    assert {(finding.code, finding.severity) for finding in validate(built)} == {
        ("duplicate-attribute", "warning"),
        ("long-name", "warning"),
    }
    assert Header.build([attributes(extra)]).has_long_names


def test_unknown_flags_are_an_error() -> None:
    assert validate(Header.build([attributes()], flags=0x8000))[0].code == "unknown-flags"


def test_parts_need_names_of_their_own_types_and_counts() -> None:
    part = {"type": "scanlineimage", "chunkCount": 2}
    assert validate(Header.build([attributes(name="a", **part), attributes(name="b", **part)])) == []
    twice = validate(Header.build([attributes(name="a", **part), attributes(name="a", **part)]))
    assert [(finding.code, finding.part_index) for finding in twice] == [("duplicate-part", 1)]
    bare = validate(Header.build([attributes(name="a", **part), attributes()]))
    assert {finding.attribute for finding in bare} == {"name", "type", "chunkCount"}
    window = {"displayWindow": Box2i(0, 0, 9, 9)}
    shared = validate(Header.build([attributes(name="a", **part), attributes(name="b", **part, **window)]))
    assert [(finding.code, finding.severity) for finding in shared] == [("shared-attribute", "warning")]
    assert validate(Header.build([]))[0].code == "no-parts"


def test_a_file_too_short_for_its_offset_table_is_truncated() -> None:
    built = header(dataWindow=Box2i(0, 0, 63, 999_999))
    assert validate(built, file_size=None) == []
    (finding,) = validate(built, file_size=built.size + 8 * 62_500 - 1)
    assert (finding.code, finding.severity) == ("truncated", "error")


def test_a_file_too_short_for_its_raw_pixels_is_truncated() -> None:
    built = header(compression=0)
    needed = built.size + 32 * (8 + 8) + 64 * 32 * 3 * 2
    assert validate(built, file_size=needed) == []
    assert validate(built, file_size=needed - 1)[0].code == "truncated"


def test_levels_and_their_pixels_are_counted_as_the_format_says() -> None:
    part = header(type="tiledimage", tiles=TileDescription(4, 4, 1), dataWindow=Box2i(0, 0, 14, 16)).parts[0]
    assert list(levels(part)) == [(15, 17), (7, 8), (3, 4), (1, 2), (1, 1)]
    part = header(type="tiledimage", tiles=TileDescription(4, 4, 0x11), dataWindow=Box2i(0, 0, 14, 16)).parts[0]
    assert list(levels(part)) == [(15, 17), (8, 9), (4, 5), (2, 3), (1, 2), (1, 1)]
    assert chunk_count(part) == 20 + 6 + 2 + 1 + 1 + 1
    part = header(type="tiledimage", tiles=TileDescription(4, 4, 2), dataWindow=Box2i(0, 0, 3, 1)).parts[0]
    assert list(levels(part)) == [(4, 2), (2, 2), (1, 2), (4, 1), (2, 1), (1, 1)]
    assert uncompressed_bytes(part) == (8 + 4 + 2 + 4 + 2 + 1) * 6


def test_subsampled_channels_take_fewer_bytes() -> None:
    channels = (Channel("BY", "HALF", x_sampling=2, y_sampling=2), Channel("Y", "FLOAT"))
    part = header(channels=channels, dataWindow=Box2i(-2, -4, 5, 1)).parts[0]
    assert uncompressed_bytes(part) == 4 * 3 * 2 + 8 * 6 * 4


def first_offset(data: bytes, parsed: Header) -> tuple[int, int]:
    """Where the first chunk begins, and where the offset tables must end if the counts are right."""
    total = sum(chunk_count(part) or 0 for part in parsed.parts)
    offsets = struct.unpack_from(f"<{total}Q", data, parsed.size)
    return min(offsets), parsed.size + 8 * total


def check_written(path: Path) -> Header:
    data = path.read_bytes()
    parsed = parse_header(data)
    assert validate(parsed, file_size=len(data)) == []
    assert validate_chunk_offsets(parsed, data, file_size=len(data)) == []
    begin, wanted = first_offset(data, parsed)
    assert begin == wanted
    cut = validate_chunk_offsets(parsed, data[:-1], file_size=len(data) - 1)
    assert [finding.code for finding in cut] == ["truncated"]
    return parsed


@pytest.mark.parametrize("compression", range(14))
def test_chunk_counts_agree_with_what_the_library_writes(compression: int, tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    codes = {int(code): code for code in OpenEXR.Compression.__members__.values()}
    OpenEXR.File({"compression": codes[compression]}, {"Y": np.zeros((1000, 40), np.float16)}).write(str(path))
    assert check_written(path).parts[0].value("compression") == compression


def test_a_mip_map_that_the_library_writes_has_the_chunks_we_count(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    picture = Oiio.ImageBuf(Oiio.ImageSpec(217, 131, 3, "half"))
    assert Oiio.ImageBufAlgo.make_texture(Oiio.MakeTxTexture, picture, str(path))
    parsed = check_written(path)
    assert parsed.parts[0].is_tiled
    assert len(list(levels(parsed.parts[0]))) == 8


def test_parts_that_the_library_writes_have_no_findings(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    pixels = {"RGB": np.zeros((40, 30, 3), np.float16)}
    parts = [OpenEXR.Part({}, dict(pixels), name) for name in ("beauty", "depth")]
    OpenEXR.File(parts).write(str(path))
    parsed = check_written(path)
    assert [part.name for part in parsed.parts] == ["beauty", "depth"]
    assert [part.type for part in parsed.parts] == ["scanlineimage"] * 2


def test_deep_files_that_the_library_writes_have_no_findings(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    spec = Oiio.ImageSpec(8, 6, 2, "float")
    spec.channelnames = ("A", "Z")
    spec.deep = True
    deep = Oiio.DeepData()
    deep.init(spec)
    for pixel in range(48):
        deep.set_samples(pixel, pixel % 3)
    output = Oiio.ImageOutput.create(str(path))
    assert output.open(str(path), spec)
    assert output.write_deep_image(deep)
    output.close()
    assert check_written(path).is_deep


def test_an_interrupted_file_is_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    OpenEXR.File({}, {"Y": np.zeros((64, 8), np.float16)}).write(str(path))
    data = bytearray(path.read_bytes())
    parsed = parse_header(bytes(data))
    data[parsed.size + 8 : parsed.size + 16] = bytes(8)
    (finding,) = validate_chunk_offsets(parsed, bytes(data), file_size=len(data))
    assert finding == Finding(
        "incomplete", "error", "incomplete: 1 of 4 chunks were never written", 0, offset=parsed.size
    )


def test_the_offset_table_in_the_first_bytes_shows_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    OpenEXR.File({}, {"Y": np.random.default_rng(1).random((640, 80), np.float32)}).write(str(path))
    data = path.read_bytes()
    parsed = parse_header(data)
    first = data[: parsed.size + 8 * 40]
    assert validate_chunk_offsets(parsed, first, file_size=len(data)) == []
    (finding,) = validate_chunk_offsets(parsed, first, file_size=len(data) // 2)
    assert finding.code == "truncated"
    assert validate_chunk_offsets(parsed, first[:-1], file_size=len(data) // 2) == []


def test_findings_and_what_they_refuse_with_have_a_place() -> None:
    built = Header.build([attributes(name=name, type="scanlineimage", chunkCount=2, lineOrder=9) for name in "aa"])
    data = built.to_bytes()
    findings = validate(built)
    assert {finding.code for finding in findings} == {"duplicate-part", "unknown-code"}
    for finding in findings:
        assert finding.attribute is not None
        assert data[finding.offset :].startswith(finding.attribute.encode() + b"\0")
    with pytest.raises(HeaderError, match=r"a\.exr: part 1: two parts have the name 'a'") as caught:
        refuse(built, findings, name="a.exr")
    assert caught.value.offset == built.offset(1, "name")
    refuse(built, findings[1:], name="a.exr")
