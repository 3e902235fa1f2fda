"""Reading, writing and listing objects in S3, Google Cloud, Azure and local folders.

Belongs here: requests, and what they promise. Not here: what names mean (`storage.locations`) or bytes contain.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import UTC, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.settings import Settings
from exr_pipeline.storage.local_files import LocalFiles, path_of
from exr_pipeline.storage.locations import Location, Scheme
from exr_pipeline.storage.object_info import ObjectInfo, OnBlock, Page
from exr_pipeline.storage.store_errors import (
    Action,
    MissingObjectError,
    http_status,
    typed_errors,
    wrong_bucket_name,
)
from exr_pipeline.storage.verify import is_sum_of

if TYPE_CHECKING:
    from obstore import Bytes, GetOptions, GetResult, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

__all__ = ["ObjectInfo", "ObjectStorage", "Page"]

_CONNECT_SECONDS: Final = 5
_STALL_SECONDS: Final = 30
# It includes all of the answer, and a large movie may flow for hours: what has to end soon is a stall.
_REQUEST_SECONDS: Final = 86_400
_LIST_REQUEST: Final = 1000
_CHUNK: Final = 4 << 20
_BLOCK: Final = 1 << 20
# Names, and ARNs of access points.
_BUCKET: Final = re.compile(r"[A-Za-z0-9._:-]+")

P = ParamSpec("P")
T = TypeVar("T")


class ObjectStorage:
    """All object storage that the settings give access to. Safe to share between threads, not across a fork.

    Every method raises `BadInputError` for an object that is missing (`MissingObjectError`), may not be read or can't
    have its name, `MisconfiguredError` for a missing bucket or wrong credentials, and `RetryableError` where the store
    does not answer. Requests are retried for a few seconds before that. The `…_async` methods are the same ones for a
    running event loop: `settings.fetches` at a time in threads, but for `read_range_async` in buckets, of which
    thousands may be in flight without any.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        stall_seconds: float = _STALL_SECONDS,
        request_seconds: float = _REQUEST_SECONDS,
    ) -> None:
        self._settings = settings
        self._stall_seconds = stall_seconds
        self._request_seconds = request_seconds
        self._stores: dict[tuple[Scheme, str], ObjectStore] = {}
        self._boto3_clients: dict[str, Any] = {}
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(max(settings.fetches, 4), thread_name_prefix="objects")
        self.local = LocalFiles(_local_roots(settings), keep_inside=settings.local_links == "inside")

    def head(self, location: Location) -> ObjectInfo:
        """Facts of an object."""
        if location.scheme == "file":
            return self.local.head(location)
        import obstore

        with self.typed_errors(location, "read"):
            store, path = self._store(location), _path(location)
            try:
                return _info(location, obstore.head(store, path))
            except (obstore.exceptions.BaseError, FileNotFoundError) as error:
                # The answer to a HEAD has no body to say whether the object or the bucket or the key is at fault.
                if http_status(error, location) not in {400, 403, 404}:
                    raise
                return _info(location, obstore.get(store, path).meta)

    def read(self, location: Location) -> tuple[ObjectInfo, bytes]:
        """A whole object and its facts, of one version."""
        if location.scheme == "file":
            return self.local.read_range(location, 0, None)
        import obstore

        with self.typed_errors(location, "read"):
            found = obstore.get(self._store(location), _path(location))
            return _info_and_bytes(location, found, found.bytes())

    def read_range(self, location: Location, start: int, length: int) -> tuple[ObjectInfo, bytes]:
        """At most `length` bytes from `start` on and facts of the same version, in one request.

        Fewer bytes where the object ends; none at all, and then two requests, if it ends at or before `start`.
        """
        if start < 0 or length < 1:
            raise ValueError(f"range of {length} bytes from {start}")
        if location.scheme == "file":
            return self.local.read_range(location, start, length)
        import obstore

        with self.typed_errors(location, "read"):
            try:
                found = obstore.get(self._store(location), _path(location), options={"range": (start, start + length)})
                return _info_and_bytes(location, found, found.bytes())
            except obstore.exceptions.BaseError as error:
                if http_status(error, location) != 416:
                    raise
        info = self.head(location)
        if info.size > start:
            raise RetryableError(f"{location.url}: the file changed while it was read")
        return info, b""

    def download(self, location: Location, path: Path, *, on_block: OnBlock | None = None) -> ObjectInfo:
        """Stream an object, of one version, into a file. Nothing is left at `path` after an error.

        `on_block` is shown each block of its bytes, in order.
        """
        try:
            if location.scheme == "file":
                return self.local.copy_to(location, path, on_block=on_block)
            import obstore

            with self.typed_errors(location, "read"):
                found = obstore.get(self._store(location), _path(location))
                info = _info(location, found.meta)
                with path.open("wb") as file:
                    written = 0
                    for chunk in found.stream(min_chunk_size=_CHUNK):
                        written += file.write(chunk)
                        if on_block is not None:
                            on_block(chunk)
            _check_length(location, written, info.size)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return info

    def read_through(self, location: Location, *, on_block: OnBlock) -> ObjectInfo:
        """Show `on_block` each block of an object, of one version, in order."""
        if location.scheme == "file":
            return self.local.read_through(location, on_block=on_block)
        import obstore

        with self.typed_errors(location, "read"):
            found = obstore.get(self._store(location), _path(location))
            info, size = _info(location, found.meta), 0
            for block in found.stream(min_chunk_size=_BLOCK):
                size += len(block)
                on_block(block)
        _check_length(location, size, info.size)
        return info

    async def stream_async(self, location: Location, start: int, length: int) -> AsyncIterator[bytes]:
        """`length` bytes of an object in a bucket from `start` on, block by block."""
        import obstore

        with self.typed_errors(location, "read"):
            options: GetOptions = {"range": (start, start + length)}
            found = await obstore.get_async(self._store(location), _path(location), options=options)
            async for block in found.stream(min_chunk_size=_BLOCK):
                yield bytes(block)

    def write(self, location: Location, data: bytes | Path, *, content_type: str, tags: Mapping[str, str]) -> None:
        """Store an object with its Content-Type and its tags: bytes in one request, a local file in several if large.

        It is there as a whole or not at all.
        Google Cloud has no tags: they become user metadata. A local file has neither: only its bytes are stored.
        Raises `RetryableError` where S3's answer is not the store's: where its entity tag is not the MD5 sum of the
        bytes, as with keys of KMS, the object is looked at.
        """
        if location.scheme == "file":
            self.local.write(location, data)
            return
        import obstore

        attributes = {"Content-Type": content_type} | (dict(tags) if location.scheme == "gs" else {})
        with self.typed_errors(location, "write"):
            stored = obstore.put(
                self._store(location),
                _path(location),
                data,
                attributes=attributes,
                tags=None if location.scheme == "gs" else dict(tags),
                # A file takes parts if it is larger than one.
                use_multipart=None if isinstance(data, Path) else False,
            )
        etag = (stored["e_tag"] or "").strip('"')
        if location.scheme == "s3" and not is_sum_of(etag, data):
            self._check_stored(location, etag, data.stat().st_size if isinstance(data, Path) else len(data))

    def _check_stored(self, location: Location, etag: str, size: int) -> None:
        """Raise `RetryableError` if what answered a write was not the store, as the login page of a hotel's network."""
        try:
            found = self.head(location)
        except MissingObjectError:
            found = None
        if found is None or found.size != size or found.etag != etag:
            raise RetryableError(f"{location.url}: the store confirmed the write but does not have the object")

    def sign_get(self, location: Location, *, seconds: int, content_type: str, content_disposition: str) -> str:
        """A URL with which anyone may GET this object of S3 for so long. The store is not asked.

        The answer has these two headers: they are signed too. By boto3, because obstore cannot sign them.
        """
        if location.scheme != "s3":
            raise ValueError(f"{location.url} is not in S3")
        client = self.s3_client(location)
        with self.typed_errors(location, "read"):
            url: str = client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": location.bucket,
                    "Key": _path(location),
                    "ResponseContentType": content_type,
                    "ResponseContentDisposition": content_disposition,
                },
                ExpiresIn=seconds,
            )
        return url

    def delete(self, location: Location) -> None:
        """Remove an object if it is there."""
        if location.scheme == "file":
            self.local.delete(location)
            return
        import obstore

        path = _path(location)
        try:
            with self.typed_errors(location, "delete"):
                obstore.delete(self._store(location), path)
        except BadInputError:
            # What the store would not take under this key isn't there.
            return

    def check_writable(self, folder: Location) -> None:
        """Write a small object into a folder and remove it. Raises what `write` and `delete` do.

        A local folder that was made for it is removed too.
        """
        probe = folder.child(f".exr_pipeline_{secrets.token_hex(8)}")
        made = self.local_path(folder)
        is_new = made is not None and not made.exists()
        try:
            self.write(probe, b"", content_type="application/octet-stream", tags={})
            self.delete(probe)
        finally:
            if is_new and made is not None:
                with suppress(OSError):
                    made.rmdir()

    def list_page(self, prefix: Location, *, after: str | None, limit: int) -> Page:
        """At most `limit` objects below a folder, behind the key `after` (a `last_key`, which need not exist any more).

        The order is the store's own: of the keys' bytes in most, of a depth-first walk in stores that keep folders
        (there `a b/x` follows `a/x`). So compare no keys to see how far a listing is, just hand `last_key` back.
        """
        if limit < 1:
            raise ValueError(f"limit of {limit} objects")
        if prefix.scheme == "s3":
            objects: list[ObjectInfo] = []
            done = False
            for batch, is_last in self._list_s3(prefix, after, limit):
                objects += batch
                done = is_last
        else:
            # One more than asked for tells whether there is more.
            objects = list(islice(self._list(prefix, after, at_once=min(limit + 1, _LIST_REQUEST)), limit + 1))
            done = len(objects) <= limit
            del objects[limit:]
        return Page(objects, objects[-1].location.key if objects else None, done)

    def iter_objects(self, prefix: Location) -> Iterator[ObjectInfo]:
        """Every object below a folder, at any depth."""
        if prefix.scheme == "s3":
            for batch, _ in self._list_s3(prefix, None, None):
                yield from batch
        else:
            yield from self._list(prefix, None)

    def local_path(self, location: Location) -> Path | None:
        """The path of a local file, so that it is read in place; None for an object in a bucket."""
        return path_of(location) if location.scheme == "file" else None

    async def head_async(self, location: Location) -> ObjectInfo:
        """`head` for a running event loop."""
        return await self._in_thread(self.head, location)

    async def read_async(self, location: Location) -> tuple[ObjectInfo, bytes]:
        """`read` for a running event loop."""
        return await self._in_thread(self.read, location)

    async def read_range_async(self, location: Location, start: int, length: int) -> tuple[ObjectInfo, bytes]:
        """`read_range` for a running event loop, without a thread: how many are in flight is the caller's affair."""
        if location.scheme == "file":
            return await self._in_thread(self.read_range, location, start, length)
        import obstore

        with self.typed_errors(location, "read"):
            try:
                found = await obstore.get_async(
                    self._store(location), _path(location), options={"range": (start, start + length)}
                )
                return _info_and_bytes(location, found, await found.bytes_async())
            except obstore.exceptions.BaseError as error:
                if http_status(error, location) != 416:
                    raise
        return await self._in_thread(self.read_range, location, start, length)

    async def download_async(self, location: Location, path: Path, *, on_block: OnBlock | None = None) -> ObjectInfo:
        """`download` for a running event loop; `on_block` is called in another thread."""
        return await self._in_thread(partial(self.download, on_block=on_block), location, path)

    async def read_through_async(self, location: Location, *, on_block: OnBlock) -> ObjectInfo:
        """Show `on_block`, in another thread, each block of a local file."""
        return await self._in_thread(partial(self.local.read_through, on_block=on_block), location)

    async def write_async(
        self, location: Location, data: bytes | Path, *, content_type: str, tags: Mapping[str, str]
    ) -> None:
        """`write` for a running event loop."""
        await self._in_thread(partial(self.write, content_type=content_type, tags=tags), location, data)

    async def delete_async(self, location: Location) -> None:
        """`delete` for a running event loop."""
        await self._in_thread(self.delete, location)

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    def _list(self, prefix: Location, after: str | None, *, at_once: int = _LIST_REQUEST) -> Iterator[ObjectInfo]:
        if prefix.scheme == "file":
            yield from self.local.list_files(prefix, after, at_once=at_once)
            return
        import obstore

        with self.typed_errors(prefix, "list"):
            for batch in obstore.list(
                self._store(prefix), _path(prefix) or None, offset=after, chunk_size=_LIST_REQUEST
            ):
                for meta in batch:
                    yield _info(Location(prefix.scheme, prefix.bucket, meta["path"]), meta)

    def _list_s3(
        self, prefix: Location, after: str | None, limit: int | None
    ) -> Iterator[tuple[list[ObjectInfo], bool]]:
        """Batches of a listing, each with whether it is the last there is.

        By boto3: obstore fails on the whole listing if one key in it has an empty component or a control character.
        """
        folder = prefix.key if not prefix.key or prefix.key.endswith("/") else f"{prefix.key}/"
        position = {"StartAfter": after} if after else {}
        while limit is None or limit > 0:
            with self.typed_errors(prefix, "list"):
                answer = self._boto3_client("auto").list_objects_v2(
                    Bucket=prefix.bucket,
                    Prefix=folder,
                    MaxKeys=_LIST_REQUEST if limit is None else min(limit, _LIST_REQUEST),
                    **position,
                )
            batch = [
                ObjectInfo(
                    Location("s3", prefix.bucket, entry["Key"]),
                    entry["Size"],
                    entry["ETag"].strip('"'),
                    entry["LastModified"].astimezone(UTC).replace(microsecond=0),
                )
                for entry in answer.get("Contents", ())
            ]
            done = not answer.get("IsTruncated")
            yield batch, done
            if done:
                return
            position = {"ContinuationToken": answer["NextContinuationToken"]}
            limit = None if limit is None else limit - len(batch)

    def s3_client(self, location: Location) -> Any:
        """boto3's client for a bucket: for what obstore cannot do, inside `typed_errors`."""
        # Not "auto": that names no region, so that S3 sends clients elsewhere, where the signature does not hold.
        # A certificate for *.s3.amazonaws.com does not hold for a bucket with a dot.
        return self._boto3_client("path" if "." in location.bucket else "virtual")

    def typed_errors(self, location: Location, action: Action) -> AbstractContextManager[None]:
        """Replaces what obstore and boto3 raise inside by this project's errors."""
        return typed_errors(location, action, self._settings.s3_endpoint if location.scheme == "s3" else None)

    def _store(self, location: Location) -> "ObjectStore":
        key = (location.scheme, location.bucket)
        with self._lock:
            if key not in self._stores:
                self._stores[key] = self._open(location)
            return self._stores[key]

    def _open(self, location: Location) -> "ObjectStore":
        import obstore
        from obstore.store import AzureStore, GCSStore

        if location.scheme == "s3":
            return self._open_s3(location.bucket)
        try:
            if location.scheme == "gs":
                return GCSStore(location.bucket, client_options=self._client(), retry_config=self._retries())
            return AzureStore(location.bucket, client_options=self._client(), retry_config=self._retries())
        except (obstore.exceptions.BaseError, ValueError):
            setting = "GOOGLE_APPLICATION_CREDENTIALS" if location.scheme == "gs" else "AZURE_STORAGE_ACCOUNT_NAME"
            raise MisconfiguredError(
                setting, f"cannot set up access to {location.scheme}://{location.bucket}", f"set {setting}"
            ) from None

    def _open_s3(self, bucket: str) -> "ObjectStore":
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.store import S3Store

        # obstore panics at one that makes no URL.
        if not _BUCKET.fullmatch(bucket):
            raise wrong_bucket_name(Location("s3", bucket, ""))
        session = aws_session(self._settings)
        if session.get_credentials() is None:
            raise MisconfiguredError(
                "S3_ACCESS_KEY", "no credentials were found", "set S3_ACCESS_KEY and S3_SECRET_KEY, or an AWS profile"
            )
        endpoint = self._endpoint()
        # Keys come from a provider, even constant ones: else obstore would add a session token of the environment.
        return S3Store(
            bucket,
            region=session.region_name,
            credential_provider=Boto3CredentialProvider(session),
            virtual_hosted_style_request=endpoint is None and "." not in bucket,
            client_options=self._client(),
            retry_config=self._retries(),
            config={"endpoint": endpoint} if endpoint else None,
        )

    def _boto3_client(self, addressing: Literal["auto", "virtual", "path"]) -> Any:
        from botocore.config import Config

        with self._lock:
            if addressing not in self._boto3_clients:
                self._boto3_clients[addressing] = aws_session(self._settings).client(
                    "s3",
                    endpoint_url=self._endpoint(),
                    config=Config(
                        # Else URLs are signed as S3 did before 2014: without a bound, and for any response.
                        signature_version="s3v4",
                        connect_timeout=_CONNECT_SECONDS,
                        read_timeout=self._stall_seconds,
                        retries={"mode": "standard", "total_max_attempts": self._settings.request_retries + 1},
                        # Else the parts of an upload, which are sent by others too, would need boto3's own sum.
                        request_checksum_calculation="when_required",
                        s3={"addressing_style": "path" if self._endpoint() else addressing},
                    ),
                )
            return self._boto3_clients[addressing]

    def _endpoint(self) -> str | None:
        endpoint = self._settings.s3_endpoint
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise MisconfiguredError("S3_ENDPOINT", "not a valid URL", "write https://host or http://host:port")
        return endpoint

    def _client(self) -> "ClientConfig":
        return {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            "read_timeout": timedelta(seconds=self._stall_seconds),
            "timeout": timedelta(seconds=self._request_seconds),
        }

    def _retries(self) -> "RetryConfig":
        return {
            "max_retries": self._settings.request_retries,
            "retry_timeout": timedelta(seconds=self._stall_seconds),
            "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=3), "base": 2},
        }


