"""Metrics and spans as OpenTelemetry sends them: to the collector that the standard variables (`OTEL_…`) name.

Belongs here: the SDK, which reads those variables itself. Not here: what is recorded (`recording`), or when it is sent
(`start`).
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from exr_pipeline import __version__
from exr_pipeline.telemetry.instruments import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exr_pipeline.telemetry.instruments import Metric
    from exr_pipeline.telemetry.sums import Sample

NAME: Final = "exr-pipeline"
_INSTANCE: Final = str(uuid4())
_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_DEFAULT_INTERVAL: Final = 60.0


def sends(signal: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the standard variables name a collector for `traces` or `metrics`."""
    upper = signal.upper()
    if (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environment.get(f"OTEL_{upper}_EXPORTER") == "none"
    ):
        return False
    return bool(environment.get(f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT") or environment.get(_ENDPOINT))


def metric_interval() -> float:
    """Seconds between two exports of metrics."""
    try:
        return max(float(os.environ["OTEL_METRIC_EXPORT_INTERVAL"]) / 1000, 0.1)
    except (KeyError, ValueError):
        return _DEFAULT_INTERVAL


def _prefers_delta() -> bool:
    return os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").lower() == "delta"


def tracer_provider() -> Any:
    """What makes tracers whose spans go to the collector."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class MetricSender:
    """Sends the totals of this process, or what was added since the last time if the variable for it says `delta`."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        self._exporter = OTLPMetricExporter()
        self._resource = _resource()
        self._is_delta = _prefers_delta()
        self._since = time.time_ns()
        self._sent: dict[tuple[str, str], float] = {}

    def send(self, samples: Sequence[Sample]) -> None:
        """Send them. What could not be sent is part of what is sent the next time."""
        from opentelemetry.sdk.metrics.export import MetricExportResult

        now = time.time_ns()
        found = list(_metrics(self._deltas(samples) if self._is_delta else samples, self._since, now, self._is_delta))
        if not found or self._exporter.export(_data(self._resource, found)) is not MetricExportResult.SUCCESS:
            return
        if self._is_delta:
            self._since = now
            self._sent = {_key(each): each.value for each in samples}

    def close(self) -> None:
        """Send nothing any more."""
        self._exporter.shutdown()

    def _deltas(self, samples: Sequence[Sample]) -> list[Sample]:
        gauges = {metric.name for metric in METRICS if metric.kind == "gauge"}
        return [
            each if each.name in gauges else each._replace(value=each.value - self._sent.get(_key(each), 0))
            for each in samples
        ]


def _key(sample: Sample) -> tuple[str, str]:
    return sample.name, repr(sorted(sample.labels.items()))


def _resource() -> Any:
    """What the standard variables say of this process, with our name unless they have one."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = {"service.name": NAME, "service.version": __version__, "service.instance.id": _INSTANCE}
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _data(resource: Any, metrics: Sequence[Any]) -> Any:
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    scope = ScopeMetrics(InstrumentationScope(NAME, __version__), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metrics(samples: Iterable[Sample], since: int, now: int, is_delta: bool) -> Iterator[Any]:
    from opentelemetry.sdk.metrics import export

    by_name: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_name[sample.name].append(sample)
    temporality = export.AggregationTemporality.DELTA if is_delta else export.AggregationTemporality.CUMULATIVE
    for metric in METRICS:
        points: list[Any] = list(_points(metric, by_name, since, now))
        if not points:
            continue
        data: Any = export.Gauge(points)
        if metric.kind == "counter":
            data = export.Sum(points, temporality, is_monotonic=True)
        elif metric.kind == "histogram":
            data = export.Histogram(points, temporality)
        yield export.Metric(metric.name, metric.meaning, metric.unit, data)


def _points(metric: Metric, by_name: Mapping[str, Sequence[Sample]], since: int, now: int) -> Iterator[Any]:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint

    if metric.kind != "histogram":
        for sample in by_name.get(metric.name, ()):
            yield NumberDataPoint(sample.labels, since, now, float(sample.value))
        return
    sums = {_key(each._replace(name="")): each.value for each in by_name.get(f"{metric.name}_sum", ())}
    for labels, bounds, counts in _buckets(by_name.get(f"{metric.name}_bucket", ())):
        total = sums[_key_of(labels)]
        yield HistogramDataPoint(labels, since, now, sum(counts), total, counts, bounds, float("nan"), float("nan"))


def _key_of(labels: dict[str, str]) -> tuple[str, str]:
    return "", repr(sorted(labels.items()))


def _buckets(samples: Sequence[Sample]) -> Iterator[tuple[dict[str, str], list[float], list[int]]]:
    """For each histogram its labels, the bounds of its buckets, and how many are in each, the last without a bound."""
    found: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    labels_of: dict[tuple[str, str], dict[str, str]] = {}
    for sample in samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        labels_of[_key_of(labels)] = labels
        found[_key_of(labels)].append((float(sample.labels["le"]), round(sample.value)))
    for key, buckets in found.items():
        buckets.sort()
        below = [0, *(count for _, count in buckets)]
        counts = [count - before for before, count in pairwise(below)]
        yield labels_of[key], [bound for bound, _ in buckets[:-1]], counts
