"""Events from topics of Kafka, or of what speaks its protocol, such as the VAST Event Broker.

Belongs here: the consumer. Offsets are the cursor's (`assign()`): no group is joined, which would take seconds at every
tick, and nothing is committed before the cursor is kept. Not here: what messages mean (`source`, `notifications`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.events.kafka_security import security_options
from exr_pipeline.events.source import Batch, Message, Positions
from exr_pipeline.extras import require

if TYPE_CHECKING:
    from types import TracebackType

    from confluent_kafka import Consumer, KafkaError, TopicPartition

    from exr_pipeline.settings import Settings

_LOG = logging.getLogger(__name__)
_ANSWER_SECONDS: Final = 5.0


class KafkaSource:
    """All partitions of some topics. Positions are `{topic: {partition: offset of the next message}}`."""

    name = "kafka"

    def __init__(self, brokers: str, topics: Sequence[str], group: str, options: Mapping[str, Any]) -> None:
        self._brokers, self._topics = brokers, topics
        self._trouble = ""
        self._assigned = False
        self._options = {
            "bootstrap.servers": brokers,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
            # The only one of a VAST Event Broker, besides what needs a group of members.
            "partition.assignment.strategy": "range",
            "error_cb": self._remember,
            **options,
        }

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The source that the settings name. Raises `MisconfiguredError` if something is missing."""
        require("events")
        if not settings.events_kafka_topics:
            raise MisconfiguredError(
                "EXR_PIPELINE_EVENTS_KAFKA_TOPICS", "brokers are set, but no topics", "set it to the topics to read"
            )
        return cls(
            settings.events_kafka_brokers or "",
            settings.events_kafka_topics,
            settings.events_kafka_group,
            security_options(settings),
        )

    def __enter__(self) -> Self:
        from confluent_kafka import Consumer, KafkaException

        try:
            self._consumer: Consumer = Consumer(self._options, logger=_LOG)
        except KafkaException as error:
            raise MisconfiguredError(
                "EXR_PIPELINE_EVENTS_KAFKA_BROKERS", _text(error.args[0]), "correct it, or the settings of its security"
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()
        self._assigned = False

    def check(self) -> str:
        """See `EventSource`; a topic that the broker does not have is `MisconfiguredError`."""
        from confluent_kafka import KafkaException

        try:
            found = [f"topic {topic} of {len(self._partitions(topic))} partitions" for topic in self._topics]
        except KafkaException as error:
            raise self._error(error.args[0]) from None
        return f"{self._brokers} answers: {', '.join(found)}"

    def acknowledge(self, positions: Positions) -> Positions:
        """Commit these offsets, for whoever watches the lag. A failure is logged: no message depends on it."""
        from confluent_kafka import KafkaException, TopicPartition

        offsets = [
            TopicPartition(topic, int(partition), offset)
            for topic, partitions in positions.items()
            for partition, offset in partitions.items()
        ]
        if not offsets:
            return positions
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            _LOG.warning("offsets are not committed: %s", _text(error.args[0]))
        return positions

    def read(self, positions: Positions, *, limit: int, seconds: float) -> Batch:
        """Messages in the order of their partitions; a topic that the broker does not have is `MisconfiguredError`."""
        from confluent_kafka import KafkaException

        try:
            if not self._assigned:
                self._consumer.assign(self._starts(positions))
                self._assigned = True
            received = self._consumer.consume(limit, seconds)
        except KafkaException as error:
            raise self._error(error.args[0]) from None
        after = {topic: dict(partitions) for topic, partitions in positions.items() if topic in self._topics}
        messages = []
        for each in received:
            if (failure := each.error()) is not None:
                raise self._error(failure)
            topic, partition, offset = str(each.topic()), each.partition(), each.offset()
            after.setdefault(topic, {})[str(partition)] = (offset or 0) + 1
            headers: Any = each.headers() or []
            messages.append(Message(f"kafka:{topic}", f"{partition}:{offset}", each.value() or b"", dict(headers)))
        return Batch(messages, after)

    def _starts(self, positions: Positions) -> list[TopicPartition]:
        """Where to read on: at the cursor's offsets, else at the committed ones, else at the beginning."""
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        partitions = [TopicPartition(topic, number) for topic in self._topics for number in self._partitions(topic)]
        unknown = [each for each in partitions if str(each.partition) not in positions.get(each.topic, {})]
        committed = self._consumer.committed(unknown, _ANSWER_SECONDS) if unknown else []
        starts = {(each.topic, each.partition): each.offset for each in committed if each.offset >= 0}
        for each in partitions:
            kept = positions.get(each.topic, {}).get(str(each.partition))
            each.offset = starts.get((each.topic, each.partition), OFFSET_BEGINNING) if kept is None else kept
        return partitions

    def _partitions(self, topic: str) -> list[int]:
        found = self._consumer.list_topics(topic, _ANSWER_SECONDS).topics[topic]
        if found.error is not None:
            raise self._error(found.error, topic)
        return sorted(found.partitions)

    def _error(self, error: KafkaError, topic: str = "") -> RetryableError | MisconfiguredError:
        """What a failure means for the caller. The last thing that went wrong says more than that no answer came."""
        from confluent_kafka import KafkaError as Code

        if error.code() in {Code.UNKNOWN_TOPIC_OR_PART, Code._UNKNOWN_TOPIC}:
            return MisconfiguredError(
                "EXR_PIPELINE_EVENTS_KAFKA_TOPICS",
                f"the broker has no topic {topic!r}" if topic else "the broker has no such topic",
                "create it, or correct the name",
            )
        if error.code() in {Code.TOPIC_AUTHORIZATION_FAILED, Code.GROUP_AUTHORIZATION_FAILED}:
            return MisconfiguredError(
                "EXR_PIPELINE_KAFKA_USERNAME",
                f"the broker does not let it read: {_text(error)}",
                "allow it to read the topics and to use the group",
            )
        told = "; ".join(dict.fromkeys(text for text in (_text(error), self._trouble) if text))
        return RetryableError(
            f"{self._brokers}: cannot read events: {told}. Fix: check that a Kafka broker answers there, or correct "
            "EXR_PIPELINE_EVENTS_KAFKA_BROKERS and the settings of its security"
        )

    def _remember(self, error: KafkaError) -> None:
        self._trouble = _text(error)


def _text(error: KafkaError) -> str:
    return str(error.str())
