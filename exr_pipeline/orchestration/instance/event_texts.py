"""The text that Dagster stores of an event, for many events that are alike, at a fraction of its own price.

Belongs here: text that equals Dagster's to the letter. Not here: storing it (`event_storage`, `postgres`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from math import isfinite
from operator import itemgetter
from typing import Any, Final

import dagster as dg
from dagster import EventLogEntry
from dagster._core.events import (
    AssetMaterializationPlannedData,
    AssetObservationData,
    DagsterEvent,
    StepMaterializationData,
)
from dagster._serdes import serialize_value

# Stand for what differs from event to event. The characters are of the private use area.
_DESCRIPTION: Final = "\ue000description"
_PARTITION: Final = "\ue000partition"
_TAG: Final = "\ue000tag"
_TIMESTAMP: Final = 1048577.0625
_METADATA: Final = '"metadata_entries": []'
_SLOTS: Final = {
    quoted(_DESCRIPTION): "description",
    quoted(_PARTITION): "partition",
    f"{{{quoted(_TAG)}: {quoted(_TAG)}}}": "tags",
    f'"timestamp": {_TIMESTAMP}': "timestamp",
    _METADATA: "metadata",
}
_ANY_SLOT: Final = re.compile("|".join(map(re.escape, _SLOTS)))


def _number(value: float | None) -> str:
    # JSON's numbers are Python's, but for booleans and what is not finite.
    return repr(value) if type(value) is int or (type(value) is float and isfinite(value)) else json.dumps(value)


def _json(value: Any) -> str:
    return serialize_value(value) if value else json.dumps(value)


# Kinds of metadata that hold one value: what stands for it, and how it is written.
_SIMPLE: Final[dict[Any, tuple[Any, Callable[[Any], str]]]] = {
    dg.TextMetadataValue: (_DESCRIPTION, quoted),
    dg.UrlMetadataValue: (_DESCRIPTION, quoted),
    dg.MarkdownMetadataValue: (_DESCRIPTION, quoted),
    dg.JsonMetadataValue: (_DESCRIPTION, _json),
    dg.IntMetadataValue: (1048577, _number),
    dg.FloatMetadataValue: (_TIMESTAMP, _number),
    dg.TimestampMetadataValue: (_TIMESTAMP, _number),
}


def texts_of(entries: Sequence[EventLogEntry]) -> list[str]:
    """`serialize_value` of each entry, in order.

    Events of one asset and kind differ only in a few places: the text around these is made once, by Dagster. The first
    event of each such group is compared with what Dagster makes of it; should that ever differ, Dagster makes them all.
    """
    groups: dict[Any, _Alike | None] = {}
    texts = []
    for entry in entries:
        event = entry.get_dagster_event()
        group = (event.event_type_value, subject_of(event).asset_key, entry.run_id)
        if group not in groups:
            alike = _Alike(entry)
            groups[group] = alike if alike.text(entry) == serialize_value(entry) else None
        found = groups[group]
        texts.append((found.text(entry) if found else None) or serialize_value(entry))
    return texts


class _Alike:
    """Events that are like a given one but for partition, time, description, metadata and tags."""

    def __init__(self, like: EventLogEntry) -> None:
        event = like.get_dagster_event()
        text = serialize_value(
            like._replace(timestamp=_TIMESTAMP, dagster_event=event._replace(event_specific_data=_blank(event)))
        )
        self._slots = [_SLOTS[found] for found in _ANY_SLOT.findall(text)]
        self._between = _ANY_SLOT.split(text)
        data, about = event.event_specific_data, subject_of(event)
        self._of_entry = _all_but(like, {"timestamp", "dagster_event"})
        self._of_event = _all_but(event, {"event_specific_data"})
        self._of_data = _all_but(data, {"materialization", "asset_observation", "partition"})
        self._of_about = _all_but(about, {"partition"} if about is data else set(_FILLED))
        self._what = self._fixed(like)

    def _fixed(self, entry: EventLogEntry) -> tuple[Any, ...]:
        event = entry.get_dagster_event()
        data, about = event.event_specific_data, subject_of(event)
        return type(about), self._of_entry(entry), self._of_event(event), self._of_data(data), self._of_about(about)

    def text(self, entry: EventLogEntry) -> str | None:
        """Its text, or None if it differs in more."""
        if self._fixed(entry) != self._what:
            return None
        about = subject_of(entry.get_dagster_event())
        parts = [self._between[0]]
        for slot, after in zip(self._slots, self._between[1:], strict=True):
            parts.append(f'"timestamp": {entry.timestamp!r}' if slot == "timestamp" else _FILLED[slot](about))
            parts.append(after)
        return "".join(parts)


def _all_but(record: Any, varying: Collection[str]) -> Callable[[Any], Any]:
    """What reads all fields of such a named tuple but some."""
    places = [place for place, name in enumerate(record._fields) if name not in varying]
    return itemgetter(*places) if places else lambda _: None


def subject_of(event: DagsterEvent) -> Any:
    """What an asset event is about, with `asset_key` and `partition`: a materialization, an observation, or a plan."""
    data: Any = event.event_specific_data
    if isinstance(data, StepMaterializationData):
        return data.materialization
    return data.asset_observation if isinstance(data, AssetObservationData) else data


def _blank(event: DagsterEvent) -> Any:
    data: Any = event.event_specific_data
    about = subject_of(event)
    if isinstance(data, AssetMaterializationPlannedData):
        return data._replace(partition=_PARTITION)
    blank = about._replace(description=_DESCRIPTION, metadata={}, partition=_PARTITION, tags={_TAG: _TAG})
    if isinstance(data, StepMaterializationData):
        return data._replace(materialization=blank)
    return data._replace(asset_observation=blank)


def _metadata_text(about: Any) -> str:
    entries = ", ".join([_entry_text(label, value) for label, value in about.metadata.items()])
    return f'"metadata_entries": [{entries}]'


def _entry_text(label: str, value: dg.MetadataValue[Any]) -> str:
    kind = type(value)
    if kind in _SIMPLE:
        before, after = _frame(label, kind)
        return before + _SIMPLE[kind][1](value.value) + after
    return _known(label, value) if kind is dg.BoolMetadataValue else _whole(label, value)


@lru_cache(maxsize=1000)
def _frame(label: str, kind: type) -> tuple[str, str]:
    """What Dagster writes before and after the value of an entry of metadata."""
    stand_in = _SIMPLE[kind][0]
    before, _, after = _whole(label, kind(stand_in)).partition(json.dumps(stand_in))
    return before, after


def _whole(label: str, value: dg.MetadataValue[Any]) -> str:
    """What Dagster writes for an entry of metadata."""
    text = serialize_value(dg.AssetMaterialization("any", metadata={label: value}))
    return text[text.index("[", text.index('"metadata_entries"')) + 1 : text.rindex('], "partition"')]


_known: Final = lru_cache(maxsize=1000)(_whole)


def _tags_text(about: Any) -> str:
    if about.tags is None:
        return "null"
    return f"{{{', '.join([f'{quoted(key)}: {quoted(value)}' for key, value in sorted(about.tags.items())])}}}"


def _text_or_null(text: str | None) -> str:
    return "null" if text is None else quoted(text)


_FILLED: Final[dict[str, Callable[[Any], str]]] = {
    "description": lambda about: _text_or_null(about.description),
    "partition": lambda about: _text_or_null(about.partition),
    "tags": _tags_text,
    "metadata": _metadata_text,
}
