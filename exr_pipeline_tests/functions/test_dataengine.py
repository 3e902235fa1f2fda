"""The function of VAST DataEngine over a real S3 server, with tables in DuckDB and in the emulated VAST DataBase."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from exr_pipeline.functions import dataengine
from exr_pipeline.functions.work import TryAgainError
from exr_pipeline.ingest.discovery.cursor import Cursor
from exr_pipeline.orchestration.assets.specs import FILE_ASSETS
from exr_pipeline.orchestration.partitions import FILES as FILES_SET
from exr_pipeline.orchestration.sensors.files import tick
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.products.proxy import PROXY
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables import open_table_store
from exr_pipeline.tables.specs import TABLES
from exr_pipeline_tests.conftest import STRANGER
from exr_pipeline_tests.functions.runtimes import EVENTS, Context, RuntimeEvent, wire
from exr_pipeline_tests.orchestration.conftest import Workshop
from exr_pipeline_tests.orchestration.conftest import workshop as workshop
from exr_pipeline_tests.renders import render, truncated
from exr_pipeline_tests.vast_emulator.running import running_emulator

Open = Callable[..., Context]


@pytest.fixture
def function(
    s3_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting_workers: None
) -> Iterator[Open]:
    """A function with tables in a DuckDB file, opened as a runtime opens it."""
    monkeypatch.setenv("EXR_PIPELINE_DATABASE", str(tmp_path / "function.duckdb"))
    monkeypatch.chdir(tmp_path)
    opened: list[Context] = []

    def start(**changes: Any) -> Context:
        context = Context(**changes)
        dataengine.init(context)
        opened.append(context)
        return context

    yield start
    for context in opened:
        getattr(context, dataengine._ATTRIBUTE).close()


def put(storage: ObjectStorage, bucket: Location, files: dict[str, bytes]) -> None:
    for key, data in files.items():
        storage.write(bucket.child(key), data, content_type="image/x-exr", tags={})


def created(bucket: Location, key: str) -> RuntimeEvent:
    path = EVENTS / "element_created.json"
    event = json.loads(
        path.read_text(encoding="utf-8").replace("renders/shot/beauty.1001.exr", f"{bucket.bucket}/{key}")
    )
    return RuntimeEvent(event)


def tables(path: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, without times and what differs from run to run."""
    store = open_table_store(Settings(_env_file=None, database=path))
    varying = {
        "inspection_timestamp",
        "last_inspected",
        "seen_at",
        "generated_timestamp",
        "processing_time_seconds",
        "embedding_computed_at",
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for table in TABLES:
        rows = store.read(table).to_pylist()
        kept = [{name: value for name, value in row.items() if name not in varying} for row in rows]
        found[table] = sorted(kept, key=repr)
    return found


FILES = {
    "shot/beauty.1001.exr": render(),
    "shot a+b/beauty #1.1002.exr": render(0.5),
    "shot/cut.1003.exr": truncated(),
    "shot/text.1004.exr": b"this is a text",
}


def test_a_function_makes_the_rows_and_objects_of_a_run(
    function: Open, workshop: Workshop, storage: ObjectStorage, s3_server: EmbeddedS3, tmp_path: Path
) -> None:
    keys = workshop.put(FILES)
    workshop.run_range(keys)
    made = {key: storage.read(workshop.bucket.child(key))[1] for key in workshop.objects() if "/.proxies/" in key}
    assert len(made) == 4
    for key in made:
        storage.delete(workshop.bucket.child(key))

    context = function()
    answers = dataengine.batch_handler(context, [created(workshop.bucket, key) for key in FILES])

    assert [answer["status"] for answer in answers] == ["success", "success", "error", "error"]
    assert {
        key: storage.read(workshop.bucket.child(key))[1] for key in workshop.objects() if "/.proxies/" in key
    } == made
    ours, theirs = tables(tmp_path / "function.duckdb"), tables(workshop.pipeline.settings.database_path)
    for table, rows in theirs.items():
        assert len(ours[table]) == len(rows)
        for one, other in zip(ours[table], rows, strict=True):
            assert {name: (one[name], value) for name, value in other.items() if one[name] != value} == {}, table


def test_what_a_function_did_appears_in_dagster_without_anything_being_fetched_or_made(
    function: Open, workshop: Workshop, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXR_PIPELINE_DATABASE", str(workshop.pipeline.settings.database_path))
    put(storage, workshop.bucket, FILES)
    dataengine.batch_handler(function(), [created(workshop.bucket, key) for key in FILES])
    made = {info.location: info for info in storage.iter_objects(workshop.bucket)}
    rows = tables(workshop.pipeline.settings.database_path)

    asked = tick(workshop.instance, workshop.pipeline, Cursor(), now=datetime.now(UTC) + timedelta(seconds=1))
    assert isinstance(asked, dg.SensorResult)
    (request,) = asked.run_requests or []
    (new,) = asked.dynamic_partitions_requests or []
    workshop.instance.add_dynamic_partitions(FILES_SET, list(new.partition_keys))
    # Whatever fetched a file, or made something of it, would not find it.
    for key in FILES:
        storage.delete(workshop.bucket.child(key))
    workshop.run(str(request.job_name), tags=dict(request.tags))

    good = {workshop.bucket.child(key).partition_key for key in list(FILES)[:2]}
    bad = {workshop.bucket.child(key).partition_key for key in list(FILES)[2:]}
    for asset in FILE_ASSETS:
        found = workshop.statuses(asset.path[-1])
        assert (found["materialized"], found["failed"], found["in progress"]) == (good, bad, set()), asset
    sources = workshop.materializations("source_file")
    assert set(sources) == good | bad
    assert {key: events[0].metadata["state"].value for key, events in sources.items()} == dict.fromkeys(
        good, "ready"
    ) | dict.fromkeys(bad, "rejected")
    for events in workshop.materializations("thumbnail").values():
        assert "thumbnail" in str(events[0].metadata["picture"].value)
    assert tables(workshop.pipeline.settings.database_path) == rows
    outputs = {info.location: info for info in storage.iter_objects(workshop.bucket)}
    assert outputs == {location: info for location, info in made.items() if location in outputs}
    assert len(outputs) == 4

    again = tick(workshop.instance, workshop.pipeline, Cursor(), now=datetime.now(UTC) + timedelta(seconds=1))
    assert isinstance(again, dg.SensorResult)
    assert not again.run_requests


def test_pictures_that_a_function_did_not_make_are_made_by_dagster(
    function: Open, workshop: Workshop, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXR_PIPELINE_DATABASE", str(workshop.pipeline.settings.database_path))
    monkeypatch.setenv("EXR_PIPELINE_FUNCTION_PRODUCTS", "header")
    put(storage, workshop.bucket, {"shot/beauty.1001.exr": render()})
    answer = dataengine.handler(function(), created(workshop.bucket, "shot/beauty.1001.exr"))
    assert answer["status"] == "success"
    assert not any("/.proxies/" in key for key in workshop.objects())

    asked = tick(workshop.instance, workshop.pipeline, Cursor(), now=datetime.now(UTC) + timedelta(seconds=1))
    assert isinstance(asked, dg.SensorResult)
    (request,) = asked.run_requests or []
    (new,) = asked.dynamic_partitions_requests or []
    workshop.instance.add_dynamic_partitions(FILES_SET, list(new.partition_keys))
    assert workshop.run(str(request.job_name), tags=dict(request.tags)).success

    assert sum("/.proxies/" in key for key in workshop.objects()) == 2
    assert workshop.statuses(PROXY.asset)["materialized"] == set(new.partition_keys)


def test_the_answer_has_the_fields_of_both_functions_before_it(
    function: Open, storage: ObjectStorage, bucket: Location
) -> None:
    put(storage, bucket, {"shot/beauty.1001.exr": render()})
    context = function()
    answer = dataengine.handler(context, RuntimeEvent(wire(EVENTS / "element_created.json", bucket.bucket)))

    json.dumps(answer, allow_nan=False)
    assert (answer["status"], answer["inserted"], answer["error"], answer["errors"]) == ("success", True, None, [])
    assert answer["persistence"]["status"] == "success"
    assert answer["persistence"]["file_id"] == answer["file_id"] == answer["file"]["file_id"]
    assert (answer["file"]["s3_bucket"], answer["file"]["s3_key"]) == (bucket.bucket, "shot/beauty.1001.exr")
    assert [channel["name"] for channel in answer["channels"]] == ["B", "G", "R"]
    assert (answer["thumbnail_key"], answer["proxy_key"]) == (
        "shot/.proxies/beauty.1001_thumb.jpg",
        "shot/.proxies/beauty.1001_proxy.mp4",
    )
    assert answer["thumbnail_size_bytes"] == storage.head(bucket.child(answer["thumbnail_key"])).size
    assert answer["proxy_size_bytes"] == storage.head(bucket.child(answer["proxy_key"])).size
    assert answer["colorspace"] == "ACEScg"

    again = dataengine.handler(context, RuntimeEvent(wire(EVENTS / "element_created.json", bucket.bucket)))
    assert (again["status"], again["inserted"], again["file_id"]) == ("success", False, answer["file_id"])


def test_what_an_event_asks_for_beyond_the_header_is_not_available_and_said_so(
    function: Open, storage: ObjectStorage, bucket: Location
) -> None:
    put(storage, bucket, {"shot/beauty.1001.exr": render()})
    event = wire(EVENTS / "named_by_key_with_toggles.json", bucket.bucket)
    context = function()
    answer = dataengine.handler(context, RuntimeEvent(event))
    assert (answer["status"], answer["errors"]) == ("success", ["not available"])
    assert "stats, validate, policy_path" in answer["message"]
    short = dataengine.handler(context, RuntimeEvent({**event, "data": {**event["data"], "meta": False}}))
    assert (short["parts"], short["channels"], short["attributes"]) == ([], [], {"parts": []})
    assert short["file_id"] == answer["file_id"]


@pytest.mark.parametrize("name", ["element_deleted", "element_tagged"])
def test_events_about_anything_but_new_objects_are_skipped(
    function: Open, storage: ObjectStorage, bucket: Location, name: str
) -> None:
    put(storage, bucket, {"shot/beauty.1001.exr": render()})
    answer = dataengine.handler(function(), RuntimeEvent(wire(EVENTS / f"{name}.json", bucket.bucket)))
    assert (answer["status"], answer["persistence"]["status"], answer["error"]) == ("skipped", "skipped", None)
    assert [info.location.key for info in storage.iter_objects(bucket)] == ["shot/beauty.1001.exr"]


@pytest.mark.parametrize("key", ["notes.txt", "shot/.proxies/beauty.1001_proxy.mp4", ".hidden/a.exr"])
def test_objects_that_are_no_sources_are_skipped(function: Open, bucket: Location, key: str) -> None:
    assert dataengine.handler(function(), created(bucket, key))["status"] == "skipped"


def test_outputs_below_a_root_and_objects_outside_the_sources_are_skipped(
    function: Open, storage: ObjectStorage, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXR_PIPELINE_SOURCES", bucket.url)
    monkeypatch.setenv("EXR_PIPELINE_OUTPUT_ROOT", bucket.child("media").url)
    put(storage, bucket, {"shot/beauty.1001.exr": render()})
    context = function()
    answer = dataengine.handler(context, created(bucket, "shot/beauty.1001.exr"))
    assert answer["proxy_key"].startswith("media/")
    for key in (answer["proxy_key"], answer["thumbnail_key"]):
        assert dataengine.handler(context, created(bucket, key))["status"] == "skipped"
    elsewhere = created(Location("s3", f"{bucket.bucket}-other", ""), "shot/beauty.1001.exr")
    assert dataengine.handler(context, elsewhere)["status"] == "skipped"


def test_a_missing_object_and_an_event_without_one_are_answered_and_not_raised(
    function: Open, bucket: Location
) -> None:
    context = function()
    gone = dataengine.handler(context, created(bucket, "shot/gone.1001.exr"))
    assert (gone["status"], gone["error_class"]) == ("error", "not found")
    bad = dataengine.handler(context, RuntimeEvent({"type": "vastdata.com:Function", "id": "1", "data": {"x": 1}}))
    assert (bad["status"], bad["error_class"], bad["file_id"]) == ("error", "bad event", None)
    assert bad["errors"] == [bad["error"]]


def test_a_key_that_is_plain_although_it_looks_encoded_is_found(
    function: Open, storage: ObjectStorage, bucket: Location
) -> None:
    put(storage, bucket, {"a+b.1001.exr": render(), "100%25.1002.exr": render(0.5)})
    context = function()
    for key in ("a+b.1001.exr", "100%25.1002.exr"):
        record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket.bucket}, "object": {"key": key}}}
        answer = dataengine.handler(context, RuntimeEvent({"type": "x.y", "id": "1", "data": {"Records": [record]}}))
        assert (answer["status"], answer["file"]["s3_key"]) == ("success", key)


def test_a_store_that_is_away_raises_so_that_the_platform_tries_again_unless_told_not_to(
    function: Open, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("EXR_PIPELINE_REQUEST_RETRIES", "0")
    with pytest.raises(TryAgainError, match="no answer from the store") as raised:
        dataengine.handler(function(), created(bucket, "shot/beauty.1001.exr"))
    assert raised.value.answers[0][0]["error_class"] == "connection"
    monkeypatch.setenv("EXR_PIPELINE_RAISE_RETRYABLE", "false")
    answer = dataengine.handler(function(), created(bucket, "shot/beauty.1001.exr"))
    assert (answer["status"], answer["error_class"]) == ("error", "connection")
    assert (answer["persistence"]["status"], answer["persistence"]["error"]) == ("error", answer["error"])


def test_wrong_keys_are_answered_with_the_setting_and_without_the_secret(
    function: Open, bucket: Location, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("S3_ACCESS_KEY", "nobody")
    monkeypatch.setenv("S3_SECRET_KEY", "hush-hush")
    answer = dataengine.handler(function(), created(bucket, "shot/beauty.1001.exr"))
    assert (answer["status"], answer["error_class"]) == ("error", "authentication")
    assert "S3_ACCESS_KEY" in answer["error"]
    assert "hush" not in json.dumps(answer) + caplog.text


def test_secrets_of_the_platform_come_before_the_environment_and_those_of_the_event_before_them(
    function: Open, storage: ObjectStorage, bucket: Location, s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage, bucket, {"shot/beauty.1001.exr": render()})
    good = {"endpoint": s3_server.endpoint, "access_key": s3_server.access_key, "secret_key": s3_server.secret_key}
    event = wire(EVENTS / "named_by_key.json", bucket.bucket)

    monkeypatch.setenv("S3_ACCESS_KEY", "nobody")
    monkeypatch.setenv("S3_SESSION_TOKEN", "of nobody")
    assert dataengine.handler(function(secrets={"s3": good}), RuntimeEvent(event))["status"] == "success"

    stranger = {**good, **STRANGER}
    context = function(secrets={"s3": stranger})
    assert dataengine.handler(context, RuntimeEvent(event))["status"] == "error"
    brought = {**event["data"], **{f"s3_{name}": value for name, value in good.items()}}
    assert dataengine.handler(context, RuntimeEvent({**event, "data": brought}))["status"] == "success"
    alone = {**event["data"], "s3_endpoint": "http://127.0.0.1:9"}
    refused = dataengine.handler(context, RuntimeEvent({**event, "data": alone}))
    assert (refused["status"], refused["error_class"]) == ("error", "bad event")


def test_rows_go_to_vast_with_the_secret_of_the_platform(
    function: Open, storage: ObjectStorage, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXR_PIPELINE_DATABASE")
    put(storage, bucket, {"shot/beauty.1001.exr": render(), "shot/beauty.1002.exr": render(0.3)})
    with running_emulator() as emulator:
        monkeypatch.setenv("VAST_DB_BUCKET", "vastdb")
        secret = {"endpoint": emulator.url, "access_key": "test", "secret_key": "a secret"}
        context = function(secrets={"vast-db": secret})
        events = [created(bucket, f"shot/beauty.{number}.exr") for number in (1001, 1002)]
        answers = dataengine.batch_handler(context, events)
        assert [answer["persistence"]["status"] for answer in answers] == ["success", "success"]
        rows = emulator.rows("files", "exr_metadata")["rows"]
        assert len(rows) == 2


def test_without_tables_nothing_is_persisted_and_that_is_said_once(
    function: Open,
    storage: ObjectStorage,
    bucket: Location,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("EXR_PIPELINE_DATABASE")
    put(storage, bucket, {"shot/beauty.1001.exr": render()})
    context = function()
    for _ in range(2):
        answer = dataengine.handler(context, created(bucket, "shot/beauty.1001.exr"))
        assert (answer["status"], answer["persistence"]["status"]) == ("success", "skipped")
        assert answer["thumbnail_key"]
    said = [record for record in caplog.records if "no tables are configured" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING]
    assert not Path(".state").exists()


def test_a_handler_may_be_called_within_an_event_loop(function: Open, storage: ObjectStorage, bucket: Location) -> None:
    put(storage, bucket, {"shot/beauty.1001.exr": render()})
    context = function()

    async def as_a_runtime_does() -> Any:
        return dataengine.handler(context, created(bucket, "shot/beauty.1001.exr"))

    assert asyncio.run(as_a_runtime_does())["status"] == "success"


def test_only_the_products_that_are_named_are_made(
    function: Open, storage: ObjectStorage, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage, bucket, {"shot/beauty.1001.exr": render()})
    monkeypatch.setenv("EXR_PIPELINE_FUNCTION_PRODUCTS", "header")
    answer = dataengine.handler(function(), created(bucket, "shot/beauty.1001.exr"))
    assert (answer["status"], answer["thumbnail_key"]) == ("success", None)
    assert [info.location.key for info in storage.iter_objects(bucket)] == ["shot/beauty.1001.exr"]
    monkeypatch.setenv("EXR_PIPELINE_FUNCTION_PRODUCTS", "header,sheet")
    wrong = dataengine.handler(function(), created(bucket, "shot/beauty.1001.exr"))
    assert (wrong["error_class"], "'sheet' is not a product" in wrong["error"]) == ("misconfigured", True)


def test_outside_a_runtime_the_decorator_of_batches_says_so() -> None:
    with pytest.raises(ImportError, match="not a runtime of VAST DataEngine"):
        dataengine.batching(dataengine.batch_handler)


def test_a_function_loads_no_dagster() -> None:
    script = (
        "import sys\n"
        "sys.modules['dagster'] = None\n"
        "from exr_pipeline.functions import aws_lambda, cloud_run, dataengine\n"
        "print(sorted(name for name in ('numpy', 'cv2', 'av', 'OpenImageIO', 'vastdb') if name in sys.modules))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_what_a_function_did_needs_no_work(function: Open, storage: ObjectStorage, bucket: Location) -> None:
    from datetime import UTC, datetime, timedelta

    from exr_pipeline.ingest.discovery.needs_work import needs_work

    put(storage, bucket, {"shot/beauty.1001.exr": render()})
    dataengine.handler(function(), created(bucket, "shot/beauty.1001.exr"))
    pipeline = Pipeline()
    info = storage.head(bucket.child("shot/beauty.1001.exr"))
    known = pipeline.tables.current_versions([info.location])
    assert needs_work([info], known, now=datetime.now(UTC), retry_after=timedelta(0)) == []
