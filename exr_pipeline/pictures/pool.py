"""Worker processes with limits of memory and time: what goes wrong in one costs that worker, never its neighbours.

Belongs here: processes, limits, and what their ends mean. Not here: rendering. Imports nothing heavy, so that a worker
can set its limits before anything heavy is loaded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import CancelledError, Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from exr_pipeline.errors import BadInputError, ExrPipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from exr_pipeline.pictures.picture_settings import PictureSettings
    from exr_pipeline.pictures.results import RenderedPictures

# Every worker is one thread; the libraries would otherwise start one per processor each.
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_ATTEMPTS: Final = 3


P = ParamSpec("P")
T = TypeVar("T")


class WorkerEndedError(BadInputError):
    """The worker was killed, ran out of memory or time, or died, with this input; the reason says which."""


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[..., Any]
    name: str
    timeout: float | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class WorkerPool:
    """`workers` processes of one thread each; use as a context manager, which ends them all.

    Each may use `memory_mb` MiB of address space. Leaving waits for submitted work, or drops it if an exception is on
    its way. Workers also end when this process dies, however it dies.
    """

    def __init__(self, *, workers: int, memory_mb: int) -> None:
        self._workers = workers
        self._memory_mb = memory_mb
        self._lock = threading.Lock()
        # The last one is in use; those before it are broken.
        self._pools: list[Any] = []
        self._unfinished: set[Future[Any]] = set()

    def __enter__(self) -> Self:
        self._add_pool()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                wait(tuple(self._unfinished))
        finally:
            for pool in self._pools:
                pool.stop()
                pool.join()

    def call(
        self, function: Callable[P, T], name: str, timeout: float | None, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Call a function of a module in some worker; `name` is the input's, for errors.

        The future raises `WorkerEndedError` if the worker is killed, takes longer than `timeout` seconds or needs too
        much memory, `BadInputError` for what the function did not expect, else what it raises. Cancelling the future
        ends the work, by killing its worker if need be.
        """
        answer: Future[T] = Future()
        self._unfinished.add(answer)
        answer.add_done_callback(self._unfinished.discard)
        self._start(_Call(function, name, timeout, args, kwargs), answer, _ATTEMPTS)
        return answer

    def _add_pool(self) -> None:
        import pebble

        from exr_pipeline.pictures.spawning import spawn_context

        self._pools.append(
            pebble.ProcessPool(
                max_workers=self._workers,
                initializer=_prepare_worker,
                initargs=(self._memory_mb,),
                context=spawn_context(),
            )
        )

    def _schedule(self, call: _Call) -> Any:
        with self._lock:
            try:
                return self._scheduled(call)
            except RuntimeError:
                self._add_pool()
                return self._scheduled(call)

    def _scheduled(self, call: _Call) -> Any:
        return self._pools[-1].schedule(call.function, args=call.args, kwargs=call.kwargs, timeout=call.timeout)

    def _start(self, call: _Call, answer: Future[Any], attempts: int) -> None:
        work = self._schedule(call)

        def cancelled(future: Future[Any]) -> None:
            if future.cancelled():
                work.cancel()

        def done(future: Any) -> None:
            error = CancelledError() if future.cancelled() else future.exception()
            # When a worker dies that had not yet said what it works on, the library gives up on all files.
            if isinstance(error, BrokenProcessPool) and attempts > 1 and not answer.cancelled():
                self._start(call, answer, attempts - 1)
            elif not answer.set_running_or_notify_cancel():
                return
            elif error is None:
                answer.set_result(future.result())
            else:
                answer.set_exception(self._outcome(call, error))

        answer.add_done_callback(cancelled)
        work.add_done_callback(done)

    def _outcome(self, call: _Call, error: BaseException) -> BaseException:
        import pebble

        name = call.name
        if isinstance(error, (ExrPipelineError, CancelledError)):
            return error
        if isinstance(error, FutureTimeoutError):
            return WorkerEndedError(name, f"took longer than {call.timeout:g} s")
        if isinstance(error, MemoryError):
            return WorkerEndedError(name, f"needs more than {self._memory_mb} MiB of memory")
        if isinstance(error, pebble.ProcessExpired):
            return WorkerEndedError(name, f"its worker process died ({_cause_of_death(error.exitcode)})")
        if isinstance(error, BrokenProcessPool):
            return WorkerEndedError(name, f"worker processes died {_ATTEMPTS} times before it was done")
        reason = " ".join(str(error).split())
        return BadInputError(name, f"no picture could be made: {type(error).__name__}: {reason}")


@contextlib.contextmanager
def given_or_own(pool: WorkerPool | None, settings: PictureSettings) -> Iterator[WorkerPool]:
    """A pool that somebody has open already, else one for the length of the block: starting workers takes seconds."""
    if pool is not None:
        yield pool
        return
    with WorkerPool(workers=settings.workers, memory_mb=settings.worker_memory_mb) as own:
        yield own


class PicturePool(WorkerPool):
    """`settings.workers` processes that render files. Entering raises `MisconfiguredError` for a bad OCIO config."""

    def __init__(self, settings: PictureSettings) -> None:
        super().__init__(workers=settings.workers, memory_mb=settings.worker_memory_mb)
        self._settings = settings

    def __enter__(self) -> Self:
        from exr_pipeline.pictures.colour import load_config

        load_config(self._settings)
        return super().__enter__()

    def submit(self, path: str, name: str, *, thumbnail: bool = True, proxy: bool = True) -> Future[RenderedPictures]:
        """Render a local file as `render` does, in some worker; see there for the arguments, and `call`."""
        timeout = self._settings.worker_timeout_seconds
        return self.call(_render, name, timeout, path, name, thumbnail, proxy, self._settings)


def _cause_of_death(exit_code: int) -> str:
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit status {exit_code}"


def _prepare_worker(memory_mb: int) -> None:
    """Limits and clean-up of a worker process, before it loads any library."""
    import multiprocessing
    import resource

    for variable in _ONE_THREAD:
        os.environ[variable] = "1"
    limit = memory_mb << 20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _share_freed_memory()
    parent = multiprocessing.parent_process()
    assert parent is not None
    # Not PR_SET_PDEATHSIG: that is bound to the thread that started the worker, which may end long before its process.
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _share_freed_memory() -> None:
    """Have all threads take memory from the same two places.

    glibc has up to eight per core, each of which keeps what its threads have freed: movie after movie, a worker grows.
    """
    import ctypes

    libc = ctypes.CDLL(None)
    # M_ARENA_MAX of malloc.h; other C libraries have their own ways.
    if hasattr(libc, "mallopt"):
        libc.mallopt(-8, 2)


def _end_with(sentinel: int) -> None:
    from multiprocessing import connection

    connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def _render(path: str, name: str, thumbnail: bool, proxy: bool, settings: PictureSettings) -> RenderedPictures:
    from exr_pipeline.pictures.render import render

    return render(path, name, thumbnail=thumbnail, proxy=proxy, settings=settings)
