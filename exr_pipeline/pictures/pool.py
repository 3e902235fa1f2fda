"""Worker processes that render pictures, each file on its own: a bad one costs its worker, never its neighbours.

Belongs here: processes, limits, and what their ends mean. Not here: rendering. Imports nothing heavy, so that a worker
can set its limits before anything heavy is loaded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Final, Self

from exr_pipeline.errors import BadInputError, ExrPipelineError

if TYPE_CHECKING:
    from types import TracebackType

    from exr_pipeline.pictures.picture_settings import PictureSettings
    from exr_pipeline.pictures.results import RenderedPictures

# Every worker is one thread; the libraries would otherwise start one per processor each.
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


class PicturePool:
    """`settings.workers` processes; use as a context manager, which ends them all.

    Entering raises `MisconfiguredError` if the OCIO config cannot be used. Leaving waits for submitted files, or drops
    them if an exception is on its way. Workers also end when this process dies, however it dies.
    """

    def __init__(self, settings: PictureSettings) -> None:
        self._settings = settings
        self._pool: Any = None

    def __enter__(self) -> Self:
        import pebble

        from exr_pipeline.pictures.colour import load_config
        from exr_pipeline.pictures.spawning import spawn_context

        load_config(self._settings)
        self._pool = pebble.ProcessPool(
            max_workers=self._settings.workers,
            initializer=_prepare_worker,
            initargs=(self._settings.worker_memory_mb,),
            context=spawn_context(),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()

    def submit(self, path: str, name: str, *, thumbnail: bool = True, proxy: bool = True) -> Future[RenderedPictures]:
        """Render a local file as `render` does, in some worker; see there for the arguments.

        The future raises `BadInputError` for that file also if its worker is killed, takes longer than
        `worker_timeout_seconds` or needs more than `worker_memory_mb`. Cancelling it ends the work.
        """
        answer: Future[RenderedPictures] = Future()
        work = self._pool.schedule(
            _render,
            args=(path, name, thumbnail, proxy, self._settings),
            timeout=self._settings.worker_timeout_seconds,
        )

        def cancelled(future: Future[RenderedPictures]) -> None:
            if future.cancelled():
                work.cancel()

        def done(future: Any) -> None:
            if answer.cancelled() or not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(future.result())
            except CancelledError:
                answer.set_exception(CancelledError())
            except Exception as error:  # noqa: BLE001 - whatever a worker ends with is this one file's outcome
                answer.set_exception(self._outcome(name, error))

        answer.add_done_callback(cancelled)
        work.add_done_callback(done)
        return answer

    def _outcome(self, name: str, error: Exception) -> Exception:
        import pebble

        if isinstance(error, ExrPipelineError):
            return error
        if isinstance(error, FutureTimeoutError):
            return BadInputError(name, f"took longer than {self._settings.worker_timeout_seconds:g} s")
        if isinstance(error, MemoryError):
            return BadInputError(name, f"needs more than {self._settings.worker_memory_mb} MiB of memory")
        if isinstance(error, pebble.ProcessExpired):
            return BadInputError(name, f"its worker process died ({_cause_of_death(error.exitcode)})")
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
    from multiprocessing.connection import wait

    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def _render(path: str, name: str, thumbnail: bool, proxy: bool, settings: PictureSettings) -> RenderedPictures:
    from exr_pipeline.pictures.render import render

    return render(path, name, thumbnail=thumbnail, proxy=proxy, settings=settings)
