"""Events on their way out: from the transaction of the rows to a broker or a web server, through any outage."""

from __future__ import annotations

import base64
import json
import multiprocessing
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from confluent_kafka import KafkaError, Message
from standardwebhooks import Webhook as Verifier

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.events.kafka_sink import DeliveryReport
from exr_pipeline.events.outbox import drain, drain_after_work, events_of_marked, with_events
from exr_pipeline.events.sinks import Published, WaitingEvent, open_sinks
from exr_pipeline.functions import dataengine
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.sensors.events_out import EVENTS_OUT_SENSOR
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.events.schemas import assert_described, assert_headers_described
from exr_pipeline_tests.functions.runtimes import Context
from exr_pipeline_tests.long_tests import takes_long
from exr_pipeline_tests.orchestration.conftest import Workshop
from exr_pipeline_tests.orchestration.conftest import workshop as workshop
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.services.kafka import Tansu, librdkafka_broker, messages, running_tansu
from exr_pipeline_tests.services.processes import free_port
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.conftest import duckdb_file as duckdb_file
from exr_pipeline_tests.tables.conftest import emulator as emulator
from exr_pipeline_tests.tables.conftest import tables as tables
from exr_pipeline_tests.tables.conftest import vast as vast
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

TOPICS = ("exr-pipeline.events", "spaceharbor.proxy", "spaceharbor.dataengine.completed")
SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()


