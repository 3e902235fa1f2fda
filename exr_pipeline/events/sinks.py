"""Where events go: what a sink takes and answers, and which ones the settings name.

Belongs here: the contract of a sink, and opening them. Not here: one sink (`kafka_sink`, `webhooks`), or what waits
(`outbox`).
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from exr_pipeline.events.outgoing import COMPLETED, EVENT_TYPES
from exr_pipeline.extras import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exr_pipeline.events.outgoing import EventType
    from exr_pipeline.settings import Settings

KAFKA: Final = "kafka"


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """An event as it waits. `payload` is JSON, `created_at` ISO 8601 in UTC; see the table `outbox`.

    `traceparent` is the trace that it belongs to, for the extension of CloudEvents for distributed tracing.
    """

    event_id: str
    type: str
    topic: str
    key: str
    subject: str
    payload: str
    created_at: str
    traceparent: str | None = None


@dataclass(slots=True)
class Published:
    """What a sink has taken, by event_id; what it will never take, and why; and why it did not take the rest."""

    delivered: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


class Sink(Protocol):
    """Takes events."""

    def check(self) -> str:
        """Ask whether it would take events, without sending any. Returns what was found, for people.

        Raises `RetryableError` if nobody answers and `MisconfiguredError` if a setting is wrong.
        """

    def publish(self, events: Sequence[WaitingEvent], *, seconds: float) -> Published:
        """Deliver events in their order, for at most about this long. What is not confirmed counts as not delivered."""


def sink_names(settings: Settings) -> list[str]:
    """The sinks that are configured, as the outbox names them."""
    kafka = [KAFKA] if settings.publish_brokers else []
    return [*kafka, *map(webhook_name, settings.publish_webhooks)]


def topic_of(kind: EventType, settings: Settings) -> str:
    """The topic of a type of events."""
    of_others = {"proxy.generated": settings.publish_proxy_topic, COMPLETED: settings.publish_completed_topic}
    return of_others.get(kind, settings.publish_topic)


def topics_in_use(settings: Settings) -> list[str]:
    """The topics of all types that are published. That of completed jobs only if the settings name the type."""
    kinds = [kind for kind in EVENT_TYPES if kind in settings.publish_types]
    kinds = kinds or [kind for kind in EVENT_TYPES if kind != COMPLETED]
    return list(dict.fromkeys(topic_of(kind, settings) for kind in kinds))


def webhook_name(url: str) -> str:
    """The name of a webhook in the outbox. A URL may hold a secret, so that only its hash is kept."""
    return f"webhook-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


@contextmanager
def open_sinks(settings: Settings) -> Iterator[dict[str, Sink]]:
    """The configured sinks by name. Raises `MisconfiguredError` for one that can't be used."""
    sinks: dict[str, Sink] = {}
    with ExitStack() as stack:
        if settings.publish_brokers:
            require("events")
            from exr_pipeline.events.kafka_sink import KafkaSink

            sinks[KAFKA] = KafkaSink(settings)
        if settings.publish_webhooks:
            require("events")
            from exr_pipeline.events.webhooks import Webhook

            for url in settings.publish_webhooks:
                sinks[webhook_name(url)] = stack.enter_context(Webhook(url, settings))
        yield sinks
