"""Inspections as rows of the tables, many files at a time.

Belongs here: filling the columns of `tables.specs`. Not here: writing them, or the rows of media.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.exr import CODE_NAMES, Rational
from exr_pipeline.inspection.embedding import EMBEDDING_VERSION, vectors
from exr_pipeline.inspection.identity import iso_time
from exr_pipeline.inspection.json import json_text, json_value, part_facts, printable
from exr_pipeline.tables.specs import READY, arrow_schema

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence
    from datetime import datetime

    import pyarrow as pa

    from exr_pipeline.exr import Attribute
    from exr_pipeline.inspection.model import Inspection, PartFacts, SourceFile, UnseenFile
    from exr_pipeline.tables.specs import State, TableName

# The frames of a sequence share their long values (manifests, previews), which then are made and kept once per batch.
_SHARED_BYTES: Final = 4096
_INT64: Final = range(-(1 << 63), 1 << 63)

Row = dict[str, Any]
# The columns of long values, by type and stored bytes.
_SharedValues = dict[tuple[str, bytes], Row]


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file ended as: ready, rejected or retryable, and why if it is not ready."""

    state: State
    reason: str | None = None


def rows(
    inspections: Sequence[Inspection], *, inspected_at: datetime, states: Sequence[FileState] | None = None
) -> dict[TableName, pa.Table]:
    """The rows of files, parts, channels and attributes, in the order of the inspections.

    `inspected_at` is aware. `states` holds one state per inspection where not all are ready: a file whose pixels can't
    be read is rejected with its header in the tables.
    """
    files: list[Row] = []
    parts: list[Row] = []
    channels: list[Row] = []
    attributes: list[Row] = []
    embeddings: list[array[float]] = []
    fingerprints: list[array[float]] = []
    shared: _SharedValues = {}
    for index, inspection in enumerate(inspections):
        state = states[index] if states is not None else FileState(READY)
        files.append(_file_row(inspection, state, inspected_at))
        before = len(channels)
        source = _source_columns(inspection.source)
        for part in inspection.parts:
            parts.append(_part_row(inspection, part, source))
            channels += _channel_rows(part, source)
            attributes += _attribute_rows(part, source, shared)
        made = vectors(inspection)
        embeddings.append(made.metadata_embedding)
        fingerprints += [made.channel_fingerprint] * (len(channels) - before)
    return {
        "files": _table("files", files, vector=("metadata_embedding", embeddings)),
        "parts": _table("parts", parts),
        "channels": _table("channels", channels, vector=("channel_fingerprint", fingerprints)),
        "attributes": _table("attributes", attributes),
    }


def unread_rows(
    sources: Sequence[tuple[SourceFile | UnseenFile, FileState]], *, inspected_at: datetime
) -> dict[TableName, pa.Table]:
    """The rows of files without a usable header: one row of `files` each, none of the other tables."""
    files = [_unread_row(source, state, inspected_at) for source, state in sources]
    return {
        "files": _table("files", files),
        "parts": _table("parts", []),
        "channels": _table("channels", []),
        "attributes": _table("attributes", []),
    }


def _table(name: TableName, rows: list[Row], *, vector: tuple[str, Sequence[array[float]]] | None = None) -> pa.Table:
    """A table of the schema's columns; those that the rows don't have are null. `vector` is one column by itself."""
    import pyarrow as pa

    schema = arrow_schema(name)
    arrays = []
    for field in schema:
        if vector is not None and field.name == vector[0]:
            numbers = len(rows) * field.type.list_size
            flat = pa.Array.from_buffers(pa.float32(), numbers, [None, pa.py_buffer(b"".join(vector[1]))])
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            arrays.append(pa.array([row.get(field.name) for row in rows], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _source_columns(source: SourceFile | UnseenFile) -> Row:
    return {
        "file_id": source.file_id,
        "file_path": printable(source.location.path),
        "bucket": source.location.bucket,
    }


def _unread_row(source: SourceFile | UnseenFile, state: FileState, inspected_at: datetime) -> Row:
    now = iso_time(inspected_at)
    return {
        **_source_columns(source),
        "file_path_normalized": printable(source.normalized_path),
        "size_bytes": source.size_bytes,
        "mtime": source.mtime_text,
        "frame_number": source.frame_number,
        "inspection_timestamp": now,
        "inspection_count": 1,
        "last_inspected": now,
        "uri": source.location.url,
        "etag": source.etag,
        "seen_at": None if source.seen_at is None else iso_time(source.seen_at),
        "state": state.state,
        "reason": None if state.reason is None else printable(state.reason),
    }


def _file_row(inspection: Inspection, state: FileState, inspected_at: datetime) -> Row:
    return {
        **_unread_row(inspection.source, state, inspected_at),
        "header_hash": inspection.header_hash,
        "multipart_count": len(inspection.parts),
        "is_deep": inspection.is_deep,
        "format": inspection.format,
        "embedding_version": EMBEDDING_VERSION,
        "warnings": json_text([printable(text) for text in inspection.warning_texts()]),
    }


def _part_row(inspection: Inspection, part: PartFacts, source: Row) -> Row:
    facts = part_facts(part, multi_view=inspection.multi_view)
    return {
        **source,
        "part_index": part.index,
        **facts,
        "data_window": json_text(facts["data_window"]),
        "display_window": json_text(facts["display_window"]),
    }


def _channel_rows(part: PartFacts, source: Row) -> list[Row]:
    return [
        {
            **source,
            "part_index": part.index,
            "channel_index": index,
            "channel_name": printable(channel.name),
            "layer_name": printable(channel.layer),
            "component_name": printable(channel.component),
            "channel_type": channel.type,
            "x_sampling": channel.x_sampling,
            "y_sampling": channel.y_sampling,
            "p_linear": channel.p_linear,
        }
        for index, channel in enumerate(part.channels)
    ]


def _attribute_rows(part: PartFacts, source: Row, shared: _SharedValues) -> list[Row]:
    return [
        {
            **source,
            "part_index": part.index,
            "attr_index": index,
            "attr_name": printable(attribute.name),
            "attr_type": printable(attribute.type),
            **_shared_value_columns(attribute, shared),
        }
        for index, attribute in enumerate(part.attributes)
    ]


def _shared_value_columns(attribute: Attribute, shared: _SharedValues) -> Row:
    if len(attribute.raw) < _SHARED_BYTES:
        return _value_columns(attribute)
    key = (attribute.type, attribute.raw)
    if key not in shared:
        shared[key] = _value_columns(attribute)
    return shared[key]


def _value_columns(attribute: Attribute) -> Row:
    """The value as JSON, and as text, integer or number where it is one.

    Codes are text (their name) and integers; integers and fractions are numbers too.
    """
    value = attribute.value
    names = CODE_NAMES.get(attribute.type)
    if names is not None:
        return {"value_json": json_text(json_value(attribute)), "value_text": names.get(value), "value_int": value}
    text = json_text(json_value(attribute))
    if isinstance(value, str):
        return {"value_json": text, "value_text": printable(value)}
    if isinstance(value, int):
        return {"value_json": text, "value_int": value if value in _INT64 else None, "value_float": float(value)}
    if isinstance(value, Rational):
        number = value.numerator / value.denominator if value.denominator else None
        return {"value_json": text, "value_text": value.to_text(), "value_float": number}
    return {"value_json": text, "value_float": value if isinstance(value, float) else None}
