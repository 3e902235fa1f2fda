"""Sending a file: parts in parallel, its SHA-256 beside them, and a journal to go on from.

Belongs here: that. Not here: requests (`calls`), or how parts are shared among threads (`parts`).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from exr_pipeline.client.answers import OnProgress, Progress, Transfer
from exr_pipeline.client.calls import Calls, RefusedError
from exr_pipeline.client.journal import Journal
from exr_pipeline.client.parts import BLOCK, Pause, do_parts
from exr_pipeline.errors import BadInputError, RetryableError

_ROUNDS: Final = 5
_LINKS_AT_ONCE: Final = 100
_FIRST_LOOK: Final = 0.1
_LONGEST_LOOK: Final = 2.0


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be sent to an asset as a media object."""

    calls: Calls
    path: Path
    wanted: Mapping[str, Any]
    journal: Journal
    pause: Pause
    report: OnProgress
    parallel: int
    direct: bool

    def run(self) -> Transfer:
        """Send it, or what is missing of it, and wait until it is verified."""
        with self.path.open("rb") as file:
            before = os.fstat(file.fileno())
            stamp = [before.st_size, before.st_mtime_ns]
            transfer = self._begun(stamp)
            if transfer.state == "open":
                with ThreadPoolExecutor(1, thread_name_prefix="sum") as thread:
                    summing = thread.submit(self._sum, file.fileno())
                    try:
                        transfer, etags = self._send(file.fileno(), transfer)
                    except BaseException:
                        self.pause.failed.set()
                        raise
                    sha256 = summing.result()
                after = os.fstat(file.fileno())
                if [after.st_size, after.st_mtime_ns] != stamp:
                    raise BadInputError(str(self.path), "it was changed while it was sent: send it again")
                body = {"sha256": sha256, "etags": etags}
                transfer = Transfer.of(self.calls.post(f"/v1/transfers/{transfer.id}/complete", body))
        return self._verified(transfer)

    def _begun(self, stamp: list[int]) -> Transfer:
        """The transfer of the journal, if it still is open and the file is the same; else a new one."""
        notes = self.journal.read()
        if notes.get("stamp") == stamp:
            # Without an identifier, the answer to the POST was lost: the same key finds it.
            with suppress(RefusedError):
                found = self._look(notes["id"]) if "id" in notes else self._open(stamp, notes["key"])
                if found.state in {"open", "completing", "verifying"}:
                    return found
        return self._open(stamp, uuid4().hex)

    def _open(self, stamp: list[int], key: str) -> Transfer:
        self.journal.write({"stamp": stamp, "key": key})
        opened = Transfer.of(self.calls.post("/v1/transfers", {**self.wanted, "size": stamp[0]}, key=key))
        self.journal.write({"stamp": stamp, "key": key, "id": opened.id})
        return opened

    def _look(self, transfer_id: str) -> Transfer:
        return Transfer.of(self.calls.get(f"/v1/transfers/{transfer_id}"))

    def _send(self, file: int, transfer: Transfer) -> tuple[Transfer, dict[int, str]]:
        """Send parts until the store has all."""
        sender = _PartSender(self, file, transfer, _Links(self.calls, transfer) if self.direct else None)
        for _ in range(_ROUNDS):
            if transfer.state != "open":
                raise BadInputError(str(self.path), f"it was not sent: the transfer is {transfer.state}")
            missing = sorted(set(range(1, transfer.parts + 1)) - set(transfer.received)) if transfer.size else []
            if not missing:
                return transfer, sender.etags
            sender.begin(transfer)
            try:
                do_parts(missing, sender.send, self.pause, parallel=self.parallel)
            except RefusedError as error:
                # Such as parts that the store has lost: it is looked at again.
                if error.status != 409:
                    raise
            transfer = self._look(transfer.id)
        raise RetryableError(f"{self.path}: parts get lost at the store again and again. Try again later")

    def _sum(self, file: int) -> str:
        digest, offset = hashlib.sha256(), 0
        while block := os.pread(file, 4 * BLOCK, offset):
            digest.update(block)
            offset += len(block)
            self.pause.check()
        return digest.hexdigest()

    def _verified(self, transfer: Transfer) -> Transfer:
        seconds = _FIRST_LOOK
        while transfer.state in {"completing", "verifying"}:
            self.report(Progress("verifying", transfer.bytes_checked, transfer.size))
            self.pause.wait(seconds)
            seconds = min(2 * seconds, _LONGEST_LOOK)
            transfer = self._look(transfer.id)
        self.journal.remove()
        if transfer.state != "done":
            raise BadInputError(str(self.path), f"not stored: {transfer.reason or transfer.state}")
        self.report(Progress("verifying", transfer.size, transfer.size))
        return transfer


