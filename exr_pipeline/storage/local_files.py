"""Files of this machine with the behaviour of objects: whole or absent, an ETag, a listing that can be resumed.

Belongs here: what `file:///` means. Not here: other kinds of storage (`storage.objects`).
"""

import errno
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.machine_errors import no_room
from exr_pipeline.storage.object_info import ObjectInfo
from exr_pipeline.storage.private_files import make_folder_like_parent, share_like_folder
from exr_pipeline.storage.store_errors import MissingObjectError, not_writable
from exr_pipeline.untrusted_text import visible_line

_LOG = logging.getLogger(__name__)
# A folder that is as it is until somebody changes it: on a read-only disk, closed, or no folder at all.
_NOT_WRITABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def path_of(location: Location) -> Path:
    """The path that a `file` location names."""
    return Path("/" + location.key)


def head(location: Location) -> ObjectInfo:
    """Facts of a file, at its newest."""
    with _opened(location) as (_, info):
        return info


def read_range(location: Location, start: int, length: int | None) -> tuple[ObjectInfo, bytes]:
    """At most `length` bytes (None: all) from `start` on, none beyond the end, and facts of the same version."""
    with _opened(location) as (file, info):
        file.seek(start)
        data = file.read(-1 if length is None else length)
        _check_unchanged(file, info)
        return info, data


def copy_to(location: Location, path: Path) -> ObjectInfo:
    """Copy a file. Raises `RetryableError` if it changed meanwhile."""
    with _opened(location) as (file, info), path.open("wb") as target:
        shutil.copyfileobj(file, target, 1 << 20)
        _check_unchanged(file, info)
        return info


def read_through(location: Location) -> ObjectInfo:
    """Read all of a file for no other purpose than to see that it can be read. Raises as `copy_to` does."""
    with _opened(location) as (file, info):
        while file.read(1 << 20):
            pass
        _check_unchanged(file, info)
        return info


def write(location: Location, data: bytes | Path) -> None:
    """Put a file in place in one step: readers see the old or the new one, and a crash leaves no half of it."""
    path = path_of(location)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        make_folder_like_parent(path.parent)
        with temporary.open("xb") as file:
            share_like_folder(file.fileno(), path.parent)
            if isinstance(data, bytes):
                file.write(data)
            else:
                with data.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in _NOT_WRITABLE:
            raise not_writable(path.parent.as_uri(), os.strerror(error.errno).lower()) from None
        if error.errno == errno.ENAMETOOLONG:
            raise BadInputError(location.url, "not written: its name is too long for this file system") from None
        raise RetryableError(f"{path}: not written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def delete(location: Location) -> None:
    """Remove a file if it is there."""
    try:
        path_of(location).unlink(missing_ok=True)
    except OSError as error:
        if error.errno in _NOT_WRITABLE - {errno.ENOTDIR}:
            raise not_writable(location.folder.url, os.strerror(error.errno).lower()) from None
        # Nothing can have a name that is too long, or lie in a file.
        if error.errno not in {errno.ENAMETOOLONG, errno.ENOTDIR}:
            raise RetryableError(f"{location.url}: not deleted: {error.strerror}") from error


def list_files(folder: Location, after: str | None) -> Iterator[ObjectInfo]:
    """Every file at any depth below a folder, in byte order of the keys, beginning behind the key `after`.

    Links are followed, in a circle only once. A folder that may not be read and a link that can't be followed are
    passed over with a warning.
    """
    root = path_of(folder)
    if not root.is_dir():
        raise MisconfiguredError("EXR_PIPELINE_SOURCES", f"there is no folder {root}", "correct its URL, or create it")
    prefix = folder.key if not folder.key or folder.key.endswith("/") else f"{folder.key}/"
    return _walk(prefix, os.fsencode(after or ""), ())


def _walk(prefix: str, after: bytes, above: tuple[tuple[int, int], ...]) -> Iterator[ObjectInfo]:
    path = "/" + prefix
    try:
        status = Path(path).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        with os.scandir(path) as entries:
            # A folder is sorted as its name and a slash, which makes the order that of the whole keys.
            names = sorted(
                (os.fsencode(entry.name) + (b"/" if _is_dir(entry) else b""), entry.name) for entry in entries
            )
    except FileNotFoundError:
        return
    except OSError as error:
        _LOG.warning("%s is not listed: %s", visible_line(path), error.strerror)
        return
    for sortable, name in names:
        key = prefix + name
        if sortable.endswith(b"/"):
            folder = os.fsencode(f"{key}/")
            if folder > after or after.startswith(folder):
                yield from _walk(f"{key}/", after, (*above, identity))
        elif os.fsencode(key) > after:
            try:
                status = Path("/" + key).stat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield _info(Location("file", "", key), status)


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link in a circle, or into a folder that may not be entered: no reason to miss the others.
        _LOG.warning("%s is not listed: %s", visible_line(entry.path), error.strerror)
        return False


@contextmanager
def _opened(location: Location) -> Iterator[tuple[BinaryIO, ObjectInfo]]:
    path = path_of(location)
    try:
        # Opening a pipe would wait for a writer.
        if not path.is_file() and path.exists():
            raise BadInputError(location.url, "not a regular file")
        with path.open("rb") as file:
            yield file, _info(location, os.fstat(file.fileno()))
    except (FileNotFoundError, NotADirectoryError):
        raise MissingObjectError(location.url) from None
    except PermissionError:
        raise BadInputError(location.url, "not readable: permission denied") from None
    except ValueError:
        raise BadInputError(location.url, "not a file name of this machine") from None
    except OSError as error:
        raise RetryableError(f"{location.url}: {no_room(error) or f'not read: {error.strerror}'}") from error


def _check_unchanged(file: BinaryIO, info: ObjectInfo) -> None:
    if _info(info.location, os.fstat(file.fileno())) != info:
        raise RetryableError(f"{info.location.url} changed while it was read")


def _info(location: Location, status: os.stat_result) -> ObjectInfo:
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    modified = _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
    return ObjectInfo(location, status.st_size, etag, modified)
