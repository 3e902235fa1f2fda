"""Who may read the files that are made on this machine: state is its user's alone, media are as open as their folder.

Belongs here: permissions of new files and folders. Not here: what is in them.

State is the tables, Dagster's history, logs and the demonstration's store: they tell of all work, and some hold keys.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PRIVATE: Final = 0o077


@contextmanager
def new_files_private() -> Iterator[None]:
    """Have all files and folders that this process and its children make be for its user alone.

    For a program of ours, not for one that has loaded us: it is the whole process that changes. Media are exempt by
    `share_like_folder` and `make_folder_like_parent`.
    """
    before = os.umask(_PRIVATE)
    try:
        yield
    finally:
        os.umask(before)


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those missing above it, that only its user may enter; one that is there stays as it is."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def share_like_folder(file: int, folder: Path | int) -> None:
    """Let those read an open file who may look into its folder, and those write it who may write there."""
    with suppress(OSError):  # some file systems know no permissions
        os.fchmod(file, stat.S_IMODE(os.stat(folder).st_mode) & 0o664)  # noqa: PTH116 - also of a descriptor


def make_folder_like_parent(folder: Path) -> None:
    """Make a folder, and those above it that are missing, as open as the one that they are in."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        with suppress(OSError):
            each.chmod(stat.S_IMODE(each.parent.stat().st_mode) & 0o2775)
