"""Chunks of files end to end."""

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exr_pipeline.ingest.chunk import ChunkIngest, ChunkProgress
from exr_pipeline.ingest.read_header import FIRST_READ_BYTES
from exr_pipeline.products.file_result import FileResult
from exr_pipeline.products.registry import FILE_PRODUCTS
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectInfo, ObjectStorage
from exr_pipeline_tests.ingest.chunk.conftest import HEADERS, THUMBNAILS, Bench, MostAtOnce, WatchedStorage, another
from exr_pipeline_tests.pictures.files import write_exr


class PatientMedia(ObjectStorage):
    """Ends no upload before a second one is under way, or ten seconds have passed."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.uploads = MostAtOnce()

    async def write_async(self, location: Location, data: bytes | Path, **options: Any) -> None:
        with self.uploads:
            for _ in range(1000):
                if self.uploads.most > 1:
                    break
                await asyncio.sleep(0.01)
            await super().write_async(location, data, **options)


def test_every_file_is_fetched_once_and_no_more_of_them_at_a_time_than_allowed(
    bench: Bench, good: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    locations = [bench.put(f"{number}.exr", good) for number in range(12)]
    storage = bench.storage = WatchedStorage(bench.settings)

    bench.ingest(locations, THUMBNAILS, workers=1, fetches=2)

    assert Counter(storage.downloads) == Counter(location.name for location in locations)
    assert storage.ranges == []
    assert 1 < max(storage.spooled) <= 3
    assert list(tmp_path.iterdir()) == []


class StorageOfThree(ObjectStorage):
    """Ends no download before three are under way, or a minute has passed."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.three = threading.Barrier(3)

    def download(self, location: Location, path: Path, **more: Any) -> ObjectInfo:
        self.three.wait(60)
        return super().download(location, path, **more)


def test_there_is_a_file_for_every_worker_however_few_are_fetched_ahead(bench: Bench, good: bytes) -> None:
    bench.storage = StorageOfThree(bench.settings)

    bench.ingest([bench.put(f"{number}.exr", good) for number in range(3)], THUMBNAILS, workers=3, fetches=1)

    assert set(bench.states().values()) == {"ready"}


def test_no_file_descriptor_is_left_open(bench: Bench, good: bytes) -> None:
    def descriptors_of_files() -> int:
        links = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        targets = [str(link.readlink()) for link in links if link.is_symlink()]
        return sum("exr_pipeline_" in target for target in targets)

    bench.ingest([bench.put(f"{number}.exr", good) for number in range(8)], THUMBNAILS)

    assert descriptors_of_files() == 0


def test_headers_alone_take_one_small_read_or_as_much_as_the_header_is_long(
    bench: Bench, good: bytes, tmp_path: Path
) -> None:
    small = bench.put("small.exr", good + bytes(1_000_000))
    wordy = write_exr(tmp_path / "x.exr", {"Z": np.zeros((8, 8), np.float32)}, comments="x" * 200_000).read_bytes()
    large = bench.put("large.exr", wordy + bytes(1_000_000))
    storage = bench.storage = WatchedStorage(bench.settings)
    bench.pool = None  # type: ignore[assignment]

    bench.ingest([small, large])

    assert bench.states() == {"small.exr": "ready", "large.exr": "ready"}
    reads = {name: [read[1:] for read in storage.ranges if read[0] == name] for name in ("small.exr", "large.exr")}
    assert reads["small.exr"] == [(0, FIRST_READ_BYTES)]
    assert reads["large.exr"][0] == (0, FIRST_READ_BYTES)
    assert 200_000 < sum(length for _, length in reads["large.exr"]) < 200_000 + 2 * FIRST_READ_BYTES
    assert storage.downloads == []
    assert bench.keys() == ["large.exr", "small.exr"]


def test_media_of_several_files_are_uploaded_at_the_same_time(bench: Bench, good: bytes) -> None:
    bench.media = media = PatientMedia(bench.settings)

    bench.ingest([bench.put(f"{number}.exr", another(good, number)) for number in range(6)], THUMBNAILS)

    assert media.uploads.most > 1
    assert set(bench.states().values()) == {"ready"}


def test_many_headers_are_in_flight_at_once_but_long_ones_take_turns(bench: Bench, good: bytes, tmp_path: Path) -> None:
    wordy = write_exr(tmp_path / "x.exr", {"Z": np.zeros((8, 8), np.float32)}, comments="x" * 200_000).read_bytes()
    locations = [bench.put(f"{number}.exr", wordy if number % 4 == 0 else good) for number in range(80)]
    storage = bench.storage = WatchedStorage(bench.settings)
    storage.starts_awaited = 60

    bench.ingest(locations, header_fetches=60)

    assert storage.starts_in_flight.most == 60
    assert 1 < storage.rests_in_flight.most <= 4
    assert set(bench.states().values()) == {"ready"}
    assert len(bench.states()) == 80


