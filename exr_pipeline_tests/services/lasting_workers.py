"""Worker processes that outlive the pool they were started for: the next pool of the same kind takes them over.

Workers that read storage keep the clouds' variables they were started with, so these are part of the kind.

Belongs here: saving tests the seconds in which workers load their libraries. Not here: tests of the workers themselves,
which start their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import pytest

from exr_pipeline.workers.pool import WorkerPool
from exr_pipeline.workers.spawning import environment_with_cloud, environment_without_secrets


def _kind(pool: WorkerPool) -> tuple[object, ...]:
    inherited = set(environment_with_cloud().items()) - set(environment_without_secrets().items())
    return pool._workers, pool._memory_mb, pool._reads_storage, frozenset(inherited if pool._reads_storage else ())


class LastingWorkers:
    """Workers that wait for the next pool."""

    def __init__(self) -> None:
        self._idle: dict[tuple[object, ...], list[Any]] = defaultdict(list)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Until the end of the block, pools take workers that wait, and leave theirs if they end as they should."""
        add, leave, idle = WorkerPool._add_pool, WorkerPool.__exit__, self._idle

        def add_idle(pool: WorkerPool) -> None:
            if left := idle[_kind(pool)]:
                pool._pools.append(left.pop())
            else:
                add(pool)

        def leave_workers(
            pool: WorkerPool, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            left = pool._pools.pop() if error is None and len(pool._pools) == 1 and pool._pools[0].active else None
            leave(pool, kind, error, trace)  # waits for submitted work, ends the others
            if left is not None:
                idle[_kind(pool)].append(left)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(WorkerPool, "_add_pool", add_idle)
            patch.setattr(WorkerPool, "__exit__", leave_workers)
            yield

    def end(self) -> None:
        """End those that wait."""
        for pools in self._idle.values():
            for pool in pools:
                pool.stop()
                pool.join()
        self._idle.clear()
