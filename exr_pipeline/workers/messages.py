"""What libraries print to standard error in worker processes, in the log instead of on the console.

Belongs here: the pipe between them and the log. Not here: errors, which are exceptions (`pool`).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Final

from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_LOG = logging.getLogger(__name__)
_BLOCK: Final = 1 << 16
_LONGEST_LINE: Final = 500
# A damaged file may make its decoder complain about every line.
_LINES_PER_SECOND: Final = 20
_FLUSH: Final = b"\0"


class WorkerMessages:
    """A pipe whose `writer` workers put in the place of their standard error, see `print_to`; use `worker_messages`.

    Its lines are logged at level INFO, each cut after 500 characters, at most 20 in a second; others are counted.
    """

    def __init__(self) -> None:
        self._reader, self.writer = multiprocessing.Pipe(duplex=False)
        self._second, self._lines, self._dropped = 0, 0, 0
        self._flushes: deque[threading.Event] = deque()
        self._thread = threading.Thread(target=self._read, name="log messages of workers", daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Log all that workers have printed so far."""
        flushed = threading.Event()
        self._flushes.append(flushed)
        os.write(self.writer.fileno(), b"\n" + _FLUSH + b"\n")
        flushed.wait(timeout=1)

    def _read(self) -> None:
        rest = b""
        while block := os.read(self._reader.fileno(), _BLOCK):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if line == _FLUSH and self._flushes:
                    self._log_dropped()
                    self._flushes.popleft().set()
                else:
                    self._log(line)
            rest = rest[:_BLOCK]

    def _log(self, line: bytes) -> None:
        text = visible_line(line.decode("utf-8", "surrogateescape"))[:_LONGEST_LINE]
        if not text:
            return
        if (second := int(time.monotonic())) != self._second:
            self._log_dropped()
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= _LINES_PER_SECOND:
            _LOG.info("worker process: %s", text)
        else:
            self._dropped += 1

    def _log_dropped(self) -> None:
        if self._dropped:
            _LOG.info("worker processes: %d more lines", self._dropped)
            self._dropped = 0


@cache
def worker_messages() -> WorkerMessages:
    """The pipe of this process: all its workers share it."""
    return WorkerMessages()


# A child that is forked has the pipe, but not the thread that reads it.
os.register_at_fork(after_in_child=worker_messages.cache_clear)


def print_to(writer: Connection) -> None:
    """Send all that this process prints to standard error, from whatever library, into the pipe."""
    os.dup2(writer.fileno(), 2)
    writer.close()
