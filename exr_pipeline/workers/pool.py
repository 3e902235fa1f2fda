"""Worker processes with limits of memory and time: what goes wrong in one costs that worker, never its neighbours.

Belongs here: processes, limits, and what their ends mean. Not here: rendering. Imports nothing heavy, so that a worker
can set its limits before anything heavy is loaded.

A file is blamed only for what its worker did by itself: using up its processor time or memory, or crashing, the latter
two also when it is tried again alone in a fresh process. Whatever stops or kills a worker from outside is no evidence.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter, deque
from concurrent.futures import CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from exr_pipeline.errors import BadInputError, ExrPipelineError, RetryableError
from exr_pipeline.extras import require
from exr_pipeline.storage.deadlines import AwakeClock
from exr_pipeline.storage.machine_errors import machine_trouble
from exr_pipeline.workers.messages import print_to, worker_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from types import TracebackType


# Every worker is one thread; the libraries would otherwise start one per processor each.
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_ATTEMPTS: Final = 3
# Signals that a process raises by what it does. Any other comes from outside, as of the kernel that lacks memory.
_CRASHES: Final = frozenset({"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"})
# A busy machine gives a worker a fraction of a processor. One that needs longer by the clock than this is not working.
_CLOCK_FACTOR: Final = 10
_CLOCK_SECONDS: Final = 600.0
_TICK_SECONDS: Final = 0.2
# A pipe's lock that could not be had at so many looks in a row, for so long each, is held by nobody who lives.
_STUCK_LOOKS: Final = 5
_LOCK_SECONDS: Final = 1.0


P = ParamSpec("P")
T = TypeVar("T")


class WorkerEndedError(BadInputError):
    """The worker crashed, or reached its limit of memory or processor time, with this input; the reason says which."""


class WorkerLostError(RetryableError):
    """The worker was killed or stopped by something else than its input, twice; `reason` is one line without a name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type[WorkerLostError], tuple[str, str]]:
        return type(self), (self.name, self.reason)


def clock_limit(processor_seconds: float) -> float:
    """How long a worker with this limit of processor time may take by the clock."""
    return min(_CLOCK_FACTOR * processor_seconds, processor_seconds + _CLOCK_SECONDS)


@contextlib.contextmanager
def processor_limit(seconds: float | None) -> Iterator[None]:
    """Have the system end this process if it uses more seconds of processor time within the block.

    Not the clock's: a process that is stopped, or waits for the processor or a disk, uses none.
    """
    if seconds is None:
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@dataclass(eq=False, slots=True)
class _Call:
    """What a worker is asked to do. It is `alone` at its second attempt; `began` once a worker has it."""

    function: Callable[..., Any]
    name: str
    timeout: float | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: Future[Any]
    attempts: int = _ATTEMPTS
    alone: bool = False
    began: float | None = None
    stood_still: bool = False


