"""Files of this machine with the behaviour of objects: whole or absent, an ETag, a listing that can be resumed.

Belongs here: what `file:///` means. Not here: other kinds of storage (`storage.objects`), deadlines, or opening folders
without following links (`storage.local_folders`).
"""

import errno
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.storage.deadlines import in_time
from exr_pipeline.storage.local_folders import LinkInTheWayError, opened_folder
from exr_pipeline.storage.locations import OUTPUT_FOLDER, Location
from exr_pipeline.storage.machine_errors import no_room
from exr_pipeline.storage.object_info import ObjectInfo, OnBlock
from exr_pipeline.storage.private_files import share_like_folder
from exr_pipeline.storage.store_errors import MissingObjectError, not_writable
from exr_pipeline.untrusted_text import visible_line

_LOG = logging.getLogger(__name__)
# A folder that is as it is until somebody changes it: on a read-only disk, closed, or no folder at all.
_NOT_WRITABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCK: Final = 1 << 20
_LISTED_AT_ONCE: Final = 1000

T = TypeVar("T")
GotOn = Callable[[], None]


def path_of(location: Location) -> Path:
    """The path that a `file` location names."""
    return Path("/" + location.key)


class LocalFiles:
    """Local files as objects. Every method raises `RetryableError` if the disk or mount does not answer for long.

    `roots` are the folders that somebody has named: sources and the output root. Links to them are followed. With
    `keep_inside`, links in them are only read if what they lead to is in the same root. Nothing is written through a
    link in them.
    """

    def __init__(self, roots: Iterable[Location] = (), *, keep_inside: bool = False) -> None:
        self._roots = [root.as_folder() for root in roots]
        self._keep_inside = keep_inside

    def add_root(self, folder: Location) -> None:
        """One more folder that somebody has named."""
        self._roots.append(folder.as_folder())

    def head(self, location: Location) -> ObjectInfo:
        """Facts of a file, at its newest."""

        def work(_: GotOn) -> ObjectInfo:
            with self._opened(location) as (_file, info):
                return info

        return self._in_time(location, work)

    def read_range(self, location: Location, start: int, length: int | None) -> tuple[ObjectInfo, bytes]:
        """At most `length` bytes (None: all) from `start` on, none beyond the end, and facts of the same version."""

        def work(got_on: GotOn) -> tuple[ObjectInfo, bytes]:
            with self._opened(location) as (file, info):
                file.seek(start)
                data = b"".join(_blocks(file, length, got_on))
                _check_unchanged(file, info)
                return info, data

        return self._in_time(location, work)

    def copy_to(self, location: Location, path: Path, *, on_block: OnBlock | None = None) -> ObjectInfo:
        """Copy a file, each block of which `on_block` is shown. Raises `RetryableError` if it changed meanwhile."""

        def work(got_on: GotOn) -> ObjectInfo:
            with self._opened(location) as (file, info), path.open("wb") as target:
                for block in _blocks(file, None, got_on):
                    target.write(block)
                    if on_block is not None:
                        on_block(block)
                _check_unchanged(file, info)
                return info

        return self._in_time(location, work)

    def read_through(self, location: Location, *, on_block: OnBlock | None = None) -> ObjectInfo:
        """Read all of a file, each block of which `on_block` is shown. Raises as `copy_to` does."""

        def work(got_on: GotOn) -> ObjectInfo:
            with self._opened(location) as (file, info):
                for block in _blocks(file, None, got_on):
                    if on_block is not None:
                        on_block(block)
                _check_unchanged(file, info)
                return info

        return self._in_time(location, work)

    def write(self, location: Location, data: bytes | Path) -> None:
        """Put a file in place in one step: readers see the old or the new one, and a crash leaves no half of it.

        Raises `BadInputError` if a link is in the way, or its name is too long.
        """

        def work(got_on: GotOn) -> None:
            root, parts = self._below_root(location)
            with opened_folder(root, parts, make=True) as folder:
                _write_into(folder, location.name, data, got_on)

        try:
            self._in_time(location, work)
        except LinkInTheWayError as error:
            raise BadInputError(
                location.url,
                f"not written: {visible_line(str(error))} is a link, and outputs are never written through links. "
                "Set EXR_PIPELINE_OUTPUT_ROOT to another place",
            ) from None
        except OSError as error:
            if error.errno in _NOT_WRITABLE:
                raise not_writable(location.folder.url, os.strerror(error.errno).lower()) from None
            if error.errno == errno.ENAMETOOLONG:
                raise BadInputError(location.url, "not written: its name is too long for this file system") from None
            raise RetryableError(f"{path_of(location)}: not written: {error.strerror}") from error

    def delete(self, location: Location) -> None:
        """Remove a file if it is there. What is behind a link was not put there."""

        def work(_: GotOn) -> None:
            root, parts = self._below_root(location)
            with opened_folder(root, parts, make=False) as folder:
                os.unlink(location.name, dir_fd=folder)

        try:
            self._in_time(location, work)
        except (FileNotFoundError, NotADirectoryError, LinkInTheWayError):
            return
        except OSError as error:
            if error.errno in _NOT_WRITABLE:
                raise not_writable(location.folder.url, os.strerror(error.errno).lower()) from None
            # Nothing can have a name that is too long.
            if error.errno != errno.ENAMETOOLONG:
                raise RetryableError(f"{location.url}: not deleted: {error.strerror}") from error

    def list_files(
        self, folder: Location, after: str | None, *, at_once: int = _LISTED_AT_ONCE
    ) -> Iterator[ObjectInfo]:
        """Every file at any depth below a folder, in byte order of the keys, beginning behind the key `after`.

        Links are followed as the setting says, in a circle only once. A folder that may not be read and a link that
        can't be followed are passed over with a warning. `at_once` files are looked up at a time.
        """
        root = path_of(folder)
        if not self._in_time(folder, lambda _: root.is_dir()):
            raise MisconfiguredError(
                "EXR_PIPELINE_SOURCES", f"folder {root} does not exist", "correct the URL, or create the folder"
            )
        prefix = folder.key if not folder.key or folder.key.endswith("/") else f"{folder.key}/"
        inside = os.path.realpath(self._root_of(folder)) if self._keep_inside else None
        walk = _Walk(inside)
        found = walk.files(prefix, os.fsencode(after or ""), ())

        def some(got_on: GotOn) -> list[ObjectInfo]:
            walk.got_on = got_on
            return list(islice(found, at_once))

        while files := self._in_time(folder, some):
            yield from files

    def _in_time(self, location: Location, work: Callable[[GotOn], T]) -> T:
        return in_time(location.url, str(self._root_of(location)), work)

    def _root_of(self, location: Location) -> Path:
        """The longest root that holds a file or folder; if none does, the folder that it is in, or is made beside."""
        holding = [root for root in self._roots if root.holds(location) or root == location.as_folder()]
        if holding:
            return path_of(max(holding, key=lambda root: len(root.key)))
        folder = path_of(location.folder)
        return folder.parent if folder.name == OUTPUT_FOLDER else folder

    def _below_root(self, location: Location) -> tuple[Path, tuple[str, ...]]:
        root, folder = self._root_of(location), path_of(location.folder)
        parts = folder.relative_to(root).parts
        # Which leads out of the root, or to it: a path that somebody wrote.
        return (folder, ()) if ".." in parts else (root, parts)

    @contextmanager
    def _opened(self, location: Location) -> Iterator[tuple[BinaryIO, ObjectInfo]]:
        path = path_of(location)
        try:
            # Opening a device may do something, and opening a pipe waits for a writer.
            if not stat.S_ISREG(path.stat().st_mode):
                raise BadInputError(location.url, "not a regular file")
            with open(path, "rb", opener=_without_waiting) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise BadInputError(location.url, "not a regular file")
                if self._keep_inside:
                    self._check_inside(location, file)
                yield file, _info(location, status)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingObjectError(location.url) from None
        except PermissionError:
            raise BadInputError(location.url, "not readable: permission denied") from None
        except ValueError:
            raise BadInputError(location.url, "not a valid file name on this machine") from None
        except OSError as error:
            raise RetryableError(f"{location.url}: {no_room(error) or f'not read: {error.strerror}'}") from error

    def _check_inside(self, location: Location, file: BinaryIO) -> None:
        opened = Path(f"/proc/self/fd/{file.fileno()}")
        # What was opened, where the system tells, whoever moves links meanwhile.
        real = os.path.realpath(opened if opened.exists() else path_of(location))
        if not _is_inside(real, os.path.realpath(self._root_of(location))):
            raise BadInputError(location.url, "a link leads outside the source's folder (EXR_PIPELINE_LOCAL_LINKS)")


