"""A collector of OpenTelemetry for tests: it takes what is sent over HTTP and decodes the real messages.

Belongs here: receiving. Not here: what is expected of it.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """What was received: spans, and points of metrics by name, with the resource that each came from."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.points: dict[str, list[Any]] = {}
        self.resources: list[dict[str, str]] = []
        self.endpoint = ""

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(resource.resource))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for found in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resources.append(attributes(found.resource))
                for metric in (each for scope in found.scope_metrics for each in scope.metrics):
                    data = getattr(metric, metric.WhichOneof("data"))
                    self.points.setdefault(metric.name, []).extend(data.data_points)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def latest(self, metric: str, **labels: str) -> Any:
        """The last point of a metric with these labels."""
        return [point for point in self.points[metric] if attributes(point) == labels][-1]


def attributes(holder: Any) -> dict[str, str]:
    """Attributes that are texts."""
    return {each.key: each.value.string_value for each in holder.attributes}


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector that listens at its `endpoint`."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()
