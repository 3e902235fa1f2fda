"""What must hold for any bytes that are given to the parsers of headers, and how much work they may be.

Belongs here: the judgement of one input. Not here: where inputs come from (`seeds`, `mutations`, the fuzzer).
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.cineon import parse_cineon_header
from exr_pipeline.dpx import parse_dpx_header
from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import HeaderError, NeedMoreBytes, parse_header, validate, validate_chunk_offsets
from exr_pipeline.inspection import SourceFile, inspect_bytes, inspection_json
from exr_pipeline.storage.locations import Location

if TYPE_CHECKING:
    from collections.abc import Callable

# Calls of functions per byte of input and regardless of it; the worst input known (parts of nine bytes) takes 46.
CALLS_PER_BYTE: Final = 64
CALLS_AT_LEAST: Final = 10_000

# Without an extension, so that the bytes alone decide what it is.
_NAME: Final = "hostile"
_MTIME: Final = datetime(2026, 4, 2, 10, 11, 12, tzinfo=UTC)


def examine(data: bytes) -> str:
    """How the bytes of a whole file were taken: `accepted`, `rejected`, or `cut` if the header ends too early.

    Raises `AssertionError` for an answer that makes no sense, and whatever a parser raises that it must not.
    """
    _check_exr(data)
    _check_dpx(data)
    _check_cineon(data)
    location = Location("s3", "show", _NAME)
    source = SourceFile(location, len(data), _MTIME)
    try:
        inspection = inspect_bytes(data, source)
    except BadInputError as error:
        _check_rejection(error, data, location.url)
        return "cut" if "its header takes at least" in error.reason else "rejected"
    json.dumps(inspection_json(inspection), allow_nan=False).encode()
    return "accepted"


def _check_exr(data: bytes) -> None:
    try:
        header = parse_header(data, name=_NAME)
    except HeaderError as error:
        _check_error(error, data, _NAME)
        return
    written = header.to_bytes()
    assert data.startswith(written), "the header isn't written as it was read"
    assert header.size == len(written), "the header has another size than it says"
    findings = validate(header, file_size=len(data))
    assert [finding.severity for finding in findings] == sorted(finding.severity for finding in findings)
    assert all(len(finding.message) < 4096 for finding in findings), "a message as long as a file"
    if all(finding.severity == "warning" for finding in findings):
        findings += validate_chunk_offsets(header, data, file_size=len(data))


def _check_dpx(data: bytes) -> None:
    try:
        header = parse_dpx_header(data, name=_NAME, file_size=len(data))
    except HeaderError as error:
        _check_error(error, data, _NAME)
        return
    assert header.width > 0
    assert header.height > 0
    assert header.frame_rate is None or header.frame_rate > 0
    assert header.pixel_aspect_ratio is None or header.pixel_aspect_ratio > 0


def _check_cineon(data: bytes) -> None:
    try:
        header = parse_cineon_header(data, name=_NAME, file_size=len(data))
    except HeaderError as error:
        _check_error(error, data, _NAME)
        return
    assert header.width > 0
    assert header.height > 0
    assert len(set(header.components)) == len(header.elements)
    assert header.frame_rate is None or header.frame_rate > 0


def _check_error(error: HeaderError, data: bytes, name: str) -> None:
    assert error.name == name, "the error names another file"
    assert str(error).startswith(name)
    assert 0 <= error.offset <= max(len(data), 2048), "the error is beyond the file's end"
    if isinstance(error, NeedMoreBytes):
        assert error.needed > len(data), "more bytes are needed than there are, but there are as many"


def _check_rejection(error: BadInputError, data: bytes, name: str) -> None:
    assert not isinstance(error, NeedMoreBytes), "more bytes are needed than the file has"
    assert error.name == name
    if isinstance(error, HeaderError):
        _check_error(error, data, name)
    else:
        # What is another kind of file has no place where it is wrong.
        assert error.reason.startswith(("the file is empty", "not an ", "the extension is"))


def calls(work: Callable[[], Any]) -> int:
    """How many functions are called while `work` is done: its cost without a clock."""
    count = 0

    def called(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def examine_within_bounds(data: bytes) -> str:
    """`examine`, and whether it took no more than the input's size allows."""
    outcome = ""

    def work() -> None:
        nonlocal outcome
        outcome = examine(data)

    needed = calls(work)
    allowed = CALLS_AT_LEAST + CALLS_PER_BYTE * len(data)
    assert needed <= allowed, f"{needed} calls for {len(data)} bytes, more than {allowed}"
    return outcome
