"""What a function answers: one JSON object per object, with the fields of both functions that this one replaces.

Belongs here: the shape of answers. Not here: what is done (`work`). docs/functions.md lists the fields.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from exr_pipeline.inspection.json import SCHEMA_VERSION, inspection_json, printable
from exr_pipeline.products.registry import FILE_PRODUCTS
from exr_pipeline.tables.specs import READY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exr_pipeline.functions.events import Toggles
    from exr_pipeline.products.file_result import FileResult
    from exr_pipeline.storage.locations import Location

Status = Literal["success", "error", "skipped"]
# What users of the earlier functions know errors by; `rejected` is a file that cannot be read.
ErrorClass = Literal[
    "", "bad event", "rejected", "not found", "connection", "authentication", "transaction", "misconfigured"
]
Answer = dict[str, Any]

NOT_AVAILABLE: Final = "not available"
_RETRYABLE: Final[frozenset[ErrorClass]] = frozenset({"connection", "transaction"})


def skipped(location: Location | None, message: str) -> Answer:
    """The answer for what needs no work."""
    return _envelope(location, "skipped", message=message)


def failed(location: Location | None, error: str, kind: ErrorClass) -> Answer:
    """The answer for an object of which nothing was made, in the shape of all others."""
    answer = _envelope(location, "error", error=error, kind=kind)
    if is_retryable(answer):
        answer["persistence"] = persisted("error", file_id=None, error=printable(error))
    return answer


def is_retryable(answer: Answer) -> bool:
    """Whether the same event may succeed later."""
    return answer["error_class"] in _RETRYABLE


def one_answer(answers: Sequence[Answer]) -> Answer:
    """One answer for all objects of an event: that of the only one, else all `results` with the worst status."""
    if len(answers) == 1:
        return answers[0]
    statuses = [answer["status"] for answer in answers]
    worst = next((status for status in ("error", "success") if status in statuses), "skipped")
    return {"status": worst, "message": f"{len(answers)} objects", "results": list(answers)}


def made(result: FileResult, toggles: Toggles, persistence: Mapping[str, Any]) -> Answer:
    """The answer for a file that has ended as ready or rejected."""
    is_ready = result.state == READY
    kind: ErrorClass = "" if is_ready else "not found" if result.is_gone else "rejected"
    answer = _envelope(result.location, "success" if is_ready else "error", error=result.reason or "", kind=kind)
    if result.inspection is not None:
        whole = inspection_json(result.inspection)
        answer["file"] |= whole["file"]
        answer["validation"] = whole["validation"]
        if toggles.meta:
            answer |= {name: whole[name] for name in ("parts", "channels", "attributes")}
    elif result.source is not None:
        source = result.source
        answer["file"] |= {"file_id": source.file_id, "asset_id": source.asset_id, "etag": source.etag}
    answer |= _pictures(result)
    answer["file_id"] = None if result.source is None else result.source.file_id
    answer["asset_id"] = None if result.source is None else result.source.asset_id
    answer["persistence"] = {**answer["persistence"], **persistence}
    answer["inserted"] = answer["persistence"]["inserted"]
    if toggles.not_available:
        answer["errors"] = [*answer["errors"], NOT_AVAILABLE]
        answer["message"] = f"{', '.join(toggles.not_available)}: {NOT_AVAILABLE} in this version"
    return answer


def persisted(
    status: Status, *, file_id: str | None, inserted: bool = False, message: str = "", error: str = ""
) -> Answer:
    """What became of the rows."""
    return {"status": status, "file_id": file_id, "inserted": inserted, "message": message, "error": error or None}


def _pictures(result: FileResult) -> Answer:
    """The columns of pictures, under the names that the earlier function gave them."""
    row: dict[str, Any] = {}
    for product in FILE_PRODUCTS:
        if product.table == "proxy_outputs" and product.objects and result.pictures is not None:
            row |= product.row(result)
    answer = {name: value for name, value in row.items() if name.endswith("_size_bytes")}
    answer |= {f"{name}_key": printable(place.path) for name, place in result.stored.items()}
    if result.pictures is not None:
        answer["colorspace"] = result.pictures.provenance.source_color_space
        answer["processing_time_seconds"] = result.pictures.seconds
        answer["warnings"] = [printable(warning) for warning in result.pictures.warnings]
    return {"thumbnail_key": None, "proxy_key": None, **answer}


def _envelope(
    location: Location | None, status: Status, *, message: str = "", error: str = "", kind: ErrorClass = ""
) -> Answer:
    file: Answer = {}
    if location is not None:
        path = printable(location.path)
        file = {
            "path": path,
            "bucket": location.bucket,
            "uri": location.url,
            "s3_key": path,
            "s3_bucket": location.bucket,
        }
    return {
        "status": status,
        "file_id": None,
        "inserted": False,
        "message": printable(message),
        "error": printable(error) or None,
        "error_class": kind or None,
        "schema_version": SCHEMA_VERSION,
        "source_key": file.get("s3_key"),
        "file": file,
        "parts": [],
        "channels": [],
        "attributes": {"parts": []},
        "stats": {},
        "validation": {},
        "errors": [printable(error)] if error else [],
        "persistence": persisted("skipped", file_id=None),
        "timestamp": datetime.now(UTC).isoformat(),
    }
