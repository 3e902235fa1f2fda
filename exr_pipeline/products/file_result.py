"""What a run has made of one file.

Belongs here: the record of one file's products. Not here: making them (`ingest.chunk`), or rows and objects
(`ingest.store_results`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exr_pipeline.tables.specs import RETRYABLE

if TYPE_CHECKING:
    from exr_pipeline.footage import MediaProbe
    from exr_pipeline.inspection import Inspection, SourceFile, UnseenFile
    from exr_pipeline.pictures import RenderedPictures
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.tables.specs import State


@dataclass(slots=True)
class FileResult:
    """One file at the end of a run: its state, the reason if it is not ready, and what was made of it.

    `source` is the version that was found; None if the file could not be looked up, and then what the tables know of
    it. `inspection` is what is known of a picture, `media` of a movie or sound; both are None if it could not be read.
    `pictures` is what workers made of its pixels, None if none were wanted or made. `read` is what was made of its
    bytes, by the product's name. `stored` says where objects were put, by their name. `is_gone` says that there is no
    such file, `was_tried_alone` that its worker was lost a second time when no other was at work: there is no use in a
    third now. `error` is the kind of error of one that is not ready, and `traceparent` the trace that it belongs to.
    """

    location: Location
    state: State = RETRYABLE
    reason: str | None = None
    source: SourceFile | UnseenFile | None = None
    inspection: Inspection | None = None
    pictures: RenderedPictures | None = None
    media: MediaProbe | None = None
    read: dict[str, Any] = field(default_factory=dict)
    stored: dict[str, Location] = field(default_factory=dict)
    is_gone: bool = False
    was_tried_alone: bool = False
    error: str = ""
    traceparent: str | None = None
