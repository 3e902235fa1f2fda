"""Thumbnails, sheets and movies that were made, read-only: `/media/thumbnail/<partition key>` and the like.

Belongs here: which object such a link means, and its bytes over HTTP. Not here: access (`guard`), or what the page says
of pictures (`file_events`, `sequence_assets`).

A link names an asset and one of its partitions, so it stays the same wherever the page is served. It leads to what the
latest materialization says was made, if that is an output of this very source in a place where outputs go now: no link
can ask for anything else that the store, or this machine, holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final

import dagster as dg
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.products.registry import FILE_PRODUCTS, SEQUENCE_PRODUCTS
from exr_pipeline.storage.locations import OUTPUT_FOLDER, Location

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.storage.objects import ObjectStorage

_CHUNK: Final = 1 << 20
_LINK: Final = re.compile(r"/?(?P<asset>[a-z0-9_]+)/(?P<partition>[^/]+)(?:/(?P<part>[a-z]+))?")
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_TYPES: Final = {
    "jpg": "image/jpeg",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mkv": "video/matroska",
    "json": "application/json",
}
_HEADERS: Final = {
    # Enough for a browser's own viewer of pictures and movies.
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
    "Accept-Ranges": "bytes",
}


@dataclass(frozen=True, slots=True)
class _Linked:
    """Something to look at: the metadata entry that says where it lies, and how its name ends."""

    label: str
    name: re.Pattern[str]


def _linked(part: str, *endings: str) -> _Linked:
    named = "|".join(map(re.escape, endings))
    return _Linked(f"{part} uri".strip(), re.compile(f".+[_-](?:{named})"))


# By asset and part.
_LINKED: Final = {
    (product.asset, thing.part): _linked(thing.part, thing.ending)
    for product in FILE_PRODUCTS
    for thing in product.objects
} | {(product.asset, ""): _linked("", *product.endings) for product in SEQUENCE_PRODUCTS}


class Media:
    """An ASGI application that serves what was made of files and sequences."""

    def __init__(self, instance: dg.DagsterInstance, storage: ObjectStorage, settings: Settings) -> None:
        self._instance = instance
        self._storage = storage
        self._output_root = settings.output_root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except BadInputError as error:
            answer = PlainTextResponse(f"{error}\n", status_code=404)
        except (MisconfiguredError, RetryableError) as error:
            answer = PlainTextResponse(f"{error}\n", status_code=502)
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return PlainTextResponse("Media is read-only.\n", status_code=405, headers={"Allow": "GET, HEAD"})
        location = await run_in_threadpool(
            self._location, request.scope["path"].removeprefix(request.scope["root_path"])
        )
        if location is None:
            return PlainTextResponse("This link has no output.\n", status_code=404)
        info = await self._storage.head_async(location)
        return self._response(request, info)

    def _location(self, path: str) -> Location | None:
        """Where the object that a link means lies, or None."""
        link = _LINK.fullmatch(path)
        linked = _LINKED.get((link["asset"], link["part"] or "")) if link else None
        if link is None or linked is None:
            return None
        records = self._instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(link["asset"]), asset_partitions=[link["partition"]]), limit=1
        ).records
        made = records[0].asset_materialization if records else None
        value = made.metadata.get(linked.label) if made else None
        try:
            location = Location.from_url(str(value.value if value else ""))
        except MisconfiguredError:
            return None
        ours = linked.name.fullmatch(location.name) and self._is_output(
            location, Location.from_partition_key(link["partition"])
        )
        return location if ours else None

    def _is_output(self, location: Location, source: Location) -> bool:
        if any(part in {".", ".."} for part in location.key.split("/")):
            return False
        if self._output_root is None:
            return location.folder == source.folder.child(f"{OUTPUT_FOLDER}/")
        root = self._output_root.partition("{source}")[0]
        return Location.from_url(root, setting="EXR_PIPELINE_OUTPUT_ROOT").as_folder().holds(location)

    def _response(self, request: Request, info: ObjectInfo) -> Response:
        headers = {
            **_HEADERS,
            "ETag": f'"{info.etag}"',
            "Last-Modified": format_datetime(info.last_modified, usegmt=True),
            "Content-Type": _TYPES[info.location.name.rpartition(".")[2]],
        }
        if headers["ETag"] in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        try:
            wanted = _wanted_range(request, headers["ETag"], info.size)
        except ValueError:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{info.size}"})
        start, stop = wanted or (0, info.size)
        headers["Content-Length"] = str(stop - start)
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{info.size}"
        status = 206 if wanted else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return StreamingResponse(self._bytes(info, start, stop), status_code=status, headers=headers)

    async def _bytes(self, info: ObjectInfo, start: int, stop: int) -> AsyncIterator[bytes]:
        while start < stop:
            found, data = await self._storage.read_range_async(info.location, start, min(_CHUNK, stop - start))
            if found.etag != info.etag or not data:
                # The length is promised already: the browser sees an answer that breaks off, not one of two halves.
                raise RetryableError(f"{info.location.url}: the file changed while it was read")
            yield data
            start += len(data)


def _wanted_range(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """First byte and the one behind the last that are asked for; None for all, as for what HTTP lets us ignore.

    Raises `ValueError` if none of them exists.
    """
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None or found[0] == "bytes=-" or request.headers.get("If-Range", etag) != etag:
        return None
    if found[1]:
        start, stop = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
    else:
        start, stop = max(size - int(found[2]), 0), size
    if not 0 <= start < stop:
        raise ValueError(found[0])
    return start, stop
