"""A file is rejected only on evidence against the file: not for bytes changed on their way, or for a lost worker."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.products.product import FileProduct
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectInfo
from exr_pipeline.workers.pool import WorkerLostError
from exr_pipeline_tests.ingest.chunk.conftest import HEADERS, THUMBNAILS, Bench, WatchedStorage


class FlippingStorage(WatchedStorage):
    """A line that changes a byte of the first answers."""

    def __init__(self, settings: Settings, flips: int) -> None:
        super().__init__(settings)
        self.left = flips

    def _flipped(self, data: bytes) -> bytes:
        self.left -= 1
        # Another one each time, all of the header, so that each is found out.
        place = 8 + self.left % 5
        return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]

    def download(self, location: Location, path: Path, **more: Any) -> ObjectInfo:
        info = super().download(location, path, **more)
        if self.left > 0:
            path.write_bytes(self._flipped(path.read_bytes()))
        return info

    async def read_range_async(self, location: Location, start: int, length: int) -> tuple[ObjectInfo, bytes]:
        info, data = await super().read_range_async(location, start, length)
        return info, self._flipped(data) if self.left > 0 else data


@pytest.mark.parametrize("wanted", [HEADERS, THUMBNAILS])
def test_a_good_file_whose_bytes_were_changed_on_their_way_is_fetched_again_and_ends_well(
    bench: Bench, good: bytes, wanted: Sequence[FileProduct]
) -> None:
    location = bench.put("a.exr", good)
    bench.storage = FlippingStorage(bench.settings, 1)

    bench.ingest([location], wanted)

    assert bench.states() == {"a.exr": "ready"}


@pytest.mark.parametrize("wanted", [HEADERS, THUMBNAILS])
def test_a_line_that_changes_every_answer_rejects_no_file(
    bench: Bench, good: bytes, wanted: Sequence[FileProduct]
) -> None:
    location = bench.put("a.exr", good)
    bench.storage = FlippingStorage(bench.settings, 1000)

    bench.ingest([location], wanted)

    assert bench.states() == {"a.exr": "retryable"}
    assert "damaged in transfer" in bench.files()[0]["reason"]


class RenamingStorage(FlippingStorage):
    """A line that changes a name in the header, so that what comes is a good file of another content."""

    def _flipped(self, data: bytes) -> bytes:
        self.left -= 1
        assert data.count(b"screenWindowWidth") == 1
        return data.replace(b"screenWindowWidth", b'screenWindo"Width')


@pytest.mark.parametrize("wanted", [HEADERS, THUMBNAILS])
def test_a_byte_changed_on_its_way_that_leaves_a_readable_header_is_noticed_too(
    bench: Bench, good: bytes, wanted: Sequence[FileProduct]
) -> None:
    location = bench.put("a.exr", good)
    bench.storage = RenamingStorage(bench.settings, 1)

    bench.ingest([location], wanted)

    (file,) = bench.files()
    assert (file["state"], file["warnings"]) == ("ready", "[]")


class OtherTags(WatchedStorage):
    """Entity tags that are no MD5 sums of the bytes, as of objects in several parts or encrypted by KMS."""

    def __init__(self, settings: Settings, tag: str) -> None:
        super().__init__(settings)
        self.tag = tag

    def download(self, location: Location, path: Path, **more: Any) -> ObjectInfo:
        return replace(super().download(location, path, **more), etag=self.tag)

    async def read_range_async(self, location: Location, start: int, length: int) -> tuple[ObjectInfo, bytes]:
        info, data = await super().read_range_async(location, start, length)
        return replace(info, etag=self.tag), data


@pytest.mark.parametrize("bad", [b"no picture" * 9, b""])
@pytest.mark.parametrize("tag", ["0123456789abcdef0123456789abcdef-3", "0123456789abcdef0123456789abcdef"])
def test_a_damaged_file_is_fetched_once_more_only_where_its_tag_does_not_tell(
    bench: Bench, bad: bytes, tag: str
) -> None:
    location = bench.put("a.exr", bad)

    told = bench.storage = WatchedStorage(bench.settings)
    bench.ingest([location], THUMBNAILS)
    assert len(told.downloads) == 1
    bench.ingest([location], HEADERS)
    assert len(told.ranges) == 1

    untold = bench.storage = OtherTags(bench.settings, tag)
    bench.ingest([location], THUMBNAILS)
    assert len(untold.downloads) == 2
    bench.ingest([location], HEADERS)
    assert len(untold.ranges) == 2
    assert {row["state"] for row in bench.files()} == {"rejected"}


class LosingPool:
    """Workers of which each is lost with what it is given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def submit(self, path: str, name: str, **wanted: bool) -> Future[Any]:
        self.given.append(name)
        answer: Future[Any] = Future()
        answer.set_exception(WorkerLostError(name, "another process killed its worker process twice (SIGKILL)"))
        return answer


def test_a_file_that_costs_two_workers_is_retryable_and_costs_no_more_of_them_in_this_pass(
    bench: Bench, good: bytes
) -> None:
    location = bench.put("a.exr", good)
    pool: Any = LosingPool()
    bench.pool = pool

    bench.ingest([location], THUMBNAILS)

    assert pool.given == [location.url]
    (row,) = bench.files()
    assert (row["state"], row["reason"]) == (
        "retryable",
        "another process killed its worker process twice (SIGKILL)",
    )


class FinishingPool:
    """A worker that finds half a file, which is finished by its renderer meanwhile."""

    def __init__(self, path: Path, finished: bytes, pool: Any) -> None:
        self.path, self.finished, self.pool = path, finished, pool

    def submit(self, path: str, name: str, **wanted: bool) -> Future[Any]:
        answer: Future[Any] = self.pool.submit(path, name, **wanted)
        if self.path.read_bytes() != self.finished:
            assert answer.exception() is not None
            self.path.write_bytes(self.finished)
        return answer


def test_a_local_file_that_is_finished_while_it_is_read_is_not_called_damaged(
    bench: Bench, good: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.exr"
    path.write_bytes(good[:-40] + bytes(40))
    pool: Any = FinishingPool(path, good, bench.pool)
    bench.pool = pool

    bench.ingest([Location.from_url(path.as_uri())], THUMBNAILS)

    assert [products.state for products in bench.reported] == ["ready"]