class _Links:
    """Links to the store for parts, asked for many at once."""

    def __init__(self, calls: Calls, transfer: Transfer) -> None:
        self._calls, self._transfer = calls, transfer
        self._urls: dict[int, str] = {}
        self._lock = threading.Lock()

    def get(self, number: int) -> str:
        """The link of a part."""
        with self._lock:
            if number not in self._urls:
                last = min(number + _LINKS_AT_ONCE - 1, self._transfer.parts)
                path = f"/v1/transfers/{self._transfer.id}/parts/urls"
                links = self._calls.post(path, {"first": number, "last": last})
                self._urls |= {link["number"]: link["url"] for link in links}
            return self._urls[number]

    def forget(self) -> None:
        """They have expired."""
        with self._lock:
            self._urls.clear()


class _PartSender:
    """Sends parts of one transfer and adds up what was sent."""

    def __init__(self, upload: Upload, file: int, transfer: Transfer, links: _Links | None) -> None:
        self._upload, self._file, self._transfer, self._links = upload, file, transfer, links
        self._lock = threading.Lock()
        self._sent = 0
        self.etags: dict[int, str] = {}

    def begin(self, transfer: Transfer) -> None:
        """What the store has by now."""
        self._sent = sum(self._place(number)[1] for number in transfer.received)

    def send(self, number: int) -> None:
        """Send a part."""
        start, size = self._place(number)
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        if self._links is None:
            path = f"/v1/transfers/{self._transfer.id}/parts/{number}"
            self._upload.calls.ask("PUT", path, content=lambda: self._blocks(start, size), headers=headers)
        else:
            self._send_to_store(self._links, number, start, size)
        with self._lock:
            self._sent += size
            done = self._sent
        self._upload.report(Progress("sending", done, self._transfer.size))

    def _send_to_store(self, links: _Links, number: int, start: int, size: int) -> None:
        import httpx

        problem = ""
        for _ in range(_ROUNDS):
            url = links.get(number)
            try:
                headers = {"Content-Length": str(size)}
                answer = self._upload.calls.plain.put(url, content=self._blocks(start, size), headers=headers)
            except httpx.TransportError as error:
                problem = type(error).__name__
                continue
            if answer.status_code == 200:
                self.etags[number] = answer.headers.get("ETag", "").strip('"')
                return
            problem = f"HTTP {answer.status_code}"
            if answer.status_code == 404:
                raise RefusedError(str(self._upload.path), "the store does not know the upload any more", 409)
            if answer.status_code == 403:
                links.forget()
        raise RetryableError(f"{self._upload.path}: the store does not take part {number} now: {problem}")

    def _place(self, number: int) -> tuple[int, int]:
        start = (number - 1) * self._transfer.part_size
        return start, min(self._transfer.part_size, self._transfer.size - start)

    def _blocks(self, start: int, size: int) -> Iterator[bytes]:
        end = start + size
        while start < end:
            self._upload.pause.check()
            block = os.pread(self._file, min(BLOCK, end - start), start)
            if not block:
                raise BadInputError(str(self._upload.path), "it was changed while it was sent: send it again")
            start += len(block)
            yield block
