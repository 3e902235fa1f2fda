"""VAST DataEngine as far as a function notices it: a process of the function, and a trigger that calls it with events.

Belongs here: starting it, reading a topic, and sending again what was not acknowledged. Not here: the process itself
(`functions.runtime_server`), or what an event holds (`events.wire`).
"""

import json
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline_tests.functions.runtimes import EVENTS
from exr_pipeline_tests.services.processes import Service, free_port, wait_until

_ROOT = Path(__file__).parents[2]
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Events in flight at once; those that fail are sent again after a moment.
_AT_ONCE = 4
_PAUSE_SECONDS = 0.2
_CALL_SECONDS = 600
_SECRET = {f"{service}_{what}" for service in ("S3", "VAST_DB") for what in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")}


class FunctionProcess(Service):
    """The process of a function that answers at `url`, the same each time that it starts.

    It has the variables of `environment` but endpoint and keys, which the platform keeps as `secrets`.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], secrets: Mapping[str, Mapping[str, str]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "secrets.json"
        file.write_text(json.dumps(secrets), encoding="utf-8")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        command = [sys.executable, "-m", "exr_pipeline_tests.functions.runtime_server", str(port), str(file)]
        told = {name: value for name, value in environment.items() if name not in _SECRET}
        environment = {**told, "PYTHONPATH": str(_ROOT)}
        log = folder / "function.log"
        super().__init__("function", command, log, environment=environment, folder=EVENTS.parent)

    def wait(self) -> None:
        """Until it takes events."""
        wait_until(lambda: self.is_ready() or not self.is_running, "the function is ready")
        assert self.is_running, self.log_tail()

    def is_ready(self) -> bool:
        """Whether it answers."""
        with suppress(OSError, HTTPException):
            return bool(_OPENER.open(self.url, timeout=5).status == 200)
        return False


def secrets_of(server: EmbeddedS3, database: str) -> dict[str, dict[str, str]]:
    """What a cluster keeps for the function: `ctx.secrets`."""
    keys = {"access_key": server.access_key, "secret_key": server.secret_key}
    of_emulator = {"access_key": "test", "secret_key": "test"}
    return {"s3": {"endpoint": server.endpoint, **keys}, "vast-db": {"endpoint": database, **of_emulator}}


class Trigger:
    """Calls a function with the events of a topic inside a `with` block, each until it is answered with success.

    With a `batch`, so many at most in one call. Offsets are committed when every event before them was answered.
    `answered` counts events, `failed` the calls in vain.
    """

    def __init__(self, brokers: str, topic: str, url: str, *, batch: int = 1) -> None:
        self.answered = 0
        self.failed = 0
        self._topic, self._url, self._batch = topic, url, batch
        self._options: dict[str, Any] = {
            "bootstrap.servers": brokers,
            "group.id": "dataengine",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trigger")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        consumer = Consumer(self._options)
        try:
            # Alone in its group, so that nobody waits for members that do not come.
            consumer.assign(self._starts(consumer))
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="call") as threads:
                while not self._over.is_set():
                    received = consumer.consume(_AT_ONCE * self._batch, _PAUSE_SECONDS)
                    events = [each for each in received if each.error() is None]
                    calls = [events[start : start + self._batch] for start in range(0, len(events), self._batch)]
                    if all(threads.map(self._call, calls)):
                        self._commit(consumer, events)
        finally:
            consumer.close()

    def _starts(self, consumer: Consumer) -> list[TopicPartition]:
        while not self._over.is_set():
            with suppress(KafkaException):
                numbers = consumer.list_topics(self._topic, 5).topics[self._topic].partitions
                found = consumer.committed([TopicPartition(self._topic, number) for number in numbers], 5)
                for each in found:
                    each.offset = each.offset if each.offset >= 0 else OFFSET_BEGINNING
                return found
        return []

    def _call(self, events: Sequence[Message]) -> bool:
        """Whether the function has done them; not if all is over before."""
        values = [json.loads(message.value() or b"") for message in events]
        body = json.dumps(values[0] if self._batch == 1 else values).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/cloudevents+json"})
        while not self._over.is_set():
            with suppress(OSError, HTTPException):
                _OPENER.open(request, timeout=_CALL_SECONDS).close()
                self._count(answered=len(events))
                return True
            self._count(failed=1)
            time.sleep(_PAUSE_SECONDS)
        return False

    def _count(self, *, answered: int = 0, failed: int = 0) -> None:
        with self._lock:
            self.answered += answered
            self.failed += failed

    def _commit(self, consumer: Consumer, events: Sequence[Message]) -> None:
        # Nothing depends on it but where the next trigger begins.
        with suppress(KafkaException):
            for message in events:
                consumer.commit(message=message, asynchronous=False)
