"""Metrics as Prometheus reads them: the text, and a port that answers with it.

Belongs here: putting the sums of all processes and what the tables say into one text. Not here: either of them (`sums`,
`table_gauges`).
"""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING, Any

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.extras import require
from exr_pipeline.telemetry.instruments import METRICS
from exr_pipeline.telemetry.start import send_tables_too
from exr_pipeline.telemetry.sums import Sample, Sums
from exr_pipeline.telemetry.table_gauges import TableGauges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from exr_pipeline.settings import Settings
    from exr_pipeline.tables.store import TableStore

_SUFFIXES = ("_bucket", "_sum", "_count")


def prometheus_text(settings: Settings, gauges: TableGauges) -> str:
    """All metrics. Raises `MisconfiguredError` if the extra is missing."""
    require("telemetry")
    from prometheus_client import generate_latest

    return generate_latest(_registry(lambda: all_samples(settings, gauges))).decode()


def all_samples(settings: Settings, gauges: TableGauges) -> list[Sample]:
    """The sums of all processes that share the state folder, and what the tables say."""
    try:
        sums = Sums.of(settings).read()
    except sqlite3.Error:
        sums = []
    return [*sums, *gauges.samples()]


def watch(settings: Settings, tables: TableStore) -> None:
    """Show metrics for as long as this process lives: at `EXR_PIPELINE_METRICS_ADDRESS`, and to a collector.

    For the process that ticks the sensors. Safe to repeat: while another process has the address, as after a reload of
    the code location, the next call tries again. Raises `MisconfiguredError` if the address or the extra is wrong.
    """
    gauges = _gauges.setdefault(id(tables), TableGauges(tables))
    send_tables_too(gauges.samples)
    if settings.metrics_address:
        _serve(settings, gauges)


# By the identity of the store, which each keeps.
_gauges: dict[int, TableGauges] = {}


_served: set[str] = set()


def _serve(settings: Settings, gauges: TableGauges) -> None:
    from prometheus_client import start_http_server

    if settings.metrics_address in _served:
        return
    host, port = host_and_port(settings.metrics_address)
    try:
        start_http_server(port, host, _registry(lambda: all_samples(settings, gauges)))
    except OSError as error:
        # As after a reload of the code location, until the process before has ended.
        if error.errno == errno.EADDRINUSE:
            return
        raise MisconfiguredError(
            "EXR_PIPELINE_METRICS_ADDRESS", f"{host}: {error.strerror}", "name an address of this machine"
        ) from None
    _served.add(settings.metrics_address)


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of host:port. Raises `MisconfiguredError` if it is not that."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise MisconfiguredError(
            "EXR_PIPELINE_METRICS_ADDRESS", f"{address!r} is not host:port", "write 127.0.0.1:9464"
        )
    return host.strip("[]"), int(port)


def _registry(samples: Callable[[], Sequence[Sample]]) -> Any:
    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

    class _Collector(Collector):
        def collect(self) -> Iterable[Any]:
            return _families(samples())

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector())
    return registry


def _families(samples: Sequence[Sample]) -> Iterator[Any]:
    from prometheus_client import Metric

    for metric in METRICS:
        family = Metric(metric.name.removesuffix("_total"), metric.meaning, metric.kind)
        names = {metric.name, *(metric.name + suffix for suffix in _SUFFIXES if metric.kind == "histogram")}
        for sample in (each for each in samples if each.name in names):
            family.add_sample(sample.name, sample.labels, sample.value)
        if family.samples:
            yield family
