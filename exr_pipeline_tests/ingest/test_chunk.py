"""Chunks of files end to end, against a real store, real tables and real picture workers."""

import asyncio
import logging
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import numpy as np
import pytest
import simplejpeg

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.ingest import chunk
from exr_pipeline.ingest.chunk import ChunkIngest, Progress, Wanted
from exr_pipeline.ingest.products import FileProducts
from exr_pipeline.ingest.read_header import FIRST_READ_BYTES
from exr_pipeline.pictures import PicturePool
from exr_pipeline.settings import Settings
from exr_pipeline.storage import objects
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectInfo, ObjectStorage
from exr_pipeline.tables.duckdb_store import DuckDBStore
from exr_pipeline_tests.conftest import STRANGER
from exr_pipeline_tests.ingest.relay import Relay
from exr_pipeline_tests.pictures.files import flat, picture_settings, write_exr, write_rgb

HEADERS = Wanted(thumbnail=False, proxy=False)
THUMBNAILS = Wanted(proxy=False)


class MostAtOnce:
    """How many were inside the `with` block at the same time, at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


class WatchedStorage(ObjectStorage):
    """Remembers what is fetched, and calls `after_read` with the number of reads so far."""

    def __init__(self, settings: Settings, after_read: Callable[[int], None] = lambda _: None) -> None:
        super().__init__(settings)
        self.after_read = after_read
        self.downloads: list[str] = []
        self.ranges: list[tuple[str, int, int]] = []
        self.spooled: list[int] = []
        self.starts_in_flight = MostAtOnce()
        self.starts_awaited = 0
        self.rests_in_flight = MostAtOnce()

    def download(self, location: Location, path: Path) -> ObjectInfo:
        info = super().download(location, path)
        self.downloads.append(location.name)
        self.spooled.append(len(list(path.parent.iterdir())))
        self.after_read(len(self.downloads) + len(self.ranges))
        return info

    async def read_range_async(self, location: Location, start: int, length: int) -> tuple[ObjectInfo, bytes]:
        with self.rests_in_flight if start else self.starts_in_flight:
            # None is answered before so many are asked for: else a fast server never has them all.
            for _ in range(1000):
                if self.starts_in_flight.most >= self.starts_awaited:
                    break
                await asyncio.sleep(0.01)
            found = await super().read_range_async(location, start, length)
        self.ranges.append((location.name, start, len(found[1])))
        self.after_read(len(self.downloads) + len(self.ranges))
        return found


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


class OnWarning(logging.Handler):
    """Does something once the chunk says that it will try again."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self.action = action

    def emit(self, record: logging.LogRecord) -> None:
        if "trying again" in record.getMessage():
            self.action()


@pytest.fixture
def on_warning() -> Iterator[Callable[[Callable[[], None]], None]]:
    handlers: list[OnWarning] = []

    def add(action: Callable[[], None]) -> None:
        handlers.append(OnWarning(action))
        chunk.log.addHandler(handlers[-1])

    yield add
    for handler in handlers:
        chunk.log.removeHandler(handler)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(objects, "_RETRIES", 0)


@pytest.fixture(scope="module")
def pool() -> Iterator[PicturePool]:
    with PicturePool(picture_settings()) as workers:
        yield workers


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "tables.duckdb"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("files") / "good.exr"
    return write_rgb(path, flat(64, 32, (0.5, 0.25, 0.1))).read_bytes()


def another(good: bytes, number: int) -> bytes:
    """The same picture, other bytes: what follows the last chunk is nothing to a reader."""
    return good + bytes([number])


