"""A file to the store: through a node and straight to it by links, beside boto3's own multipart and a single stream.

Belongs here: one file, each way, in turns. Not here: a network between the machines, of which there is one.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from bench.report import Report, Table
from bench.server import BUCKET, running_server, s3_client
from bench.sides import Side, Work, interleaved, started
from bench.size import Size
from exr_pipeline_tests.services.processes import Service, answers, free_port, wait_until

if TYPE_CHECKING:
    from exr_pipeline.client import Progress

_TOKEN: Final = "the-token-of-the-administrator"
_MIB: Final = 1 << 20
_PART: Final = 8 * _MIB
_PARALLEL: Final = 4


class Ours(Work):
    """The client of this project, through a node or by links. What is timed ends when the bytes are verified."""

    def __init__(self, url: str, folder: Path, *, direct: bool) -> None:
        from exr_pipeline.client import Client

        self._client = Client([url], _TOKEN, journals=folder / "journals")
        self._direct = direct

    def run(self, file: Path) -> None:
        """Send a file."""
        self._media = self._client.put(
            file, project="bench", name=uuid4().hex, direct=self._direct, parallel=_PARALLEL, part_size=_PART
        )

    def check(self, file: Path) -> int:
        """How many bytes the catalog says it has."""
        assert self._media.status == "ready"
        return self._media.size or 0

    def close(self) -> None:
        """Close connections."""
        self._client.close()


class Sent(Ours):
    """The same, until the store has all bytes: as far as the other ways go."""

    def run(self, file: Path) -> None:
        """Send a file, and leave it to be verified."""
        from exr_pipeline.client import PausedError

        is_taken = threading.Event()

        def look(progress: Progress) -> None:
            if progress.doing == "verifying":
                is_taken.set()

        with suppress(PausedError):
            self._client.put(
                file,
                project="bench",
                name=uuid4().hex,
                direct=self._direct,
                parallel=_PARALLEL,
                part_size=_PART,
                pause=is_taken,
                report=look,
            )

    def check(self, file: Path) -> int:
        """How many bytes were announced, once they are verified."""
        asset = next(self._client.assets(project="bench"))
        wait_until(lambda: self._client.media(asset)[0].status == "ready", "it is verified")
        return self._client.media(asset)[0].size or 0


class Boto3(Work):
    """boto3's managed upload: parts in parallel, straight to the store."""

    def __init__(self) -> None:
        from boto3.s3.transfer import TransferConfig

        self._client = s3_client()
        self._config = TransferConfig(
            multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=_PARALLEL, use_threads=True
        )

    def run(self, file: Path) -> None:
        """Send a file."""
        self._key = uuid4().hex
        self._client.upload_file(str(file), BUCKET, self._key, Config=self._config)

    def check(self, file: Path) -> int:
        """How many bytes the store has."""
        return int(self._client.head_object(Bucket=BUCKET, Key=self._key)["ContentLength"])


class SingleStream(Work):
    """One PUT of the whole file, in blocks of 8 KiB, as clients that stream do."""

    def __init__(self) -> None:
        import httpx

        self._client = s3_client()
        self._http = httpx.Client(timeout=600)

    def run(self, file: Path) -> None:
        """Send a file."""
        self._key = uuid4().hex
        url = self._client.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": self._key})
        length = {"Content-Length": str(file.stat().st_size)}
        answer = self._http.put(url, content=_blocks(file), headers=length)
        answer.raise_for_status()

    def check(self, file: Path) -> int:
        """How many bytes the store has."""
        return int(self._client.head_object(Bucket=BUCKET, Key=self._key)["ContentLength"])


def run(size: Size, folder: Path) -> Report:
    """A file of random bytes, each way in turns."""
    mebibytes = 9 if size.tiny else 256
    rounds = 1 if size.tiny else 3
    file = folder / "file.bin"
    with file.open("wb") as target:
        for _ in range(mebibytes):
            target.write(os.urandom(_MIB))
    with running_server(folder), _node(folder) as (url, node):
        names = ("through a node", "by links", "boto3 multipart", "single stream", "through a node, verified")
        makes: list[Any] = [
            partial(Sent, url, folder, direct=False),
            partial(Sent, url, folder, direct=True),
            Boto3,
            SingleStream,
            partial(Ours, url, folder, direct=False),
        ]
        sides = [Side(name, make) for name, make in zip(names, makes, strict=True)]
        with started(sides):
            for side in sides:
                side.ask(file)
            interleaved(sides, rounds, file)
        peak = _peak_mib(node.pid)
    for side in sides:
        assert set(side.values) == {mebibytes * _MIB}, side.name
    reference = sides[2].median
    ratios = Table(["throughput, x that of boto3: through a node", "by links", "single stream"])
    ratios.add(*(reference / sides[number].median for number in (0, 1, 3)))
    figures = Table(["way", "MiB/s", "median, s", "processor of the sender, s", "peak of the sender, MiB"])
    for side in sides:
        figures.add(side.name, mebibytes / side.median, side.median, side.cpu_median, side.peak_mib)
    return Report(
        "transfers",
        f"One file of {mebibytes} MiB, {rounds} times each way in turns, in parts of 8 MiB, {_PARALLEL} at once. The "
        "store, the node and the sender share the processors of one machine, and there is no network between them. "
        "*Through a node* and *by links* end, as the others, when the store has the object; the client has added up "
        "its SHA-256 by then, which the others have not. *Verified* ends when the node has read it back.",
        ratios,
        figures,
        [f"The node held at most {peak:.0f} MiB of memory."],
    )


@contextmanager
def _node(folder: Path) -> Iterator[tuple[str, Service]]:
    from exr_pipeline.client.calls import Calls

    port = free_port()
    environment = {
        **os.environ,
        "EXR_PIPELINE_STATE_DIR": str(folder / "state"),
        "EXR_PIPELINE_SOURCES": f"s3://{BUCKET}/renders",
        "EXR_PIPELINE_ADMIN_TOKEN": _TOKEN,
        "PYTHONPATH": str(Path.cwd()),
    }
    command: list[str | Path] = [sys.executable, "-m", "exr_pipeline.cli", "serve", "--port", str(port)]
    with Service("node", command, folder / "node.log", environment=environment, folder=folder) as node:
        wait_until(lambda: answers(port) or not node.is_running, "the node answers", seconds=120)
        if not node.is_running:
            raise RuntimeError(node.log_tail())
        url = f"http://127.0.0.1:{port}"
        calls = Calls([url], _TOKEN)
        wait_until(lambda: calls.get("/v1/locations"), "the node has its location")
        calls.post("/v1/projects", {"name": "bench"})
        calls.close()
        yield url, node


def _peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while block := source.read(8192):
            yield block
