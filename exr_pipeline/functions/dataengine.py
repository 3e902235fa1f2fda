"""The function as VAST DataEngine calls it: `init`, `handler`, and a handler of batches.

Belongs here: what only this platform has. Not here: anything about events or files (`events`, `work`). The runtime is
not imported: contexts and events are used by what they can do, so that both of its generations work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.functions.answer import one_answer
from exr_pipeline.functions.work import FunctionWork

if TYPE_CHECKING:
    from exr_pipeline.functions.answer import Answer

_ATTRIBUTE: Final = "exr_pipeline_work"
# Of 5.5, and of those before it.
_RUNTIMES: Final = ("vast.dataengine.sdk", "vast_runtime.vast_event")


def init(ctx: Any) -> None:
    """Open what all calls share. Called by the runtime once per process, before the first event."""
    work = FunctionWork(
        secrets=getattr(ctx, "secrets", None), log=getattr(ctx, "logger", None), tracer=getattr(ctx, "tracer", None)
    )
    setattr(ctx, _ATTRIBUTE, work)


def handler(ctx: Any, event: Any) -> Answer:
    """Ingest the object that an event names. An event that names several is answered with all of their `results`.

    Raises `TryAgainError` for what may succeed later: only an exception makes the platform send the event again.
    """
    return one_answer(_work(ctx).answer(event))


def batch_handler(ctx: Any, events: Sequence[Any]) -> list[Answer]:
    """Ingest what a batch of events names, in one transaction; an answer for each event, in order.

    Raises `TryAgainError` as `handler` does: then the whole batch is sent again, which changes nothing for those done.
    """
    return [one_answer(answers) for answers in _work(ctx).answer_all(list(events))]


def batching(function: Callable[[Any, Sequence[Any]], list[Answer]]) -> Any:
    """`function` with the runtime's decorator for batches, wherever this generation of it keeps it.

    Raises `ImportError` outside the runtime.
    """
    for module in _RUNTIMES:
        try:
            decorator = import_module(module).event_batching_handler
        except ImportError:
            continue
        return decorator(function)
    raise ImportError("this is not a runtime of VAST DataEngine: call batch_handler itself")


def _work(ctx: Any) -> FunctionWork:
    if getattr(ctx, _ATTRIBUTE, None) is None:
        init(ctx)
    work: FunctionWork = getattr(ctx, _ATTRIBUTE)
    return work
