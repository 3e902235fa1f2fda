"""Events to a web server: one POST each, a structured CloudEvent, signed.

Belongs here: the request and what its answer means. Not here: what waits (`outbox`).
Sources: CloudEvents 1.0.2, HTTP protocol binding; Standard Webhooks 1.0 (headers and signature).
"""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from exr_pipeline.addresses import is_loopback
from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.events.sinks import Published

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from pydantic import SecretStr

    from exr_pipeline.events.sinks import WaitingEvent
    from exr_pipeline.settings import Settings

_SETTING: Final = "EXR_PIPELINE_PUBLISH_WEBHOOKS"
_LONGEST_ANSWER_SECONDS: Final = 15.0
# That the receiver will never take this event, whatever is mended on either side.
_NEVER: Final = frozenset({410, 413})
_SHORTEST_KEY: Final = 24


class Webhook:
    """A `Sink` at a URL; use as a context manager. Redirects are not followed: they would take the event elsewhere."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url = _checked(url)
        self._source = settings.publish_source
        self._signer = _signer(settings.publish_webhook_secret)

    def __enter__(self) -> Self:
        import urllib3

        self._http = urllib3.PoolManager(retries=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.clear()

    def check(self) -> str:
        """See `Sink`: somebody answers there. Whether they take events is known once one was sent."""
        import urllib3

        host = urlsplit(self._url).hostname
        try:
            answer = self._http.request("HEAD", self._url, redirect=False, timeout=urllib3.Timeout(total=5))
        except urllib3.exceptions.HTTPError as error:
            raise RetryableError(
                f"{host} does not answer: {type(error).__name__}. Fix: check the receiver, or correct {_SETTING}"
            ) from None
        return f"{host} answers (HTTP {answer.status} to HEAD); no event was sent"

    def publish(self, events: Sequence[WaitingEvent], *, seconds: float) -> Published:
        """See `Sink`. An answer of 2xx confirms an event; the first event without one ends the batch."""
        published, deadline = Published(), time.monotonic() + seconds
        for event in events:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            status = self._post(event, min(left, _LONGEST_ANSWER_SECONDS))
            if isinstance(status, int) and 200 <= status < 300:
                published.delivered.append(event.event_id)
            elif status in _NEVER:
                published.rejected[event.event_id] = f"the receiver refuses it (HTTP {status})"
            else:
                what = f"answered HTTP {status}" if isinstance(status, int) else f"did not answer: {status}"
                published.problem = f"{urlsplit(self._url).hostname} {what}"
                break
        return published

    def _post(self, event: WaitingEvent, seconds: float) -> int | str:
        """The status of the answer, or why there is none."""
        import urllib3

        body = self._body(event)
        sent = datetime.now(UTC)
        headers = {
            "Content-Type": "application/cloudevents+json",
            "webhook-id": event.event_id,
            "webhook-timestamp": str(int(sent.timestamp())),
            "webhook-signature": self._signer.sign(event.event_id, sent, body.decode()),
        }
        try:
            answer = self._http.request(
                "POST", self._url, body=body, headers=headers, redirect=False, timeout=urllib3.Timeout(total=seconds)
            )
        except urllib3.exceptions.HTTPError as error:
            return type(error).__name__
        return int(answer.status)

    def _body(self, event: WaitingEvent) -> bytes:
        import orjson

        whole: dict[str, Any] = {
            "specversion": "1.0",
            "id": event.event_id,
            "source": self._source,
            "type": event.type,
            "time": event.created_at,
            "subject": event.subject,
            "partitionkey": event.key,
            "datacontenttype": "application/json",
            **({"traceparent": event.traceparent} if event.traceparent else {}),
            "data": orjson.Fragment(event.payload),
        }
        return orjson.dumps(whole)


def _signer(secret: SecretStr | None) -> Any:
    """What signs. Raises `MisconfiguredError` for a secret that anybody could guess."""
    from standardwebhooks import Webhook as Signer

    text = "" if secret is None else secret.get_secret_value().removeprefix("whsec_")
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) < _SHORTEST_KEY:
        raise MisconfiguredError(
            "EXR_PIPELINE_PUBLISH_WEBHOOK_SECRET",
            f"it is not Base64 of at least {_SHORTEST_KEY} bytes",
            "set it to whsec_ and Base64 of 24 to 64 random bytes",
        )
    return Signer(key)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return url
    raise MisconfiguredError(
        _SETTING,
        f"a webhook at {parts.hostname or 'no host'} is not https",
        "use https; http is for this machine only",
    )
