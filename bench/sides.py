"""What is compared: each side in a fresh process of its own, asked in turns, its time and peak memory taken.

Belongs here: processes, turns, measuring. Not here: what a side does.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

_SECONDS_BETWEEN_LOOKS: Final = 0.02
_PAGE: Final = os.sysconf("SC_PAGESIZE")


class Work:
    """What one side does. Made in the side's process; `prepare` and `check` are not timed, `run` is."""

    def prepare(self, *args: Any) -> None:
        """Bring about what `run` starts from."""

    def run(self, *args: Any) -> None:
        """The work."""
        raise NotImplementedError

    def check(self, *args: Any) -> Any:
        """Say what came of it, or raise."""

    def close(self) -> None:
        """Let go of what was opened."""


class Answer(NamedTuple):
    """One turn: how long `run` took, how much processor time with all ended children, what `check` said."""

    seconds: float
    cpu_seconds: float
    value: Any


@dataclass
class Side:
    """One side of a comparison. `make` must be importable from another process (a class, or a partial of one)."""

    name: str
    make: Callable[[], Work]
    peak_bytes: int = 0
    worker_peak_bytes: int = 0
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    _process: Any = None
    _connection: Any = None

    @property
    def median(self) -> float:
        """Median seconds of its turns."""
        return median(self.seconds)

    @property
    def cpu_median(self) -> float:
        """Median processor seconds of its turns: what other programs do changes them little."""
        return median(self.cpu_seconds)

    @property
    def peak_mib(self) -> float:
        """Most memory that the side's process and its children held together, in MiB."""
        return self.peak_bytes / (1 << 20)

    @property
    def worker_peak_mib(self) -> float:
        """Most memory that any one child of the side's process held, in MiB."""
        return self.worker_peak_bytes / (1 << 20)

    def ask(self, *args: Any) -> Answer:
        """One turn, watched."""
        self._connection.send(args)
        while not self._connection.poll(_SECONDS_BETWEEN_LOOKS):
            held, worker_peak = _memory_of_tree(self._process.pid)
            self.peak_bytes = max(self.peak_bytes, held)
            self.worker_peak_bytes = max(self.worker_peak_bytes, worker_peak)
        try:
            answer, own_peak = self._connection.recv()
        except EOFError:
            raise RuntimeError(f"{self.name!r} failed, see above") from None
        self.peak_bytes = max(self.peak_bytes, own_peak)
        return Answer(*answer)

    def take_turn(self, *args: Any) -> None:
        """One turn that counts."""
        answer = self.ask(*args)
        self.seconds.append(answer.seconds)
        self.cpu_seconds.append(answer.cpu_seconds)
        self.values.append(answer.value)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.make))
        self._process.start()
        theirs.close()
        try:
            self._connection.recv()
        except EOFError:
            raise RuntimeError(f"{self.name!r} failed, see above") from None

    def _stop(self) -> None:
        self._connection.close()
        self._process.join()


@contextmanager
def started(sides: Sequence[Side]) -> Iterator[None]:
    """The processes of some sides, alive inside the block; all of them are ready when it begins."""
    with ExitStack() as stack:
        for side in sides:
            side._start()
            stack.callback(side._stop)
        yield


def interleaved(sides: Sequence[Side], rounds: int, *args: Any) -> None:
    """Ask the sides in turns, so that what else the machine does hits all of them alike.

    The order is reversed each time (A B B A A B): none always comes after the one that leaves the machine hot.
    """
    for turn in range(rounds):
        for side in sides if turn % 2 == 0 else reversed(sides):
            side.take_turn(*args)


def _serve(connection: Connection, make: Callable[[], Work]) -> None:
    work = make()
    connection.send(None)
    try:
        while True:
            try:
                args = connection.recv()
            except EOFError:
                return
            work.prepare(*args)
            cpu_before, before = _cpu_seconds(), time.perf_counter()
            work.run(*args)
            seconds, cpu_seconds = time.perf_counter() - before, _cpu_seconds() - cpu_before
            connection.send((Answer(seconds, cpu_seconds, work.check(*args)), _own_peak()))
    finally:
        work.close()


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _own_peak() -> int:
    """The most that this process, or any one child that has ended, ever held."""
    # Not ru_maxrss of itself: that still counts what its parent held when it was forked.
    return max(_peak_of(os.getpid()), 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def _peak_of(pid: int) -> int:
    """The most bytes that a process has held so far."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return 1024 * int(status["VmHWM"].split()[0])


def _memory_of_tree(pid: int) -> tuple[int, int]:
    """Bytes that a process and all its descendants hold now (pages they share are counted in each), and the most that
    any one descendant has held so far.
    """
    held, peak = 0, 0
    try:
        held = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        children = [
            int(child)
            for thread in Path(f"/proc/{pid}/task").iterdir()
            for child in (thread / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return held, peak
    for child in children:
        below, peak_below = _memory_of_tree(child)
        held += below
        peak = max(peak, peak_below)
        # One that has just ended has no such figure any more.
        with suppress(FileNotFoundError, ProcessLookupError, KeyError):
            peak = max(peak, _peak_of(child))
    return held, peak
