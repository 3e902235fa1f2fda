"""Fetching a media object: ranges in parallel into a file beside the target, which takes its place once verified.

Belongs here: that. Not here: requests (`calls`), or how parts are shared among threads (`parts`).
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exr_pipeline.client.answers import MediaObject, OnProgress, Progress
from exr_pipeline.client.calls import PASSING, Calls, accepted
from exr_pipeline.client.journal import Journal
from exr_pipeline.client.parts import BLOCK, Pause, do_parts
from exr_pipeline.errors import BadInputError, RetryableError

_PART: Final = 16 << 20
_ROUNDS: Final = 12
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Download:
    """A media object to be fetched into a file."""

    calls: Calls
    media: MediaObject
    path: Path
    pause: Pause
    report: OnProgress
    parallel: int
    direct: bool

    def run(self) -> None:
        """Fetch it, or what is missing of it, and put it in place if its SHA-256 is right."""
        size = self.media.size
        if self.media.status != "ready" or size is None:
            raise BadInputError(self.media.filename, f"not fetched: it is {self.media.status}, not ready")
        part = self.path.with_name(f".{self.path.name}.part")
        journal = Journal(self.path.with_name(f".{self.path.name}.part.json"))
        notes = journal.read()
        is_same = notes.get("media") == self.media.id and notes.get("size") == size and part.exists()
        notes = notes if is_same else {"media": self.media.id, "size": size, "done": []}
        file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | (0 if is_same else os.O_TRUNC), 0o666)
        try:
            ranges = _Ranges(self, file, notes, journal)
            missing = sorted(set(range(math.ceil(size / _PART))) - set(notes["done"]))
            do_parts(missing, ranges.fetch, self.pause, parallel=self.parallel)
            os.ftruncate(file, size)
            if self.media.sha256 is not None and self._sum(file) != self.media.sha256:
                journal.remove()
                raise RetryableError(f"{self.path}: its SHA-256 is not that of the catalog. Try again")
            os.fsync(file)
        finally:
            os.close(file)
        part.replace(self.path)
        journal.remove()

    def _sum(self, file: int) -> str:
        digest, offset = hashlib.sha256(), 0
        while block := os.pread(file, 4 * BLOCK, offset):
            digest.update(block)
            offset += len(block)
            self.report(Progress("verifying", offset, self.media.size or 0))
        return digest.hexdigest()


class _Ranges:
    """Fetches ranges of one version of a media object, and notes those that are on disk."""

    def __init__(self, download: Download, file: int, notes: dict[str, Any], journal: Journal) -> None:
        self._download, self._file, self._notes, self._journal = download, file, notes, journal
        self._size: int = notes["size"]
        self._lock = threading.Lock()
        self._link: str | None = None

    def fetch(self, number: int) -> None:
        """Fetch a range."""
        start = number * _PART
        end = min(start + _PART, self._size)
        wait, problem = _FIRST_WAIT, ""
        for _ in range(_ROUNDS):
            problem = self._try(start, end)
            if not problem:
                break
            self._download.calls.turn_to_next()
            self._download.pause.wait(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
        else:
            raise RetryableError(f"{self._download.path}: bytes {start} to {end} do not come: {problem}")
        with self._lock:
            self._notes["done"].append(number)
            self._journal.write(self._notes)
            done = min(len(self._notes["done"]) * _PART, self._size)
        self._download.report(Progress("fetching", done, self._size))

    def _try(self, start: int, end: int) -> str:
        """Fetch a range once, and say what went wrong."""
        import httpx

        calls, etag = self._download.calls, self._notes.get("etag")
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        try:
            link = self._store_link()
            # Stores know the one, and servers the other.
            headers |= {} if etag is None else {"If-Match" if link else "If-Range": etag}
            path = f"{self._download.media.content}?through=node"
            with calls.plain.stream("GET", link, headers=headers) if link else calls.stream(path, headers) as answer:
                if answer.status_code == 412 or (answer.status_code == 200 and end - start != self._size):
                    self._journal.remove()
                    raise BadInputError(str(self._download.path), "it was changed while it was fetched: fetch it again")
                if answer.status_code not in {200, 206}:
                    return self._of_error(answer, is_link=link is not None)
                with self._lock:
                    self._notes.setdefault("etag", answer.headers.get("ETag"))
                return self._write(answer, start, end)
        except httpx.TransportError as error:
            return type(error).__name__

    def _of_error(self, answer: Any, *, is_link: bool) -> str:
        answer.read()
        if not is_link and answer.status_code not in PASSING:
            accepted(answer, self._download.media.content)
        with self._lock:
            self._link = None
        return f"HTTP {answer.status_code}"

    def _write(self, answer: Any, start: int, end: int) -> str:
        for block in answer.iter_raw(BLOCK):
            self._download.pause.check()
            if start + len(block) > end:
                return "more bytes came than were asked for"
            start += os.pwrite(self._file, block, start)
        return "" if start == end else "fewer bytes came than were asked for"

    def _store_link(self) -> str | None:
        """A link to the store, where there is one."""
        if not self._download.direct:
            return None
        with self._lock:
            if self._link is None:
                answer = self._download.calls.ask("GET", self._download.media.content, headers={"Range": "bytes=0-0"})
                self._link = answer.headers.get("Location") if answer.status_code == 302 else ""
            return self._link or None
