"""Files made for tests: inspections of headers that need no pixels."""

from datetime import UTC, datetime
from typing import Any

from exr_pipeline.exr import Attribute, Header, chunk_count
from exr_pipeline.inspection import Inspection, SourceFile, inspect_bytes
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.exr.headers import attributes

MTIME = datetime(2026, 4, 2, 10, 11, 12, tzinfo=UTC)


SEEN = datetime(2026, 4, 2, 10, 11, 13, tzinfo=UTC)


def source(key: str = "renders/beauty.1001.exr", *, size: int = 10_000_000, mtime: datetime = MTIME) -> SourceFile:
    """A version of a file in a bucket."""
    return SourceFile(Location("s3", "show", key), size, mtime, "etag", SEEN)


def inspected(*extra: Attribute, key: str = "renders/beauty.1001.exr", **changes: Any) -> Inspection:
    """The inspection of a file of one part; see `headers.attributes`."""
    return inspected_header(Header.build([attributes(*extra, **changes)]), key=key)


def inspected_header(header: Header, *, key: str = "renders/beauty.1001.exr") -> Inspection:
    """The inspection of a file with this header and the offset tables it needs."""
    chunks = sum(chunk_count(part) or 0 for part in header.parts)
    offset = header.size + 8 * chunks
    data = header.to_bytes() + offset.to_bytes(8, "little") * chunks
    return inspect_bytes(data, source(key))