class WorkerPool:
    """`workers` processes of one thread each; use as a context manager, which ends them all.

    Each may use `memory_mb` MiB of address space. Leaving waits for submitted work, or drops it if an exception is on
    its way. Workers also end when this process dies, however it dies. Those that fetch from storage themselves
    (`reads_storage`) inherit credentials, the others none.

    Raises `MisconfiguredError` without the extra `pictures`: no worker has anything to decode with.
    """

    def __init__(self, *, workers: int, memory_mb: int, reads_storage: bool = False) -> None:
        self._workers = workers
        self._reads_storage = reads_storage
        self._memory_mb = memory_mb
        self._lock = threading.RLock()
        # The last one is in use; those before it are broken.
        self._pools: list[Any] = []
        self._single: list[Any] = []
        self._unfinished: set[Future[Any]] = set()
        self._working: dict[_Call, Any] = {}
        # Calls that cost a worker wait until no other is at work, and others wait while one of them is.
        self._suspects: deque[_Call] = deque()
        self._held: deque[_Call] = deque()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watch workers", daemon=True)

    def __enter__(self) -> Self:
        require("pictures")
        self._add_pool()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                wait(tuple(self._unfinished))
        finally:
            self._over.set()
            self._watcher.join()
            for pool in (*self._pools, *self._single):
                pool.stop()
                pool.join()
            worker_messages().flush()

    def call(
        self, function: Callable[P, T], name: str, timeout: float | None, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Call a function of a module in some worker; `name` is the input's, for errors.

        The function may use `timeout` seconds of processor time. If its worker dies, stands still or lacks memory, it
        is called once more, in a fresh process while no other worker is at work.

        The future raises `WorkerEndedError` if the worker crashes or reaches a limit, `WorkerLostError` if it is
        killed or stopped from outside, `RetryableError` for a full disk and the like, `BadInputError` for what the
        function did not expect, else what it raises. Cancelling the future ends the work, by killing its worker if need
        be.
        """
        answer: Future[T] = Future()
        self._unfinished.add(answer)
        answer.add_done_callback(self._unfinished.discard)
        self._start(_Call(function, name, timeout, args, kwargs, answer))
        return answer

    def _add_pool(self) -> None:
        self._pools.append(self._new_pool(self._workers))

    def _new_pool(self, workers: int, **options: Any) -> Any:
        import pebble

        from exr_pipeline.workers.spawning import spawn_context

        return pebble.ProcessPool(
            max_workers=workers,
            initializer=_prepare_worker,
            initargs=(self._memory_mb, worker_messages().writer),
            context=spawn_context(with_credentials=self._reads_storage),
            **options,
        )

    def _schedule(self, call: _Call) -> Any:
        arguments = (call.timeout, call.function, call.args, call.kwargs)
        with self._lock:
            pools = self._single if call.alone else self._pools
            with contextlib.suppress(RuntimeError, IndexError):
                return pools[-1].schedule(_work, args=arguments)
            if call.alone:
                self._single.append(self._new_pool(1, max_tasks=1))
            else:
                self._add_pool()
            return pools[-1].schedule(_work, args=arguments)

    def _start(self, call: _Call) -> None:
        with self._lock:
            if not call.alone and any(working.alone for working in self._working):
                self._held.append(call)
                return
            work = self._working[call] = self._schedule(call)

        def cancelled(answer: Future[Any]) -> None:
            if answer.cancelled():
                work.cancel()

        call.answer.add_done_callback(cancelled)
        work.add_done_callback(lambda future: self._ended(call, future))

    def _ended(self, call: _Call, future: Any) -> None:
        with self._lock:
            self._working.pop(call, None)
        error = CancelledError() if future.cancelled() else future.exception()
        try:
            if call.answer.cancelled():
                call.answer.set_running_or_notify_cancel()
            elif self._begins_again(call, error) or not call.answer.set_running_or_notify_cancel():
                pass
            elif error is None:
                call.answer.set_result(future.result())
            else:
                call.answer.set_exception(self._outcome(call, error))
        finally:
            self._go_on()

    def _begins_again(self, call: _Call, error: BaseException | None) -> bool:
        import pebble

        call.began = None
        # When a worker dies that had not yet said what it works on, the library gives up on all files.
        if isinstance(error, BrokenProcessPool) and call.attempts > 1:
            call.attempts -= 1
            self._start(call)
            return True
        cost_a_worker = call.stood_still or isinstance(error, (pebble.ProcessExpired, BrokenProcessPool, MemoryError))
        if error is None or call.alone or not cost_a_worker or _used_up_its_time(error):
            return False
        call.alone, call.stood_still, call.attempts = True, False, _ATTEMPTS
        with self._lock:
            self._suspects.append(call)
        return True

    def _go_on(self) -> None:
        """Start what has waited for a call that has ended."""
        with self._lock:
            if self._working:
                return
            waiting = self._held
            self._held = deque()
            if not waiting and self._suspects:
                waiting.append(self._suspects.popleft())
        for call in waiting:
            self._start(call)

    def _watch(self) -> None:
        """End workers that take far longer than the processor time that they may use: they are stopped, or wait.

        And all workers of a pool in which one was killed while it held what the others need to receive and to answer.
        """
        clock = AwakeClock()
        stuck: Counter[Any] = Counter()
        while not self._over.wait(_TICK_SECONDS):
            now = clock()
            with self._lock:
                working = list(self._working.items())
                pools = [*self._pools, *self._single] if working else []
            for pool in pools:
                stuck[pool] = 0 if _can_talk(pool) else stuck[pool] + 1
                if stuck[pool] >= _STUCK_LOOKS:
                    stuck[pool] = 0
                    self._replace(pool)
            for call, work in working:
                if call.timeout is None or not work.running():
                    continue
                call.began = now if call.began is None else call.began
                if now - call.began > clock_limit(call.timeout):
                    call.stood_still = True
                    work.cancel()

    def _replace(self, pool: Any) -> None:
        """End the workers of a pool, so that their calls begin again, and have another one for the next calls."""
        with self._lock:
            if self._pools and pool is self._pools[-1]:
                self._add_pool()
            elif self._single and pool is self._single[-1]:
                self._single.append(self._new_pool(1, max_tasks=1))
        for worker in list(pool._pool_manager.worker_manager.workers.values()):
            worker.kill()

    def _outcome(self, call: _Call, error: BaseException) -> BaseException:
        import pebble

        name = call.name
        if call.stood_still and call.timeout is not None:
            return WorkerLostError(name, f"its worker process hung for {clock_limit(call.timeout):g} s, twice")
        if isinstance(error, (ExrPipelineError, CancelledError)):
            return error
        if isinstance(error, MemoryError):
            return WorkerEndedError(name, f"processing takes more than {self._memory_mb} MiB of memory")
        if isinstance(error, pebble.ProcessExpired):
            return _meaning_of_death(call, error.exitcode)
        if isinstance(error, BrokenProcessPool):
            return WorkerLostError(name, "worker processes died repeatedly before they started on it")
        if trouble := machine_trouble(error):
            return RetryableError(f"{name}: {trouble}")
        reason = " ".join(str(error).split())
        return BadInputError(name, f"cannot render the picture: {type(error).__name__}: {reason}")


@contextlib.contextmanager
def given_or_own(pool: WorkerPool | None, *, workers: int, memory_mb: int) -> Iterator[WorkerPool]:
    """A pool that somebody has open already, else one for the length of the block: starting workers takes seconds.

    One that is made here reads storage.
    """
    if pool is not None:
        yield pool
        return
    with WorkerPool(workers=workers, memory_mb=memory_mb, reads_storage=True) as own:
        yield own


def _can_talk(pool: Any) -> bool:
    """Whether the locks of a pool's pipes are free: but for moments, unless a worker was killed that held one."""
    channel = pool._pool_manager.worker_manager.workers_channel
    if channel is None:
        return True
    with channel.lock(timeout=_LOCK_SECONDS) as acquired:
        return bool(acquired)


def _signal_of(exit_code: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-exit_code).name
    return ""


def _used_up_its_time(error: BaseException | None) -> bool:
    return _signal_of(getattr(error, "exitcode", 0)) == "SIGPROF"


def _meaning_of_death(call: _Call, exit_code: int) -> ExrPipelineError:
    killed_by = _signal_of(exit_code)
    if killed_by == "SIGPROF":
        limit = "too much" if call.timeout is None else f"more than {call.timeout:g} s of"
        return WorkerEndedError(call.name, f"processing took {limit} processor time")
    # A worker that is asked to end by SIGTERM ends with its number as its status.
    if exit_code == signal.SIGTERM:
        killed_by = "SIGTERM"
    if killed_by and killed_by not in _CRASHES:
        hint = ": the machine may be out of memory" if killed_by == "SIGKILL" else ""
        return WorkerLostError(call.name, f"another process killed its worker process twice ({killed_by}){hint}")
    return WorkerEndedError(
        call.name,
        f"its worker process crashed ({f'killed by {killed_by}' if killed_by else f'exit status {exit_code}'})",
    )


def _work(
    processor_seconds: float | None, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> T:
    """What a worker does with a call."""
    with processor_limit(processor_seconds):
        return function(*args, **kwargs)


def _prepare_worker(memory_mb: int, messages: Connection) -> None:
    """Limits and clean-up of a worker process, before it loads any library."""
    import multiprocessing
    import resource

    print_to(messages)
    for variable in _ONE_THREAD:
        os.environ[variable] = "1"
    limit = memory_mb << 20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
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
