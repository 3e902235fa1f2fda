"""What work tells of itself: how long a stage took, how many bytes, what was tried again, and spans of traces.

Belongs here: the calls that work makes. They do nothing until `start` has been told where to send things. Not here:
what there is to count (`instruments`), or where it goes (`start`).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from exr_pipeline.telemetry.instruments import STAGE_BYTES, STAGE_SECONDS
from exr_pipeline.telemetry.trace_context import current_traceparent, in_trace, is_traceparent, traceparent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from opentelemetry.trace import Span, Tracer

    from exr_pipeline.telemetry.instruments import Metric


class Recorder:
    """The instruments and the tracer of this process. `instruments`, of prometheus_client, are by their metric."""

    def __init__(self, instruments: Mapping[Metric, Any], tracer: Tracer | None) -> None:
        self._instruments, self.tracer = instruments, tracer
        # With the labels that were seen: to look them up takes longer than to count.
        self._bound: dict[tuple[Metric, tuple[str, ...]], Callable[[float], None]] = {}

    def add(self, metric: Metric, value: float, *labels: str) -> None:
        """Count, observe or set, as the metric's kind has it."""
        bound = self._bound.get((metric, labels))
        if bound is None:
            if metric not in self._instruments:
                return
            instrument = self._instruments[metric]
            child = instrument.labels(*labels) if metric.labels else instrument
            bound = getattr(child, {"counter": "inc", "gauge": "set", "histogram": "observe"}[metric.kind])
            self._bound[metric, labels] = bound
        bound(value)


_recorder: Recorder | None = None


def use_recorder(recorder: Recorder | None) -> None:
    """Have this process record with it; None records nothing any more."""
    global _recorder
    _recorder = recorder


def is_recording() -> bool:
    """Whether anything is recorded in this process."""
    return _recorder is not None


def has_tracer() -> bool:
    """Whether spans are recorded in this process."""
    return _recorder is not None and _recorder.tracer is not None


def record(metric: Metric, *labels: str, value: float = 1) -> None:
    """Add to a counter, observe a value of a histogram, or set a gauge. Labels are in the order of the metric's."""
    if _recorder is not None:
        _recorder.add(metric, value, *labels)


def record_stage(name: str, seconds: float, size_bytes: int = 0) -> None:
    """Observe a stage that took so many seconds, elsewhere as in a worker process, and moved so many bytes."""
    if _recorder is not None:
        _recorder.add(STAGE_SECONDS, seconds, name)
        if size_bytes:
            _recorder.add(STAGE_BYTES, size_bytes, name)


class stage:  # noqa: N801 - used as a function
    """Observe what a block takes, also if it fails. `size_bytes` of what is moved is set by the block.

    `with_span` gives it a span of its own, within a span that is recorded.
    """

    __slots__ = ("_name", "_span", "_started", "size_bytes")

    def __init__(self, name: str, *, with_span: bool = True) -> None:
        self._name, self.size_bytes, self._started = name, 0, 0.0
        self._span = span(name) if with_span and has_tracer() and current_traceparent() is not None else None

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        if self._span is not None:
            self._span.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._span is not None:
            self._span.__exit__(kind, error, trace)
        record_stage(self._name, time.perf_counter() - self._started, self.size_bytes)


@contextmanager
def span(name: str, *, parent: str | None = None, **attributes: str | float) -> Iterator[str | None]:
    """A span around the block; gives its traceparent.

    It continues the trace of `parent`, a traceparent, with a link to the span around it; else it is part of the span
    around it, or begins a trace. Where spans are not recorded, the trace of `parent` is passed on as it is.
    """
    parent = parent if is_traceparent(parent) else None
    if _recorder is None or _recorder.tracer is None:
        with in_trace(parent or current_traceparent()) as traceparent:
            yield traceparent
        return
    with _started(_recorder.tracer, name, parent, attributes) as started, in_trace(_of(started)) as traceparent:
        yield traceparent


def _of(started: Span) -> str | None:
    context = started.get_span_context()
    return traceparent_of(context.trace_id, context.span_id, context.trace_flags) if context.is_valid else None


def _started(tracer: Tracer, name: str, parent: str | None, attributes: dict[str, str | float]) -> Any:
    from opentelemetry.trace import Link, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if parent is None:
        return tracer.start_as_current_span(name, attributes=attributes)
    context = TraceContextTextMapPropagator().extract({"traceparent": parent})
    around = get_current_span().get_span_context()
    links = [Link(around)] if around.is_valid else []
    return tracer.start_as_current_span(name, context=context, attributes=attributes, links=links)
