"""What is published of rows: the events that tell others what was made, rejected or deleted.

Belongs here: types of events, their payloads and identifiers, from rows of the tables. Not here: keeping them until
they are delivered (`outbox`), or delivering them. The payloads are described in docs/events.asyncapi.yaml.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from uuid import UUID, uuid5

from exr_pipeline.inspection.identity import asset_id
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.shot_paths import shot_path
from exr_pipeline.tables.specs import READY, REJECTED

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from exr_pipeline.storage.locations import Scheme
    from exr_pipeline.tables.specs import TableName

EventType = Literal[
    "header.inspected",
    "proxy.generated",
    "sequence.ready",
    "file.rejected",
    "file.deleted",
    "vast.dataengine.pipeline.completed",
]
EVENT_TYPES: Final = get_args(EventType)
COMPLETED: Final = "vast.dataengine.pipeline.completed"

# Raised with every change of a payload that is more than a new field.
SCHEMA_VERSION: Final = 1

NAMESPACE: Final = UUID("c43a3f6e-0a57-5d53-9a0b-4a7c2b0f8f11")

# What differs between two times that the same outputs are made of the same file.
_VARYING: Final = frozenset({"generated_timestamp", "processing_time_seconds", "superseded_at"})

Row = Mapping[str, Any]
Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """One event. `event_id` is the same for the same fact; events of one `key` are delivered in their order."""

    event_id: str
    type: EventType
    key: str
    subject: str
    payload: Payload


def events_of(
    rows: Mapping[TableName, pa.Table], *, now: datetime, output_root: str | None = None, compatibility: str = ""
) -> list[OutgoingEvent]:
    """The events of rows that are about to be written, `now` (aware).

    Outputs are at the store of `output_root`, a URL, or at that of their source. With `compatibility` of `spaceharbor`,
    proxies name project and shot, if the key does. Files that are retryable have no events: nothing is known of them
    yet.
    """
    files = rows["files"].to_pylist() if "files" in rows else []
    outputs = rows["proxy_outputs"].to_pylist() if "proxy_outputs" in rows else []
    sequences = rows["sequence_outputs"].to_pylist() if "sequence_outputs" in rows else []
    sources = {(row["bucket"], row["file_id"]): Location.from_url(row["uri"]) for row in files}
    store = None if output_root is None else Location.from_url(output_root).scheme
    found = [event for row in files if (event := _of_file(row, now)) is not None]
    # Of a file whose thumbnail alone was made again, what is stored of its proxy has not changed.
    for row in (each for each in outputs if each["proxy_s3_key"] is not None):
        source = sources[row["s3_bucket"], row["file_id"]]
        shot = _shot(source) if compatibility == "spaceharbor" else {}
        found.append(_of_outputs(row, source, store, shot, now))
    return found + [_of_sequence(row, store, now) for row in sequences if row["state"] == READY]


def _of_file(row: Row, now: datetime) -> OutgoingEvent | None:
    names = ("file_id", "bucket", "file_path", "etag", "size_bytes", "format", "header_hash")
    facts = {name: row[name] for name in names}
    source = Location.from_url(row["uri"])
    if row["deleted_at"] is not None:
        return _event("file.deleted", source, facts | {"deleted_at": row["deleted_at"]}, now)
    if row["state"] == READY:
        return _event("header.inspected", source, facts, now)
    if row["state"] == REJECTED:
        return _event("file.rejected", source, facts | {"reason": row["reason"]}, now)
    return None


def _shot(source: Location) -> Payload:
    found = shot_path(source.key)
    return {} if found is None else {"project_id": found.project, "shot_id": found.shot}


def _of_outputs(row: Row, source: Location, store: Scheme | None, shot: Payload, now: datetime) -> OutgoingEvent:
    """Flat, with the fields of the functions before this one, which SpaceHarbor knows, and some more."""
    facts = {
        "thumbnail_uri": _output(row, "thumbnail_s3_key", store or source.scheme),
        "proxy_uri": _output(row, "proxy_s3_key", store or source.scheme),
        "thumbnail_size_bytes": row["thumbnail_size_bytes"],
        "proxy_size_bytes": row["proxy_size_bytes"],
        "source_size_bytes": row["source_size_bytes"],
        "file_id": row["file_id"],
        **shot,
    }
    if still := _output(row, "proxy_still_s3_key", store or source.scheme):
        facts["proxy_still_uri"] = still
    fact = json.dumps({name: value for name, value in row.items() if name not in _VARYING}, default=str)
    return _event("proxy.generated", source, facts, now, hashlib.sha256(fact.encode()).hexdigest())


def _of_sequence(row: Row, store: Scheme | None, now: datetime) -> OutgoingEvent:
    source = Location.from_url(row["uri"].replace("#", "%23"))
    names = ("first_frame", "last_frame", "frame_count", "missing_frames", "frame_rate", "time_code", "frames_hash")
    made = {
        f"{name}_uri": _output(row, f"{name}_s3_key", store or source.scheme)
        for name in ("movie", "contact_sheet", "filmstrip")
    }
    facts = {name: row.get(name) for name in names} | made | {"movie_size_bytes": row.get("movie_size_bytes")}
    return _event("sequence.ready", source, facts, now)


def _event(kind: EventType, source: Location, facts: Payload, now: datetime, digest: str = "") -> OutgoingEvent:
    fact = json.dumps([kind, source.url, facts, digest, SCHEMA_VERSION], sort_keys=True)
    key = asset_id(source.key)
    payload = {"type": kind, "asset_id": key, "uri": source.url, **facts, "timestamp": now.isoformat()}
    return OutgoingEvent(str(uuid5(NAMESPACE, fact)), kind, key, source.url, payload)


def _output(row: Row, column: str, scheme: Scheme) -> str | None:
    """The URI of an output, its key as it is: those who read it split it at slashes."""
    if not row.get(column):
        return None
    bucket, key = row["output_bucket"], row[column]
    return Location("file", "", key.removeprefix("/")).url if scheme == "file" else f"{scheme}://{bucket}/{key}"
