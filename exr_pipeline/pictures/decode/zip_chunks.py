"""Scanlines of ZIP parts, on some processors in half the time that the libraries take.

Belongs here: the chunks of flat scanline parts compressed with ZIP or ZIPS. Not here: other kinds (`exr`).
The libraries' wheels undo the predictor byte by byte, in all channels: as long as inflating takes on an AMD EPYC, a
third of that on an Intel Xeon. Here it is undone by OpenCV's sums, and only in the channels that are shown.
Source: "OpenEXR File Layout"; ImfZip.cpp of OpenEXR.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from exr_pipeline.exr import chunk_count
from exr_pipeline.pictures.decode.source import BLOCK_LINES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from exr_pipeline.exr import Header, Part

_CHUNK_LINES: Final = {"zip": 16, "zips": 1}
_DTYPES: Final = {"HALF": "<f2", "FLOAT": "<f4", "UINT": "<u4"}
_MOST_SUMMED: Final = (2**31 - 1) // 255  # Bytes whose sum is within OpenCV's integers.


class UnusualChunkError(Exception):
    """A chunk is not as it should be: whether its pixels can be read is for the library to say."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the bytes of some channels are in a line: its length, their range, and of each its first byte and type."""

    line: int
    first: int
    last: int
    channels: tuple[tuple[int, str], ...]


def is_readable(part: Part, channels: Sequence[str]) -> bool:
    """Whether `lines` may read these channels of this part."""
    if part.compression not in _CHUNK_LINES or part.is_tiled or part.is_deep or part.data_window is None:
        return False
    if any((channel.x_sampling, channel.y_sampling) != (1, 1) for channel in part.channels):
        return False
    layout = _layout(part, channels)
    return _CHUNK_LINES[part.compression] * (layout.last - layout.first) <= _MOST_SUMMED


