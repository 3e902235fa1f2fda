"""Folders opened one below the other without following a link, whatever others do to them meanwhile.

Belongs here: that. Not here: what is written into them (`local_files`).
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from exr_pipeline.storage.private_files import make_folder_like_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class LinkInTheWayError(Exception):
    """A component below the root is a link; the message is its path."""


@contextmanager
def opened_folder(root: Path, parts: Sequence[str], *, make: bool) -> Iterator[int]:
    """A descriptor of the folder that is `parts` below `root`. Links to the root, and above it, are followed.

    With `make`, what is missing is made, as open as the folder that it is in. Raises `LinkInTheWayError`, and `OSError`
    as the system does.
    """
    if make:
        make_folder_like_parent(root)
    folder = os.open(root, _FOLDER)
    try:
        path = root
        for part in parts:
            path /= part
            below = _opened_below(folder, part, path, make=make)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def _opened_below(folder: int, name: str, path: Path, *, make: bool) -> int:
    try:
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=folder)
                made = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                with suppress(OSError):
                    os.fchmod(made, stat.S_IMODE(os.fstat(folder).st_mode) & 0o2775)
                return made
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        with suppress(OSError):
            if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise LinkInTheWayError(str(path)) from None
        raise
