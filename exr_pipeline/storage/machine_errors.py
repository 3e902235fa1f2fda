"""Errors of the operating system that are trouble of this machine, whatever file was worked on.

Belongs here: telling them apart and naming them. Not here: answers of stores (`store_errors`).
"""

import errno
import os
import tempfile
from typing import Final

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# EIO is not among them: libraries also say so of damaged files.
_TROUBLES: Final = _FULL | {
    errno.EAGAIN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENODEV,
    errno.ENOLCK,
    errno.ENOTCONN,
    errno.EROFS,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


def _temporary_folder() -> str:
    # Looking for one writes into it.
    return tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108


def no_room(error: BaseException) -> str | None:
    """That the temporary folder is full, in one line; None if an error does not say so."""
    if getattr(error, "errno", None) not in _FULL:
        return None
    return f"no space left in the temporary folder {_temporary_folder()}: free some, or set TMPDIR"


def machine_trouble(error: BaseException) -> str | None:
    """What is wrong with this machine, in one line; None if the error may be about the file."""
    number = getattr(error, "errno", None)
    if full := no_room(error):
        return full
    if number in _TROUBLES:
        return f"this machine has a problem: {os.strerror(number)}"
    # An error of Python's own file functions, not of a library that uses its numbers in its own way.
    if type(error).__module__ == "builtins" and isinstance(error, OSError) and number is not None:
        return f"this machine has a problem: {os.strerror(number)}"
    return None
