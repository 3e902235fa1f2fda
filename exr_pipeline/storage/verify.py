"""Whether bytes that arrived are those that the store holds: asked before a file is called damaged.

Belongs here: comparing a copy with its object. Not here: requests (`storage.objects`), or what the bytes mean.
"""

from __future__ import annotations

import filecmp
import hashlib
import re
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import RetryableError

if TYPE_CHECKING:
    from pathlib import Path

    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.storage.objects import ObjectStorage

# Of an object that was written in one part, unless it is encrypted with a key of KMS. Then it is just as many digits.
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_IN_PARTS: Final = re.compile(r"[0-9a-f]{32}-[0-9]+")


def verify_copy(storage: ObjectStorage, info: ObjectInfo, copy: Path) -> None:
    """Raise `RetryableError` unless the file `copy` holds the bytes of the object that `info` describes.

    Its entity tag tells where it is an MD5 sum. Else the object is fetched once more and compared. A local file that
    was read in place, so that `copy` is the file itself, is read through: it must be unchanged and without an error.
    """
    location = info.location
    if location.scheme == "file":
        _check_version(location, info.etag, storage.local.read_through(location).etag)
        return
    if _is_sum(info.etag, _md5(copy)):
        return
    second = copy.with_name(f"{copy.name}.again")
    try:
        _check_version(location, info.etag, storage.download(location, second).etag)
        if not filecmp.cmp(copy, second, shallow=False):
            raise _differs(location)
    finally:
        second.unlink(missing_ok=True)


async def verify_start(storage: ObjectStorage, location: Location, etag: str | None, size: int, start: bytes) -> None:
    """Raise `RetryableError` unless `start` holds the first bytes of the object of this entity tag and size."""
    if len(start) == size and etag and _is_sum(etag, _md5(start)):
        return
    info, again = await storage.read_range_async(location, 0, max(len(start), 1))
    _check_version(location, etag, info.etag)
    if again[: max(len(start), 1)] != start:
        raise _differs(location)


def is_sum_of(etag: str, data: bytes | Path) -> bool:
    """Whether the entity tag of an object says that these are its bytes; in several parts, whether it looks so."""
    # Only files are written in parts.
    return (not isinstance(data, bytes) and _IN_PARTS.fullmatch(etag) is not None) or _is_sum(etag, _md5(data))


def _md5(data: bytes | Path) -> str:
    if isinstance(data, bytes):
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _is_sum(etag: str, digest: str) -> bool:
    return _MD5.fullmatch(etag) is not None and etag == digest


def _check_version(location: Location, etag: str | None, now: str) -> None:
    if now != etag:
        raise RetryableError(f"{location.url}: the file changed while it was read")


def _differs(location: Location) -> RetryableError:
    return RetryableError(f"{location.url}: the data was damaged in transfer: a second read returned different bytes")