class Bench:
    """A bucket, and everything that a chunk of its files needs."""

    def __init__(self, settings: Settings, bucket: Location, database: Path, pool: PicturePool) -> None:
        self.settings = settings
        self.bucket = bucket
        self.pool = pool
        self.owner = ObjectStorage(settings)
        self.storage: ObjectStorage = WatchedStorage(settings)
        self.media: Any = self.owner
        self.rows = DuckDBStore(database)
        self.reported: list[FileProducts] = []

    def put(self, name: str, data: bytes) -> Location:
        location = self.bucket.child(name)
        self.owner.write(location, data, content_type="image/x-exr", tags={})
        return location

    def ingest(self, locations: Sequence[Location], wanted: Wanted = HEADERS, **changes: Any) -> Progress:
        settings = self.settings.model_copy(update=changes)
        one = ChunkIngest(settings, self.storage, media=self.media, rows=self.rows, pool=self.pool)
        return one.run(locations, wanted, on_written=self.reported.extend)

    def states(self) -> dict[str, str]:
        return {Path(row["file_path"]).name: row["state"] for row in self.files()}

    def files(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.rows.read("files").to_pylist()
        return [row for row in rows if row["bucket"] == self.bucket.bucket]

    def keys(self) -> list[str]:
        return sorted(info.location.key for info in self.owner.iter_objects(self.bucket))


@pytest.fixture
def bench(s3_settings: Settings, bucket: Location, database: Path, pool: PicturePool) -> Bench:
    return Bench(s3_settings, bucket, database, pool)


def test_bad_files_are_rejected_with_a_reason_and_their_neighbours_are_made(
    bench: Bench, good: bytes, s3_server: EmbeddedS3
) -> None:
    jpeg = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    # The data window of `good` is 64x32; its last pixel is where the picture ends.
    last_pixel = np.array([63, 31], "<i4").tobytes()
    assert good.count(last_pixel) == 2
    locations = [
        bench.put("shot/good.0001.exr", good),
        bench.put("shot/truncated_header.exr", good[:100]),
        bench.put("shot/truncated_pixels.exr", good[:-40]),
        bench.put("shot/text.exr", b"no picture at all\n" * 99),
        bench.put("shot/empty.exr", b""),
        bench.put("shot/jpeg.exr", jpeg),
        bench.put("shot/jpeg.dpx", jpeg),
        bench.put("shot/absurd.exr", good.replace(last_pixel, np.array([2**31 - 2] * 2, "<i4").tobytes())),
        bench.bucket.child("shot/vanished.exr"),
        bench.put("shot/good.0002.exr", good),
    ]

    progress = bench.ingest(locations, Wanted())

    assert (progress.total, progress.ready, progress.rejected, progress.retryable) == (10, 2, 8, 0)
    states = {location.name: "ready" if "good" in location.name else "rejected" for location in locations}
    assert bench.states() == states
    assert {products.location.name: products.state for products in bench.reported} == states
    for row in bench.files():
        if row["state"] == "rejected":
            assert row["reason"], row["file_path"]
            assert "\n" not in row["reason"]
            assert len(row["reason"]) < 300
    assert "not there" in next(row["reason"] for row in bench.files() if row["file_path"] == "shot/vanished.exr")
    made = [f"shot/.proxies/good.000{n}_{kind}" for n in (1, 2) for kind in ("proxy.mp4", "thumb.jpg")]
    assert bench.keys() == sorted([*made, *(place.key for place in locations if place.name != "vanished.exr")])
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        region_name="us-east-1",
    )
    for key in made:
        kind = ("thumbnail", "image/jpeg") if key.endswith(".jpg") else ("proxy", "video/mp4")
        tags = client.get_object_tagging(Bucket=bench.bucket.bucket, Key=key)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {
            "media_type": kind[0],
            "generator": "exr_pipeline",
            "version": "0.1.0",
        }
        assert client.head_object(Bucket=bench.bucket.bucket, Key=key)["ContentType"] == kind[1]


def test_a_file_that_may_not_be_read_is_rejected_beside_one_that_may(
    bench: Bench, good: bytes, s3_server: EmbeddedS3
) -> None:
    s3_server.create_bucket(f"open{bench.bucket.bucket}")
    readable = Location("s3", f"open{bench.bucket.bucket}", "a.exr")
    bench.owner.write(readable, good, content_type="image/x-exr", tags={})
    closed = bench.put("b.exr", good)
    keys = {"S3_ACCESS_KEY": STRANGER["access_key"], "S3_SECRET_KEY": STRANGER["secret_key"]}
    bench.storage = ObjectStorage(Settings(_env_file=None, S3_ENDPOINT=s3_server.endpoint, **keys))  # type: ignore[arg-type]

    bench.ingest([closed, readable], THUMBNAILS)

    known = bench.rows.current_versions([closed, readable])
    assert (known[closed].state, known[readable].state) == ("rejected", "ready")
    assert "permission denied" in bench.files()[0]["reason"]


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

    def download(self, location: Location, path: Path) -> ObjectInfo:
        self.three.wait(60)
        return super().download(location, path)


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


@pytest.mark.parametrize("wanted", [HEADERS, THUMBNAILS])
def test_a_store_that_goes_away_and_comes_back_costs_nothing_but_time(
    bench: Bench, good: bytes, s3_server: EmbeddedS3, on_warning: Callable[[Callable[[], None]], None], wanted: Wanted
) -> None:
    locations = [bench.put(f"{number}.exr", good) for number in range(8)]
    server = urlsplit(s3_server.endpoint)
    with Relay((str(server.hostname), int(server.port or 0))) as relay:
        on_warning(relay.up)
        settings = bench.settings.model_copy(update={"s3_endpoint": relay.endpoint})
        went_away: list[int] = []

        def go_away(reads: int) -> None:
            if reads >= 3 and not went_away:
                went_away.append(reads)
                relay.down()

        bench.storage = bench.media = WatchedStorage(settings, go_away)
        progress = bench.ingest(locations, wanted, fetches=2)

    assert went_away
    assert progress.ready == 8
    assert set(bench.states().values()) == {"ready"}
    assert Counter(products.location for products in bench.reported) == Counter(locations)


