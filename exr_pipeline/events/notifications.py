"""Events of object storage in every form in which they reach us, read as the objects that they name.

Belongs here: the forms. Not here: what is done about an object (`functions.work`, `ingest`). An event is not trusted:
it names an object and nothing more, which is then looked up. Sources of the forms: docs/functions.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from urllib.parse import unquote_plus

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.storage.locations import Location
from exr_pipeline.telemetry.trace_context import is_traceparent

Action = Literal["created", "deleted", "tagged", "other"]

# An envelope in an envelope, as of SQS, SNS and CloudEvents: S3 in SNS in SQS in CloudEvents is the deepest known.
_DEEPEST: Final = 6
_LONGEST_KEY: Final = 1024


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """One object that an event names.

    Keys in `Records` are URL-encoded by most senders and plain by some. `location` has the key decoded; `as_written`
    has it as it stands, where that differs, and is looked up if there is no such object. `traceparent` is the trace
    that the event says it belongs to, as W3C Trace Context has it.
    """

    location: Location
    action: Action = "created"
    as_written: Location | None = None
    traceparent: str | None = field(default=None, compare=False)


def named_objects(envelope: Mapping[str, Any]) -> tuple[ObjectEvent, ...]:
    """The objects that an event names, each once; none if it is what a store sends when notifications are set up.

    Raises `BadInputError` if it names no object in any known form.
    """
    traceparent = _traceparent(envelope)
    objects = tuple(replace(each, traceparent=traceparent) for each in dict.fromkeys(_objects(envelope, depth=0)))
    if not objects and not _is_test(envelope):
        raise BadInputError("event", "it names no object in any known form")
    return objects


def payload_of(envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is within the envelopes. `get_data()` of some runtimes gives the whole event, with the data in it."""
    for _ in range(_DEEPEST):
        inner = envelope.get("data")
        if not isinstance(inner, Mapping):
            break
        envelope = inner
    return envelope


def _traceparent(envelope: Mapping[str, Any]) -> str | None:
    """That of the outermost envelope that has one."""
    for _ in range(_DEEPEST):
        found = envelope.get("traceparent")
        if is_traceparent(found):
            return found
        inner = envelope.get("data")
        if not isinstance(inner, Mapping):
            return None
        envelope = inner
    return None


def _objects(envelope: Mapping[str, Any], *, depth: int) -> Iterator[ObjectEvent]:
    if depth > _DEEPEST:
        raise BadInputError("event", f"more than {_DEEPEST} envelopes in each other")
    location = _named(envelope)
    if location is not None:
        is_element = "elementpath" in envelope or "element" in envelope
        name = _name_within(envelope) if is_element else _name(envelope)
        yield ObjectEvent(location, _action(name))
        return
    match envelope:
        case {"Records": list(records)}:
            for record in _mappings(records):
                yield from _of_record(record, depth=depth)
        case {"Type": "Notification", "Message": str(message)}:
            yield from _within(message, depth=depth)
        case {"data": Mapping() as inner}:
            # Of an event in an event the outer one says what happened, unless the inner one does.
            named = inner if _name(inner) else {**inner, "type": _name(envelope)}
            yield from _objects(named, depth=depth + 1)
        case {"data": str(text)} if text.lstrip().startswith("{"):
            yield from _within(text, depth=depth)


def _named(envelope: Mapping[str, Any]) -> Location | None:
    """The object of an envelope that names one itself. None of these forms encodes the key."""
    match envelope:
        case {"elementpath": str(path)}:
            return _location("s3", *_split(path))
        case {"element": {"bucket": str(bucket), "key": str(key)}}:
            return _location("s3", bucket, key)
        case {"detail-type": str(), "detail": {"bucket": {"name": str(bucket)}, "object": {"key": str(key)}}}:
            return _location("s3", bucket, key)
        case {"s3_bucket": str(bucket), "s3_key": str(key)}:
            return _location("s3", bucket, key)
        case {"path": str(path)}:
            return _of_path(path)
        # Google Cloud Storage through Eventarc.
        case {"bucket": str(bucket), "name": str(key)}:
            return _location("gs", bucket, key)
    return None


