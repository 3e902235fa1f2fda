"""How far long work is, in the log of its run, every few seconds.

Belongs here: when and how it is told. Not here: the work.
"""

import time
from collections.abc import Callable
from typing import Final

import dagster as dg

SECONDS_BETWEEN_PROGRESS: Final = 5.0

# What is being done, how much of it is done, and of how much if that is known.
OnStepProgress = Callable[[str, int, int | None], None]


def logged(context: dg.OpExecutionContext) -> OnStepProgress:
    """Progress into the log of the run: the first and the last of each kind of work, and every few seconds between."""
    told: dict[str, float] = {}

    def log(what: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done == total or what not in told or now - told[what] >= SECONDS_BETWEEN_PROGRESS:
            told[what] = now
            context.log.info(f"{what}: {done}" + ("" if total is None else f" of {total}"))

    return log
