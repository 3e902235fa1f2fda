"""The contract of a source of events: messages in bounded batches, positions for the cursor, and acknowledgement.

Belongs here: that contract, what a message names, and the choice of sources by the settings. Not here: how a broker is
read (`kafka_source`, `sqs_source`, `catalog_source`), or what is done about the objects that messages name
(`ingest.discovery.named`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.events.notifications import ObjectEvent, named_objects, parsed

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings

# Where a source is, as JSON, for the sensor's cursor to keep.
Positions = dict[str, Any]

# Of binary CloudEvents: these are their attributes, and the content is their data.
_ATTRIBUTE: Final = "ce_"


@dataclass(frozen=True, slots=True)
class Message:
    """One message: the source and the position in it, as `event_rejects` names them, and what it holds."""

    source: str
    position: str
    content: bytes
    headers: Mapping[str, bytes | None] = field(default_factory=dict)

    def objects(self) -> tuple[ObjectEvent, ...]:
        """The objects that it names; none if it is a store's test. Raises `BadInputError` if that cannot be told.

        CloudEvents are read in both content modes, and are not checked beyond what they name. Their trace is that of
        the attribute `traceparent`, else of the header that tracing libraries add to messages.
        """
        content = parsed(self.content)
        texts = {
            name.lower(): value.decode("utf-8", "replace") for name, value in self.headers.items() if value is not None
        }
        attributes = {
            name.removeprefix(_ATTRIBUTE): value for name, value in texts.items() if name.startswith(_ATTRIBUTE)
        }
        trace = {"traceparent": texts["traceparent"]} if "traceparent" in texts else {}
        if attributes:
            return named_objects({**trace, **attributes, "data": content})
        if not isinstance(content, Mapping):
            raise BadInputError("event", "it is not a JSON object")
        event = {**content, "data": _decoded(content)} if "data_base64" in content else content
        return named_objects({**event, **trace})


def _decoded(event: Mapping[str, Any]) -> Any:
    try:
        return parsed(base64.b64decode(event["data_base64"], validate=True))
    except (TypeError, ValueError, binascii.Error):
        return None


@dataclass(frozen=True, slots=True)
class Batch:
    """Some messages, and the positions behind them."""

    messages: Sequence[Message]
    positions: Positions


class EventSource(AbstractContextManager["EventSource"], Protocol):
    """A source of events that is open. What it has handed over is handed over again until it is acknowledged.

    Methods raise `RetryableError` if the service does not answer and `MisconfiguredError` if a setting is wrong.
    """

    name: str

    def check(self) -> str:
        """Ask the service whether events can be read, without reading any. Returns what was found, for people."""

    def acknowledge(self, positions: Positions) -> Positions:
        """Tell the service that everything before these positions is dealt with; returns where to read on.

        Safe to repeat.
        """

    def read(self, positions: Positions, *, limit: int, seconds: float) -> Batch:
        """At most `limit` messages from these positions on, those that come within some seconds.

        `positions` are those of the last batch, or of an earlier process; none where nothing was read yet.
        """


def has_sources(settings: Settings) -> bool:
    """Whether the settings name any source of events."""
    return bool(settings.events_kafka_brokers or settings.events_sqs_queues or settings.events_catalog)


def sources_of(settings: Settings) -> list[EventSource]:
    """The sources that the settings name, not open yet.

    Raises `MisconfiguredError` if a setting or the package of a client is missing.
    """
    sources: list[EventSource] = []
    if settings.events_kafka_brokers is not None:
        from exr_pipeline.events.kafka_source import KafkaSource

        sources.append(KafkaSource.from_settings(settings))
    elif settings.events_kafka_topics:
        raise MisconfiguredError(
            "EXR_PIPELINE_EVENTS_KAFKA_BROKERS", "topics are set, but no brokers", "set it to host:port"
        )
    if settings.events_sqs_queues:
        from exr_pipeline.events.sqs_source import SqsSource

        sources.append(SqsSource(settings.events_sqs_queues, settings))
    if settings.events_catalog:
        from exr_pipeline.events.catalog_source import CatalogSource

        sources.append(CatalogSource.from_settings(settings))
    return sources