def test_headers_in_flight_heed_how_many_connections_the_system_allows() -> None:
    script = (
        "import resource; from exr_pipeline.ingest.read_header import headers_at_once\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 1000))\n"
        "print(headers_at_once(500), headers_at_once(5000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["500", "744", "1000"]


def written_batches(
    bench: Bench, locations: Sequence[Location], *, write_seconds: float = 600.0, **when: Any
) -> list[int]:
    sizes: list[int] = []
    settings = bench.settings.model_copy(update={"write_seconds": write_seconds})
    ingest = ChunkIngest(settings, bench.storage, media=bench.media, rows=bench.rows, pool=None, **when)
    ingest.run(locations, HEADERS, on_written=lambda batch: sizes.append(len(batch)))
    return sizes


def test_a_chunk_is_one_write_unless_it_takes_long(bench: Bench, good: bytes) -> None:
    locations = [bench.put(f"{number:03d}.exr", good) for number in range(240)]

    assert written_batches(bench, locations, write_seconds=600.0) == [240]
    assert len({row["last_inspected"] for row in bench.files()}) == 1

    assert len(written_batches(bench, locations, write_seconds=0.0)) > 1


def test_headers_of_megabytes_are_written_before_they_add_up(bench: Bench, good: bytes) -> None:
    locations = [bench.put(f"{number}.exr", good) for number in range(6)]

    assert written_batches(bench, locations) == [6]
    assert len(written_batches(bench, locations, header_bytes_per_write=1)) > 1


def test_files_are_reported_when_their_rows_and_media_are_in_place(bench: Bench, good: bytes) -> None:
    locations = [bench.put(f"{number}.exr", good) for number in range(5)]
    batches: list[int] = []

    def written(batch: Sequence[FileResult]) -> None:
        batches.append(len(batch))
        known = bench.rows.current_versions([products.location for products in batch])
        assert [version.state for version in known.values()] == ["ready"] * len(batch)
        for products in batch:
            bench.owner.head(products.stored["thumbnail"])
            bench.owner.head(products.stored["proxy"])

    done: list[int] = []
    settings = bench.settings.model_copy(update={"write_seconds": 0.0})
    ingest = ChunkIngest(settings, bench.storage, media=bench.media, rows=bench.rows, pool=bench.pool)
    ingest.run(locations, FILE_PRODUCTS, on_written=written, on_progress=lambda progress: done.append(progress.done))

    assert sum(batches) == 5
    assert len(batches) > 1
    assert done == list(np.cumsum(batches))


def test_media_of_a_version_that_a_broken_one_replaced_are_removed(bench: Bench, good: bytes) -> None:
    location = bench.put("a.exr", good)
    bench.ingest([location], FILE_PRODUCTS)
    assert len(bench.keys()) == 3
    bench.put("a.exr", good[:100])

    bench.ingest([location], FILE_PRODUCTS)

    assert bench.states() == {"a.exr": "rejected"}
    assert bench.keys() == ["a.exr"]


def test_a_header_run_does_not_overrule_what_the_pixels_were_rejected_for(bench: Bench, good: bytes) -> None:
    location = bench.put("a.exr", good[:-40])
    bench.ingest([location], THUMBNAILS)
    (before,) = bench.files()

    bench.ingest([location], HEADERS)

    (after,) = bench.files()
    assert (after["state"], after["reason"]) == ("rejected", before["reason"])


def test_the_same_chunk_again_changes_nothing_but_how_often_it_was_inspected(bench: Bench, good: bytes) -> None:
    location = bench.put("a.exr", good)
    bench.ingest([location], FILE_PRODUCTS)
    (before,), keys = bench.files(), bench.keys()

    bench.ingest([location], FILE_PRODUCTS)

    (after,) = bench.files()
    changing = {"inspection_count", "last_inspected", "seen_at"}
    assert {name: after[name] for name in after if name not in changing} == {
        name: before[name] for name in before if name not in changing
    }
    assert after["inspection_count"] == 2
    assert bench.keys() == keys


def test_an_empty_chunk_is_done_at_once(bench: Bench) -> None:
    assert bench.ingest([]).done == 0
    assert bench.reported == []


def test_progress_says_how_far_it_is_and_how_long_the_rest_takes() -> None:
    progress = ChunkProgress(total=4)
    assert "left" not in str(progress)
    progress.count("ready")
    progress.count("rejected")
    assert str(progress).startswith("2/4 files (1 ready, 1 rejected, 0 retryable), ")
    assert "s left" in str(progress)
