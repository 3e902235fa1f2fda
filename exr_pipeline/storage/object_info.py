"""What a store says about an object, and a page of a listing.

Belongs here: the facts that every kind of storage answers with. Not here: asking for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from exr_pipeline.storage.locations import Location

# Is shown the bytes of an object, block by block, while they are read: in any object with the buffer protocol.
OnBlock = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One version of an object.

    `size` is in bytes. `etag`, without quotes, changes whenever the content does. `last_modified` is in UTC: whole
    seconds in a bucket (a listing and a request for one object differ in what follows them), microseconds for a file.
    """

    location: Location
    size: int
    etag: str
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of a listing. `last_key`, None if nothing was found, is where the next one goes on unless `done`."""

    objects: list[ObjectInfo]
    last_key: str | None
    done: bool
