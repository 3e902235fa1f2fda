"""The policy of failing and trying again, one for files and sequences: how often, after which pauses, until when.

Belongs here: the numbers, what follows from them, and the loop over things that are tried one after another. Not here:
what is tried (`ingest`, `orchestration.steps`), or the retries of clients below it (`storage`, `tables.stores`,
`workers`). docs/retries.md lists all of them.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from exr_pipeline.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

T = TypeVar("T")
R = TypeVar("R")


class OutageError(RetryableError):
    """Nothing at all could be read for a while: there is no use in going on with the others."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What holds for files and sequences alike.

    - Within a step, each is tried `attempts` times. The first pause is `first_pause_seconds`, each further one
      `pause_factor` times as long. All others have their turn in between.
      With `jitter`, each pause is longer or shorter by up to this share of it, at random: where thousands of processes
      are at it, they do not all come back at the same moment.
    - After `failures_of_an_outage` failures in a row and `patience_seconds` without a success, a step stops early.
    - A step is run `step_attempts` times, `step_pause_seconds` apart, if something of it can still be tried.
    - After the run, what is `retryable` is due again once it has waited as long as it has been failing, but at least
      `EXR_PIPELINE_RETRY_AFTER_SECONDS` and at most `longest_wait_factor` times that. So the wait doubles, and after a
      long outage nothing waits longer than the outage lasted. There is no last try: a store may be away for days.
    - What may not be looked up at all waits `unreadable_wait_factor` times `EXR_PIPELINE_RETRY_AFTER_SECONDS`.
    - What is `rejected` has ended until it changes.
    """

    attempts: int = 4
    first_pause_seconds: float = 1.0
    pause_factor: int = 4
    failures_of_an_outage: int = 20
    patience_seconds: float = 30.0
    step_attempts: int = 3
    step_pause_seconds: float = 30.0
    jitter: float = 0.0
    longest_wait_factor: int = 12
    unreadable_wait_factor: int = 24

    @property
    def pauses(self) -> tuple[float, ...]:
        """The seconds between the attempts of a step."""
        return tuple(self.first_pause_seconds * self.pause_factor**number for number in range(self.attempts - 1))

    @property
    def attempts_and_pauses(self) -> tuple[float | None, ...]:
        """For each attempt, the seconds to pause after it; None for the last one."""
        return (*(pause * random.uniform(1 - self.jitter, 1 + self.jitter) for pause in self.pauses), None)  # noqa: S311 - not a secret

    def may_repeat_step(self, repeated: int) -> bool:
        """Whether a step that was repeated so many times may be run once more."""
        return repeated < self.step_attempts - 1

    def wait(self, retry_after: timedelta, failing_for: timedelta) -> timedelta:
        """How long what has been failing for so long waits for its next run."""
        return min(max(failing_for, retry_after), retry_after * self.longest_wait_factor)

    def is_due(
        self, *, now: datetime, last_tried: datetime, failing_since: datetime | None, retry_after: timedelta
    ) -> bool:
        """Whether what is `retryable` has waited long enough. `failing_since` is None where no row tells it."""
        failing_for = last_tried - (failing_since or last_tried)
        return now - last_tried >= self.wait(retry_after, failing_for)

    def is_due_unreadable(self, *, now: datetime, last_tried: datetime, retry_after: timedelta) -> bool:
        """Whether what may not be looked up has waited long enough. Rights change rarely."""
        return now - last_tried >= retry_after * self.unreadable_wait_factor


POLICY: Final = RetryPolicy()


class Patience:
    """Is over once many in a row have failed, and none has succeeded for a while.

    `what` is what did not happen, such as "file could be read".
    """

    def __init__(self, policy: RetryPolicy, what: str) -> None:
        self._policy = policy
        self._what = what
        self._failures = 0
        self._since = time.monotonic()
        self.reason = ""

    def saw(self, trouble: str | None) -> None:
        """Count how one ended: `trouble` is why it may be tried again, None if it has ended for good."""
        if trouble is not None:
            self._failures += 1
            self.reason = trouble
        else:
            self._failures, self._since = 0, time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether there is no use in going on."""
        waited = time.monotonic() - self._since
        return self._failures >= self._policy.failures_of_an_outage and waited >= self._policy.patience_seconds

    @property
    def verdict(self) -> str:
        """Why it is over, in one line."""
        seconds = time.monotonic() - self._since
        return f"no {self._what} for {seconds:.0f} s, {self._failures} failures in a row: {self.reason}"


def try_each(
    items: Sequence[T],
    attempt: Callable[[T], R],
    trouble: Callable[[R], str | None],
    policy: RetryPolicy,
    *,
    what: str,
    on_pause: Callable[[int, float, str], None],
) -> Iterator[R]:
    """Attempt each item, those in trouble again after all others; yields what each attempt ends as for good.

    `trouble` says why a result may be tried again, None if it may not. `on_pause` is called before each pause with the
    number of items left, the seconds, and the latest trouble. After the last attempt every result is yielded.

    Raises `OutageError`, which says that no `what`, once patience is over: then results not yielded have not ended.
    """
    patience = Patience(policy, what)
    left = list(items)
    for pause in policy.attempts_and_pauses:
        again: list[T] = []
        for item in left:
            if patience.is_over:
                raise OutageError(patience.verdict)
            result = attempt(item)
            reason = trouble(result)
            patience.saw(reason)
            if reason is None or pause is None:
                yield result
            else:
                again.append(item)
        if pause is None or not again:
            return
        on_pause(len(again), pause, patience.reason)
        time.sleep(pause)
        left = again
