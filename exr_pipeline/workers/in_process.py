"""A pool without processes, for platforms that have none to give: each call is made in this process, one at a time.

Belongs here: that stand-in for `pool.WorkerPool`. Not here: limits and second attempts, which the platform has. AWS
Lambda has no shared memory for the locks of `multiprocessing`; there a crash or a hang ends one invocation.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from exr_pipeline.errors import BadInputError, ExrPipelineError, RetryableError
from exr_pipeline.extras import require
from exr_pipeline.storage.machine_errors import machine_trouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")


class InProcessPool:
    """Use as a context manager. Raises `MisconfiguredError` without the extra `pictures`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")

    def __enter__(self) -> Self:
        require("pictures")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=error is not None)

    def call(
        self, function: Callable[P, T], name: str, timeout: float | None, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Call a function; `name` is the input's, for errors. `timeout` is the platform's to hold."""
        return self._thread.submit(_typed, partial(function, *args, **kwargs), name)


def _typed(function: Callable[[], T], name: str) -> T:
    try:
        return function()
    except ExrPipelineError:
        raise
    except MemoryError as error:
        raise RetryableError(f"{name}: this function has too little memory for it") from error
    except Exception as error:
        if trouble := machine_trouble(error):
            raise RetryableError(f"{name}: {trouble}") from error
        reason = " ".join(str(error).split())
        raise BadInputError(name, f"cannot render the picture: {type(error).__name__}: {reason}") from error
