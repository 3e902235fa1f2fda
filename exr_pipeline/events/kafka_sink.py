"""Events to a Kafka broker, in the binary mode of CloudEvents: attributes in headers, the payload as the value.

The one that SpaceHarbor reads is in structured mode, for it looks at values only.

Belongs here: the producer, and what its reports mean. Not here: what waits (`outbox`). The producer asks for nothing
that VAST's broker lacks: no compression, no idempotence, no topics made by themselves.
Source: CloudEvents 1.0.2, Kafka protocol binding.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.events.kafka_security import security_options
from exr_pipeline.events.outgoing import COMPLETED
from exr_pipeline.events.sinks import Published, topics_in_use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.events.sinks import WaitingEvent
    from exr_pipeline.settings import Settings

# VAST's broker takes 126 KB of key and of value.
LONGEST_VALUE: Final = 126_000

_SETTING: Final = "EXR_PIPELINE_PUBLISH_BROKERS"
_ANSWER_SECONDS: Final = 5.0


class KafkaSink:
    """A `Sink` at a broker. A connection is made for each batch: a run publishes a few times, then ends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def check(self) -> str:
        """See `Sink`: the broker answers, and has the topics that events go to."""
        from confluent_kafka import KafkaException

        producer = self._producer(_ANSWER_SECONDS)
        brokers, wanted = self._settings.publish_brokers, topics_in_use(self._settings)
        try:
            topics = producer.list_topics(timeout=_ANSWER_SECONDS).topics
        except KafkaException as error:
            raise RetryableError(
                f"{brokers}: cannot publish events: {error.args[0].str()}. Fix: check that a Kafka broker answers "
                f"there, or correct {_SETTING} and the settings of its security"
            ) from None
        missing = [topic for topic in wanted if topic not in topics]
        if missing:
            raise MisconfiguredError(_SETTING, f"{brokers} has no topic {', '.join(missing)}", "create what is missing")
        return f"{brokers} answers, and has the topics {', '.join(wanted)}"

    def publish(self, events: Sequence[WaitingEvent], *, seconds: float) -> Published:
        """See `Sink`. Only the broker's own report says that an event was delivered."""
        from confluent_kafka import KafkaException

        published = Published()
        producer = self._producer(seconds)
        for event in events:
            try:
                self._send(producer, event, published)
            except (BufferError, KafkaException) as error:
                # Those behind it wait too: events of one key keep their order.
                published.problem = f"topic {event.topic!r}: {error}"
                break
            producer.poll(0)
        deadline = time.monotonic() + seconds + 1
        while len(producer) and time.monotonic() < deadline:
            producer.flush(0.1)
        if len(producer):
            producer.purge()
            producer.flush(1)
            published.problem = published.problem or f"no answer within {seconds:.0f} s"
        return published

    def _send(self, producer: Any, event: WaitingEvent, published: Published) -> None:
        message = self._message(event)
        if len(message.value or b"") > LONGEST_VALUE:
            published.rejected[event.event_id] = f"its value is longer than {LONGEST_VALUE} bytes"
            return
        producer.produce(
            event.topic,
            key=message.key,
            value=message.value,
            headers=[(name, bytes(value)) for name, value in message.headers.items()],
            on_delivery=DeliveryReport(event, published),
        )

    def _message(self, event: WaitingEvent) -> Any:
        from cloudevents.core.bindings.kafka import to_binary_event, to_structured_event
        from cloudevents.core.v1.event import CloudEvent

        attributes = {
            "id": event.event_id,
            "source": self._settings.publish_source,
            "type": event.type,
            "time": datetime.fromisoformat(event.created_at),
            "subject": event.subject,
            "partitionkey": event.key,
            "datacontenttype": "application/json",
            **({"traceparent": event.traceparent} if event.traceparent else {}),
        }
        to_message = to_structured_event if event.type == COMPLETED else to_binary_event
        return to_message(CloudEvent(attributes, json.loads(event.payload)))

    def _producer(self, seconds: float) -> Any:
        from confluent_kafka import KafkaException, Producer

        options = {
            "bootstrap.servers": self._settings.publish_brokers,
            "enable.idempotence": False,
            "compression.type": "none",
            "acks": "all",
            "max.in.flight.requests.per.connection": 1,
            "message.timeout.ms": max(1, int(seconds * 1000)),
            "linger.ms": 5,
            "log_level": 0,
            **security_options(self._settings),
        }
        try:
            return Producer(options)
        except (KafkaException, ValueError, TypeError) as error:
            raise MisconfiguredError(_SETTING, f"the producer refuses it: {error}", "see docs/events.md") from error


class DeliveryReport:
    """Notes what the broker says of one event."""

    def __init__(self, event: WaitingEvent, published: Published) -> None:
        self._event = event
        self._published = published

    def __call__(self, error: Any, _: Any) -> None:
        """What the broker says: `error` is None if it has the event."""
        from confluent_kafka import KafkaError

        if error is None:
            self._published.delivered.append(self._event.event_id)
        elif error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD):
            self._published.rejected[self._event.event_id] = f"the broker refuses it: {error.str()}"
        elif error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            self._published.problem = f"topic {self._event.topic} does not exist: create it"
        elif self._published.problem is None:
            self._published.problem = error.str()
