"""Headers to JSON on one core, of every kind of file in the sample show, beside OpenImageIO and OpenEXR.

Belongs here: the three ways to read a header. Not here: fetching it (`ingest`).
"""

from __future__ import annotations

import ctypes
import io
import json
import math
from contextlib import redirect_stdout
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from bench import predecessor
from bench.inputs import show_kinds
from bench.report import Report, Table
from bench.sides import Side, Work, started
from bench.size import Size

if TYPE_CHECKING:
    from collections.abc import Iterator

_LAYERS: Final = ("diffuse", "specular", "key", "fill", "rim", "normal", "motion")
_VALUES: Final = (0.25, "/show/seq010/sh0040/lighting/v012/scene.usd", 7, np.identity(4, np.float32))
_TURN_SECONDS: Final = 0.005
_MOST_CALLS: Final = 2000
_MTIME: Final = datetime(2026, 4, 2, 10, 11, 12, tzinfo=UTC)


def _keep_freed_memory() -> None:
    """Let a new process keep what it frees, as those do that have been at work for a while.

    Else, of large values, half of what is measured is giving memory back to the system and taking it again.
    """
    libc = ctypes.CDLL(None)
    # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h; other libraries have their own ways.
    if hasattr(libc, "mallopt"):
        libc.mallopt(-1, 1 << 28)
        libc.mallopt(-3, 1 << 25)


class _OneHeader(Work):
    """A way to read a header, which gets ready for each file once: turns follow each other as headers do."""

    def __init__(self) -> None:
        self.ready_for = ""
        _keep_freed_memory()

    def prepare(self, path: str, calls: int) -> None:
        """Get ready if this is another file than before."""
        if path != self.ready_for:
            self.load(path)
            self.ready_for = path

    def load(self, path: str) -> None:
        """Get ready."""
        raise NotImplementedError


class Inspect(_OneHeader):
    """`inspect_bytes` and its JSON, on the first 64 KB in memory, and on more if the header goes on."""

    def load(self, path: str) -> None:
        """The file's bytes in memory."""
        from exr_pipeline.ingest.read_header import FIRST_READ_BYTES
        from exr_pipeline.inspection import SourceFile
        from exr_pipeline.storage.locations import Location

        self.whole = Path(path).read_bytes()
        self.start = self.whole[:FIRST_READ_BYTES]
        self.source = SourceFile(Location("s3", "renders", Path(path).name), len(self.whole), _MTIME, "etag")

    def run(self, path: str, calls: int) -> None:
        """Parse, check, derive, write JSON."""
        from exr_pipeline.exr import NeedMoreBytes
        from exr_pipeline.inspection import inspect_bytes, inspection_json, json_text

        for _ in range(calls):
            data, inspection = self.start, None
            while inspection is None:
                try:
                    inspection = inspect_bytes(data, self.source)
                except NeedMoreBytes as more:
                    data = self.whole[: max(more.needed, len(data) + len(self.start))]
            self.json = json_text(inspection_json(inspection))

    def check(self, path: str, calls: int) -> str:
        """How it went."""
        return "read" if self.json else "refused"


class ParseOnly(_OneHeader):
    """`parse_header`, and JSON of every attribute of every part."""

    def load(self, path: str) -> None:
        """The file's bytes in memory."""
        from exr_pipeline.exr import MAGIC, MAX_HEADER_BYTES

        with Path(path).open("rb") as file:
            self.data = file.read(MAX_HEADER_BYTES)
        self.outcome = "read" if self.data.startswith(MAGIC) else "refused"

    def run(self, path: str, calls: int) -> None:
        """Parse, write JSON."""
        from exr_pipeline.exr import parse_header
        from exr_pipeline.inspection import attributes_json, json_text

        for _ in range(calls if self.outcome == "read" else 0):
            parts = parse_header(self.data, name=path).parts
            self.json = json_text(attributes_json(part.attributes for part in parts))

    def check(self, path: str, calls: int) -> str:
        """How it went."""
        return self.outcome


class OpenImageIO(_OneHeader):
    """The predecessor: the first 256 KB into a temporary file, opened with OpenImageIO."""

    def load(self, path: str) -> None:
        """Whether the library takes the first 256 KB at all; if not, it gets the whole file, already on disk."""
        self.path = Path(path)
        self.start = self.path.read_bytes()[: predecessor.RANGE_BYTES]
        self.outcome = "read"
        try:
            predecessor.header_json_of_bytes(self.start)
        except predecessor.RefusedError:
            self.outcome = "whole file"
            try:
                predecessor.header_json(self.path)
            except predecessor.RefusedError:
                self.outcome = "refused"

    def run(self, path: str, calls: int) -> None:
        """Write, open, ask for everything, write JSON."""
        for _ in range(calls if self.outcome != "refused" else 0):
            if self.outcome == "read":
                predecessor.header_json_of_bytes(self.start)
            else:
                predecessor.header_json(self.path)

    def check(self, path: str, calls: int) -> str:
        """How it went."""
        return self.outcome


class OpenEXR(_OneHeader):
    """The OpenEXR library's own binding, on the whole file in memory."""

    def load(self, path: str) -> None:
        """Whether the library takes the file."""
        self.data = Path(path).read_bytes()
        self.outcome = "read"
        try:
            self._json()
        except (RuntimeError, ValueError, TypeError):
            self.outcome = "refused"

    def _json(self) -> str:
        import OpenEXR as Library

        # It tells of attributes that it can't read on standard output.
        with redirect_stdout(io.StringIO()), Library.File(io.BytesIO(self.data), header_only=True) as file:
            return json.dumps([part.header for part in file.parts], default=str)

    def run(self, path: str, calls: int) -> None:
        """Open, take every part's header, write JSON."""
        for _ in range(calls if self.outcome != "refused" else 0):
            self._json()

    def check(self, path: str, calls: int) -> str:
        """How it went."""
        return self.outcome


