"""The function as Google Cloud Run calls it: a CloudEvent of Eventarc, by the signature of functions-framework.

Belongs here: that signature. Not here: anything about events or files (`events`, `work`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from exr_pipeline.functions.answer import one_answer
from exr_pipeline.functions.work import FunctionWork


def handler(cloud_event: Any) -> dict[str, Any]:
    """Ingest the object that an event names. Raises `TryAgainError` for what may succeed later: Eventarc retries."""
    data = getattr(cloud_event, "data", None)
    kind = cloud_event["type"]
    return one_answer(_work().answer({"type": kind, "data": data, "traceparent": _traceparent(cloud_event)}))


def _traceparent(cloud_event: Any) -> Any:
    """The trace that the event says it belongs to, None if it says none."""
    try:
        return cloud_event["traceparent"]
    except KeyError:
        return None


@cache
def _work() -> FunctionWork:
    return FunctionWork()
