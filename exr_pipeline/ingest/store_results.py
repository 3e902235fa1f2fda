"""How what was made of files becomes rows and objects.

Belongs here: that translation. Not here: making products (`ingest.chunk`), or what each fills (`products`).
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from exr_pipeline import __version__
from exr_pipeline.footage.rows import media_rows
from exr_pipeline.inspection import FileState, UnseenFile, rows, unread_rows
from exr_pipeline.products.registry import FILE_PRODUCTS
from exr_pipeline.storage.outputs import media_tags
from exr_pipeline.tables.specs import arrow_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from exr_pipeline.products.file_result import FileResult
    from exr_pipeline.products.product import OutputObject
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.outputs import NamedAfter, OutputPlace
    from exr_pipeline.tables.specs import TableName
    from exr_pipeline.tables.store import FileVersion


class MediaWriter(Protocol):
    """What a run needs of the place that media go to."""

    async def write_async(
        self, location: Location, data: bytes | Path, *, content_type: str, tags: Mapping[str, str]
    ) -> None:
        """Store one object, these bytes or those of a local file, whole or not at all."""

    async def delete_async(self, location: Location) -> None:
        """Remove one object, if it is there."""


async def store_objects(
    media: MediaWriter, outputs: OutputPlace, result: FileResult, *, after: NamedAfter = "own", compatibility: str = ""
) -> int:
    """Store the objects that products have made of a file, named `after` this, and note where; how many bytes."""
    size_bytes = 0
    for thing in output_objects(result.location, compatibility):
        content = thing.content(result)
        if content is not None:
            data, content_type = content
            target = outputs.at(result.location, thing.ending, after)
            await media.write_async(target, data, content_type=content_type, tags=media_tags(thing.name))
            result.stored[thing.name] = target
            size_bytes += len(data) if isinstance(data, bytes) else data.stat().st_size
    return size_bytes


def objects_to_delete(
    outputs: OutputPlace, source: Location, row: Mapping[str, Any], compatibility: str = ""
) -> set[Location]:
    """The media of a version that was replaced by one that can't be read: they would show what is gone.

    `row` is that of its outputs, empty without any. What a run that was killed has stored has no row, but its name,
    unless names are shared.
    """
    after: NamedAfter = "name" if compatibility else "own"
    found = {outputs.at(source, thing.ending, after) for thing in output_objects(source, compatibility)}
    folder = outputs.at(source, "").folder
    keys = [row.get(f"{thing.name}_s3_key") for product in FILE_PRODUCTS for thing in product.objects]
    listed = [folder.at(key) for key in keys if key and row["output_bucket"] == folder.bucket]
    return found | {location for location in listed if location.folder == folder}


def output_objects(source: Location, compatibility: str = "") -> Iterator[OutputObject]:
    """What products may store of a source."""
    for product in FILE_PRODUCTS:
        for thing in product.objects:
            if thing.is_made(source.name, compatibility):
                yield thing


def last_known(location: Location, version: FileVersion | None) -> UnseenFile:
    """What is known of a file that can't be looked up now, by the version that the tables know."""
    return UnseenFile(location) if version is None else UnseenFile(location, version.mtime, version.etag)


def rows_of(batch: Sequence[FileResult], *, now: datetime) -> dict[TableName, pa.Table]:
    """The rows of many files. Each file has its `source`, if need be from `last_known`."""
    import pyarrow as pa

    read = [(result, result.inspection) for result in batch if result.inspection is not None]
    unread = [
        (result, result.source)
        for result in batch
        if result.inspection is None and result.media is None and result.source is not None
    ]
    probed = [
        (result, result.source, result.media)
        for result in batch
        if result.media is not None and result.source is not None
    ]
    headers = rows([inspection for _, inspection in read], inspected_at=now, states=[_state(one) for one, _ in read])
    others = unread_rows([(source, _state(one)) for one, source in unread], inspected_at=now)
    movies = media_rows([(source, _state(one), media) for one, source, media in probed], inspected_at=now)
    made: dict[TableName, pa.Table] = {"media_streams": movies.pop("media_streams")}
    tables: list[Mapping[TableName, pa.Table]] = [headers, others, movies]
    made |= {name: pa.concat_tables([rows[name] for rows in tables if name in rows]) for name in headers}
    in_order = [*(one for one, _ in read), *(one for one, _ in unread), *(one for one, _, _ in probed)]
    made["files"] = _with_columns(made["files"], [_columns(result, "files") for result in in_order])
    outputs = [_output_row(result, now) for result in batch if result.stored]
    made["proxy_outputs"] = pa.Table.from_pylist(outputs, schema=arrow_schema("proxy_outputs"))
    return made


def _state(result: FileResult) -> FileState:
    return FileState(result.state, result.reason)


def _columns(result: FileResult, table: TableName) -> dict[str, Any]:
    """What the products of a table fill of its columns."""
    found: dict[str, Any] = {}
    for product in FILE_PRODUCTS:
        if product.table == table:
            found |= product.row(result)
    return found


def _with_columns(table: pa.Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The table with these values, row by row, in the columns that any row names."""
    import pyarrow as pa

    for name in dict.fromkeys(name for row in rows for name in row):
        index = table.schema.get_field_index(name)
        field = table.schema.field(index)
        table = table.set_column(index, field, pa.array([row.get(name) for row in rows], field.type))
    return table


def _output_row(result: FileResult, now: datetime) -> dict[str, Any]:
    source, pictures, stored = result.source, result.pictures, result.stored
    assert source is not None
    assert pictures is not None
    row: dict[str, Any] = {
        "proxy_id": source.file_id,
        "file_id": source.file_id,
        "s3_key": source.location.path,
        "s3_bucket": source.location.bucket,
        "asset_id": source.asset_id,
        "source_size_bytes": source.size_bytes,
        "processing_time_seconds": pictures.seconds,
        "generated_timestamp": now.isoformat(),
        "generator_version": __version__,
        "output_bucket": next(iter(stored.values())).bucket,
        "nan_pixels": pictures.nan_pixels,
        "inf_pixels": pictures.inf_pixels,
        "is_black": pictures.is_black,
        "warnings": json.dumps(pictures.warnings, ensure_ascii=False),
        **pictures.provenance.columns(),
        **_columns(result, "proxy_outputs"),
    }
    for name, location in stored.items():
        row[f"{name}_s3_key"] = location.path
    return row
