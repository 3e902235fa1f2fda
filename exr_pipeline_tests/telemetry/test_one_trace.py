"""One trace: from the event that names a file, through the run that writes its row, to the event that tells of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import duckdb
import pytest

from exr_pipeline.events.outbox import drain, with_events
from exr_pipeline.events.source import Message, sources_of
from exr_pipeline.functions import dataengine
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.sensors.events_in import EventsCursor, tick
from exr_pipeline.orchestration.steps.run_tags import TRACE_TAG
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline.telemetry.start import flush_telemetry
from exr_pipeline_tests.events.wire import binary, notification, structured
from exr_pipeline_tests.functions.test_dataengine import Open, created, put
from exr_pipeline_tests.functions.test_dataengine import function as function
from exr_pipeline_tests.orchestration.conftest import Workshop
from exr_pipeline_tests.orchestration.conftest import workshop as workshop
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.services.kafka import Broker, Tansu, messages, running_tansu
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of
from exr_pipeline_tests.telemetry.collector import Collector
from exr_pipeline_tests.telemetry.test_otlp import PARENT, TRACE

TOPICS = ("renders", "exr-pipeline.events", "spaceharbor.proxy", "spaceharbor.dataengine.completed")


@dataclass
class Line:
    """A Kafka broker in and out, the sensor of events, and runs that really run."""

    workshop: Workshop
    broker: Tansu

    def __post_init__(self) -> None:
        settings = self.workshop.pipeline.settings.model_copy(
            update={
                "events_kafka_brokers": self.broker.address,
                "events_kafka_topics": ("renders",),
                "events_seconds": 5.0,
                "publish_brokers": self.broker.address,
                # So that a tick leaves the file to the next one.
                "settle_seconds": 60.0,
            }
        )
        self.pipeline = Pipeline(settings)
        self.defs = build_defs(settings=settings, resource_overrides={"pipeline": self.pipeline})
        self.now = datetime.now(UTC)

    def send(self, location: Location, headers: dict[str, bytes]) -> None:
        Broker(self.broker.address, can_create=False).send("renders", binary(location)[0], headers=headers)

    def look(self, cursor: EventsCursor) -> dg.SensorResult:
        sources = sources_of(self.pipeline.settings)
        return tick(self.workshop.instance, self.pipeline, cursor, sources, clock=lambda: self.now)

    def run(self, result: dg.SensorResult) -> None:
        for request in result.run_requests or []:
            job = self.defs.resolve_job_def(str(request.job_name))
            job.execute_in_process(
                instance=self.workshop.instance, tags=dict(request.tags), run_config=request.run_config
            )


@pytest.fixture
def line(workshop: Workshop, tmp_path: Path) -> Any:
    with running_tansu(tmp_path, *TOPICS) as broker:
        yield Line(workshop, broker)


def published(address: str) -> dict[str, str]:
    """The trace header of each published event, by type."""
    found = [*messages(address, "exr-pipeline.events", 1), *messages(address, "spaceharbor.proxy", 1)]
    headers: list[dict[str, bytes]] = [dict(message.headers() or []) for message in found]  # type: ignore[arg-type]
    return {each["ce_type"].decode(): each["ce_traceparent"].decode() for each in headers}


def test_the_trace_of_an_event_is_that_of_the_run_the_row_and_the_events_out(line: Line, collector: Collector) -> None:
    location = line.workshop.bucket.child("shot/beauty.1001.exr")
    line.pipeline.storage.write(location, render(), content_type="image/x-exr", tags={})
    line.send(location, {**binary(location)[1], "ce_traceparent": PARENT.encode()})

    waits = line.look(EventsCursor())
    assert not waits.run_requests, "the file has not settled"
    line.now += timedelta(minutes=2)
    asked = line.look(EventsCursor.from_text(waits.cursor))
    (request,) = asked.run_requests or []
    assert request.tags[TRACE_TAG] == TRACE
    line.run(asked)
    flush_telemetry(60)

    (file,) = collector.named("ingest file")
    assert (file.trace_id.hex(), file.parent_span_id.hex()) == (TRACE, "b7ad6b7169203331")
    stages = {span.name for span in collector.spans if span.parent_span_id == file.span_id}
    assert {"fetch", "read_header", "store"} <= stages
    (run,) = line.workshop.instance.get_runs()
    assert run.tags[TRACE_TAG] == TRACE
    (row,) = line.pipeline.tables.sql("SELECT uri, state FROM latest_files").to_pylist()
    assert row == {"uri": location.url, "state": "ready"}
    ours = f"00-{TRACE}-{file.span_id.hex()}-01"
    assert published(line.broker.address) == {"header.inspected": ours, "proxy.generated": ours}


def test_without_a_collector_the_trace_of_an_event_is_passed_on(line: Line) -> None:
    location = line.workshop.bucket.child("shot/beauty.1001.exr")
    line.pipeline.storage.write(location, render(), content_type="image/x-exr", tags={})
    line.send(location, {**binary(location)[1], "traceparent": PARENT.encode()})
    waits = line.look(EventsCursor())
    line.now += timedelta(minutes=2)
    line.run(line.look(EventsCursor.from_text(waits.cursor)))
    assert set(published(line.broker.address).values()) == {PARENT}


FORMS: dict[str, Callable[[Location], Message]] = {
    "attribute of a binary CloudEvent": lambda location: Message(
        "k", "0", binary(location)[0], {**binary(location)[1], "ce_traceparent": PARENT.encode()}
    ),
    "attribute of a structured CloudEvent": lambda location: Message(
        "k", "0", json.dumps({**json.loads(structured(location)[0]), "traceparent": PARENT}).encode()
    ),
    "header of a tracing library": lambda location: Message(
        "k", "0", notification(location)[0], {"traceparent": PARENT.encode()}
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_event_says_its_trace_in_each_form(form: str) -> None:
    (found,) = FORMS[form](Location("s3", "renders", "a.exr")).objects()
    assert found.traceparent == PARENT


def test_a_trace_that_is_none_is_left_out_and_the_event_is_read() -> None:
    location = Location("s3", "renders", "a.exr")
    (found,) = Message("k", "0", notification(location)[0], {"traceparent": b"00-\x1b"}).objects()
    assert (found.location, found.traceparent) == (location, None)


def test_a_function_continues_the_trace_of_its_event(
    function: Open,
    storage: ObjectStorage,
    bucket: Location,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("EXR_PIPELINE_PUBLISH_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("EXR_PIPELINE_FUNCTION_PRODUCTS", "header")
    put(storage, bucket, {"a.exr": render()})
    context, event = function(), created(bucket, "a.exr")
    event.extensions["traceparent"] = PARENT

    assert dataengine.handler(context, event)["status"] == "success"

    # Without being asked to: between two calls the process may be frozen.
    (file,) = collector.named("ingest file")
    assert file.trace_id.hex() == TRACE
    assert collector.latest("exr_pipeline_files_total", state="ready", kind="exr", error="").as_double == 1
    store = DuckDBStore(tmp_path / "function.duckdb")
    (row,) = store.sql("SELECT traceparent FROM outbox").to_pylist()
    assert row["traceparent"] == f"00-{TRACE}-{file.span_id.hex()}-01"


class PlatformsTracer:
    """What a runtime hands over as `ctx.tracer`: it is used by what it can do."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider

        self._tracer = TracerProvider(shutdown_on_exit=False).get_tracer("platform")
        self.names: list[str] = []

    def start_as_current_span(self, name: str, **options: Any) -> Any:
        self.names.append(name)
        return self._tracer.start_as_current_span(name, **options)