class _Walk:
    """A walk through folders; `got_on` is called for every entry. Links out of the folder `inside` are left out."""

    def __init__(self, inside: str | None) -> None:
        self.got_on: GotOn = lambda: None
        self._inside = inside

    def files(self, prefix: str, after: bytes, above: tuple[tuple[int, int], ...]) -> Iterator[ObjectInfo]:
        """The files below a key's folder that come behind `after`, which is not one of the folders `above` it."""
        path = "/" + prefix
        try:
            status = Path(path).stat()
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                return
            with os.scandir(path) as entries:
                # A folder is sorted as its name and a slash, which makes the order that of the whole keys.
                names = sorted(
                    (os.fsencode(entry.name) + (b"/" if _is_dir(entry) else b""), entry.name)
                    for entry in entries
                    if self._is_followed(entry)
                )
        except FileNotFoundError:
            return
        except OSError as error:
            _LOG.warning("%s is skipped: %s", visible_line(path), error.strerror)
            return
        for sortable, name in names:
            key = prefix + name
            if sortable.endswith(b"/"):
                folder = os.fsencode(f"{key}/")
                if folder > after or after.startswith(folder):
                    yield from self.files(f"{key}/", after, (*above, identity))
            elif os.fsencode(key) > after:
                self.got_on()
                try:
                    status = Path("/" + key).stat()
                except OSError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield _info(Location("file", "", key), status)

    def _is_followed(self, entry: os.DirEntry[str]) -> bool:
        self.got_on()
        if self._inside is None or not entry.is_symlink() or _is_inside(os.path.realpath(entry.path), self._inside):
            return True
        _LOG.warning(
            "%s is skipped: it leads outside %s (EXR_PIPELINE_LOCAL_LINKS)",
            visible_line(entry.path),
            visible_line(self._inside),
        )
        return False


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link in a circle, or into a folder that may not be entered: no reason to miss the others.
        _LOG.warning("%s is skipped: %s", visible_line(entry.path), error.strerror)
        return False


def _write_into(folder: int, name: str, data: bytes | Path, got_on: GotOn) -> None:
    temporary = f".{secrets.token_hex(8)}.part"

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder)

    try:
        with open(temporary, "xb", opener=opener) as file:
            share_like_folder(file.fileno(), folder)
            if isinstance(data, bytes):
                file.write(data)
            else:
                with data.open("rb") as source:
                    for block in _blocks(source, None, got_on):
                        file.write(block)
            file.flush()
            os.fsync(file.fileno())
        # In place of a link, not through it.
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _blocks(file: BinaryIO, length: int | None, got_on: GotOn) -> Iterator[bytes]:
    left = length
    while left is None or left > 0:
        block = file.read(_BLOCK if left is None else min(_BLOCK, left))
        if not block:
            return
        got_on()
        left = None if left is None else left - len(block)
        yield block


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _check_unchanged(file: BinaryIO, info: ObjectInfo) -> None:
    if _info(info.location, os.fstat(file.fileno())) != info:
        raise RetryableError(f"{info.location.url}: the file changed while it was read")


def _info(location: Location, status: os.stat_result) -> ObjectInfo:
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    modified = _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
    return ObjectInfo(location, status.st_size, etag, modified)
