"""What becomes of events: they name objects, and whatever else they say, or fail to say, does no harm."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from exr_pipeline.errors import RetryableError
from exr_pipeline.events.source import Batch, Message, Positions, sources_of
from exr_pipeline.ingest.deletions import reconcile
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.jobs import SELECTION_JOB
from exr_pipeline.orchestration.partitions import FILES
from exr_pipeline.orchestration.sensors.events_in import EVENTS_SENSOR, EventsCursor, tick
from exr_pipeline.orchestration.steps.run_tags import FINISHED_ELSEWHERE_TAG
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.events.wire import FORMS, notification
from exr_pipeline_tests.orchestration.sensors.conftest import MakeWatch, Watch
from exr_pipeline_tests.services.kafka import Broker
from exr_pipeline_tests.services.moto import Moto
from exr_pipeline_tests.services.processes import free_port, wait_until


class Line:
    """A source of events that the test fills by hand: a line of messages, and a note of what was acknowledged."""

    name = "line"

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.acknowledged: list[Positions] = []

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def check(self) -> str:
        return f"{len(self.messages)} messages"

    def add(self, *contents: bytes) -> None:
        start = len(self.messages)
        self.messages += [Message("line", str(start + index), content) for index, content in enumerate(contents)]

    def acknowledge(self, positions: Positions) -> Positions:
        self.acknowledged.append(positions)
        return positions

    def read(self, positions: Positions, *, limit: int, seconds: float) -> Batch:
        start = positions.get("next", 0)
        found = self.messages[start : start + limit]
        return Batch(found, {"next": start + len(found)})


class Inbox:
    """The sensor of events over a watch's source: ticked by hand, with its cursor kept as Dagster keeps it."""

    def __init__(self, watch: Watch, *sources: Any) -> None:
        self.watch = watch
        self.sources = sources
        self.cursor = EventsCursor()

    def look(self) -> dg.SensorResult:
        """A tick whose cursor is lost, as when the daemon is killed before it keeps it."""
        cursor = EventsCursor.from_text(self.cursor.to_text())
        sources = self.sources or tuple(sources_of(self.watch.pipeline.settings))
        return tick(self.watch.instance, self.watch.pipeline, cursor, sources, clock=lambda: self.watch.now)

    def tick(self) -> dg.SensorResult:
        result = self.look()
        self.cursor = EventsCursor.from_text(result.cursor)
        return result

    def asked(self) -> list[tuple[str, list[str]]]:
        return self.watch.asked(self.tick())

    def partitions(self) -> list[str]:
        return self.watch.names(list(self.watch.instance.get_dynamic_partitions(FILES)))


MakeInbox = Callable[..., Inbox]


@pytest.fixture
def make_inbox(make_watch: MakeWatch) -> MakeInbox:
    return lambda *sources, **changes: Inbox(make_watch(**({"events_seconds": 0.1} | changes)), *sources)


def created(watch: Watch, *names: str, **facts: Any) -> list[bytes]:
    return [notification(watch.root.child(name), **facts)[0] for name in names]


def deleted(watch: Watch, *names: str) -> list[bytes]:
    return [notification(watch.root.child(name), "ObjectRemoved:Delete")[0] for name in names]


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_an_event_names_becomes_a_partition_and_a_run(
    make_inbox: MakeInbox, broker: Broker, form: str
) -> None:
    topic = broker.new_topic()
    inbox = make_inbox(
        events_kafka_brokers=broker.address, events_kafka_topics=(topic,), events_kafka_group=topic, events_seconds=1
    )
    name = "shot a+b/beauty #1 100%.1001.exr"
    inbox.watch.put(name, "no event names it.exr")
    content, headers = FORMS[form](inbox.watch.root.child(name))
    broker.send(topic, content, headers=headers)

    asked = wait_until(inbox.asked, "a run")

    assert asked == [(SELECTION_JOB, [name])]
    assert inbox.partitions() == [name]


def test_what_is_acknowledged_is_what_the_cursor_of_the_tick_before_says(make_inbox: MakeInbox, broker: Broker) -> None:
    topic = broker.new_topic()
    inbox = make_inbox(
        events_kafka_brokers=broker.address, events_kafka_topics=(topic,), events_kafka_group=topic, events_seconds=1
    )
    inbox.watch.put("a.exr")
    broker.send(topic, *created(inbox.watch, "a.exr"), partition=0)
    wait_until(inbox.asked, "a run")

    # The cursor is lost, and with it that anything was read: nothing was acknowledged before it was kept.
    inbox.cursor = EventsCursor()
    assert wait_until(inbox.asked, "the run again") == [(SELECTION_JOB, ["a.exr"])]
    inbox.tick()
    inbox.cursor = EventsCursor()
    inbox.tick()
    assert inbox.cursor.positions in ({"kafka": {}}, {"kafka": {topic: {}}})