def lines(
    path: str, header: Header, part_index: int, channels: Sequence[str], shown: range
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Blocks (y, pixels of shape (lines, columns, channels)) of a part that is readable, from the top.

    Chunks without any line in `shown` are left out. Raises `UnusualChunkError` where a chunk is not as it should be.
    """
    part = header.parts[part_index]
    window = part.data_window
    assert part.compression is not None
    assert window is not None
    layout = _layout(part, channels)
    height = _CHUNK_LINES[part.compression]
    tops = range(window.min_y, window.max_y + 1, height)
    wanted = [index for index, top in enumerate(tops) if top + height > shown.start and top < shown.stop]
    together = max(min(BLOCK_LINES // height, _MOST_SUMMED // (height * layout.line)), 1)
    with Path(path).open("rb") as file:
        offsets = _offsets(file, header, part_index)
        for start in range(0, len(wanted), together):
            chunks = []
            for index in wanted[start : start + together]:
                size = min(height, window.max_y + 1 - tops[index]) * layout.line
                head = (part_index, tops[index]) if header.is_multipart else (tops[index],)
                chunks.append(_Chunk(tops[index], size, _stored_bytes(file, int(offsets[index]), head, size)))
            for (size, is_compressed), some in groupby(chunks, lambda chunk: (chunk.size, chunk.is_compressed)):
                alike = list(some)
                stored = [chunk.stored for chunk in alike]
                taken = _inflated(stored, size, layout) if is_compressed else _cut(stored, layout)
                yield alike[0].top, _pixels(taken, layout, window.width)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk: its first line, how many bytes its pixels take, and the bytes that are stored."""

    top: int
    size: int
    stored: bytes

    @property
    def is_compressed(self) -> bool:
        """Not if it would not have become smaller."""
        return len(self.stored) < self.size


def _stored_bytes(file: BinaryIO, offset: int, head: tuple[int, ...], most: int) -> bytes:
    """The bytes of the chunk at `offset`, which must begin with `head` and have at most so many of them."""
    layout = struct.Struct(f"<{len(head) + 1}i")
    file.seek(min(offset, os.fstat(file.fileno()).st_size))
    start = file.read(layout.size)
    if len(start) < layout.size:
        raise UnusualChunkError("a chunk begins beyond the end of the file")
    *found, size = layout.unpack(start)
    if tuple(found) != head:
        raise UnusualChunkError("a chunk is not at the offset that the table gives")
    if not 0 < size <= most:
        raise UnusualChunkError("a chunk has an invalid size")
    stored = file.read(size)
    if len(stored) < size:
        raise UnusualChunkError("a chunk is truncated")
    return stored


def _layout(part: Part, channels: Sequence[str]) -> _Layout:
    assert part.data_window is not None
    width = part.data_window.width
    places, position = {}, 0
    for channel in part.channels:
        dtype = _DTYPES[channel.type]
        size = width * np.dtype(dtype).itemsize
        places[channel.name] = (position, position + size, dtype)
        position += size
    chosen = [places[name] for name in channels]
    first, last = min(start for start, _, _ in chosen), max(end for _, end, _ in chosen)
    return _Layout(position, first, last, tuple((start - first, dtype) for start, _, dtype in chosen))


def _offsets(file: BinaryIO, header: Header, part_index: int) -> NDArray[np.uint64]:
    """The part's chunk offset table: the tables of all parts follow the header."""
    counts = [chunk_count(part) for part in header.parts[: part_index + 1]]
    if None in counts:
        raise UnusualChunkError("the length of the offset table is unknown")
    *before, count = [count or 0 for count in counts]
    file.seek(header.size + 8 * sum(before))
    table = file.read(8 * count)
    if len(table) < 8 * count:
        raise UnusualChunkError("the offset table is truncated")
    return np.frombuffer(table, "<u8")


def _cut(stored: Sequence[bytes], layout: _Layout) -> NDArray[np.uint8]:
    """The wanted bytes (lines, bytes) of chunks that are not compressed."""
    whole = np.frombuffer(b"".join(stored), np.uint8).reshape(-1, layout.line)
    return np.ascontiguousarray(whole[:, layout.first : layout.last])


def _inflated(stored: Sequence[bytes], size: int, layout: _Layout) -> NDArray[np.uint8]:
    """The wanted bytes (lines, bytes) of compressed chunks, each of `size` bytes.

    A chunk holds the even bytes of its lines, then the odd ones, as differences: each byte is the one before it, plus
    the one that is stored, minus 128.
    """
    import cv2
    import deflate

    half = layout.line // 2
    lines = size // layout.line
    first, last = layout.first // 2, layout.last // 2
    # Even or odd, chunk, line, byte; and sums of such rows, of what is before the wanted bytes and up to their end.
    steps = np.empty((2, len(stored), lines, last - first), np.uint8)
    of_rows, before, up_to = np.empty((3, 2, len(stored), lines), np.uint8)
    for index, compressed in enumerate(stored):
        try:
            inflated = deflate.zlib_decompress(compressed, size)
        except (deflate.DeflateError, ValueError) as error:
            raise UnusualChunkError("a chunk cannot be decompressed") from error
        if len(inflated) != size:
            raise UnusualChunkError("a chunk has too few pixels")
        rows = np.frombuffer(inflated, np.uint8).reshape(2, lines, half)
        np.bitwise_xor(rows[..., first:last], np.uint8(128), out=steps[:, index])  # which is minus 128
        of_rows[:, index] = _sums(rows)
        before[:, index] = _sums(rows[..., :first])
        up_to[:, index] = of_rows[:, index] if last == half else _sums(rows[..., :last])

    # What each row begins with: all rows of the chunk before it, what of its own is left out, and the 128 that is not
    # taken off a chunk's first byte. OpenCV's sums go on from row to row: less what the row before ended with.
    of_chunks = of_rows.transpose(1, 0, 2).reshape(len(stored), -1)
    earlier = np.cumsum(of_chunks, axis=1, dtype=np.uint8) - of_chunks
    rows_start = earlier.reshape(len(stored), 2, -1).transpose(1, 0, 2) + np.uint8(128)
    in_rows = steps.reshape(-1, last - first)
    in_rows[:, 0] += (rows_start + before).ravel()
    in_rows[1:, 0] -= (rows_start + up_to).ravel()[:-1]

    sums = cv2.integral(steps.reshape(1, -1))[1, 1:].astype(np.uint8)
    even, odd = sums[: len(sums) // 2], sums[len(sums) // 2 :]
    return np.asarray(cv2.merge((even, odd))).reshape(-1, layout.last - layout.first)


def _sums(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Sums of bytes less 128 each, modulo 256, along the last axis."""
    summed: NDArray[np.uint8] = np.add.reduce(rows, axis=-1, dtype=np.uint8)
    return summed + np.uint8(128 * (rows.shape[-1] % 2))


def _pixels(taken: NDArray[np.uint8], layout: _Layout, width: int) -> NDArray[np.float32]:
    """Pixels (lines, columns, channels) of the wanted bytes."""
    import cv2

    stored = [
        taken[:, start : start + width * np.dtype(dtype).itemsize].view(dtype) for start, dtype in layout.channels
    ]
    if all(plane.dtype == np.float16 for plane in stored):
        merged = cv2.merge([plane.view(np.uint16) for plane in stored]).view(np.float16)
        # OpenCV uses the processor's own conversion, numpy does not.
        pixels = cv2.add(merged.reshape(len(taken), -1), 0, dtype=cv2.CV_32F)
    else:
        pixels = cv2.merge([plane.astype(np.float32) for plane in stored])
    return np.asarray(pixels, np.float32).reshape(len(taken), width, len(stored))
