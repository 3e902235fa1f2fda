"""Deadlines for what may never return: reads of a mount that hangs, of a device, of a disk that is dying.

Belongs here: waiting no longer than that, by a clock that a suspended process does not see running. Not here: what is
waited for.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeVar

from exr_pipeline.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable

STALL_SECONDS: Final = 30.0
# A mount that hangs would else be given a thread for every file on it.
HUNG_AT_MOST: Final = 16

_LOOK_SECONDS: Final = 1.0
_LONGEST_STEP: Final = 1.0

T = TypeVar("T")

_hung: dict[str, list[threading.Thread]] = defaultdict(list)
_lock = threading.Lock()


class AwakeClock:
    """Seconds that this process has been running and looking.

    No step of the system's clock changes them. Time for which the process or the machine was suspended is left out.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._looked = time.monotonic()

    def __call__(self) -> float:
        """The seconds so far. They only grow by the time since the last look, and at most by a second."""
        now = time.monotonic()
        self._seconds += min(now - self._looked, _LONGEST_STEP)
        self._looked = now
        return self._seconds


def in_time(name: str, place: str, work: Callable[[Callable[[], None]], T], *, seconds: float = STALL_SECONDS) -> T:
    """What `work` returns or raises, in a thread of its own that is left behind once it stands still for `seconds`.

    `work` is given a function to call whenever it has got on. `place` is what would hang as a whole, such as the folder
    of a source: where many threads have been left behind at one, further work fails at once.

    Raises `RetryableError`, which names `name`, if it stands still.
    """
    with _lock:
        _hung[place] = [thread for thread in _hung[place] if thread.is_alive()]
        if len(_hung[place]) >= HUNG_AT_MOST:
            raise RetryableError(f"{name}: {HUNG_AT_MOST} earlier calls in {place} have not been answered yet")
    ended = threading.Event()
    answers: list[T] = []
    errors: list[BaseException] = []
    beats = [0]

    def got_on() -> None:
        beats[0] += 1

    def run() -> None:
        try:
            answers.append(work(got_on))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=run, name=f"in time: {place}", daemon=True)
    thread.start()
    clock = AwakeClock()
    seen, since = 0, 0.0
    while not ended.wait(min(_LOOK_SECONDS, seconds)):
        now = clock()
        if beats[0] != seen:
            seen, since = beats[0], now
        elif now - since >= seconds:
            with _lock:
                _hung[place].append(thread)
            raise RetryableError(f"{name}: no answer for {seconds:g} s: its disk or mount seems to hang")
    if errors:
        raise errors[0]
    return answers[0]