def test_a_message_of_sqs_is_deleted_when_its_partition_exists_and_its_cursor_was_kept(
    make_inbox: MakeInbox, moto: Moto
) -> None:
    queue, sqs = moto.new_queue(), moto.client("sqs")
    inbox = make_inbox(events_sqs_queues=(queue,))
    inbox.watch.put("a.exr")
    sqs.send_message(QueueUrl=queue, MessageBody=created(inbox.watch, "a.exr")[0].decode())

    def left() -> str:
        name = "ApproximateNumberOfMessagesNotVisible"
        return str(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[name])["Attributes"][name])

    assert inbox.asked() == [(SELECTION_JOB, ["a.exr"])]
    assert inbox.partitions() == ["a.exr"]
    assert left() == "1"
    inbox.tick()
    assert left() == "0"
    assert inbox.cursor.positions == {"sqs": {queue: []}}


def test_sources_hear_of_the_cursor_one_tick_later(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    inbox.watch.put("a.exr")
    line.add(*created(inbox.watch, "a.exr"))

    inbox.tick()
    assert line.acknowledged == [{}]
    inbox.tick()
    assert line.acknowledged == [{}, {"next": 1}]


def test_a_tick_whose_cursor_is_lost_is_repeated_without_a_trace(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    inbox.watch.put("a.exr", "b.exr")
    line.add(*created(inbox.watch, "b.exr", "a.exr"), b"poison")

    first = inbox.watch.asked(inbox.look())
    assert first == [(SELECTION_JOB, ["a.exr", "b.exr"])]
    assert inbox.partitions() == ["a.exr", "b.exr"]
    assert line.acknowledged == [{}]

    assert inbox.asked() == first
    assert inbox.partitions() == ["a.exr", "b.exr"]
    assert inbox.watch.pipeline.tables.read("event_rejects").num_rows == 1
    assert inbox.asked() == []


def test_duplicates_and_disorder_ask_for_each_file_once(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    watch = inbox.watch
    watch.put("a.exr", "b.exr")
    watch.put("known.exr")
    watch.inspect("known.exr")
    # A file that was deleted and put again, told in the wrong order; one that is known; each several times.
    line.add(*deleted(watch, "a.exr"), *created(watch, "b.exr", "a.exr", "known.exr") * 3, *deleted(watch, "a.exr"))

    result = inbox.tick()
    assert watch.asked(result) == [(SELECTION_JOB, ["a.exr", "b.exr"])]
    watch.start(result, dg.DagsterRunStatus.STARTED)

    line.add(*created(watch, "a.exr", "b.exr", "known.exr"))
    assert inbox.asked() == [], "runs are at them"
    assert inbox.cursor.waiting == {}


def test_what_an_event_says_of_its_object_is_not_believed(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    watch = inbox.watch
    watch.put("known.exr", "new.exr")
    watch.inspect("known.exr")
    line.add(*created(watch, "known.exr", "new.exr", "never.exr", size=10**15, eTag="0" * 32, sequencer="zzz"))

    assert inbox.asked() == [(SELECTION_JOB, ["new.exr"])]
    assert "never.exr" not in inbox.partitions()


def test_an_event_of_a_deletion_of_what_is_there_deletes_nothing(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    inbox.watch.put("a.exr")
    inbox.watch.inspect("a.exr")
    line.add(*deleted(inbox.watch, "a.exr"))

    assert inbox.asked() == []
    location = inbox.watch.root.child("a.exr")
    assert inbox.watch.pipeline.tables.current_versions([location])[location].deleted_at is None
    assert inbox.partitions() == ["a.exr"]


def test_an_event_of_a_deletion_leaves_what_reconcile_leaves(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    watch, tables = inbox.watch, inbox.watch.pipeline.tables
    names = ("by event/a.exr", "by reconcile/a.exr", "by reconcile/stays.exr")
    watch.put(*names)
    watch.inspect(*names)
    for name in names[:2]:
        watch.pipeline.storage.delete(watch.root.child(name))
    line.add(*deleted(watch, "by event/a.exr"), *deleted(watch, "never/there.exr"))

    assert "1 deleted" in str(inbox.tick().skip_reason)

    by_event, by_reconcile = (watch.root.child(name) for name in names[:2])
    assert inbox.partitions() == list(names[1:])
    folder = watch.root.child("by reconcile/")
    reconcile(folder, watch.pipeline.settings, watch.pipeline.storage, tables, dry_run=False)
    rows = {row["file_path"]: row for row in tables.read("files", locations=[by_event, by_reconcile]).to_pylist()}
    marks = [{name for name, value in rows[each.key].items() if value is not None} for each in (by_event, by_reconcile)]
    assert "deleted_at" in marks[0]
    assert marks[0] == marks[1]
    # And a second event of it finds nothing to do.
    line.add(*deleted(watch, "by event/a.exr"))
    assert "0 deleted" in str(inbox.tick().skip_reason)


def test_a_deleted_file_that_a_run_is_at_keeps_its_partition(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    inbox.watch.put("a.exr")
    line.add(*created(inbox.watch, "a.exr"))
    inbox.watch.start(inbox.tick(), dg.DagsterRunStatus.STARTED)
    inbox.watch.pipeline.storage.delete(inbox.watch.root.child("a.exr"))
    line.add(*deleted(inbox.watch, "a.exr"))

    inbox.tick()

    assert inbox.partitions() == ["a.exr"]


def test_poison_is_kept_with_its_reason_and_holds_up_nothing(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    inbox.watch.put("a.exr")
    before = inbox.watch.pipeline.tables.read("event_rejects").num_rows
    long = json.dumps({"nothing": "x" * 10_000}).encode()
    line.add(b"\xff\x00 not JSON", *created(inbox.watch, "a.exr"), long)
    # The table is shared by the tests of this module.
    line.messages = [Message(f"line {id(line)}", each.position, each.content) for each in line.messages]

    assert inbox.asked() == [(SELECTION_JOB, ["a.exr"])]

    rows = inbox.watch.pipeline.tables.read("event_rejects").to_pylist()
    mine = sorted((row["position"], row["reason"]) for row in rows if row["source"] == f"line {id(line)}")
    assert mine == [("0", "it is not a JSON object"), ("2", "it names no object in any known form")]
    assert len(rows) == before + 2
    (content,) = (row["content"] for row in rows if row["source"] == f"line {id(line)}" and row["position"] == "2")
    assert content == long.decode()[:4096]
    assert "0 rejected" in str(inbox.tick().skip_reason)


def test_objects_that_are_no_source_files_are_left_alone(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    watch = inbox.watch
    watch.put("notes.txt", ".proxies/a_thumb.jpg")
    elsewhere = Location("s3", "another-bucket", "a.exr")
    line.add(*created(watch, "notes.txt", ".proxies/a_thumb.jpg"), notification(elsewhere)[0])

    assert inbox.asked() == []
    assert inbox.partitions() == []


def test_a_file_that_has_not_settled_is_a_partition_at_once_and_a_run_when_it_has(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    watch = inbox.watch
    watch.put("a.exr")
    watch.now = watch.pipeline.storage.head(watch.root.child("a.exr")).last_modified + timedelta(seconds=59)
    line.add(*created(watch, "a.exr"))

    assert inbox.asked() == []
    assert inbox.partitions() == ["a.exr"]
    watch.go_on(1)
    assert inbox.asked() == [(SELECTION_JOB, ["a.exr"])]
    assert inbox.cursor.waiting == {}


def test_a_file_that_something_else_finishes_before_its_run_is_shown(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    watch = inbox.watch
    watch.put("a.exr")
    watch.now = watch.pipeline.storage.head(watch.root.child("a.exr")).last_modified
    line.add(*created(watch, "a.exr"))
    assert inbox.asked() == []
    watch.inspect_elsewhere("a.exr")
    watch.go_on(60)

    result = inbox.tick()

    assert watch.asked(result) == [(SELECTION_JOB, ["a.exr"])]
    (request,) = result.run_requests or []
    assert request.tags[FINISHED_ELSEWHERE_TAG] == "true"
    assert inbox.asked() == []


def test_without_room_for_runs_files_become_partitions_and_wait(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line, chunk_size=1, sensor_max_runs=2)
    watch = inbox.watch
    watch.put("a.exr", "b.exr", "c.exr")
    line.add(*created(watch, "a.exr", "b.exr", "c.exr"))

    result = inbox.tick()
    assert watch.asked(result) == [(SELECTION_JOB, ["a.exr"]), (SELECTION_JOB, ["b.exr"])]
    assert inbox.partitions() == ["a.exr", "b.exr", "c.exr"]
    watch.start(result, dg.DagsterRunStatus.STARTED)
    assert inbox.asked() == []
    for run in watch.instance.get_runs():
        watch.instance.delete_run(run.run_id)
    watch.inspect("a.exr", "b.exr")
    assert inbox.asked() == [(SELECTION_JOB, ["c.exr"])]


def test_the_sweep_asks_for_a_partition_whose_run_nobody_asked_for(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line)
    inbox.watch.put("a.exr")
    line.add(*created(inbox.watch, "a.exr"))
    inbox.look()

    assert inbox.watch.asked() == [(SELECTION_JOB, ["a.exr"])]


def test_a_store_that_does_not_answer_costs_time_and_no_file(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line, request_retries=0)
    watch, reached = inbox.watch, inbox.watch.pipeline
    watch.put("a.exr")
    line.add(*created(watch, "a.exr"))
    watch.pipeline = type(reached)(
        reached.settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_port()}"})
    )

    assert inbox.asked() == []
    assert "1 files wait" in str(inbox.tick().skip_reason)
    watch.pipeline = reached
    assert inbox.asked() == [(SELECTION_JOB, ["a.exr"])]


def test_a_file_that_cannot_be_looked_up_for_long_is_left_to_the_sweep(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(line, request_retries=0, s3_endpoint=f"http://127.0.0.1:{free_port()}")
    line.add(*created(inbox.watch, "a.exr"))
    inbox.tick()
    assert list(inbox.cursor.waiting) == [inbox.watch.root.child("a.exr").url]
    inbox.watch.go_on(inbox.watch.pipeline.settings.retry_after_seconds + 1)
    inbox.tick()
    assert inbox.cursor.waiting == {}


class Away(Line):
    """A source whose service does not answer."""

    name = "away"

    def read(self, positions: Positions, *, limit: int, seconds: float) -> Batch:
        raise RetryableError("broker:9092: no answer")


def test_a_source_that_is_unavailable_holds_up_no_other_and_is_named(make_inbox: MakeInbox) -> None:
    line = Line()
    inbox = make_inbox(Away(), line)
    assert "broker:9092: no answer" in str(inbox.tick().skip_reason)
    inbox.watch.put("a.exr")
    line.add(*created(inbox.watch, "a.exr"))
    assert inbox.asked() == [(SELECTION_JOB, ["a.exr"])]


def test_a_tick_fails_if_no_source_is_available(make_inbox: MakeInbox) -> None:
    with pytest.raises(RetryableError, match="no answer"):
        make_inbox(Away()).tick()


def test_the_sensor_is_there_if_a_source_is_configured_and_says_what_is_wrong_with_it(
    make_inbox: MakeInbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    without = build_defs(settings=make_inbox().watch.pipeline.settings).get_repository_def()
    assert not without.has_sensor_def(EVENTS_SENSOR)
    address = f"127.0.0.1:{free_port()}"
    watch = make_inbox(events_kafka_brokers=address, events_kafka_topics=("events",)).watch
    sensor = build_defs(settings=watch.pipeline.settings).get_repository_def().get_sensor_def(EVENTS_SENSOR)
    for migrated in (False, True):
        if migrated:
            watch.instance.run_storage.set_cursor_values({"exr_pipeline/partition_keys": "labels"})
        with dg.build_sensor_context(instance=watch.instance, resources={"pipeline": watch.pipeline}) as context:
            skipped = str(sensor.evaluate_tick(context).skip_message)
        assert (address in skipped) is migrated


class Endless(Line):
    """A source from which so many messages more come whenever it is read. None names a file of a source."""

    def __init__(self, at_once: int) -> None:
        super().__init__()
        self._at_once = at_once

    def read(self, positions: Positions, *, limit: int, seconds: float) -> Batch:
        start = positions.get("next", 0)
        count = min(self._at_once, limit)
        found = [Message("line", str(start + index), b'{"s3_bucket": "else", "s3_key": "x"}') for index in range(count)]
        return Batch(found, {"next": start + count})


def test_a_tick_goes_on_beyond_its_time_while_many_events_come_and_not_for_a_few(make_inbox: MakeInbox) -> None:
    inbox = make_inbox(Endless(100), events_seconds=0.001)
    assert "100 messages" in str(inbox.tick().skip_reason)
    inbox = make_inbox(Endless(1000), events_seconds=0.001, events_max_read=7000)
    assert "7000 messages" in str(inbox.tick().skip_reason)
