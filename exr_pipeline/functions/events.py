"""The event that a function is called with: the objects that it names, and what it asks for.

Belongs here: the event objects of runtimes, and what events ask of a function. Not here: the forms in which events name
objects (`exr_pipeline.events.notifications`), or what is done about an object (`work`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exr_pipeline.events.notifications import ObjectEvent, named_objects, parsed, payload_of

# What quality control will do; see docs/functions.md.
_LATER: Final = ("stats", "deep_stats", "validate", "policy_path")


@dataclass(frozen=True, slots=True)
class Toggles:
    """What an event asks for. Without `meta` the answer has no parts, channels and attributes; rows are written."""

    meta: bool = True
    not_available: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """An event as it was understood: the objects that it names, none in a test event, and what it asks for."""

    objects: tuple[ObjectEvent, ...]
    toggles: Toggles
    payload: Mapping[str, Any]


def read_event(event: Any) -> Request:
    """Read an event: a mapping, or the object of a runtime of VAST DataEngine.

    Raises `BadInputError` if it names no object in any known form.
    """
    envelope = event if isinstance(event, Mapping) else _of_runtime(event)
    objects, payload = named_objects(envelope), payload_of(envelope)
    later = tuple(name for name in _LATER if payload.get(name))
    return Request(objects, Toggles(meta=payload.get("meta") is not False, not_available=later), payload)


def _of_runtime(event: Any) -> Mapping[str, Any]:
    """The event of a runtime by what it can do, not by its class: there are two generations of them."""
    envelope: dict[str, Any] = {"type": str(getattr(event, "type", "")), "subtype": str(getattr(event, "subtype", ""))}
    data = _data(event)
    if data is not None:
        envelope["data"] = data
    extensions = getattr(event, "extensions", None)
    if isinstance(extensions, Mapping) and "traceparent" in extensions:
        envelope["traceparent"] = extensions["traceparent"]
    if envelope["type"] == "Element" and hasattr(event, "as_element_event"):
        element = event.as_element_event()
        extensions = getattr(element, "extensions", None)
        if isinstance(extensions, Mapping) and isinstance(extensions.get("elementpath"), str):
            envelope["elementpath"] = extensions["elementpath"]
        envelope["element"] = {"bucket": getattr(element, "bucket", None), "key": getattr(element, "object_key", None)}
    return envelope


def _data(event: Any) -> Mapping[str, Any] | None:
    read = getattr(event, "get_data", None)
    data = read() if callable(read) else getattr(event, "data", None)
    if isinstance(data, (str, bytes)):
        data = parsed(data)
    return data if isinstance(data, Mapping) else None
