"""Kinds of DPX that OpenImageIO alone reads wrongly, written by FFmpeg and byte by byte."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from exr_pipeline.errors import BadInputError
from exr_pipeline.pictures.decode.open_source import open_source
from exr_pipeline.pictures.decode.source import Source

HEADER_BYTES = 2048
BT709, BT601 = 6, 8


def read(path: Path) -> tuple[Source, np.ndarray]:
    source = open_source(str(path), path.name, max_image_mb=64)
    (rows,) = source.placed(0)
    return source, rows.pixels


def write(path: Path, width: int, elements: list[tuple[int, np.ndarray]], **fields: int) -> Path:
    """Elements as (descriptor, samples of 8 or 16 bits, a line per row), one behind the other."""
    values = {"transfer": BT709, "padding": 0, "encoding": 0} | fields
    data = bytearray(HEADER_BYTES)
    data[:8], data[8:12] = b"SDPX" + struct.pack(">I", HEADER_BYTES), b"V2.0"
    struct.pack_into(">II", data, 24, 1664, 384)
    struct.pack_into(">HHII", data, 768, 0, len(elements), width, len(elements[0][1]))
    for index, (descriptor, samples) in enumerate(elements):
        bits = samples.dtype.itemsize * 8
        head = struct.pack(">BBBBHH", descriptor, values["transfer"], values["transfer"], bits, 0, values["encoding"])
        place = struct.pack(">II", len(data), values["padding"])
        data[780 + 72 * index + 20 : 780 + 72 * index + 36] = head + place
        data += samples.astype(samples.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(data)
    return path


def by_ffmpeg(path: Path, pixels: np.ndarray, pixel_format: str) -> Path:
    context: Any = av.CodecContext.create("dpx", "w")
    context.width, context.height, context.pix_fmt = pixels.shape[1], pixels.shape[0], pixel_format
    context.time_base = Fraction(1, 24)
    frame = av.VideoFrame.from_ndarray(pixels, format=pixel_format)
    frame.pts = 0
    packets: list[Any] = [*context.encode(frame), *context.encode(None)]
    (packet,) = packets
    path.write_bytes(bytes(packet))
    return path


@pytest.mark.parametrize(
    ("pixel_format", "width", "largest"), [("rgb24", 1998, 255), ("rgb24", 2001, 255), ("rgb48be", 1999, 65535)]
)
def test_lines_that_ffmpeg_pads_without_saying_so_are_not_sheared(
    tmp_path: Path, pixel_format: str, width: int, largest: int
) -> None:
    pixels = np.random.default_rng(1).integers(0, largest, (20, width, 3)).astype("u1" if largest == 255 else "u2")

    _, decoded = read(by_ffmpeg(tmp_path / "x.dpx", pixels, pixel_format))

    assert np.allclose(decoded, pixels / largest, atol=1e-6)


@pytest.mark.parametrize("padding", [0, 2])
def test_lines_that_are_not_padded_or_say_that_they_are_are_read_as_they_are(tmp_path: Path, padding: int) -> None:
    pixels = np.random.default_rng(1).integers(1, 255, (20, 1998 * 3), np.uint8)
    stored = np.pad(pixels, ((0, 0), (0, padding)))
    path = write(tmp_path / "x.dpx", 1998, [(50, stored)], padding=padding)
    # What follows the picture, such as filling to a block of the disk, is no reason to think of padding.
    path.write_bytes(path.read_bytes() + bytes(4096))

    _, decoded = read(path)

    assert np.allclose(decoded.reshape(20, -1), pixels / 255, atol=1e-6)


def test_three_elements_of_one_channel_are_a_picture_in_color(tmp_path: Path) -> None:
    red, green, blue = (np.full((8, 16), value, np.uint8) for value in (250, 20, 30))

    source, decoded = read(write(tmp_path / "x.dpx", 16, [(2, green), (1, red), (3, blue)]))

    assert (source.layer.kind, source.layer.channels) == ("rgb", ("R", "G", "B"))
    assert np.allclose(decoded, np.array([250, 20, 30]) / 255)


# Of BT.709 and BT.601: white, black, red and blue of full strength in the video range of 8 bits.
WHITE, BLACK = (235, 128, 128), (16, 128, 128)
COLORS = {
    BT709: [WHITE, BLACK, (63, 102, 240), (32, 240, 118)],
    BT601: [WHITE, BLACK, (81, 90, 240), (41, 240, 110)],
}
EXPECTED = [(1, 1, 1), (0, 0, 0), (1, 0, 0), (0, 0, 1)]


@pytest.mark.parametrize("transfer", [BT709, BT601])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("descriptor", "layout"), [(100, "bYrY"), (101, "bYArYA"), (102, "bYr"), (103, "bYrA")])
def test_luma_and_chroma_become_the_colors_that_video_means(
    tmp_path: Path, descriptor: int, layout: str, bits: int, transfer: int
) -> None:
    wide = 2 if descriptor in (100, 101) else 1
    line = [
        {"Y": luma, "b": blue, "r": red, "A": 255}[sample] for luma, blue, red in COLORS[transfer] for sample in layout
    ]
    stored = np.tile(np.array(line, f"u{bits // 8}") << (bits - 8), (6, 1))

    source, decoded = read(write(tmp_path / "x.dpx", 4 * wide, [(descriptor, stored)], transfer=transfer))

    assert source.layer.kind == "rgb"
    assert np.abs(decoded[:, ::wide] - EXPECTED).max() < 0.01
    assert np.array_equal(decoded[:, ::wide], decoded[:, wide - 1 :: wide])


def test_run_lengths_that_cannot_be_read_are_not_called_damage_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dpx", 16, [(50, np.zeros((8, 48), np.uint8))], encoding=1)

    with pytest.raises(BadInputError, match=r"^x\.dpx: damaged pixels, or an unknown run-length encoding"):
        read(path)
