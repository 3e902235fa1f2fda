"""The bytes of a media object as an answer: a link to object storage, a file of this machine, or a stream through here.

Belongs here: that, with ranges. Not here: who may have them (`catalog.assets`). Source: RFC 9110, 13 and 14.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from exr_pipeline.catalog.errors import NotFoundError
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.presigned import content_disposition, content_type, presigned_url
from exr_pipeline.storage.store_errors import MissingObjectError

if TYPE_CHECKING:
    from fastapi import Request

    from exr_pipeline.storage.objects import ObjectStorage

_LINK_SECONDS: Final = 900
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def content_of(
    storage: ObjectStorage, urls: Sequence[str], filename: str, request: Request, *, download: bool, is_linked: bool
) -> Response:
    """The answer with the bytes of the first of these places that has them. Raises `NotFoundError` if none has.

    `is_linked`: the caller may be sent to the store, rather than have all bytes go through this node.
    """
    for url in urls:
        location = Location.from_url(url)
        try:
            if location.scheme == "s3" and is_linked:
                link = presigned_url(storage, location, seconds=_LINK_SECONDS, download=download)
                return RedirectResponse(link, status_code=302)
            headers = {"Content-Disposition": content_disposition(location.name, download=download)}
            if location.scheme != "file":
                return _streamed(storage, location, request, headers)
        except MissingObjectError:
            continue
        if Path(location.path).is_file():
            return FileResponse(location.path, media_type=content_type(location.name), headers=headers)
    raise NotFoundError("content", filename)


def _streamed(storage: ObjectStorage, location: Location, request: Request, headers: dict[str, str]) -> Response:
    info = storage.head(location)
    etag = f'"{info.etag}"'
    headers |= {"ETag": etag, "Accept-Ranges": "bytes"}
    start, end, status = 0, info.size, 200
    if request.headers.get("if-range", etag) == etag and (wanted := _range(request, info.size)) is not None:
        start, end = wanted
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size}"
    headers["Content-Length"] = str(end - start)
    media_type = content_type(location.name)
    if start == end:
        return Response(b"", status, headers=headers, media_type=media_type)
    body = storage.stream_async(location, start, end - start)
    return StreamingResponse(body, status, headers=headers, media_type=media_type)


def _range(request: Request, size: int) -> tuple[int, int] | None:
    """Where the wanted range begins and ends. None for all of it: no range, several, or something else."""
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(size - int(found[2]), 0), size
    else:
        start = int(found[1])
        end = min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= size or start >= end:
        raise HTTPException(416, "the range lies behind the end", headers={"Content-Range": f"bytes */{size}"})
    return start, end
