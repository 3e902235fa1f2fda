"""What a run has made of one file, and how that becomes rows and objects.

Belongs here: the record of one file's products and its translation. Not here: making them (`ingest.chunk`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from exr_pipeline import __version__
from exr_pipeline.footage.rows import media_rows
from exr_pipeline.formats import category_of
from exr_pipeline.inspection import FileState, SourceFile, rows, unread_rows
from exr_pipeline.tables.specs import RETRYABLE, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from exr_pipeline.footage import MediaProbe
    from exr_pipeline.inspection import Inspection
    from exr_pipeline.pictures import RenderedPictures
    from exr_pipeline.storage.locations import Location, OutputLocations
    from exr_pipeline.tables.specs import TableName
    from exr_pipeline.tables.store import FileVersion

GENERATOR: Final = "exr_pipeline"

# Stands for the modification time of a file that could not even be looked up. Any real version supersedes it.
NEVER_SEEN: Final = datetime.fromtimestamp(0, UTC)


@dataclass(slots=True)
class FileProducts:
    """One file at the end of a run: its state, the reason if it is not ready, and what was made of it.

    `source` is the version that was met (None if the file could not be looked up). `inspection` is what is known of a
    picture, `media` of a movie or sound; both are None if it could not be read.
    `pictures` and `outputs` are None if none were wanted or made. `is_gone` says that there is no such file,
    `was_tried_alone` that its worker was lost a second time when no other was at work: there is no use in a third now.
    """

    location: Location
    state: str = RETRYABLE
    reason: str | None = None
    source: SourceFile | None = None
    inspection: Inspection | None = None
    pictures: RenderedPictures | None = None
    outputs: OutputLocations | None = None
    media: MediaProbe | None = None
    is_gone: bool = False
    was_tried_alone: bool = False


class MediaWriter(Protocol):
    """What a run needs of the place that media go to."""

    async def write_async(
        self, location: Location, data: bytes | Path, *, content_type: str, tags: Mapping[str, str]
    ) -> None:
        """Store one object, these bytes or those of a local file, whole or not at all."""

    async def delete_async(self, location: Location) -> None:
        """Remove one object, if it is there."""


def media_tags(media_type: str) -> dict[str, str]:
    """The S3 tags of an object that we made."""
    return {"media_type": media_type, "generator": GENERATOR, "version": __version__}


async def write_media(media: MediaWriter, outputs: OutputLocations, pictures: RenderedPictures) -> None:
    """Store a file's thumbnail, filmstrip and proxy, as far as they were made."""
    if pictures.thumbnail is not None:
        await media.write_async(
            outputs.thumbnail, pictures.thumbnail.data, content_type="image/jpeg", tags=media_tags("thumbnail")
        )
    if pictures.filmstrip is not None:
        await media.write_async(
            outputs.filmstrip, pictures.filmstrip.jpeg, content_type="image/jpeg", tags=media_tags("filmstrip")
        )
    if pictures.proxy is not None:
        kind = "video/mp4" if pictures.proxy.width else "audio/mp4"
        await media.write_async(outputs.proxy, pictures.proxy.mp4, content_type=kind, tags=media_tags("proxy"))


async def delete_media(media: MediaWriter, source: Location, outputs: OutputLocations) -> None:
    """Remove the media of a version that was replaced by one that can't be read: they would show what is gone."""
    await media.delete_async(outputs.thumbnail)
    await media.delete_async(outputs.proxy)
    if category_of(source.name) == "movie":
        await media.delete_async(outputs.filmstrip)


def last_known(location: Location, version: FileVersion | None) -> SourceFile:
    """The version of a file that can't be looked up now: the one that the tables know, or `NEVER_SEEN`."""
    if version is None:
        return SourceFile(location, 0, NEVER_SEEN)
    return SourceFile(location, 0, version.mtime, version.etag)


def rows_of(batch: Sequence[FileProducts], *, now: datetime) -> dict[TableName, pa.Table]:
    """The rows of many files. Each file has its `source`, if need be from `last_known`."""
    import pyarrow as pa

    read = [(products, products.inspection) for products in batch if products.inspection is not None]
    unread = [
        (products.source, FileState(products.state, products.reason))
        for products in batch
        if products.inspection is None and products.media is None and products.source is not None
    ]
    probed = [
        (products.source, FileState(products.state, products.reason), products.media)
        for products in batch
        if products.media is not None and products.source is not None
    ]
    states = [FileState(products.state, products.reason) for products, _ in read]
    headers = rows([inspection for _, inspection in read], inspected_at=now, states=states)
    others = unread_rows(unread, inspected_at=now)
    movies = media_rows(probed, inspected_at=now)
    outputs = [_output_row(products, now) for products in batch if products.outputs is not None]
    schema = arrow_schema("proxy_outputs")
    made: dict[TableName, pa.Table] = {"proxy_outputs": pa.Table.from_pylist(outputs, schema=schema)}
    made["media_streams"] = movies.pop("media_streams")
    tables: list[Mapping[TableName, pa.Table]] = [headers, others, movies]
    return {name: pa.concat_tables([rows[name] for rows in tables if name in rows]) for name in headers} | made


def _output_row(products: FileProducts, now: datetime) -> dict[str, Any]:
    source, pictures, outputs = products.source, products.pictures, products.outputs
    assert source is not None
    assert pictures is not None
    assert outputs is not None
    row: dict[str, Any] = {
        "proxy_id": source.file_id,
        "file_id": source.file_id,
        "s3_key": source.location.path,
        "s3_bucket": source.location.bucket,
        "asset_id": source.asset_id,
        "source_size_bytes": source.size_bytes,
        "source_colorspace": pictures.source_color_space,
        "processing_time_seconds": pictures.seconds,
        "generated_timestamp": now.isoformat(),
        "generator_version": __version__,
        "output_bucket": outputs.thumbnail.bucket,
        "layer": pictures.layer,
        "color_rule": pictures.color_rule,
        "ocio_config": pictures.ocio_config or None,
        "ocio_config_hash": pictures.ocio_config_hash or None,
        "library_versions": json.dumps(pictures.library_versions, sort_keys=True),
        "nan_pixels": pictures.nan_pixels,
        "inf_pixels": pictures.inf_pixels,
        "is_black": pictures.is_black,
        "alpha_handling": pictures.alpha_handling or None,
        "warnings": json.dumps(pictures.warnings, ensure_ascii=False),
    }
    if (thumbnail := pictures.thumbnail) is not None:
        row |= {
            "thumbnail_s3_key": outputs.thumbnail.path,
            "thumbnail_size_bytes": len(thumbnail.data),
            "thumb_colorspace": thumbnail.color_space,
            "thumb_resolution": f"{thumbnail.width}x{thumbnail.height}",
            "still_view": thumbnail.view,
            "still_encoder": thumbnail.encoder,
        }
    if pictures.filmstrip is not None:
        row |= {
            "filmstrip_s3_key": outputs.filmstrip.path,
            "filmstrip_size_bytes": len(pictures.filmstrip.jpeg),
        }
    if (proxy := pictures.proxy) is not None:
        row |= {
            "proxy_s3_key": outputs.proxy.path,
            "proxy_size_bytes": proxy.size_bytes,
            "proxy_colorspace": proxy.color_space or None,
            "proxy_resolution": f"{proxy.width}x{proxy.height}" if proxy.width else None,
            "proxy_view": proxy.view,
            "encoder": proxy.encoder,
        }
    return row