def test_the_tracer_of_a_platform_is_used_where_no_collector_is_named(
    function: Open, storage: ObjectStorage, bucket: Location, monkeypatch: pytest.MonkeyPatch, telemetry_ends: None
) -> None:
    monkeypatch.setenv("EXR_PIPELINE_FUNCTION_PRODUCTS", "checksum")
    put(storage, bucket, {"a.exr": render()})
    tracer = PlatformsTracer()
    dataengine.handler(function(tracer=tracer), created(bucket, "a.exr"))
    assert tracer.names[:2] == ["ingest chunk", "ingest file"]


def test_a_webhook_gets_the_trace_as_an_attribute(tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return None

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        secret = "whsec_" + "A" * 32
        settings = Settings(_env_file=None, publish_webhooks=(url,), publish_webhook_secret=secret)
        store, now, sample = DuckDBStore(tmp_path / "tables.duckdb"), datetime.now(UTC), SampleFile()
        traces = {sample.location.url: PARENT}
        store.write(with_events(rows_of(sample), settings, now=now, traces=traces), now=now)
        drain(store, settings, seconds=20)
        server.shutdown()
    assert {body.get("traceparent") for body in bodies} == {PARENT}


def test_the_same_fact_has_the_same_identifier_whatever_its_trace() -> None:
    settings = Settings(_env_file=None, publish_brokers="broker:9092")
    sample, now = SampleFile(), datetime.now(UTC)
    found = [
        with_events(rows_of(sample), settings, now=now, traces=traces)["outbox"].column("event_id").to_pylist()
        for traces in ({}, {sample.location.url: PARENT})
    ]
    assert found[0] == found[1]


def test_events_that_an_earlier_version_left_are_published_without_a_trace(
    tmp_path: Path, tmp_path_factory: Any
) -> None:
    store, now = DuckDBStore(tmp_path / "tables.duckdb"), datetime.now(UTC)
    with running_tansu(tmp_path_factory.mktemp("tansu"), *TOPICS) as broker:
        settings = Settings(_env_file=None, publish_brokers=broker.address)
        store.write(with_events(rows_of(SampleFile()), settings, now=now), now=now)
        with duckdb.connect(tmp_path / "tables.duckdb") as connection:
            connection.execute("ALTER TABLE outbox DROP COLUMN traceparent")
        drained = drain(DuckDBStore(tmp_path / "tables.duckdb"), settings, seconds=20)
        assert (drained.waiting, drained.problems) == (0, {})
        (message,) = messages(broker.address, "exr-pipeline.events", 1)
        assert "ce_traceparent" not in dict(message.headers() or [])
