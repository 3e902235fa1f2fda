"""Telemetry of this process: whether there is any, when it is sent, and its end.

Belongs here: the instruments, and the threads that send what they hold. Not here: what is recorded (`recording`), or
the forms in which it leaves (`otlp`, `sums`, `exposition`).
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline import __version__
from exr_pipeline.extras import require
from exr_pipeline.telemetry.instruments import METRICS
from exr_pipeline.telemetry.otlp import NAME, MetricSender, metric_interval, sends, tracer_provider
from exr_pipeline.telemetry.recording import Recorder, is_recording, use_recorder
from exr_pipeline.telemetry.sums import Sample, Sums, SumsWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.trace import Tracer

    from exr_pipeline.settings import Settings
    from exr_pipeline.telemetry.instruments import Metric

log = logging.getLogger(__name__)

# How long whoever has done work waits until what it recorded is sent.
FLUSH_SECONDS: Final = 2.0
_SUMS_SECONDS: Final = 5.0
# From a header in memory to a long movie.
_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Telemetry:
    """What of this process is under way: the registry of its instruments, and what sends them."""

    def __init__(self) -> None:
        self._repeating: list[Repeating] = []
        self._tracers: Any = None
        self._of_tables: Callable[[], Sequence[Sample]] = lambda: ()

    def tracer(self) -> Tracer:
        """A tracer whose spans go to the collector."""
        self._tracers = tracer_provider()
        return self._tracers.get_tracer(NAME, __version__)  # type: ignore[no-any-return]

    def instruments(self, settings: Settings) -> dict[Metric, Any]:
        """The instruments of all that work counts. What they hold goes to the sums and to the collector."""
        import prometheus_client as client

        registry = client.CollectorRegistry()
        made: dict[str, Any] = {"counter": client.Counter, "gauge": client.Gauge, "histogram": client.Histogram}
        counted = [metric for metric in METRICS if metric.origin == "work"]
        if settings.counts_metrics:
            writer = SumsWriter(Sums.of(settings))
            self._repeating.append(Repeating(_SUMS_SECONDS, lambda: writer.write(*_samples(registry))))
        if sends("metrics"):
            sender = MetricSender()

            def send() -> None:
                sender.send([*(sample for kind in _samples(registry) for sample in kind), *self._of_tables()])

            self._repeating.append(Repeating(metric_interval(), send, sender.close))
        return {
            metric: made[metric.kind](
                metric.name,
                metric.meaning,
                metric.labels,
                registry=registry,
                **({"buckets": _BUCKETS} if metric.kind == "histogram" else {}),
            )
            for metric in counted
        }

    def send_tables_too(self, samples: Callable[[], Sequence[Sample]]) -> None:
        """Have what the tables say go to the collector, from this process."""
        self._of_tables = samples

    def flush(self, seconds: float) -> None:
        """Send what was recorded so far. Never raises."""
        for each in self._repeating:
            each.flush(seconds)
        if self._tracers is not None:
            with suppress(Exception):
                self._tracers.force_flush(timeout_millis=int(seconds * 1000))

    def close(self) -> None:
        """Send nothing any more."""
        for each in self._repeating:
            each.close()
        if self._tracers is not None:
            self._tracers.shutdown()


class Repeating:
    """Calls something every few seconds in a thread of its own. What it raises is logged, the same only once."""

    def __init__(self, seconds: float, call: Callable[[], None], close: Callable[[], None] = lambda: None) -> None:
        self._seconds, self._call, self._close = seconds, call, close
        self._changed = threading.Condition()
        self._asked, self._answered, self._has_ended = 0, 0, False
        self._problem = ""
        threading.Thread(target=self._run, name="telemetry", daemon=True).start()

    def flush(self, seconds: float) -> None:
        """Call it now, and wait for it for some seconds at most."""
        with self._changed:
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= asked, seconds)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
        self._close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_ended or self._asked > self._answered, self._seconds)
                asked = self._asked
                if self._has_ended:
                    return
            self._call_safely()
            with self._changed:
                self._answered = asked
                self._changed.notify_all()

    def _call_safely(self) -> None:
        try:
            self._call()
            problem = ""
        except Exception as error:  # noqa: BLE001 - whoever is watched must not suffer from it
            problem = f"{type(error).__name__}: {error}"
        if problem and problem != self._problem:
            log.warning("metrics are not kept: %s", problem)
        self._problem = problem


_telemetry = Telemetry()


def start_telemetry(settings: Settings, *, tracer: Any = None) -> None:
    """Record from now on in this process, if the settings or the standard variables name a place for it.

    `tracer` is the platform's own, which is used if no collector is named. Safe to repeat: later calls do nothing.
    Raises `MisconfiguredError` if the extra is missing.
    """
    if is_recording():
        return
    traces, counts = sends("traces"), settings.counts_metrics or sends("metrics")
    if traces or counts:
        require("telemetry")
    found = _telemetry.tracer() if traces else _platforms(tracer)
    if found is None and not counts:
        return
    use_recorder(Recorder(_telemetry.instruments(settings) if counts else {}, found))
    atexit.register(stop_telemetry)


def flush_telemetry(seconds: float = FLUSH_SECONDS) -> None:
    """Send what was recorded so far, for whoever may be frozen or ended next. Never raises."""
    _telemetry.flush(seconds)


def stop_telemetry() -> None:
    """Send what is left and record nothing any more. Safe to repeat."""
    global _telemetry
    flush_telemetry()
    use_recorder(None)
    _telemetry.close()
    _telemetry = Telemetry()


def send_tables_too(samples: Callable[[], Sequence[Sample]]) -> None:
    """Have what the tables say go to the collector, from this process, if one is named."""
    _telemetry.send_tables_too(samples)


def _platforms(tracer: Any) -> Tracer | None:
    """The tracer of the platform that this process runs on: the one that it hands over, or that of its provider."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    if hasattr(tracer, "start_as_current_span"):
        return tracer  # type: ignore[no-any-return]
    provider = api.get_tracer_provider()
    return None if isinstance(provider, api.ProxyTracerProvider) else provider.get_tracer(NAME, __version__)


def _samples(registry: Any) -> tuple[list[Sample], list[Sample]]:
    """What was counted, and the values of gauges that were set."""
    counted: list[Sample] = []
    values: list[Sample] = []
    for family in registry.collect():
        for sample in (each for each in family.samples if not each.name.endswith("_created")):
            (values if family.type == "gauge" else counted).append(Sample(sample.name, sample.labels, sample.value))
    return counted, values
