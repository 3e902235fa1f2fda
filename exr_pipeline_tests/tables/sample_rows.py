"""Rows of made-up files for the tests of the table stores, as an ingest would write them.

Belongs here: rows. Not here: stores.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import (
    CHANNEL_FINGERPRINT_DIMENSIONS,
    METADATA_EMBEDDING_DIMENSIONS,
    READY,
    TableName,
    arrow_schema,
)

NOON = datetime(2026, 4, 2, 12, 0, 0, tzinfo=UTC)


@dataclass(frozen=True)
class SampleFile:
    """A version of a file, from which all its rows follow."""

    key: str = "shot/beauty.1001.exr"
    bucket: str = "renders"
    mtime: datetime = NOON
    etag: str = "etag-1"
    state: str = READY
    reason: str | None = None
    header: bool = True
    channels: int = 4
    attributes: int = 6
    streams: int = 2
    color_space: str = "ACEScg"
    vector_axis: int = 0
    frame_number: int | None = None
    seen_at: datetime | None = None

    @property
    def file_id(self) -> str:
        text = self.key + self.mtime.isoformat() + hashlib.md5(self.key.encode()).hexdigest()
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def location(self) -> Location:
        return Location("s3" if self.bucket else "file", self.bucket, self.key)

    @property
    def ids(self) -> dict[str, Any]:
        return {"file_id": self.file_id, "file_path": self.location.path, "bucket": self.bucket}

    def files_row(self) -> dict[str, Any]:
        row = self.ids | {
            "file_path_normalized": self.location.path.lower(),
            "size_bytes": 1000,
            "mtime": self.mtime.isoformat(),
            "frame_number": self.frame_number,
            "uri": self.location.url,
            "etag": self.etag,
            "state": self.state,
            "reason": self.reason,
            "seen_at": None if self.seen_at is None else self.seen_at.isoformat(),
        }
        if self.header:
            vector = [0.0] * METADATA_EMBEDDING_DIMENSIONS
            vector[self.vector_axis] = 1.0
            row |= {
                "header_hash": hashlib.sha256(self.etag.encode()).hexdigest(),
                "multipart_count": 1,
                "is_deep": False,
                "format": "exr",
                "embedding_version": 1,
                "metadata_embedding": vector,
            }
        return row

    def part_rows(self) -> list[dict[str, Any]]:
        row: dict[str, Any] = {
            "part_index": 0,
            "width": 1920,
            "height": 1080,
            "display_width": 1920,
            "display_height": 1080,
        }
        row |= {"color_space": self.color_space, "compression": "zip", "pixel_aspect_ratio": 1.0}
        return [self.ids | row] if self.header else []

    def channel_rows(self) -> list[dict[str, Any]]:
        fingerprint = [1.0] + [0.0] * (CHANNEL_FINGERPRINT_DIMENSIONS - 1)
        return [
            self.ids
            | {
                "part_index": 0,
                "channel_index": index,
                "channel_name": f"layer{index}.R",
                "layer_name": f"layer{index}",
                "component_name": "R",
                "channel_type": "HALF",
                "channel_fingerprint": fingerprint,
            }
            for index in range(self.channels if self.header else 0)
        ]

    def attribute_rows(self) -> list[dict[str, Any]]:
        return [
            self.ids
            | {
                "part_index": 0,
                "attr_index": index,
                "attr_name": f"renderer/option{index}",
                "attr_type": "string",
                "value_json": f'"{self.etag} value {index}"',
                "value_text": f"{self.etag} value {index}",
            }
            for index in range(self.attributes if self.header else 0)
        ]

    def stream_rows(self) -> list[dict[str, Any]]:
        return [
            self.ids | {"stream_index": index, "stream_type": "video", "codec": "h264", "tags_json": f'"{self.etag}"'}
            for index in range(self.streams if self.header else 0)
        ]

    def outputs_row(self, **changes: Any) -> dict[str, Any]:
        row = {
            "proxy_id": self.file_id,
            "file_id": self.file_id,
            "s3_key": self.location.path,
            "s3_bucket": self.bucket,
            "thumbnail_s3_key": f"{self.key}_thumb.jpg",
            "thumbnail_size_bytes": 10,
            "thumb_colorspace": "sRGB",
            "still_view": "sRGB - Display / view",
            "filmstrip_s3_key": f"{self.key}_filmstrip.jpg",
            "filmstrip_size_bytes": 30,
            "proxy_s3_key": f"{self.key}_proxy.mp4",
            "proxy_size_bytes": 20,
            "proxy_colorspace": "Rec.709",
            "encoder": "libx264",
            "source_colorspace": "ACEScg",
        }
        return row | changes

    def later(self, seconds: float, etag: str = "etag-2") -> "SampleFile":
        """The file uploaded again so much later."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return SampleFile(**(fields | {"mtime": self.mtime + timedelta(seconds=seconds), "etag": etag}))


def rows_of(*files: SampleFile, outputs: bool = True) -> dict[TableName, pa.Table]:
    """The rows of all tables for these files."""
    rows: dict[TableName, list[dict[str, Any]]] = {
        "files": [file.files_row() for file in files],
        "parts": [row for file in files for row in file.part_rows()],
        "channels": [row for file in files for row in file.channel_rows()],
        "attributes": [row for file in files for row in file.attribute_rows()],
        "media_streams": [row for file in files for row in file.stream_rows()],
    }
    if outputs:
        rows["proxy_outputs"] = [file.outputs_row() for file in files if file.header]
    return {name: pa.Table.from_pylist(table, schema=arrow_schema(name)) for name, table in rows.items()}


def output_rows(*rows: dict[str, Any]) -> dict[TableName, pa.Table]:
    """A write of outputs alone."""
    return {"proxy_outputs": pa.Table.from_pylist(list(rows), schema=arrow_schema("proxy_outputs"))}
