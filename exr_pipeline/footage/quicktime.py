"""What QuickTime movies say in their atoms that libav does not pass on.

Belongs here: reading those atoms. Not here: what follows from them.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST_INDEX: Final = 256 << 20
_MOST_ATOMS: Final = 10_000


def graphics_modes(path: str) -> dict[int, int]:
    """How each video track of a MOV or MP4 is to be drawn (`vmhd`), by the track's number; nothing of damaged ones."""
    index = _index(path)
    modes = {}
    for track in (content for kind, content in _atoms(index) if kind == b"trak"):
        number = mode = None
        for kind, content in _atoms(track):
            if kind == b"tkhd" and len(content) >= 24:
                # Behind version, flags and two times, of 64 bits each in version 1.
                number = int.from_bytes(content[20:24] if content[0] else content[12:16], "big")
            elif kind == b"mdia":
                mode = _graphics_mode(content)
        if number is not None and mode is not None:
            modes[number] = mode
    return modes


def _graphics_mode(media: bytes) -> int | None:
    for kind, content in _atoms(media):
        if kind == b"minf":
            for inner, header in _atoms(content):
                if inner == b"vmhd" and len(header) >= 6:
                    return int.from_bytes(header[4:6], "big")
    return None


def _index(path: str) -> bytes:
    """The content of the atom `moov`, wherever in the file it is; empty without one of a size that can be."""
    with Path(path).open("rb") as file:
        for _ in range(_MOST_ATOMS):
            head = file.read(8)
            if len(head) < 8:
                break
            size, kind = struct.unpack(">I4s", head)
            size -= 8
            if size == 1 - 8:
                size = int.from_bytes(file.read(8), "big") - 16
            if kind == b"moov":
                return file.read(size) if 0 <= size <= _LARGEST_INDEX else b""
            if size < 0:
                break
            file.seek(size, 1)
    return b""


def _atoms(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The atoms within one, as far as they are whole."""
    position = 0
    while position + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        if size < 8 or position + size > len(content):
            return
        yield kind, content[position + 8 : position + size]
        position += size
