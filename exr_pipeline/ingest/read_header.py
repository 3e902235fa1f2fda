"""Headers from storage by range reads: a first read sized by evidence, then exactly what the parser asks for.

Belongs here: how much is read. Not here: parsing (`exr`, `dpx`) or what is done with the inspection.
"""

from __future__ import annotations

import asyncio
import resource
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.exr import NeedMoreBytes
from exr_pipeline.inspection import SourceFile, inspect_bytes
from exr_pipeline.storage.deadlines import in_time
from exr_pipeline.storage.verify import verify_start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exr_pipeline.inspection import Inspection
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.storage.objects import ObjectStorage

# Of the OpenEXR project's sample images 90 % have headers under 22 KB, and all are under 64 KB.
FIRST_READ_BYTES: Final = 64 * 1024
_LONG_HEADERS_AT_ONCE: Final = 4
# Files and connections that a process has open besides.
_OTHER_DESCRIPTORS: Final = 256


def source_file(info: ObjectInfo) -> SourceFile:
    """The version of a file that a store has just described."""
    return SourceFile(info.location, info.size, info.last_modified, info.etag, datetime.now(UTC))


def headers_at_once(wanted: int) -> int:
    """How many headers can be in flight: `wanted`, unless the system allows this process fewer connections.

    Raises the process's own limit of open files as far as it may.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(soft - _OTHER_DESCRIPTORS, 1)
    return wanted


class HeaderReader:
    """Reads headers from storage for one event loop, as many at a time as its callers ask for.

    Each takes `FIRST_READ_BYTES` of memory while it is in flight. Those that turn out to be longer (at most 16 MiB)
    take turns, so that thousands in flight stay bounded.
    """

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage
        self._long = asyncio.Semaphore(_LONG_HEADERS_AT_ONCE)

    async def start(self, location: Location) -> tuple[SourceFile, bytes]:
        """The version of a file that is there now, and its first bytes. One request."""
        info, data = await self._storage.read_range_async(location, 0, FIRST_READ_BYTES)
        return source_file(info), data

    async def inspect(self, source: SourceFile, data: bytes) -> Inspection:
        """Inspect a file of which the first bytes are here, reading on as far as the header goes and no further.

        Raises `BadInputError` once it is sure that these are the file's bytes, `RetryableError` if they are not, or
        if the file changes in the meantime. A header that is odd is read again too: a byte that was changed on its way
        may have made it so.
        """
        try:
            return await self._inspect_these(source, data)
        except NeedMoreBytes as error:
            async with self._long:
                return await self._inspect_long(source, data, error)

    async def _inspect_long(self, source: SourceFile, data: bytes, error: NeedMoreBytes) -> Inspection:
        while True:
            missing = min(max(error.needed, len(data) + FIRST_READ_BYTES), source.size_bytes) - len(data)
            if missing <= 0:
                await self._verify(source, data)
                raise error
            info, more = await self._storage.read_range_async(source.location, len(data), missing)
            if info.etag != source.etag:
                raise RetryableError(f"{source.location.url}: the file changed while it was read")
            data += more
            try:
                return await self._inspect_these(source, data)
            except NeedMoreBytes as again:
                error = again

    async def _inspect_these(self, source: SourceFile, data: bytes) -> Inspection:
        try:
            inspection = inspect_bytes(data, source)
        except NeedMoreBytes:
            raise
        except BadInputError:
            await self._verify(source, data)
            raise
        if inspection.warnings and source.location.scheme != "file":
            await self._verify(source, data)
        return inspection

    async def _verify(self, source: SourceFile, data: bytes) -> None:
        await verify_start(self._storage, source.location, source.etag, source.size_bytes, data)


def first_bytes(path: Path) -> bytes:
    """As much of a local file as is read of one in storage to begin with."""
    with path.open("rb") as file:
        return file.read(FIRST_READ_BYTES)


def inspect_local(path: Path, source: SourceFile) -> Inspection:
    """Inspect a file whose bytes are in a local file, reading no further than its header.

    Raises `BadInputError`, and `RetryableError` if its disk does not answer.
    """

    def inspect(got_on: Callable[[], None]) -> Inspection:
        with path.open("rb") as file:
            data = file.read(FIRST_READ_BYTES)
            while True:
                got_on()
                try:
                    return inspect_bytes(data, source)
                except NeedMoreBytes as error:
                    more = file.read(max(error.needed - len(data), FIRST_READ_BYTES))
                    if not more:
                        raise
                    data += more

    return in_time(source.location.url, str(path.parent), inspect)
