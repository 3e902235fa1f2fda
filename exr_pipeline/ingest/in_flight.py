"""How many files are in flight at the same time: no more than keep the picture workers busy.

Belongs here: how many. Not here: what happens to a file in flight (`ingest.chunk`).
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


class InFlight:
    """Files between their fetching and their uploads, in the beginning one for each of `workers`.

    Many at once would share the line to the store, and the first would come as late as the last. So there is one more
    only when a file has come for which a worker had been waiting.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._at_workers = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._another: Callable[[], None] = lambda: None

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]], *, most: int) -> None:
        """Run `work`, which takes one file after another, as often at the same time as it needs, at most `most` times.

        Ends when all have ended; raises what the first of those raised that did.
        """

        def another() -> None:
            if len(self._tasks) < most:
                self._tasks.append(asyncio.create_task(work()))

        self._another = another
        for _ in range(self._workers):
            another()
        try:
            for task in self._tasks:  # Which may become more meanwhile.
                await asyncio.wait([task])
        finally:
            # Some are left only where this was cancelled.
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in self._tasks:
            task.result()

    @contextmanager
    def at_workers(self) -> Iterator[None]:
        """While workers have the file, or it waits for one of them."""
        if self._at_workers < self._workers:
            self._another()
        self._at_workers += 1
        try:
            yield
        finally:
            self._at_workers -= 1
