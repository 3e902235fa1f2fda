"""The header of a file as a JSON object in storage, for programs that look for one next to the pictures.

Belongs here: what is in it, and what is left out if it would be too large. Not here: the form of a header in JSON
(`inspection.json`, `footage.model`), or that it is stored (`outputs`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.inspection.json import SCHEMA_VERSION, inspection_json, json_text, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from exr_pipeline.products.file_result import FileResult

# SpaceHarbor reads no larger one.
LARGEST_BYTES: Final = 2 << 20
_LONGEST_VALUE: Final = 4096

Document = dict[str, Any]


def sidecar(result: FileResult) -> bytes | None:
    """What is known of a file's header as a JSON object of at most `LARGEST_BYTES`; None if nothing is."""
    if result.inspection is not None:
        return bounded(inspection_json(result.inspection), LARGEST_BYTES)
    if result.media is None or result.source is None:
        return None
    source = result.source
    file = {
        "path": printable(source.location.path),
        "bucket": source.location.bucket,
        "uri": source.location.url,
        "size_bytes": source.size_bytes,
        "etag": source.etag,
        "file_id": source.file_id,
    }
    return bounded({"schema_version": SCHEMA_VERSION, "file": file, **result.media.to_json()}, LARGEST_BYTES)


def bounded(document: Document, limit: int) -> bytes:
    """The document in at most `limit` bytes, as far as `file` alone fits.

    If it is larger, these are left out one after the other until it fits, and `left_out` lists them: values of
    attributes beyond 4 KiB, which become null; all attributes; channels or streams; parts; everything but `file`.
    """
    left_out: list[str] = []
    for name, cut in _CUTS.items():
        data = json_text(document | {"left_out": left_out} if left_out else document).encode()
        if len(data) <= limit:
            return data
        document = cut(document)
        left_out.append(name)
    return json_text(document | {"left_out": left_out}).encode()


def _without_long_values(document: Document) -> Document:
    parts = [[_shortened(one) for one in part] for part in document.get("attributes", {}).get("parts", [])]
    return document | {"attributes": {"parts": parts}}


def _shortened(attribute: Document) -> Document:
    return attribute | {"value": None} if len(json_text(attribute["value"])) > _LONGEST_VALUE else attribute


def _without(*names: str) -> Callable[[Document], Document]:
    def cut(document: Document) -> Document:
        return {name: value for name, value in document.items() if name not in names}

    return cut


def _file_alone(document: Document) -> Document:
    return {name: document[name] for name in ("schema_version", "file")}


# In this order.
_CUTS: Final[dict[str, Callable[[Document], Document]]] = {
    "attributes longer than 4096 bytes": _without_long_values,
    "attributes": _without("attributes"),
    "channels": _without("channels", "streams"),
    "parts": _without("parts"),
    "everything but file": _file_alone,
}
