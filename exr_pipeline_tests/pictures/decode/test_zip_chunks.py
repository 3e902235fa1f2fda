"""ZIP scanlines, bit by bit as the OpenEXR library wrote them; what is damaged is left to the library's judgement."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import Header, HeaderError, NeedMoreBytes, chunk_count, parse_header
from exr_pipeline.pictures.decode import zip_chunks
from exr_pipeline.pictures.decode.open_source import open_source
from exr_pipeline.sample.writers import ExrPart, exr_bytes

CORPUS = os.environ.get("EXR_PIPELINE_TEST_CORPUS")
EVERYTHING = range(-(2**31), 2**31)
ALL_HALVES = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(256, 256)


def smooth(height: int, width: int, dtype: type) -> np.ndarray:
    """What compresses well."""
    return (np.add.outer(np.arange(height), np.arange(width)) % 97).astype(dtype)


def noise(height: int, width: int, dtype: type) -> np.ndarray:
    """What does not."""
    bits = np.random.default_rng(height * width).integers(0, 256, height * width * np.dtype(dtype).itemsize, np.uint8)
    return bits.view(dtype).reshape(height, width)


def written(path: Path, *parts: ExrPart) -> Path:
    path.write_bytes(exr_bytes(parts))
    return path


def header_of(path: Path) -> Header:
    return parse_header(path.read_bytes(), name=path.name)


def read(path: Path, part: int = 0, channels: tuple[str, ...] = (), shown: range = EVERYTHING) -> dict[int, np.ndarray]:
    """Blocks by their first line."""
    header = header_of(path)
    chosen = channels or [channel.name for channel in header.parts[part].channels]
    return dict(zip_chunks.lines(str(path), header, part, chosen, shown))


def is_readable(path: Path, part: int = 0) -> bool:
    found = header_of(path).parts[part]
    return zip_chunks.is_readable(found, [channel.name for channel in found.channels])


def same(ours: np.ndarray, stored: np.ndarray) -> bool:
    """Whether they are the same numbers, NaN included."""
    with np.errstate(invalid="ignore"):
        return np.array_equal(ours, stored.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("compression", ["zip", "zips"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 1), (1, 33), (17, 31), (64, 40), (100, 257)])
def test_every_channel_alone_and_with_others_is_what_was_written(
    tmp_path: Path, compression: str, height: int, width: int
) -> None:
    stored = {
        "A": smooth(height, width, np.float16),
        "B": noise(height, width, np.float16),
        "G": smooth(height, width, np.float32),
        "R": noise(height, width, np.float32),
        "id": smooth(height, width, np.uint32),
        "mask": noise(height, width, np.uint32),
    }
    path = written(tmp_path / "a.exr", ExrPart(stored, compression, origin=(-7, 5), display=(width, height)))

    assert is_readable(path)
    for channels in (*((name,) for name in stored), ("R", "G", "B"), ("mask", "A"), tuple(stored)):
        pixels = np.concatenate(list(read(path, channels=channels).values()))
        assert pixels.dtype == np.float32
        for index, name in enumerate(channels):
            assert same(pixels[:, :, index], stored[name]), name


@pytest.mark.parametrize("count", range(1, 7))
def test_any_number_of_half_channels_is_what_was_written(tmp_path: Path, count: int) -> None:
    stored = {name: (smooth, noise)[index % 2](35, 20, np.float16) for index, name in enumerate("ABCDEF")}
    path = written(tmp_path / "a.exr", ExrPart(stored, "zip"))

    channels = tuple("CAFBED")[:count]
    pixels = np.concatenate(list(read(path, channels=channels).values()))

    assert all(same(pixels[:, :, index], stored[name]) for index, name in enumerate(channels))


@pytest.mark.parametrize("compression", ["zip", "zips"])
def test_each_of_all_half_numbers_is_kept(tmp_path: Path, compression: str) -> None:
    path = written(tmp_path / "a.exr", ExrPart({"R": ALL_HALVES, "G": ALL_HALVES.T.copy()}, compression))

    pixels = np.concatenate(list(read(path, channels=("R", "G")).values()))

    assert same(pixels[:, :, 0], ALL_HALVES)
    assert same(pixels[:, :, 1], ALL_HALVES.T)


def test_chunks_that_are_compressed_and_chunks_that_are_not_can_follow_each_other(tmp_path: Path) -> None:
    rows = [smooth(16, 50, np.float16), noise(16, 50, np.float16), noise(16, 50, np.float16), smooth(9, 50, np.float16)]
    path = written(tmp_path / "a.exr", ExrPart({"Y": np.concatenate(rows)}, "zip"))

    blocks = read(path)

    assert list(blocks) == [0, 16, 32, 48]
    assert same(np.concatenate(list(blocks.values()))[:, :, 0], np.concatenate(rows))


def test_each_part_of_a_file_has_its_own_chunks(tmp_path: Path) -> None:
    parts = [
        ExrPart(
            {"R": smooth(40, 20 + index, np.float16), "Z": noise(40, 20 + index, np.float32)},
            kind,
            name=kind,
            display=(30, 40),
        )
        for index, kind in enumerate(("piz", "zip", "zips"))
    ]
    path = written(tmp_path / "a.exr", *parts)

    assert [is_readable(path, index) for index in range(3)] == [False, True, True]
    for index in (1, 2):
        pixels = np.concatenate(list(read(path, index).values()))
        assert same(pixels[:, :, 0], parts[index].channels["R"])
        assert same(pixels[:, :, 1], parts[index].channels["Z"])


def test_lines_stored_from_the_bottom_come_from_the_top(tmp_path: Path) -> None:
    stored = smooth(50, 30, np.float16)
    attributes = {"lineOrder": OpenEXR.DECREASING_Y}
    path = written(tmp_path / "a.exr", ExrPart({"Y": stored}, "zip", attributes))

    blocks = read(path)

    assert header_of(path).parts[0].line_order == "decreasingY"
    assert list(blocks) == sorted(blocks)
    assert same(np.concatenate(list(blocks.values()))[:, :, 0], stored)


def test_chunks_outside_of_what_is_shown_are_not_read(tmp_path: Path) -> None:
    stored = smooth(160, 30, np.float16)
    path = written(tmp_path / "a.exr", ExrPart({"Y": stored}, "zip", origin=(0, -40)))

    blocks = read(path, shown=range(-8, 9))

    # Lines -40 to -25, -24 to -9, -8 to 7, 8 to 23.
    pixels = np.concatenate(list(blocks.values()))
    assert min(blocks) == -8
    assert same(pixels[:, :, 0], stored[32:64])


def test_sums_beyond_what_opencv_counts_to_are_never_made(tmp_path: Path) -> None:
    width = 70_000
    # Each byte differs by 127 from the one before it, which is stored as 255.
    bytes_of_channel = (np.arange(16 * width * 4, dtype=np.uint64) * 127 % 256).astype(np.uint8)
    stored = bytes_of_channel.view(np.uint32).reshape(16, width)
    path = written(tmp_path / "a.exr", ExrPart({"id": stored, "other": stored}, "zip"))

    part = header_of(path).parts[0]

    assert not zip_chunks.is_readable(part, ["id", "other"])
    assert zip_chunks.is_readable(part, ["other"])
    assert same(np.concatenate(list(read(path, channels=("other",)).values()))[:, :, 0], stored)


@pytest.mark.parametrize(
    "part",
    [
        ExrPart({"Y": smooth(8, 8, np.float16)}, "zip", tile=(4, 4)),
        ExrPart({"Y": smooth(8, 8, np.float16)}, "piz"),
        ExrPart({"Y": smooth(8, 8, np.float16)}, "none"),
    ],
    ids=["tiled", "piz", "none"],
)
def test_other_kinds_are_left_to_the_library(tmp_path: Path, part: ExrPart) -> None:
    path = written(tmp_path / "a.exr", part)

    assert not is_readable(path)


def damaged(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    header = parse_header(bytes(data), name=path.name)
    table = header.size
    count = chunk_count(header.parts[0]) or 0
    third = int.from_bytes(data[table + 16 : table + 24], "little")
    if how == "missing chunk":
        data[table + 16 : table + 24] = bytes(8)
    elif how == "offset behind the end":
        data[table + 16 : table + 24] = (2**63 + 5).to_bytes(8, "little")
    elif how == "wrong line":
        data[third : third + 4] = (7).to_bytes(4, "little")
    elif how == "negative size":
        data[third + 4 : third + 8] = (-3).to_bytes(4, "little", signed=True)
    elif how == "huge size":
        data[third + 4 : third + 8] = (2**31 - 1).to_bytes(4, "little")
    elif how == "noise":
        data[third + 20 : third + 60] = bytes(range(40))
    elif how == "is truncated":
        del data[third + 30 :]
    assert count == 4
    path.write_bytes(data)


HOW = ["missing chunk", "offset behind the end", "wrong line", "negative size", "huge size", "noise", "is truncated"]


@pytest.mark.parametrize("how", HOW)
def test_damage_is_found_and_the_file_refused_with_a_reason(tmp_path: Path, how: str) -> None:
    rgb = {name: smooth(64, 50, np.float16) for name in "RGB"}
    path = written(tmp_path / "a.exr", ExrPart(rgb, "zip"))
    damaged(path, how)

    with pytest.raises(zip_chunks.UnusualChunkError):
        read(path)

    with pytest.raises(BadInputError, match=r"show/a\.exr: (damaged pixels|truncated|incomplete)"):
        list(open_source(str(path), "show/a.exr", max_image_mb=100).read(0))


def test_what_the_library_reads_of_an_unusual_chunk_is_read_from_there_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = {name: smooth(100, 50, np.float16) + np.float16(index) for index, name in enumerate("RGB")}
    path = written(tmp_path / "a.exr", ExrPart(rgb, "zip"))
    inflated = zip_chunks._inflated
    calls = []

    def unusual(stored: list[bytes], *args: Any) -> np.ndarray:
        calls.append(len(stored))
        if len(calls) == 2:
            raise zip_chunks.UnusualChunkError("as if")
        return inflated(stored, *args)

    monkeypatch.setattr(zip_chunks, "_inflated", unusual)
    source = open_source(str(path), "a.exr", max_image_mb=100)
    blocks = list(source.read(0))

    assert len(calls) == 2
    assert [block.y for block in blocks] == [0, 32, 64, 96]
    pixels = np.concatenate([block.pixels for block in blocks])
    assert all(same(pixels[:, :, index], rgb[name]) for index, name in enumerate("RGB"))


@pytest.mark.skipif(CORPUS is None, reason="EXR_PIPELINE_TEST_CORPUS is not set: real ZIP files are NOT tested")
def test_real_files_are_read_as_the_library_reads_them() -> None:
    compared = 0
    for path in sorted(Path(CORPUS or "").rglob("*.exr")):
        if "Damaged" in path.parts:
            continue
        try:
            header = header_of(path)
        except (HeaderError, NeedMoreBytes):
            continue
        for index, part in enumerate(header.parts):
            if not is_readable(path, index):
                continue
            stored = OpenEXR.File(str(path), separate_channels=True).channels(index)
            pixels = np.concatenate(list(read(path, index).values()))
            for position, channel in enumerate(part.channels):
                assert same(pixels[:, :, position], stored[channel.name].pixels), f"{path} {channel.name}"
                compared += 1
    assert compared
