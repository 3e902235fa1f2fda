"""How many files are in flight: enough for the workers, and no more."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from exr_pipeline.ingest.in_flight import InFlight

WORKERS = 2
FILES = 60


class Line:
    """Files that take so many steps to fetch, whatever else is fetched, and so many at one of two workers."""

    def __init__(self, fetching: int, working: int) -> None:
        self.fetching, self.working = fetching, working
        self.in_flight = InFlight(WORKERS)
        self.workers = asyncio.Semaphore(WORKERS)
        self.left = list(range(FILES))
        self.ended: list[int] = []
        self.now = self.most = self.before_first = 0

    async def work(self) -> None:
        while self.left:
            file = self.left.pop(0)
            self.now += 1
            self.most = max(self.most, self.now)
            await steps(self.fetching)
            self.before_first = self.before_first or self.now
            with self.in_flight.at_workers():
                async with self.workers:
                    await steps(self.working)
            self.ended.append(file)
            self.now -= 1


async def steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def run(line: Line, work: Callable[[], Coroutine[Any, Any, None]] | None = None, most: int = 16) -> None:
    asyncio.run(line.in_flight.run(work or line.work, most=most))


def test_fetching_begins_with_a_file_for_each_worker_and_stays_one_ahead_of_each_where_that_is_enough() -> None:
    line = Line(fetching=5, working=50)
    run(line)
    assert sorted(line.ended) == list(range(FILES))
    assert line.before_first == WORKERS
    assert line.most == 2 * WORKERS


def test_more_are_fetched_at_once_where_workers_would_wait_but_not_more_than_allowed() -> None:
    line = Line(fetching=50, working=5)
    run(line)
    assert sorted(line.ended) == list(range(FILES))
    assert line.most == 16


def test_after_an_error_the_others_end_what_they_are_at() -> None:
    line = Line(fetching=1, working=1)
    ended: list[int] = []

    async def work() -> None:
        with line.in_flight.at_workers():
            await steps(len(ended) + 1)
            ended.append(len(ended))
            if len(ended) < 3:
                raise ValueError(f"file {len(ended)}")

    with pytest.raises(ValueError, match="file 1"):
        run(line, work, most=4)
    assert ended == [0, 1, 2, 3]


def test_nothing_goes_on_once_it_is_cancelled() -> None:
    async def cancelled_soon() -> tuple[int, int]:
        line = Line(fetching=5, working=10**9)
        task = asyncio.create_task(line.in_flight.run(line.work, most=16))
        await steps(50)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return line.now, len(asyncio.all_tasks())

    assert asyncio.run(cancelled_soon()) == (2 * WORKERS, 1)
