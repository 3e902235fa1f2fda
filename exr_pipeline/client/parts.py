"""Parts of a file, several at once, until all are done, one fails for good, or somebody wants a pause.

Belongs here: that, for either direction. Not here: what a part is (`uploads`, `downloads`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Final

from exr_pipeline.errors import RetryableError

BLOCK: Final = 1 << 20


class PausedError(RetryableError):
    """A transfer was paused: the same call goes on with it, also in another process and at another server."""


class Pause:
    """What a caller sets to pause a transfer, or None; and whether a part has failed, which ends the others."""

    def __init__(self, wanted: threading.Event | None) -> None:
        self._wanted = wanted
        self.failed = threading.Event()

    def check(self) -> None:
        """Raise `PausedError` if the transfer is to stand still."""
        if self.failed.is_set() or (self._wanted is not None and self._wanted.is_set()):
            raise PausedError("paused: call it again to go on")

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the moment at which a pause is wanted."""
        (self._wanted or threading.Event()).wait(seconds)
        self.check()


def do_parts(numbers: Iterable[int], do: Callable[[int], None], pause: Pause, *, parallel: int) -> None:
    """Do all parts, `parallel` at once. The first error is raised when those under way have ended."""
    pause.failed.clear()
    with ThreadPoolExecutor(parallel, thread_name_prefix="parts") as threads:

        def checked(number: int) -> None:
            pause.check()
            do(number)

        futures = [threads.submit(checked, number) for number in numbers]
        wait(futures, return_when=FIRST_EXCEPTION)
        failed = [future for future in futures if future.done() and future.exception() is not None]
        if failed:
            pause.failed.set()
            for future in futures:
                future.cancel()
    errors = [error for future in futures if not future.cancelled() and (error := future.exception()) is not None]
    # What ended the others, rather than that they were ended.
    errors.sort(key=lambda error: isinstance(error, PausedError))
    if errors:
        raise errors[0]