def settings_of(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


def write(store: Any, settings: Settings, *files: SampleFile, now: datetime | None = None) -> None:
    moment = now or datetime.now(UTC)
    store.write(with_events(rows_of(*files), settings, now=moment), now=moment)


def header_texts(message: Message) -> list[tuple[str, str]]:
    headers: Any = message.headers() or []
    return [(name, value.decode()) for name, value in headers]


@pytest.fixture
def store(tmp_path: Path) -> DuckDBStore:
    return DuckDBStore(tmp_path / "tables.duckdb")


@pytest.fixture
def tansu(tmp_path: Path) -> Iterator[Tansu]:
    with running_tansu(tmp_path, *TOPICS) as broker:
        yield broker


@pytest.fixture(params=["tansu", "mock"])
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a broker, of each implementation."""
    if request.param == "tansu":
        yield request.getfixturevalue("tansu").address
    else:
        with librdkafka_broker() as found:
            yield found.address


def test_events_of_a_run_reach_the_broker_as_cloudevents_and_leave_the_outbox(broker: str, workshop: Workshop) -> None:
    settings = workshop.pipeline.settings.model_copy(update={"publish_brokers": broker, "publish_source": "/show-a"})
    pipeline = Pipeline(settings)
    defs = build_defs(settings=settings, resource_overrides={"pipeline": pipeline})
    keys = workshop.put({"shot/beauty.1001.exr": render(), "shot/beauty.1002.exr": b"no picture"})
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}

    defs.resolve_job_def("ingest").execute_in_process(instance=workshop.instance, tags=tags, raise_on_error=False)

    (proxy,) = messages(broker, "spaceharbor.proxy", 1)
    others = messages(broker, "exr-pipeline.events", 2)
    for message in (proxy, *others):
        headers = dict(header_texts(message))
        payload = json.loads(message.value() or b"")
        assert_headers_described(headers)
        assert_described(headers["ce_type"], payload)
        assert (headers["ce_source"], headers["ce_subject"]) == ("/show-a", payload["uri"])
        assert (message.key() or b"").decode() == payload["asset_id"]
    found = {json.loads(message.value() or b"")["type"]: json.loads(message.value() or b"") for message in others}
    assert found["header.inspected"]["uri"].endswith("/shot/beauty.1001.exr")
    assert "not an OpenEXR" in found["file.rejected"]["reason"]
    value = json.loads(proxy.value() or b"")
    stored = workshop.pipeline.storage.head(workshop.bucket.child("shot/.proxies/beauty.1001_proxy.mp4"))
    assert value["proxy_uri"] == f"s3://{workshop.bucket.bucket}/shot/.proxies/beauty.1001_proxy.mp4"
    assert value["proxy_size_bytes"] == stored.size
    assert pipeline.tables.read("outbox").num_rows == 0


@pytest.mark.parametrize(("key", "success"), [("shot/beauty.1001.exr", True), ("shot/text.1002.exr", False)])
def test_a_function_tells_spaceharbor_that_its_job_has_ended(
    tansu: Tansu, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, key: str, success: bool
) -> None:
    monkeypatch.setenv("EXR_PIPELINE_PUBLISH_BROKERS", tansu.address)
    monkeypatch.setenv("EXR_PIPELINE_DATABASE", str(workshop.pipeline.settings.database_path))
    workshop.pipeline.storage.write(
        workshop.bucket.child(key), render() if success else b"text", content_type="image/x-exr", tags={}
    )
    context = Context()
    dataengine.init(context)
    data = {"s3_bucket": workshop.bucket.bucket, "s3_key": key, "job_id": "job-7", "asset_id": "theirs"}

    answer = dataengine.handler(context, {"data": data})

    getattr(context, dataengine._ATTRIBUTE).close()
    assert answer["status"] == ("success" if success else "error")
    (message,) = messages(tansu.address, "spaceharbor.dataengine.completed", 1)
    event = json.loads(message.value() or b"")
    assert event["type"] == "vast.dataengine.pipeline.completed"
    assert event["specversion"] == "1.0"
    assert_described(event["type"], event["data"])
    told = event["data"]
    assert (told["job_id"], told["asset_id"], told["success"]) == ("job-7", "theirs", success)
    assert told["metadata"]["asset_id"] == "theirs"
    assert ("proxy_uri" in told["metadata"]) == success
    assert ("error" in told) != success
    assert workshop.pipeline.tables.read("outbox").num_rows == 0


def test_while_the_broker_is_away_events_wait_and_come_later_once_each_in_their_order(
    store: DuckDBStore, tansu: Tansu
) -> None:
    settings = settings_of(publish_brokers=tansu.address, publish_types=("header.inspected",))
    tansu.kill()
    files = [SampleFile(key=f"shot/a.{number:04}.exr") for number in range(50)]
    for number, file in enumerate(files):
        write(store, settings, file, now=datetime.now(UTC) + timedelta(milliseconds=number))

    away = drain(store, settings, seconds=2)
    assert (away.delivered, away.waiting) == (0, 50)
    assert "kafka" in away.problems

    tansu.begin_again(*TOPICS)
    back = drain(store, settings, seconds=30)
    assert (back.delivered, back.waiting, back.problems) == (50, 0, {})
    found = [json.loads(message.value() or b"") for message in messages(tansu.address, TOPICS[0], 51, seconds=3)]
    assert [payload["file_path"] for payload in found] == [file.key for file in files]


def test_work_does_not_wait_for_a_sink_that_has_been_away_for_a_while(store: DuckDBStore) -> None:
    settings = settings_of(publish_brokers=f"127.0.0.1:{free_port()}")
    write(store, settings, SampleFile(), now=datetime.now(UTC) - timedelta(minutes=5))

    drained = drain_after_work(store, settings, began=datetime.now(UTC))

    assert drained is not None
    assert (drained.delivered, drained.waiting, drained.problems) == (0, 2, {}), "nobody was asked"
    assert drain_after_work(store, settings_of(), began=datetime.now(UTC)) is None


def test_work_that_took_long_publishes_its_own_early_events_at_its_end(store: DuckDBStore, receiver: Receiver) -> None:
    settings = settings_of(publish_webhooks=(receiver.url,), publish_webhook_secret=SECRET)
    began = datetime.now(UTC) - timedelta(minutes=5)
    write(store, settings, SampleFile(), now=began)

    drained = drain_after_work(store, settings, began=began)

    assert drained is not None
    assert (drained.delivered, drained.waiting) == (2, 0)


def test_rows_are_written_without_events_if_nothing_is_published(tables: StoreUnderTest) -> None:
    write(tables.store, settings_of(), SampleFile())
    assert tables.store.read("outbox").num_rows == 0
    write(tables.store, settings_of(publish_brokers="broker:9092", publish_types=("file.rejected",)), SampleFile())
    assert tables.store.read("outbox").num_rows == 0


def test_a_deletion_is_published_once_by_the_transaction_that_marks_it(tables: StoreUnderTest) -> None:
    settings = settings_of(publish_brokers="broker:9092", publish_types=("file.deleted",))
    file, other = SampleFile(), SampleFile(key="other.exr")
    now = datetime.now(UTC)
    write(tables.store, settings, file, other, now=now)
    for moment in (now, now + timedelta(minutes=1)):
        queue = events_of_marked(settings, now=moment)
        tables.store.mark({file.location: file.file_id, other.location: "gone"}, "deleted", now=moment, queue=queue)

    (row,) = tables.store.read("outbox").to_pylist()
    payload = json.loads(row["payload"])
    assert_described("file.deleted", payload)
    assert (payload["file_path"], payload["deleted_at"]) == (file.key, now.isoformat())


def test_what_no_broker_takes_is_kept_with_the_reason_and_holds_up_no_other(store: DuckDBStore, tansu: Tansu) -> None:
    settings = settings_of(publish_brokers=tansu.address, publish_types=("file.rejected",))
    huge = SampleFile(key="a.exr", state="rejected", reason="x" * 200_000, header=False)
    write(store, settings, huge, SampleFile(key="b.exr", state="rejected", reason="why", header=False))

    drained = drain(store, settings, seconds=30)

    assert (drained.delivered, drained.rejected, drained.waiting) == (1, 1, 0)
    (reject,) = store.read("event_rejects").to_pylist()
    assert (reject["source"], len(reject["content"])) == ("kafka", 4096)
    assert "126000 bytes" in reject["reason"]


def test_an_event_that_the_client_does_not_take_waits_with_the_topic_named(store: DuckDBStore) -> None:
    settings = settings_of(publish_brokers=f"127.0.0.1:{free_port()}", publish_topic="x" * 600)
    write(store, settings, SampleFile(state="rejected", reason="why", header=False))
    drained = drain(store, settings, seconds=2)
    assert (drained.delivered, drained.rejected, drained.waiting) == (0, 0, 1)
    assert drained.problems["kafka"].startswith("topic 'xxx")


def test_a_topic_that_does_not_exist_is_named() -> None:
    # Neither broker of these tests refuses one: both make it.
    event = WaitingEvent("id", "file.rejected", "nowhere", "key", "s3://b/a.exr", "{}", "2026-04-02T12:00:00+00:00")
    published = Published()
    DeliveryReport(event, published)(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), None)
    assert (published.delivered, published.problem) == ([], "topic nowhere does not exist: create it")


@dataclass
class Receiver:
    """A web server that answers as told, with what it was sent."""

    url: str
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(found.statuses.pop(0) if found.statuses else 204)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook?token=1"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_gets_signed_events_and_those_without_a_good_answer_again(
    store: DuckDBStore, receiver: Receiver
) -> None:
    settings = settings_of(publish_webhooks=(receiver.url,), publish_webhook_secret=SECRET)
    write(store, settings, SampleFile())
    receiver.statuses = [503, 302, 200]

    first = drain(store, settings, seconds=10)
    second = drain(store, settings, seconds=10)
    assert (first.delivered, second.delivered, second.waiting) == (0, 0, 2)
    assert [list(each.problems.values()) for each in (first, second)] == [
        ["127.0.0.1 answered HTTP 503"],
        ["127.0.0.1 answered HTTP 302"],
    ], "a redirect is not followed"
    third = drain(store, settings, seconds=10)
    assert (third.delivered, third.waiting, third.problems) == (2, 0, {})

    assert len(receiver.requests) == 4
    ids = []
    for headers, body in receiver.requests:
        event = Verifier(SECRET).verify(body, headers)
        assert headers["content-type"] == "application/cloudevents+json"
        assert (event["specversion"], event["id"]) == ("1.0", headers["webhook-id"])
        assert_described(event["type"], event["data"])
        ids.append(event["id"])
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert "token" not in str(store.read("outbox").to_pylist())


def test_a_check_of_a_webhook_sends_no_event(receiver: Receiver) -> None:
    with open_sinks(settings_of(publish_webhooks=(receiver.url,), publish_webhook_secret=SECRET)) as sinks:
        (webhook,) = sinks.values()
        # A server that takes nothing but POST.
        assert webhook.check() == "127.0.0.1 answers (HTTP 501 to HEAD); no event was sent"
    assert receiver.requests == []


def test_sinks_have_each_event_for_themselves(store: DuckDBStore, receiver: Receiver) -> None:
    settings = settings_of(
        publish_webhooks=(receiver.url,),
        publish_webhook_secret=SECRET,
        publish_brokers=f"127.0.0.1:{free_port()}",
    )
    write(store, settings, SampleFile())

    drained = drain(store, settings, seconds=3)

    assert (drained.delivered, drained.waiting, list(drained.problems)) == (2, 2, ["kafka"])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"publish_webhooks": ("http://example.com/hook",)}, "EXR_PIPELINE_PUBLISH_WEBHOOKS"),
        ({"publish_webhook_secret": None}, "EXR_PIPELINE_PUBLISH_WEBHOOK_SECRET"),
        ({"publish_webhook_secret": "whsec_!"}, "EXR_PIPELINE_PUBLISH_WEBHOOK_SECRET"),
    ],
)
def test_a_webhook_that_would_be_unsafe_is_refused(store: DuckDBStore, changes: dict[str, Any], named: str) -> None:
    values: dict[str, Any] = {"publish_webhooks": ("https://example.com/x",), "publish_webhook_secret": SECRET}
    with pytest.raises(MisconfiguredError, match=named) as refused:
        drain(store, settings_of(**(values | changes)), seconds=1)
    assert SECRET not in str(refused.value)


def ticked(pipeline: Pipeline) -> str:
    sensor = build_defs(settings=pipeline.settings).get_repository_def().get_sensor_def(EVENTS_OUT_SENSOR)
    with dg.build_sensor_context(resources={"pipeline": pipeline}) as context:
        return str(sensor.evaluate_tick(context).skip_message)


def test_the_sensor_publishes_what_waits_and_fails_while_something_has_waited_for_too_long(
    tmp_path: Path, tansu: Tansu
) -> None:
    settings = settings_of(publish_brokers=tansu.address, database=tmp_path / "t.duckdb", publish_alarm_seconds=60)
    pipeline = Pipeline(settings)
    write(pipeline.tables, settings, SampleFile())
    assert ticked(pipeline).startswith("2 events published, 0 waiting")

    tansu.kill()
    write(pipeline.tables, settings, SampleFile(key="new.exr"), now=datetime.now(UTC) - timedelta(seconds=90))
    with pytest.raises(dg.Failure, match=r"0 events published, 2 waiting; the oldest for 1?[0-9]{2} s; kafka: "):
        ticked(Pipeline(settings.model_copy()))


def test_there_is_no_sensor_for_events_if_nothing_is_published() -> None:
    names = {sensor.name for sensor in build_defs(settings=settings_of()).get_repository_def().sensor_defs}
    assert EVENTS_OUT_SENSOR not in names
    with_one = build_defs(settings=settings_of(publish_brokers="broker:9092")).get_repository_def().sensor_defs
    assert EVENTS_OUT_SENSOR in {sensor.name for sensor in with_one}


def test_two_drainers_at_once_lose_nothing(store: DuckDBStore, tansu: Tansu) -> None:
    settings = settings_of(publish_brokers=tansu.address, publish_types=("header.inspected",))
    write(store, settings, *(SampleFile(key=f"a.{number:04}.exr") for number in range(300)))
    drainers = [threading.Thread(target=drain, args=(store, settings), kwargs={"seconds": 60}) for _ in range(2)]
    for drainer in drainers:
        drainer.start()
    for drainer in drainers:
        drainer.join()
    assert store.read("outbox").num_rows == 0
    found = {
        json.loads(message.value() or b"")["file_path"]
        for message in messages(tansu.address, TOPICS[0], 600, seconds=5)
    }
    assert len(found) == 300


def drain_at_length(settings: Settings) -> None:
    drain(DuckDBStore(settings.database_path), settings, seconds=60)


@takes_long
def test_a_drainer_that_is_killed_at_any_moment_loses_no_event_and_publishes_none_under_another_identifier(
    tmp_path: Path, tansu: Tansu
) -> None:
    settings = settings_of(
        publish_brokers=tansu.address, publish_types=("header.inspected",), database=tmp_path / "tables.duckdb"
    )
    store = DuckDBStore(settings.database_path)
    files = [SampleFile(key=f"a.{number:05}.exr", channels=0, attributes=0, streams=0) for number in range(2000)]
    now = datetime.now(UTC)
    store.write({"outbox": with_events(rows_of(*files, outputs=False), settings, now=now)["outbox"]}, now=now)
    expected = set(store.read("outbox", columns=["event_id"]).column("event_id").to_pylist())
    dice = random.Random(17)

    killed = 0
    while store.read("outbox", columns=["event_id"]).num_rows and killed < 20:
        drainer = multiprocessing.get_context("spawn").Process(target=drain_at_length, args=(settings,))
        drainer.start()
        drainer.join(timeout=dice.uniform(1.0, 4.0))
        killed += drainer.is_alive()
        drainer.kill()
        drainer.join()
    drain_at_length(settings)

    assert killed > 0
    assert store.read("outbox").num_rows == 0
    received = messages(tansu.address, TOPICS[0], 3 * len(files), seconds=8)
    assert {dict(header_texts(message))["ce_id"] for message in received} == expected
