"""Worker processes that render pictures, each file on its own: a bad one costs its worker, never its neighbours.

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
from typing import TYPE_CHECKING, Any, Final, Self

from exr_pipeline.errors import BadInputError, ExrPipelineError

if TYPE_CHECKING:
    from types import TracebackType

    from exr_pipeline.pictures.picture_settings import PictureSettings
    from exr_pipeline.pictures.results import RenderedPictures

# Every worker is one thread; the libraries would otherwise start one per processor each.
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_ATTEMPTS: Final = 3


class PicturePool:
    """`settings.workers` processes; use as a context manager, which ends them all.

    Entering raises `MisconfiguredError` if the OCIO config cannot be used. Leaving waits for submitted files, or drops
    them if an exception is on its way. Workers also end when this process dies, however it dies.
    """

    def __init__(self, settings: PictureSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        # The last one is in use; those before it are broken.
        self._pools: list[Any] = []
        self._unfinished: set[Future[RenderedPictures]] = set()

    def __enter__(self) -> Self:
        from exr_pipeline.pictures.colour import load_config

        load_config(self._settings)
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

    def submit(self, path: str, name: str, *, thumbnail: bool = True, proxy: bool = True) -> Future[RenderedPictures]:
        """Render a local file as `render` does, in some worker; see there for the arguments.

        The future raises `BadInputError` for that file also if its worker is killed, takes longer than
        `worker_timeout_seconds` or needs more than `worker_memory_mb`. Cancelling it ends the work.
        """
        answer: Future[RenderedPictures] = Future()
        self._unfinished.add(answer)
        answer.add_done_callback(self._unfinished.discard)
        self._start((path, name, thumbnail, proxy, self._settings), answer, _ATTEMPTS)
        return answer

    def _add_pool(self) -> None:
        import pebble

        from exr_pipeline.pictures.spawning import spawn_context

        self._pools.append(
            pebble.ProcessPool(
                max_workers=self._settings.workers,
                initializer=_prepare_worker,
                initargs=(self._settings.worker_memory_mb,),
                context=spawn_context(),
            )
        )

    def _schedule(self, arguments: tuple[Any, ...]) -> Any:
        timeout = self._settings.worker_timeout_seconds
        with self._lock:
            try:
                return self._pools[-1].schedule(_render, args=arguments, timeout=timeout)
            except RuntimeError:
                self._add_pool()
                return self._pools[-1].schedule(_render, args=arguments, timeout=timeout)

    def _start(self, arguments: tuple[Any, ...], answer: Future[RenderedPictures], attempts: int) -> None:
        work = self._schedule(arguments)

        def cancelled(future: Future[RenderedPictures]) -> None:
            if future.cancelled():
                work.cancel()

        def done(future: Any) -> None:
            error = CancelledError() if future.cancelled() else future.exception()
            # When a worker dies that had not yet said what it works on, the library gives up on all files.
            if isinstance(error, BrokenProcessPool) and attempts > 1 and not answer.cancelled():
                self._start(arguments, answer, attempts - 1)
            elif not answer.set_running_or_notify_cancel():
                return
            elif error is None:
                answer.set_result(future.result())
            else:
                answer.set_exception(self._outcome(arguments[1], error))

        answer.add_done_callback(cancelled)
        work.add_done_callback(done)

    def _outcome(self, name: str, error: BaseException) -> BaseException:
        import pebble

        if isinstance(error, (ExrPipelineError, CancelledError)):
            return error
        if isinstance(error, FutureTimeoutError):
            return BadInputError(name, f"took longer than {self._settings.worker_timeout_seconds:g} s")
        if isinstance(error, MemoryError):
            return BadInputError(name, f"needs more than {self._settings.worker_memory_mb} MiB of memory")
        if isinstance(error, pebble.ProcessExpired):
            return BadInputError(name, f"its worker process died ({_cause_of_death(error.exitcode)})")
        if isinstance(error, BrokenProcessPool):
            return BadInputError(name, f"worker processes died {_ATTEMPTS} times before it was done")
        reason = " ".join(str(error).split())
        return BadInputError(name, f"no picture could be made: {type(error).__name__}: {reason}")


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
    parent = multiprocessing.parent_process()
    assert parent is not None
    # Not PR_SET_PDEATHSIG: that is bound to the thread that started the worker, which may end long before its process.
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    from multiprocessing import connection

    connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def _render(path: str, name: str, thumbnail: bool, proxy: bool, settings: PictureSettings) -> RenderedPictures:
    from exr_pipeline.pictures.render import render

    return render(path, name, thumbnail=thumbnail, proxy=proxy, settings=settings)
