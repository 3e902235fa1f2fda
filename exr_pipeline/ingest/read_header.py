"""Headers from storage by range reads: a first read sized by evidence, then exactly what the parser asks for.

Belongs here: how much is read. Not here: parsing (`exr`, `dpx`) or what is done with the inspection.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import RetryableError
from exr_pipeline.exr import NeedMoreBytes
from exr_pipeline.inspection import SourceFile, inspect_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from exr_pipeline.inspection import Inspection
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.storage.objects import ObjectStorage

# Of the OpenEXR project's sample images 90 % have headers under 22 KB, and all are under 64 KB.
FIRST_READ_BYTES: Final = 64 * 1024


def source_file(info: ObjectInfo) -> SourceFile:
    """The version of a file that a store has just described."""
    return SourceFile(info.location, info.size, info.last_modified, info.etag, datetime.now(UTC))


async def read_start(storage: ObjectStorage, location: Location) -> tuple[SourceFile, bytes]:
    """The version of a file that is there now, and its first bytes. One request."""
    info, data = await storage.read_range_async(location, 0, FIRST_READ_BYTES)
    return source_file(info), data


async def inspect_object(storage: ObjectStorage, source: SourceFile, data: bytes) -> Inspection:
    """Inspect a file of which the first bytes are here, reading on as far as the header goes and no further.

    Raises `BadInputError`, and `RetryableError` if the file changes in the meantime.
    """
    while True:
        try:
            return inspect_bytes(data, source)
        except NeedMoreBytes as error:
            missing = min(max(error.needed, len(data) + FIRST_READ_BYTES), source.size_bytes) - len(data)
            if missing <= 0:
                raise
            info, more = await storage.read_range_async(source.location, len(data), missing)
            if info.etag != source.etag:
                raise RetryableError(f"{source.location.url}: changed while it was read") from None
            data += more


def inspect_local(path: Path, source: SourceFile) -> Inspection:
    """Inspect a file whose bytes are in a local file, reading no further than its header."""
    with path.open("rb") as file:
        data = file.read(FIRST_READ_BYTES)
        while True:
            try:
                return inspect_bytes(data, source)
            except NeedMoreBytes as error:
                more = file.read(max(error.needed - len(data), FIRST_READ_BYTES))
                if not more:
                    raise
                data += more
