"""Temporary folders for whole files: those that killed processes have left are told from those in use, and removed.

Belongs here: making, locking and sweeping them. Not here: what is put into them.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from exr_pipeline.errors import RetryableError
from exr_pipeline.storage.machine_errors import machine_trouble

PREFIX: Final = "exr_pipeline_"

_LOCK: Final = "lock"
_FILES: Final = "files"
# Earlier versions did not lock theirs.
_UNLOCKED_SECONDS: Final = 86_400.0


@contextmanager
def spool_folder() -> Iterator[Path]:
    """A temporary folder that is removed at the end of the block, or by the next process if this one is killed.

    Removes folders of killed processes first. Raises `RetryableError` if no folder can be made.
    """
    try:
        parent = Path(tempfile.gettempdir())
        _sweep(parent)
        folder, lock = _locked_folder(parent)
    except OSError as error:
        trouble = machine_trouble(error) or error.strerror or str(error)
        raise RetryableError(f"cannot create a temporary folder: {trouble}") from error
    with lock:
        try:
            yield folder / _FILES
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, IO[bytes]]:
    # Under a name that nobody sweeps until it is locked.
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
    try:
        (made / _FILES).mkdir()
        lock = (made / _LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return made.rename(parent / made.name.removeprefix(".")), lock
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            # Others' folders are theirs to remove, and nothing is removed through a link.
            if folder.is_symlink() or not folder.is_dir() or status.st_uid != os.getuid():
                continue
            try:
                lock: IO[bytes] = (folder / _LOCK).open("rb")
            except FileNotFoundError:
                if time.time() - status.st_mtime > _UNLOCKED_SECONDS:
                    shutil.rmtree(folder)
                continue
            with lock:
                # A lock that somebody holds makes this raise.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
