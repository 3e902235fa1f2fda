"""Objects that are written in parts: in any order, again, by any process; there as a whole once they are completed.

Belongs here: what S3 calls a multipart upload, and the same for files of this machine: a hidden file next to the
target, and one rename. Not here: who remembers which parts have arrived (`catalog.transfers`).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.storage.local_files import path_of
from exr_pipeline.storage.local_folders import LinkInTheWayError, opened_folder
from exr_pipeline.storage.private_files import share_like_folder
from exr_pipeline.storage.store_errors import MissingObjectError, not_writable
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.objects import ObjectStorage

SMALLEST_PART: Final = 5 << 20
LARGEST_PART: Final = 512 << 20
MOST_PARTS: Final = 10_000
_LINK_SECONDS: Final = 3600
_CONNECT_SECONDS: Final = 5.0
_STALL_SECONDS: Final = 60.0
_NOT_WRITABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class Target:
    """Where an object is to be: `path` is its place below a root that the operator has named."""

    root: Location
    path: str

    @property
    def location(self) -> Location:
        """The object."""
        return self.root.child(self.path)


@dataclass(frozen=True, slots=True)
class Part:
    """A part that a store has: its number from 1 on, its size in bytes, and its entity tag."""

    number: int
    size: int
    etag: str


class GoneUploadError(BadInputError):
    """The store knows no such upload, or not those parts of it: it was aborted, or a part was replaced."""


class PartWriter:
    """Writes objects in parts, through one store's client. Safe to share between threads; `put` is for one event loop.

    Methods raise what those of `ObjectStorage` raise. Only S3 and files of this machine can be written so:
    `BadInputError` for others.
    """

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage
        self._http: httpx.AsyncClient | None = None

    def begin(self, target: Target, content_type: str) -> str:
        """Begin an upload and return its identifier."""
        if target.root.scheme == "file":
            upload_id = secrets.token_hex(16)
            with _folder(target, make=True) as folder:
                file = os.open(
                    _part_file(upload_id), os.O_CREAT | os.O_EXCL | os.O_WRONLY | _SAFE, 0o666, dir_fd=folder
                )
                share_like_folder(file, folder)
                os.close(file)
            return upload_id
        _check_s3(target)
        answer = self._call(target, "create_multipart_upload", ContentType=content_type)
        return str(answer["UploadId"])

    async def put(self, target: Target, upload_id: str, part: tuple[int, int, int], body: AsyncIterator[bytes]) -> str:
        """Write a part (its number, the place of its first byte in the object, its size) as it comes.

        Returns its entity tag, which is the MD5 sum of what came. A part that is torn is not stored.
        """
        number, offset, size = part
        md5 = hashlib.md5(usedforsecurity=False)

        async def whole() -> AsyncIterator[bytes]:
            left = size
            async for block in body:
                left -= len(block)
                if left < 0:
                    break
                md5.update(block)
                yield block
            if left:
                raise RetryableError(f"{target.location.url}: part {number} was not stored: it did not come whole")

        if target.root.scheme == "file":
            await _put_into_file(target, upload_id, offset, whole())
            return md5.hexdigest()
        url = self.sign_part(target, upload_id, number)
        import httpx

        try:
            answer = await self._client().put(url, content=whole(), headers={"Content-Length": str(size)})
        except httpx.HTTPError as error:
            raise RetryableError(
                f"{target.location.url}: part {number} was not stored: {type(error).__name__}"
            ) from None
        if answer.status_code != 200:
            if answer.status_code == 404:
                raise GoneUploadError(target.location.url, "the store does not know this upload any more")
            raise RetryableError(f"{target.location.url}: part {number} was not stored: HTTP {answer.status_code}")
        etag: str = answer.headers.get("etag", "").strip('"')
        # With keys of KMS it is another sum.
        if etag != md5.hexdigest() and "kms" not in answer.headers.get("x-amz-server-side-encryption", ""):
            raise RetryableError(f"{target.location.url}: part {number} was damaged on its way to the store")
        return etag

    def put_block(self, target: Target, upload_id: str, number: int, offset: int, block: bytes) -> str:
        """Write a part that is in memory. Returns its entity tag."""
        if target.root.scheme == "file":
            with _part_opened(target, upload_id) as file:
                _write_at(file, block, offset)
            return hashlib.md5(block, usedforsecurity=False).hexdigest()
        answer = self._call(target, "upload_part", UploadId=upload_id, PartNumber=number, Body=block)
        return str(answer["ETag"]).strip('"')

    def sign_part(self, target: Target, upload_id: str, number: int) -> str:
        """A URL with which anyone may PUT this part for an hour."""
        _check_s3(target)
        client, location = self._storage.s3_client(target.root), target.location
        params = {"Bucket": location.bucket, "Key": location.key, "UploadId": upload_id, "PartNumber": number}
        with self._storage.typed_errors(location, "write"):
            return str(client.generate_presigned_url("upload_part", Params=params, ExpiresIn=_LINK_SECONDS))

    def parts(self, target: Target, upload_id: str) -> list[Part]:
        """The parts that the store has, last sent last.

        Some stores list all that came under a number, and tell only seconds apart.
        """
        found: list[tuple[Any, Part]] = []
        position: dict[str, Any] = {}
        while True:
            answer = self._call(target, "list_parts", UploadId=upload_id, **position)
            for each in answer.get("Parts", ()):
                part = Part(each["PartNumber"], each["Size"], each["ETag"].strip('"'))
                found.append((each["LastModified"], part))
            if not answer.get("IsTruncated"):
                return [part for _, part in sorted(found, key=lambda each: each[0])]
            position = {"PartNumberMarker": answer["NextPartNumberMarker"]}

    def complete(self, target: Target, upload_id: str, parts: Sequence[Part]) -> None:
        """Make the object of these parts, which are all. Safe to repeat."""
        size = sum(part.size for part in parts)
        try:
            if target.root.scheme == "file":
                _rename_part_file(target, upload_id, size)
            else:
                listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
                self._call(target, "complete_multipart_upload", UploadId=upload_id, MultipartUpload={"Parts": listed})
        except GoneUploadError:
            with suppress(MissingObjectError):
                if self._storage.head(target.location).size == size:
                    return
            raise

    def abort(self, target: Target, upload_id: str) -> None:
        """Throw the parts of an upload away. Safe to repeat."""
        if target.root.scheme == "file":
            with suppress(FileNotFoundError), _folder(target, make=False) as folder:
                os.unlink(_part_file(upload_id), dir_fd=folder)
            return
        with suppress(GoneUploadError):
            self._call(target, "abort_multipart_upload", UploadId=upload_id)

    async def close(self) -> None:
        """Close connections."""
        if self._http is not None:
            await self._http.aclose()

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            import httpx

            # Its messages have whole URLs, and so the signatures in them.
            logging.getLogger("httpx").setLevel(logging.WARNING)
            timeout = httpx.Timeout(_STALL_SECONDS, connect=_CONNECT_SECONDS, pool=None)
            self._http = httpx.AsyncClient(timeout=timeout, limits=httpx.Limits(max_connections=None))
        return self._http

    def _call(self, target: Target, method: str, **parameters: Any) -> Any:
        from botocore.exceptions import ClientError

        location = target.location
        with self._storage.typed_errors(location, "write"):
            call = getattr(self._storage.s3_client(target.root), method)
            try:
                return call(Bucket=location.bucket, Key=location.key, **parameters)
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code")
                if code in {"NoSuchUpload", "InvalidPart"}:
                    raise GoneUploadError(location.url, f"the store does not know these parts ({code})") from None
                raise


_SAFE: Final = os.O_NOFOLLOW | os.O_CLOEXEC


def _check_s3(target: Target) -> None:
    if target.root.scheme != "s3":
        raise BadInputError(target.root.url, "only s3:// and file:// locations can be written in parts")


def _part_file(upload_id: str) -> str:
    return f".{upload_id}.part"


@contextmanager
def _folder(target: Target, *, make: bool) -> Iterator[int]:
    """A descriptor of the folder of a local target, through no link below the root."""
    parts = target.path.split("/")[:-1]
    try:
        with opened_folder(path_of(target.root), parts, make=make) as folder:
            yield folder
    except LinkInTheWayError as error:
        raise BadInputError(target.location.url, f"not written: {visible_line(str(error))} is a link") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _NOT_WRITABLE:
            raise not_writable(target.root.url, os.strerror(error.errno).lower()) from None
        raise RetryableError(f"{target.location.url}: not written: {error.strerror}") from error


@contextmanager
def _part_opened(target: Target, upload_id: str) -> Iterator[int]:
    try:
        with _folder(target, make=False) as folder:
            file = os.open(_part_file(upload_id), os.O_WRONLY | _SAFE, dir_fd=folder)
            try:
                yield file
            finally:
                os.close(file)
    except FileNotFoundError:
        raise GoneUploadError(target.location.url, "its parts are not there any more") from None


def _write_at(file: int, block: bytes, offset: int) -> None:
    view = memoryview(block)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


async def _put_into_file(target: Target, upload_id: str, offset: int, body: AsyncIterator[bytes]) -> None:
    with _part_opened(target, upload_id) as file:
        async for block in body:
            await asyncio.to_thread(_write_at, file, block, offset)
            offset += len(block)


def _rename_part_file(target: Target, upload_id: str, size: int) -> None:
    name = target.location.name
    try:
        with _folder(target, make=False) as folder:
            file = os.open(_part_file(upload_id), os.O_RDONLY | _SAFE, dir_fd=folder)
            try:
                if os.fstat(file).st_size != size:
                    raise RetryableError(f"{target.location.url}: its parts are not on this disk yet")
                os.fsync(file)
            finally:
                os.close(file)
            os.rename(_part_file(upload_id), name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
    except FileNotFoundError:
        raise GoneUploadError(target.location.url, "its parts are not there any more") from None
