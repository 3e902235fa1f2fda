"""Presigned URLs: anyone who has one may GET that one object for a while, without keys.

Belongs here: what such a URL states and how long it may last. Not here: which object is meant (`ingest.deliverable`),
or signing (`storage.objects`).
"""

from __future__ import annotations

import re
from functools import cache
from mimetypes import MimeTypes
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.formats import MORE_MEDIA_TYPES
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.objects import ObjectStorage

DEFAULT_SECONDS: Final = 3600
# The longest that S3's signature version 4 allows.
MAX_SECONDS: Final = 7 * 24 * 3600

_ANY_TYPE: Final = "application/octet-stream"
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9._ -]")


def presigned_url(
    storage: ObjectStorage, location: Location, *, seconds: int = DEFAULT_SECONDS, download: bool = False
) -> str:
    """A URL that gets this object, and nothing else, for `seconds` from now.

    The answer has the media type of the name's extension, and the name to save it under. With `download`, browsers save
    it instead of showing it. URLs signed with temporary credentials end with these if that is earlier.

    Raises `BadInputError` for what is not in S3 or not there, `MisconfiguredError` for seconds that S3 does not allow,
    and what `ObjectStorage.head` raises.
    """
    if not 1 <= seconds <= MAX_SECONDS:
        raise MisconfiguredError(
            "--expires", f"a URL cannot be valid for {seconds} seconds", f"use 1 to {MAX_SECONDS} (7 days)"
        )
    if location.scheme == "file":
        raise BadInputError(location.path, "a local file, which has no URL to hand out: share the path")
    if location.scheme != "s3":
        raise BadInputError(location.url, "only objects in S3 can have a presigned URL")
    storage.head(location)
    return storage.sign_get(
        location,
        seconds=seconds,
        content_type=content_type(location.name),
        content_disposition=content_disposition(location.name, download=download),
    )


def content_type(name: str) -> str:
    """The media type of a file by its extension: of a picture, movie or sound, or else plain bytes."""
    found = _types().guess_type(f"x{_extension(name)}")[0] or _ANY_TYPE
    return found if found.startswith(("image/", "video/", "audio/")) else _ANY_TYPE


def content_disposition(name: str, *, download: bool) -> str:
    """The header that names what is saved (RFC 6266), for any name: it has no character that could end the header.

    Old clients get the name in ASCII. All others get all of it (RFC 8187), with what hides or turns text spelled out.
    """
    shown = visible_line(name)
    plain = _NOT_PLAIN.sub("_", shown)
    kind = "attachment" if download else "inline"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(shown, safe='')}"


def _extension(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:].lower() if dot >= 0 else ""


@cache
def _types() -> MimeTypes:
    """Python's own list, without that of the machine, which differs from one to the next."""
    types = MimeTypes()
    for extension, media_type in MORE_MEDIA_TYPES.items():
        types.add_type(media_type, extension)
    return types
