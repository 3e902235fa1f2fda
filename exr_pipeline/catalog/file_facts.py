"""What the tables know of files as attributes of assets: header, streams, pixels, and the embedding.

Belongs here: reading it for many files at once, and what each value is called. Not here: keeping it (`attributes`,
`similar`). Of a file with several parts it is the first one that counts, of a movie its first stream of each type.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.catalog.attributes import single_value
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

    from exr_pipeline.tables.specs import TableName
    from exr_pipeline.tables.store import TableStore

_IDS: Final = ("bucket", "file_path")
_OF_FILE: Final = ("size_bytes", "frame_number", "multipart_count", "is_deep", "mtime", "format")
_OF_OUTPUTS: Final = ("nan_pixels", "inf_pixels", "is_black", "source_colorspace", "color_rule", "layer")
_OF_PART: Final = (
    *("width", "height", "display_width", "display_height", "data_x_offset", "data_y_offset", "part_name", "view_name"),
    *("multi_view", "pixel_aspect_ratio", "line_order", "compression", "color_space", "render_software", "is_tiled"),
    *("tile_width", "tile_height", "frame_rate", "time_code"),
)
_OF_VIDEO: Final = (
    *("codec", "profile", "width", "height", "pixel_format", "field_order", "color_primaries", "color_transfer"),
    *("color_matrix", "color_range", "frame_rate", "frame_count", "time_code", "duration_seconds", "bit_rate"),
)
_OF_AUDIO: Final = ("codec", "sample_rate", "channel_count", "channel_layout", "duration_seconds")
_OF_SEQUENCE: Final = (
    *("frame_count", "movie_frames", "movie_resolution", "movie_duration_seconds", "movie_preset", "frame_rate"),
    *("time_code", "source_colorspace", "color_rule", "missing_frames", "black_frames", "nonfinite_frames"),
)


def _types() -> dict[str, set[bool]]:
    found: dict[str, set[bool]] = {"first_frame": {True}, "last_frame": {True}, "unreadable_frames": {True}}
    columns: tuple[tuple[TableName, tuple[str, ...], str], ...] = (
        ("files", _OF_FILE, ""),
        ("proxy_outputs", _OF_OUTPUTS, ""),
        ("parts", _OF_PART, ""),
        ("media_streams", _OF_VIDEO, ""),
        ("media_streams", _OF_AUDIO, "audio_"),
        ("sequence_outputs", _OF_SEQUENCE, ""),
    )
    for table, names, prefix in columns:
        types = {column.name: column.type for column in TABLES[table].columns}
        for name in names:
            found.setdefault(f"{prefix}{name}", set()).add(types[name] not in {"string", "timestamp", "json"})
    return found


# By name, whether it is a number, a text or either: what files and sequences may have, whether one has it or not.
TYPES: Final[Mapping[str, Set[bool]]] = _types()


@dataclass
class FileFacts:
    """Attributes by name, and the vector with the version of its rules, if there is one."""

    values: dict[str, str | float] = field(default_factory=dict)
    vector: tuple[int, bytes] | None = None


def facts_of_files(tables: TableStore, rows: Sequence[Mapping[str, Any]]) -> dict[str, FileFacts]:
    """What is known of files, rows of the projection's query, by their URL. Nothing of those that were not read."""
    read = {(row["bucket"], row["file_path"]): row for row in rows if row["format"] is not None}
    found = {row["uri"]: FileFacts() for row in read.values()}
    if not read:
        return found
    locations = [Location.from_url(uri) for uri in found]
    by_id = {key: found[row["uri"]] for key, row in read.items()}
    for row in _rows(
        tables, "attributes", ("part_index", "attr_name", "value_text", "value_int", "value_float"), locations
    ):
        if row["part_index"] == 0 and (each := by_id.get((row["bucket"], row["file_path"]))) is not None:
            values = (row["value_int"], row["value_float"], row["value_text"])
            _add(each, row["attr_name"], next((value for value in values if value is not None), None))
    for row in _rows(tables, "parts", ("part_index", *_OF_PART), locations):
        if row["part_index"] == 0 and (each := by_id.get((row["bucket"], row["file_path"]))) is not None:
            _add_columns(each, row, _OF_PART)
    _add_streams(tables, locations, by_id)
    for key, of_file in read.items():
        _add_columns(by_id[key], of_file, (*_OF_FILE, *_OF_OUTPUTS))
    _add_vectors(tables, locations, by_id)
    return found


def values_of_sequence(row: Mapping[str, Any]) -> dict[str, str | float]:
    """The attributes of a row of `sequence_outputs`."""
    facts = FileFacts()
    _add_columns(facts, row, _OF_SEQUENCE)
    for name in ("first_frame", "last_frame"):
        if row[name] is not None:
            _add(facts, name, float(row[name]))
    _add(facts, "unreadable_frames", len(json.loads(row["unreadable_frames"] or "{}")))
    return facts.values


def _add(facts: FileFacts, name: str, value: object) -> None:
    if name and "\x00" not in name and (single := single_value(value)) is not None:
        facts.values[name] = single


def _add_columns(facts: FileFacts, row: Mapping[str, Any], columns: Sequence[str], prefix: str = "") -> None:
    for column in columns:
        _add(facts, f"{prefix}{column}", row[column])


def _add_streams(tables: TableStore, locations: Sequence[Location], by_id: Mapping[tuple[str, str], FileFacts]) -> None:
    columns = dict.fromkeys(("stream_index", "stream_type", *_OF_VIDEO, *_OF_AUDIO))
    streams: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in _rows(tables, "media_streams", tuple(columns), locations):
        streams[row["bucket"], row["file_path"], row["stream_type"]].append(row)
    for (bucket, path, kind), rows in streams.items():
        first = min(rows, key=lambda row: row["stream_index"])
        if (each := by_id.get((bucket, path))) is not None and kind in {"video", "audio"}:
            columns_of_kind, prefix = (_OF_VIDEO, "") if kind == "video" else (_OF_AUDIO, "audio_")
            _add_columns(each, first, columns_of_kind, prefix)


def _add_vectors(tables: TableStore, locations: Sequence[Location], by_id: Mapping[tuple[str, str], FileFacts]) -> None:
    columns = (*_IDS, "embedding_version", "metadata_embedding")
    for batch in tables.read("files", columns=columns, locations=locations).to_batches():
        vectors: pa.FixedSizeListArray = batch.column("metadata_embedding")
        size = vectors.type.list_size * 4
        data = memoryview(vectors.values.buffers()[1] or b"")
        keys = zip(*(batch.column(name).to_pylist() for name in columns[:3]), strict=True)
        for place, (bucket, path, version) in enumerate(keys):
            each = by_id.get((bucket, path))
            if each is not None and version is not None and vectors[place].is_valid:
                start = (vectors.offset + place) * size
                each.vector = (version, bytes(data[start : start + size]))


def _rows(
    tables: TableStore, table: TableName, columns: Sequence[str], locations: Sequence[Location]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tables.read(table, columns=(*_IDS, *columns), locations=locations).to_pylist()
    return found
