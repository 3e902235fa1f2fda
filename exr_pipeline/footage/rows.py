"""Probes as rows of the tables `files` and `media_streams`, many files at a time.

Belongs here: filling the columns of `tables.specs`. Not here: writing them, or the rows of what was made.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from exr_pipeline.inspection import unread_rows
from exr_pipeline.inspection.json import printable
from exr_pipeline.tables.specs import arrow_schema

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pyarrow as pa

    from exr_pipeline.footage.model import MediaProbe
    from exr_pipeline.inspection import FileState, SourceFile, UnseenFile
    from exr_pipeline.tables.specs import TableName


def media_rows(
    probed: Sequence[tuple[SourceFile | UnseenFile, FileState, MediaProbe]], *, inspected_at: datetime
) -> dict[TableName, pa.Table]:
    """One row of `files` for each, without vectors, and one of `media_streams` for each of their streams."""
    import pyarrow as pa

    files = unread_rows([(source, state) for source, state, _ in probed], inspected_at=inspected_at)["files"]
    facts: dict[str, list[Any]] = {
        "header_hash": [media.structure_hash for _, _, media in probed],
        "format": [media.format for _, _, media in probed],
        "is_deep": [False for _ in probed],
    }
    for name, values in facts.items():
        field = files.schema.field(name)
        files = files.set_column(files.schema.get_field_index(name), field, pa.array(values, field.type))
    streams = [row for source, _, media in probed for row in _stream_rows(source, media)]
    return {"files": files, "media_streams": pa.Table.from_pylist(streams, schema=arrow_schema("media_streams"))}


def _stream_rows(source: SourceFile | UnseenFile, media: MediaProbe) -> list[dict[str, Any]]:
    shared = {
        "file_id": source.file_id,
        "file_path": printable(source.location.path),
        "bucket": source.location.bucket,
        "container_format": media.container_format,
        "container_duration_seconds": media.duration_seconds,
        "container_bit_rate": media.bit_rate,
        "container_tags_json": _json(media.tags),
    }
    rows = []
    for stream in media.streams:
        facts = asdict(stream)
        index, kind, tags = facts.pop("index"), facts.pop("type"), facts.pop("tags")
        rows.append({**shared, **facts, "stream_index": index, "stream_type": kind, "tags_json": _json(tags)})
    return rows


def _json(tags: Sequence[tuple[str, str]]) -> str:
    return json.dumps({printable(name): printable(text) for name, text in tags}, ensure_ascii=False)