def large_headers() -> Iterator[tuple[str, bytes]]:
    """Kinds of header that the show is too small for: what they hold, and a file of few pixels."""
    import OpenEXR as Library

    from exr_pipeline.sample.writers import ExrPart, exr_bytes

    pixels = np.zeros((16, 16), np.float16)
    names = [f"{layer}.{component}" for layer in ("rgba", *_LAYERS) for component in "RGB"]
    manifest = json.dumps({f"/world/forest/tree_{index:05d}/leaves": f"{index:08x}" for index in range(4000)})
    preview = Library.PreviewImage(128, 72)
    kinds: dict[str, list[ExrPart]] = {
        "24 channels": [ExrPart(dict.fromkeys(names, pixels))],
        "24 channels in 8 parts": [
            ExrPart({f"{layer}.{component}": pixels for component in "RGB"}, name=layer) for layer in ("rgba", *_LAYERS)
        ],
        "200 attributes": [ExrPart({"Y": pixels}, attributes={f"render/{i}": _VALUES[i % 4] for i in range(200)})],
        f"Cryptomatte manifest of {len(manifest) >> 10} KiB": [
            ExrPart({"Y": pixels}, attributes={"cryptomatte/1a2b3c4/manifest": manifest})
        ],
        "preview of 128x72": [ExrPart({"Y": pixels}, attributes={"preview": preview})],
    }
    for kind, parts in kinds.items():
        yield kind, exr_bytes(parts)


def run(size: Size, folder: Path) -> Report:
    """Every kind in turn, all sides on each."""
    rounds = size.files or size.rounds(45)
    sides = [
        Side("parse", ParseOnly),
        Side("inspect", Inspect),
        Side("OpenImageIO", OpenImageIO),
        Side("OpenEXR", OpenEXR),
    ]
    measured: list[tuple[str, list[float | None]]] = []
    with started(sides):
        shown = ((facts.kind, facts.format, data) for facts, data in show_kinds())
        large = ((kind, "exr", data) for kind, data in large_headers())
        limit = 2 if size.tiny else None
        for index, (kind, extension, data) in enumerate(chain(islice(shown, limit), islice(large, limit))):
            path = folder / f"{index:02d}.{extension}"
            path.write_bytes(data)
            measured.append((kind, _microseconds(sides, str(path), rounds)))
    pairs = [(ours, theirs) for ours in (0, 1) for theirs in (2, 3)]
    per_kind = [(kind, [_ratio(times[theirs], times[ours]) for ours, theirs in pairs]) for kind, times in measured]
    columns = [[ratios[pair] for _, ratios in per_kind] for pair in range(len(pairs))]
    known = [[ratio for ratio in column if ratio is not None] for column in columns]
    ratios = Table(
        [
            "kind of file",
            "parse, x faster than OpenImageIO",
            "parse, x OpenEXR",
            "inspect, x OpenImageIO",
            "inspect, x OpenEXR",
        ]
    )
    ratios.add("least of all kinds", *map(min, known))
    ratios.add("median of all kinds", *map(median, known))
    figures = Table(["kind of file", *(f"{side.name}, µs" for side in sides)])
    for kind, row in per_kind:
        ratios.add(kind, *row)
    for kind, times in measured:
        figures.add(kind, *times)
    return Report(
        "headers",
        "One header to JSON, one core, bytes in memory. *parse*: every attribute, without loss, which is what the "
        "libraries are asked for too; from call to call only names and types of attributes and channels are "
        "remembered, no values, and all but OpenEXR write JSON "
        "with orjson. *inspect*: what the command `inspect --json` says, so also checks, derived "
        "facts and the header's hash. OpenImageIO gets the bytes as the predecessors give them to it: the first 256 KB "
        "in a temporary file. OpenEXR: `OpenEXR.File(BytesIO, header_only=True)`. All keep the memory that they free. "
        f"x: times faster. Of the best of {rounds} short turns: what else the machine does only adds.",
        ratios,
        figures,
        [
            "–: that side does not read the file at all (*parse* is of EXR only).",
            *(f"Peak memory of {side.name}: {side.peak_mib:.0f} MiB." for side in sides),
        ],
    )


def _microseconds(sides: list[Side], path: str, rounds: int) -> list[float | None]:
    """Per header and side, of the best turn: what else the machine does only adds. Turns repeat it for some 5 ms."""
    calls = [_calls(side, path) for side in sides]
    turns: list[list[float]] = [[] for _ in sides]
    refused = [side.ask(path, 1).value == "refused" for side in sides]
    for _ in range(rounds):
        for side, count, seconds in zip(sides, calls, turns, strict=True):
            seconds.append(side.ask(path, count).seconds / count)
    return [None if is_refused else 1e6 * min(seconds) for is_refused, seconds in zip(refused, turns, strict=True)]


def _calls(side: Side, path: str) -> int:
    """How many calls take as long as a turn. The first ones take longer than those that follow them."""
    calls = 1
    for _ in range(3):
        seconds = side.ask(path, calls).seconds / calls
        calls = min(math.ceil(_TURN_SECONDS / max(seconds, 1e-6)), _MOST_CALLS)
    return calls


def _ratio(theirs: float | None, ours: float | None) -> float | None:
    return None if theirs is None or ours is None else theirs / ours
