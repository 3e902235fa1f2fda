"""What a collector of OpenTelemetry receives of a real ingest: traces and metrics, in the real protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exr_pipeline.settings import Settings
from exr_pipeline.telemetry.exposition import watch
from exr_pipeline.telemetry.otlp import sends
from exr_pipeline.telemetry.recording import is_recording, record_stage
from exr_pipeline.telemetry.start import flush_telemetry, start_telemetry
from exr_pipeline.telemetry.table_gauges import table_samples
from exr_pipeline_tests.ingest.chunk.conftest import HEADERS, THUMBNAILS, Bench
from exr_pipeline_tests.ingest.chunk.conftest import bench as bench
from exr_pipeline_tests.ingest.chunk.conftest import database as database
from exr_pipeline_tests.ingest.chunk.conftest import good as good
from exr_pipeline_tests.ingest.chunk.conftest import pool as pool
from exr_pipeline_tests.services.processes import free_port
from exr_pipeline_tests.telemetry.collector import Collector, attributes

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def flush() -> None:
    flush_telemetry(60)


def test_a_chunk_is_a_trace_of_its_files_and_their_stages(bench: Bench, good: bytes, collector: Collector) -> None:
    locations = [bench.put("a.exr", good), bench.put("b.exr", b"no picture")]
    start_telemetry(bench.settings)
    bench.ingest(locations, THUMBNAILS)
    flush()

    (chunk,) = collector.named("ingest chunk")
    files = {attributes(span)["exr_pipeline.file"]: span for span in collector.named("ingest file")}
    assert set(files) == {location.url for location in locations}
    assert {span.parent_span_id for span in files.values()} == {chunk.span_id}
    of_a = {span.name for span in collector.spans if span.parent_span_id == files[locations[0].url].span_id}
    assert of_a == {"fetch", "read_header", "store"}
    assert "write_rows" in {span.name for span in collector.spans if span.parent_span_id == chunk.span_id}
    assert {span.trace_id for span in collector.spans} == {chunk.trace_id}


def test_of_headers_only_files_that_an_event_with_a_trace_has_named_have_a_span(
    bench: Bench, good: bytes, collector: Collector
) -> None:
    named, other = bench.put("a.exr", good), bench.put("b.exr", good)
    start_telemetry(bench.settings)
    bench.ingest([named, other], HEADERS, traces={named: PARENT})
    flush()

    (chunk,), (file,) = collector.named("ingest chunk"), collector.named("ingest file")
    assert file.trace_id.hex() == TRACE
    assert file.parent_span_id.hex() == "b7ad6b7169203331"
    assert [link.span_id for link in file.links] == [chunk.span_id]
    assert attributes(file)["exr_pipeline.file"] == named.url
    assert chunk.trace_id.hex() != TRACE
    found = {result.location: result.traceparent for result in bench.reported}
    assert found[named] == f"00-{TRACE}-{file.span_id.hex()}-01"
    assert (found[other] or "").split("-")[1:3] == [chunk.trace_id.hex(), chunk.span_id.hex()]


def test_stages_and_files_are_counted(bench: Bench, good: bytes, collector: Collector) -> None:
    locations = [bench.put("a.exr", good), bench.put("b.exr", b"no picture"), bench.bucket.child("gone.exr")]
    start_telemetry(bench.settings)
    bench.ingest(locations, THUMBNAILS)
    flush()

    assert collector.latest("exr_pipeline_files_total", state="ready", kind="exr", error="").as_double == 1
    rejected = {"state": "rejected", "kind": ""}
    assert collector.latest("exr_pipeline_files_total", error="bad input", **rejected).as_double == 1
    assert collector.latest("exr_pipeline_files_total", error="not found", **rejected).as_double == 1
    seconds = {
        stage: collector.latest("exr_pipeline_stage_seconds", stage=stage)
        for stage in ("fetch", "read_header", "decode", "encode", "store", "write_rows")
    }
    assert {stage: point.count for stage, point in seconds.items()} == {
        "fetch": 3,
        "read_header": 2,
        "decode": 1,
        "encode": 1,
        "store": 1,
        "write_rows": seconds["write_rows"].count,
    }
    for point in seconds.values():
        assert sum(point.bucket_counts) == point.count
        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
        assert point.sum > 0
    fetched = collector.latest("exr_pipeline_stage_bytes_total", stage="fetch").as_double
    assert fetched == len(good) + len(b"no picture")
    (stored,) = [result.stored for result in bench.reported if result.stored]
    sizes = [bench.owner.head(location).size for location in stored.values()]
    assert collector.latest("exr_pipeline_stage_bytes_total", stage="store").as_double == sum(sizes)


def test_what_is_tried_again_is_counted(bench: Bench, collector: Collector) -> None:
    start_telemetry(bench.settings)
    away = bench.settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_port()}", "request_retries": 0})
    bench.storage = type(bench.storage)(away)
    bench.ingest([bench.bucket.child("a.exr")], HEADERS)
    flush()
    assert collector.latest("exr_pipeline_retries_total", what="file").as_double == len(bench.retries.pauses)
    ended = collector.latest("exr_pipeline_files_total", state="retryable", kind="", error="store")
    assert ended.as_double == 1


def test_the_resource_is_what_the_standard_variables_say(
    bench: Bench, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "renders-of-show-a")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=production")
    start_telemetry(bench.settings)
    record_stage("fetch", 1.0)
    flush()
    found = collector.resources[-1]
    assert (found["service.name"], found["deployment.environment"]) == ("renders-of-show-a", "production")
    assert found["service.instance.id"]


@pytest.mark.parametrize(("preference", "sent"), [("cumulative", [2, 5]), ("delta", [2, 3])])
def test_totals_or_what_was_added_are_sent_as_the_standard_variable_says(
    bench: Bench, collector: Collector, monkeypatch: pytest.MonkeyPatch, preference: str, sent: list[int]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
    start_telemetry(bench.settings)
    for times in (2, 3):
        for _ in range(times):
            record_stage("fetch", 1.0, 10)
        flush()
    assert [point.count for point in collector.points["exr_pipeline_stage_seconds"]] == sent
    assert [point.as_double for point in collector.points["exr_pipeline_stage_bytes_total"]] == [10 * n for n in sent]


def test_the_process_that_watches_the_tables_sends_what_they_say(
    bench: Bench, good: bytes, collector: Collector
) -> None:
    start_telemetry(bench.settings)
    bench.ingest([bench.put("a.exr", good)], HEADERS)
    watch(bench.settings, bench.rows)
    flush()
    for sample in table_samples(bench.rows, now=datetime.now(UTC)):
        assert collector.latest(sample.name, **sample.labels).as_double == sample.value


def test_nothing_is_recorded_and_nothing_is_loaded_without_an_endpoint(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom exr_pipeline.settings import Settings\n"
        "from exr_pipeline.telemetry.start import start_telemetry\nstart_telemetry(Settings(_env_file=None))\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus_client'))])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "EXR_PIPELINE_"))}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


def test_a_collector_that_does_not_answer_changes_nothing(
    bench: Bench, good: bytes, monkeypatch: pytest.MonkeyPatch, telemetry_ends: None
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    start_telemetry(bench.settings)
    assert is_recording()
    assert bench.ingest([bench.put("a.exr", good)], HEADERS).ready == 1
    flush_telemetry(1)


@pytest.mark.parametrize(
    ("variables", "signals"),
    [
        ({}, set()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, {"traces", "metrics"}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, {"traces"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "none"}, {"traces"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, set()),
    ],
)
def test_the_standard_variables_say_what_is_sent(variables: dict[str, str], signals: set[str]) -> None:
    assert {signal for signal in ("traces", "metrics") if sends(signal, variables)} == signals


def test_settings_alone_send_nothing_to_a_collector(tmp_path: Path, telemetry_ends: None) -> None:
    start_telemetry(Settings(_env_file=None, state_dir=tmp_path, metrics=True))
    assert is_recording()
    record_stage("fetch", 1.0)
    flush()
    assert (tmp_path / "metrics.sqlite").exists()