def _of_record(record: Mapping[str, Any], *, depth: int) -> Iterator[ObjectEvent]:
    match record:
        case {"s3": {"bucket": {"name": str(bucket)}, "object": {"key": str(key)}}}:
            action = _action(_name(record))
            decoded, written = (
                _location("s3", bucket, unquote_plus(key, errors="surrogateescape")),
                _location("s3", bucket, key),
            )
            yield ObjectEvent(decoded, action, None if written == decoded else written)
        case {"body": str(body)}:
            yield from _within(body, depth=depth)
        case {"Sns": {"Message": str(message)}}:
            yield from _within(message, depth=depth)


def _within(text: str, *, depth: int) -> Iterator[ObjectEvent]:
    inner = parsed(text)
    if not isinstance(inner, Mapping):
        raise BadInputError("event", "its message is not a JSON object")
    yield from _objects(inner, depth=depth + 1)


def _name(envelope: Mapping[str, Any]) -> str:
    """What an event calls itself."""
    names = [envelope.get(field) for field in ("eventName", "detail-type", "type", "subtype")]
    return " ".join(name for name in names if isinstance(name, str))


def _name_within(envelope: Mapping[str, Any]) -> str:
    """What an element's event calls itself: the record in it says it in the words of S3, its own type does not."""
    records = payload_of(envelope).get("Records")
    first = next(_mappings(records if isinstance(records, list) else []), None)
    return _name(first) if first is not None and _name(first) else _name(envelope)


def _action(name: str) -> Action:
    """What happened to the object.

    Kinds of VAST's events differ by where they come from (`ElementCreated` of a cluster is `ObjectCreated` of its
    command line), so that any that is not known counts as created: the object is looked up.
    """
    words = name.lower()
    # ObjectRemoved:Delete, Object Deleted, ElementDeleted, storage.object.v1.deleted and archived.
    if any(word in words for word in ("removed", "deleted", "archived")):
        return "deleted"
    if any(word in words for word in ("tag", "metadataupdated", "acl")):
        return "tagged"
    if any(word in words for word in ("restore", "lifecycle", "storage class", "access tier", "replication")):
        return "other"
    return "created"


def _is_test(envelope: Mapping[str, Any]) -> bool:
    """Whether it is what S3 sends when notifications are set up: there is nothing to do, and nothing is wrong."""
    if envelope.get("Event") == "s3:TestEvent":
        return True
    records = envelope.get("Records")
    found = _mappings(records if isinstance(records, list) else [])
    bodies = [parsed(record["body"]) for record in found if isinstance(record.get("body"), str)]
    return bool(bodies) and all(isinstance(body, Mapping) and _is_test(body) for body in bodies)


def _of_path(path: str) -> Location:
    if "://" in path:
        try:
            return _checked(Location.from_url(path))
        except MisconfiguredError as error:
            raise BadInputError("event", error.problem) from None
    return _location("s3", *_split(path.lstrip("/")))


def _split(path: str) -> tuple[str, str]:
    bucket, _, key = path.partition("/")
    return bucket, key


def _location(scheme: Literal["s3", "gs"], bucket: str, key: str) -> Location:
    return _checked(Location(scheme, bucket, key))


def _checked(location: Location) -> Location:
    if location.scheme == "file":
        raise BadInputError("event", "it names a local file: only objects in a store are read")
    if not location.bucket or not location.key:
        raise BadInputError("event", "it names a bucket without a key, or a key without a bucket")
    try:
        length = len(location.key.encode("utf-8", "surrogateescape"))
        location.bucket.encode()
    except UnicodeEncodeError:
        raise BadInputError("event", "it names an object by what is not text") from None
    if length > _LONGEST_KEY:
        raise BadInputError("event", f"its key is longer than {_LONGEST_KEY} bytes")
    return location


def parsed(text: str | bytes) -> Any:
    """What JSON says; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _mappings(values: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    return (value for value in values if isinstance(value, Mapping))