def aws_session(settings: Settings) -> Any:
    """A session of boto3 with the standard AWS chain, or the keys or the profile of the settings.

    Raises `MisconfiguredError` if only one key is set, or there is no such profile.
    """
    access, secret = settings.s3_access_key, settings.s3_secret_key
    if (access is None) != (secret is None):
        missing = "S3_ACCESS_KEY" if access is None else "S3_SECRET_KEY"
        raise MisconfiguredError(
            missing, "only one of the two keys is set", "set both, or neither to use AWS's credential chain"
        )
    token, profile = settings.s3_session_token, None if access else settings.s3_profile
    # A region that nobody chose must not hide that of the AWS profile.
    region = settings.s3_region
    if "s3_region" not in settings.model_fields_set:
        region = _session_of(profile).region_name or region
    return _session_of(
        profile,
        aws_access_key_id=access.get_secret_value() if access else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        aws_session_token=token.get_secret_value() if access and token else None,
        region_name=region,
    )


def _session_of(profile: str | None, **options: str | None) -> Any:
    import boto3
    from botocore.exceptions import ProfileNotFound

    try:
        return boto3.Session(profile_name=profile, **options)
    except ProfileNotFound:
        if profile is None:
            raise
        raise MisconfiguredError(
            "S3_PROFILE", f"the AWS configuration has no profile {profile!r}", "correct it, or unset it"
        ) from None


