"""Messages as stores and brokers write them, for one object.

Belongs here: the forms, by what each sender's own documents or clients make of them. Not here: reading them.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus
from uuid import uuid4

from cloudevents.core.bindings.kafka import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.functions.runtimes import EVENTS

Written = tuple[bytes, dict[str, bytes]]


def records(location: Location, name: str = "ObjectCreated:Put", **facts: Any) -> dict[str, Any]:
    """A notification of S3; the key is encoded as Amazon does it."""
    key = quote_plus(location.key, errors="surrogateescape")
    s3 = {"bucket": {"name": location.bucket}, "object": {"key": key, "size": 1, "eTag": "forged", **facts}}
    return {"Records": [{"eventName": name, "eventSource": "vast:s3", "s3": s3}]}


def notification(location: Location, name: str = "ObjectCreated:Put", **facts: Any) -> Written:
    """What a VAST Event Broker or a store has for S3 notifications."""
    return json.dumps(records(location, name, **facts)).encode(), {}


def _cloud_event(location: Location, name: str) -> CloudEvent:
    kind = "ElementCreated" if "Created" in name else "ElementDeleted"
    attributes = {
        "type": f"vastdata.com:Element.{kind}",
        "source": "vastdata.com:renders.0001",
        "id": "1",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "elementpath": f"{location.bucket}/{location.key}",
        "elementsourcetype": "vast:s3",
    }
    # What VAST encodes is less than what Amazon does.
    key = quote(location.key, errors="surrogateescape")
    return CloudEvent(attributes, records(Location("s3", location.bucket, key), name))


def binary(location: Location, name: str = "ObjectCreated:Put") -> Written:
    """A CloudEvent whose attributes are headers."""
    message = to_binary_event(_cloud_event(location, name))
    return message.value, message.headers


def structured(location: Location, name: str = "ObjectCreated:Put") -> Written:
    """A CloudEvent that is the value."""
    message = to_structured_event(_cloud_event(location, name))
    return message.value, message.headers


def element(location: Location) -> bytes:
    """What a trigger of VAST DataEngine sends for an object that was written: the event of `deploy/`, about another."""
    event: dict[str, Any] = json.loads((EVENTS / "element_created.json").read_text(encoding="utf-8"))
    (record,) = event["data"]["Records"]
    record["s3"]["bucket"]["name"] = location.bucket
    record["s3"]["object"]["key"] = quote(location.key, errors="surrogateescape")
    event |= {"id": str(uuid4()), "elementpath": f"{location.bucket}/{location.key}"}
    return json.dumps(event).encode()


FORMS: Final[Mapping[str, Callable[..., Written]]] = {
    "S3 notification": notification,
    "binary CloudEvent": binary,
    "structured CloudEvent": structured,
}