def test_files_of_a_store_that_stays_away_end_as_retryable(bench: Bench, good: bytes, s3_server: EmbeddedS3) -> None:
    locations = [bench.put(f"{number}.exr", good) for number in range(3)]
    with Relay(("127.0.0.1", urlsplit(s3_server.endpoint).port or 0)) as relay:
        bench.storage = ObjectStorage(bench.settings.model_copy(update={"s3_endpoint": relay.endpoint}))
        relay.down()
        progress = bench.ingest(locations, THUMBNAILS)

    assert progress.retryable == 3
    reason = "read failed: no answer from the store"
    assert [(row["state"], row["reason"]) for row in bench.files()] == [("retryable", reason)] * 3


HOLD = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def holder(bench: Bench, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the database until its standard input is closed."""
    path = tmp_path / "held.duckdb"
    bench.rows = DuckDBStore(path, lock_wait_seconds=0.05)
    bench.rows.create_tables()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.communicate()


def test_rows_wait_for_a_database_that_another_process_has(
    bench: Bench, good: bytes, holder: subprocess.Popen[str], on_warning: Callable[[Callable[[], None]], None]
) -> None:
    location = bench.put("a.exr", good)
    told: list[int] = []

    def let_go() -> None:
        told.append(len(bench.reported))
        holder.communicate()

    on_warning(let_go)

    bench.ingest([location])

    assert told[0] == 0
    assert bench.states() == {"a.exr": "ready"}
    assert [products.state for products in bench.reported] == ["ready"]


def test_nothing_is_reported_if_the_tables_cannot_be_written(
    bench: Bench,
    good: bytes,
    holder: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
    on_warning: Callable[[Callable[[], None]], None],
) -> None:
    monkeypatch.setattr(chunk, "SECONDS_BETWEEN_WRITES", 0.0)
    locations = [bench.put(f"{number}.exr", good) for number in range(6)]
    tries: list[int] = []
    on_warning(lambda: tries.append(1))

    with pytest.raises(RetryableError, match=str(holder.pid)):
        bench.ingest(locations)

    assert bench.reported == []
    assert len(tries) == chunk.ATTEMPTS - 1, "the rows of one batch were tried, not those of the next ones as well"


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


def written_batches(bench: Bench, locations: Sequence[Location]) -> list[int]:
    sizes: list[int] = []
    ingest = ChunkIngest(bench.settings, bench.storage, media=bench.media, rows=bench.rows, pool=None)
    ingest.run(locations, HEADERS, on_written=lambda batch: sizes.append(len(batch)))
    return sizes


def test_a_chunk_is_one_write_unless_it_takes_long(bench: Bench, good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    locations = [bench.put(f"{number:03d}.exr", good) for number in range(240)]

    monkeypatch.setattr(chunk, "SECONDS_BETWEEN_WRITES", 600.0)
    assert written_batches(bench, locations) == [240]
    assert len({row["last_inspected"] for row in bench.files()}) == 1

    monkeypatch.setattr(chunk, "SECONDS_BETWEEN_WRITES", 0.0)
    assert len(written_batches(bench, locations)) > 1


def test_headers_of_megabytes_are_written_before_they_add_up(
    bench: Bench, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    locations = [bench.put(f"{number}.exr", good) for number in range(6)]

    assert written_batches(bench, locations) == [6]
    monkeypatch.setattr(chunk, "HEADER_BYTES_PER_WRITE", 1)
    assert len(written_batches(bench, locations)) > 1


def test_files_are_reported_when_their_rows_and_media_are_in_place(
    bench: Bench, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "SECONDS_BETWEEN_WRITES", 0.0)
    locations = [bench.put(f"{number}.exr", good) for number in range(5)]
    batches: list[int] = []

    def written(batch: Sequence[FileProducts]) -> None:
        batches.append(len(batch))
        known = bench.rows.current_versions([products.location for products in batch])
        assert [version.state for version in known.values()] == ["ready"] * len(batch)
        for products in batch:
            assert products.outputs is not None
            bench.owner.head(products.outputs.thumbnail)
            bench.owner.head(products.outputs.proxy)

    done: list[int] = []
    ingest = ChunkIngest(bench.settings, bench.storage, media=bench.media, rows=bench.rows, pool=bench.pool)
    ingest.run(locations, Wanted(), on_written=written, on_progress=lambda progress: done.append(progress.done))

    assert sum(batches) == 5
    assert len(batches) > 1
    assert done == list(np.cumsum(batches))


class Refusing(ObjectStorage):
    """Media of which those of `bad.exr` may not be written."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.refused = threading.Event()

    def write(self, location: Location, data: bytes, **kind: Any) -> None:
        if location.name.startswith("bad"):
            self.refused.set()
            raise MisconfiguredError("S3_ACCESS_KEY", f"write is refused at {location.url}", "allow it")
        super().write(location, data, **kind)


class SlowStorage(WatchedStorage):
    """`slow.exr` arrives only some time after a write was refused."""

    def __init__(self, settings: Settings, refused: threading.Event) -> None:
        super().__init__(settings)
        self.refused = refused

    def download(self, location: Location, path: Path) -> ObjectInfo:
        if location.name == "slow.exr":
            assert self.refused.wait(60)
            time.sleep(0.5)
        return super().download(location, path)


def test_a_wrong_setting_is_raised_once_the_fetches_under_way_have_ended(
    bench: Bench, good: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bench.media = Refusing(bench.settings)
    storage = bench.storage = SlowStorage(bench.settings, bench.media.refused)
    names = ["bad.exr", "slow.exr", "a.exr", "b.exr"]

    with pytest.raises(MisconfiguredError, match="S3_ACCESS_KEY"):
        bench.ingest([bench.put(name, good) for name in names], THUMBNAILS, workers=1, fetches=1)

    assert storage.downloads == ["bad.exr", "slow.exr"]
    assert list(tmp_path.iterdir()) == []
    assert bench.reported == []


def test_a_file_that_changes_while_its_header_is_read_is_read_again(bench: Bench, tmp_path: Path) -> None:
    data = write_exr(tmp_path / "x.exr", {"Z": np.zeros((8, 8), np.float32)}, comments="x" * 100_000).read_bytes()
    location = bench.put("a.exr", data)

    def change(reads: int) -> None:
        if reads == 1:
            bench.put("a.exr", another(data, 1))

    storage = bench.storage = WatchedStorage(bench.settings, change)
    bench.ingest([location])

    (version,) = bench.rows.current_versions([location]).values()
    assert (version.state, version.etag) == ("ready", bench.owner.head(location).etag)
    assert len(storage.ranges) == 4


def test_a_row_names_the_version_that_was_fetched_not_one_that_came_after(bench: Bench, good: bytes) -> None:
    location = bench.put("a.exr", good)
    fetched = bench.owner.head(location).etag
    bench.storage = WatchedStorage(bench.settings, lambda _: bench.put("a.exr", another(good, 1)) and None)

    bench.ingest([location], THUMBNAILS)

    (version,) = bench.rows.current_versions([location]).values()
    assert version.etag == fetched != bench.owner.head(location).etag


class VanishingStorage(ObjectStorage):
    """A file that somebody removes right after it was looked up."""

    def head(self, location: Location) -> ObjectInfo:
        info = super().head(location)
        if location.name == "gone.exr":
            Path(f"/{location.key}").unlink()
        return info


def test_a_local_file_that_vanishes_while_it_is_read_does_not_fail_its_neighbours(
    bench: Bench, good: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "renders"
    folder.mkdir()
    for name in ("gone.exr", "stays.exr"):
        (folder / name).write_bytes(good)
    locations = [Location.from_url((folder / name).as_uri()) for name in ("gone.exr", "stays.exr")]
    bench.storage = VanishingStorage(bench.settings)

    bench.ingest(locations, THUMBNAILS)

    known = bench.rows.current_versions(locations)
    assert [known[location].state for location in locations] == ["rejected", "ready"]
    assert [path.name for path in (folder / ".proxies").iterdir()] == ["stays_thumb.jpg"]


def test_a_full_disk_makes_a_file_retryable_and_leaves_its_neighbours_alone(bench: Bench, good: bytes) -> None:
    large, small = bench.put("large.exr", good + bytes(20_000_000)), bench.put("small.exr", good)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (18_000_000, hard))
    try:
        bench.ingest([large, small], THUMBNAILS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert bench.states() == {"large.exr": "retryable", "small.exr": "ready"}


def test_media_of_a_version_that_a_broken_one_replaced_are_removed(bench: Bench, good: bytes) -> None:
    location = bench.put("a.exr", good)
    bench.ingest([location], Wanted())
    assert len(bench.keys()) == 3
    bench.put("a.exr", good[:100])

    bench.ingest([location], Wanted())

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
    bench.ingest([location], Wanted())
    (before,), keys = bench.files(), bench.keys()

    bench.ingest([location], Wanted())

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
    progress = Progress(total=4)
    assert "left" not in str(progress)
    progress.count("ready")
    progress.count("rejected")
    assert str(progress).startswith("2/4 files (1 ready, 1 rejected, 0 retryable), ")
    assert "s left" in str(progress)