def _local_roots(settings: Settings) -> list[Location]:
    """The local folders that the settings name."""
    urls = [*settings.sources, (settings.output_root or "").partition("{source}")[0]]
    roots = []
    for url in urls:
        if url.startswith("file://"):
            # A wrong URL is an error where it is used.
            with suppress(MisconfiguredError):
                roots.append(Location.from_url(url))
    return roots


def _path(location: Location) -> str:
    """The key, where obstore can ask for it: it would silently ask for another one, or for none."""
    if location.key and any(part in {"", ".", ".."} for part in location.key.split("/")):
        raise BadInputError(location.url, "not readable: the key has an empty, . or .. component")
    if any(character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in location.key):
        raise BadInputError(location.url, "not readable: the key has control characters")
    return location.key


def _info(location: Location, meta: "ObjectMeta") -> ObjectInfo:
    modified = meta["last_modified"].astimezone(UTC).replace(microsecond=0)
    etag = meta["e_tag"] or f"{modified.isoformat()}-{meta['size']}"
    return ObjectInfo(location, meta["size"], etag.strip('"'), modified)


def _info_and_bytes(location: Location, found: "GetResult", body: "Bytes") -> tuple[ObjectInfo, bytes]:
    start, end = found.range
    data = bytes(body)
    _check_length(location, len(data), end - start)
    return _info(location, found.meta), data


def _check_length(location: Location, got: int, expected: int) -> None:
    if got != expected:
        raise RetryableError(f"{location.url}: only {got} of {expected} bytes were received")
