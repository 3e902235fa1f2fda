"""How the pixels of a part are divided: resolution levels, chunks, and the bytes that raw pixels take.

Belongs here: arithmetic on a header. Not here: opinions about it (`validate`). Source: "OpenEXR File Layout".
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from exr_pipeline.exr.header import Part
from exr_pipeline.exr.values import PIXEL_BYTES

# Lines of a chunk, where it isn't one; measured from offset tables that the OpenEXR library wrote.
_CHUNK_LINES: Final = {
    "zip": 16,
    "piz": 32,
    "pxr24": 16,
    "b44": 32,
    "b44a": 32,
    "dwaa": 32,
    "dwab": 256,
    "htj2k256": 256,
    "htj2k32": 32,
    "lj2k": 256,
}


def _level_count(size: int, *, round_up: bool) -> int:
    return (size - 1).bit_length() + 1 if round_up else size.bit_length()


def _level_size(size: int, level: int, *, round_up: bool) -> int:
    return max(1, -(-size >> level) if round_up else size >> level)


def levels(part: Part) -> Iterator[tuple[int, int]]:
    """Width and height of every resolution level that is stored, from the largest; one level if not tiled.

    The part must have a data window that isn't empty, and tiles if it is tiled.
    """
    window, tiles = part.data_window, part.tiles
    assert window is not None
    width, height = window.width, window.height
    if not part.is_tiled or tiles is None or tiles.level_mode == 0:
        yield width, height
        return
    up = tiles.round_up
    if tiles.level_mode == 1:
        for level in range(_level_count(max(width, height), round_up=up)):
            yield _level_size(width, level, round_up=up), _level_size(height, level, round_up=up)
        return
    for y_level in range(_level_count(height, round_up=up)):
        for x_level in range(_level_count(width, round_up=up)):
            yield _level_size(width, x_level, round_up=up), _level_size(height, y_level, round_up=up)


def chunk_count(part: Part) -> int | None:
    """Entries of the part's chunk offset table; None if window, tiles or compression don't tell."""
    window, tiles = part.data_window, part.tiles
    if window is None or window.width < 1 or window.height < 1:
        return None
    if part.is_tiled:
        if tiles is None or not tiles.x_size or not tiles.y_size:
            return None
        return sum(-(-width // tiles.x_size) * -(-height // tiles.y_size) for width, height in levels(part))
    if part.compression is None:
        return None
    return -(-window.height // _CHUNK_LINES.get(part.compression, 1))


def _samples(low: int, size: int, sampling: int) -> int:
    """Multiples of the sampling among `size` numbers from `low`."""
    return (low + size - 1) // sampling - (low - 1) // sampling


def uncompressed_bytes(part: Part) -> int | None:
    """Bytes of the part's pixels, over all levels; None if they depend on more than the header (deep or damaged)."""
    window = part.data_window
    if part.is_deep or chunk_count(part) is None or window is None:
        return None
    total = 0
    # Channels stored alike are counted together: a damaged file can have hundreds of levels of thousands of channels.
    kinds = Counter((*channel[3:], PIXEL_BYTES.get(channel.type, 0)) for channel in part.channels)
    if any(x < 1 or y < 1 or not size for x, y, size in kinds):
        return None
    for width, height in levels(part):
        for (x, y, size), count in kinds.items():
            total += _samples(window.min_x, width, x) * _samples(window.min_y, height, y) * size * count
    return total
