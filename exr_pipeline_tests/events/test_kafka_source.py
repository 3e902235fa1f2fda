"""Reading from real brokers: nothing is lost, and what is not acknowledged comes again."""

from pathlib import Path

import pytest

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.events.kafka_source import KafkaSource
from exr_pipeline.events.source import Batch, EventSource, Message, Positions
from exr_pipeline.settings import Settings
from exr_pipeline_tests.services.kafka import Broker, Tansu
from exr_pipeline_tests.services.processes import free_port, wait_until


def source(address: str, topic: str, **changes: object) -> KafkaSource:
    values = {"events_kafka_brokers": address, "events_kafka_topics": (topic,), "events_kafka_group": topic, **changes}
    return KafkaSource.from_settings(Settings(_env_file=None, **values))  # type: ignore[arg-type]


def read(opened: EventSource, positions: Positions, count: int, *, limit: int = 1000) -> Batch:
    """As many messages as the test expects, however many batches that takes."""
    messages: list[Message] = []

    def enough() -> bool:
        nonlocal positions
        batch = opened.read(positions, limit=limit, seconds=0.2)
        messages.extend(batch.messages)
        positions = batch.positions
        return len(messages) >= count

    wait_until(enough, f"{count} messages", seconds=60)
    return Batch(messages, positions)


def contents(batch: Batch) -> list[bytes]:
    return sorted(message.content for message in batch.messages)


def test_all_messages_of_all_partitions_are_read_once_from_the_first(broker: Broker) -> None:
    topic = broker.new_topic()
    sent = sorted(f"{number:03}".encode() for number in range(300))
    broker.send(topic, *sent, headers={"ce_type": b"x"})

    with source(broker.address, topic) as opened:
        batch = read(opened, {}, 300)
        assert contents(batch) == sent
        assert opened.read(batch.positions, limit=10, seconds=0.5).messages == []
    assert {message.source for message in batch.messages} == {f"kafka:{topic}"}
    assert len({message.position for message in batch.messages}) == 300
    assert batch.messages[0].headers == {"ce_type": b"x"}
    assert sum(batch.positions[topic].values()) == 300


def test_a_batch_is_bounded(broker: Broker) -> None:
    topic = broker.new_topic()
    broker.send(topic, *[b"x"] * 50)
    with source(broker.address, topic) as opened:
        first = read(opened, {}, 20, limit=20)
        assert len(first.messages) == 20
        assert len(read(opened, first.positions, 30).messages) == 30


def test_reading_goes_on_at_the_positions_of_the_cursor_whatever_was_read_since(broker: Broker) -> None:
    topic = broker.new_topic()
    broker.send(topic, b"a", b"b", partition=1)
    with source(broker.address, topic) as opened:
        kept = read(opened, {}, 2).positions
    broker.send(topic, b"c", partition=1)
    broker.send(topic, b"d", partition=2)
    for _ in range(2):
        with source(broker.address, topic) as opened:
            assert contents(read(opened, kept, 2)) == [b"c", b"d"]


def test_a_lost_cursor_goes_on_at_what_was_acknowledged(broker: Broker) -> None:
    topic = broker.new_topic()
    broker.send(topic, b"a", b"b", partition=0)
    with source(broker.address, topic) as opened:
        kept = read(opened, {}, 2).positions
    broker.send(topic, b"c", partition=0)
    with source(broker.address, topic) as opened:
        opened.acknowledge(kept)
        read(opened, kept, 1)
    with source(broker.address, topic) as opened:
        assert contents(read(opened, {}, 1)) == [b"c"]


def test_another_group_reads_everything(broker: Broker) -> None:
    topic = broker.new_topic()
    broker.send(topic, b"a")
    with source(broker.address, topic) as opened:
        opened.acknowledge(read(opened, {}, 1).positions)
    with source(broker.address, topic, events_kafka_group="another") as opened:
        assert contents(read(opened, {}, 1)) == [b"a"]


def test_a_topic_that_the_broker_does_not_have_is_named(broker: Broker) -> None:
    with source(broker.address, "nobody-made-it") as opened, pytest.raises(MisconfiguredError, match="nobody-made-it"):
        opened.read({}, limit=1, seconds=0.1)


def test_a_broker_that_does_not_answer_is_worth_another_try_and_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    with source(address, "events") as opened, pytest.raises(RetryableError, match=address):
        opened.read({}, limit=1, seconds=0.1)


def test_a_broker_that_was_killed_is_worth_another_try(tmp_path: Path) -> None:
    with Tansu(tmp_path) as tansu:
        broker = Broker(tansu.address, can_create=True)
        topic = broker.new_topic()
        broker.send(topic, b"a")
        with source(tansu.address, topic) as opened:
            read(opened, {}, 1)
        tansu.kill()
        with source(tansu.address, topic) as opened, pytest.raises(RetryableError):
            opened.read({}, limit=1, seconds=0.1)


def test_the_password_is_not_in_the_error_of_a_wrong_configuration(tmp_path: Path) -> None:
    settings = {
        "kafka_security": "sasl_ssl",
        "kafka_username": "u",
        "kafka_password": "hidden-word",
        "kafka_ca": tmp_path / "missing.pem",
    }
    with pytest.raises(MisconfiguredError) as caught, source("broker:9092", "events", **settings):
        pass
    assert "hidden-word" not in str(caught.value)
    assert caught.value.setting == "EXR_PIPELINE_EVENTS_KAFKA_BROKERS"


def test_a_check_reads_nothing_and_names_what_is_missing(broker: Broker) -> None:
    topic = broker.new_topic()
    broker.send(topic, b"a")
    with source(broker.address, topic) as opened:
        assert opened.check().startswith(f"{broker.address} answers: topic {topic} of ")
        assert len(read(opened, {}, 1).messages) == 1
    with (
        source(f"127.0.0.1:{free_port()}", topic) as opened,
        pytest.raises(RetryableError, match="EXR_PIPELINE_EVENTS_KAFKA_BROKERS"),
    ):
        opened.check()
