"""Chunks whose files, store, tables or settings are in trouble."""

import logging
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import numpy as np
import pytest
import simplejpeg

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.ingest import chunk
from exr_pipeline.ingest.chunk import ChunkIngest
from exr_pipeline.ingest.discovery.needs_work import needs_work
from exr_pipeline.products.product import FileProduct
from exr_pipeline.products.registry import FILE_PRODUCTS
from exr_pipeline.retries import OutageError
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectInfo, ObjectStorage
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.conftest import STRANGER
from exr_pipeline_tests.ingest.chunk.conftest import HEADERS, THUMBNAILS, Bench, WatchedStorage, another
from exr_pipeline_tests.ingest.relay import Relay
from exr_pipeline_tests.pictures.files import flat, write_exr, write_rgb


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

    progress = bench.ingest(locations, FILE_PRODUCTS)

    assert (progress.total, progress.ready, progress.rejected, progress.retryable) == (10, 2, 8, 0)
    states = {location.name: "ready" if "good" in location.name else "rejected" for location in locations}
    assert bench.states() == states
    assert {products.location.name: products.state for products in bench.reported} == states
    for row in bench.files():
        if row["state"] == "rejected":
            assert row["reason"], row["file_path"]
            assert "\n" not in row["reason"]
            assert len(row["reason"]) < 300
    assert "does not exist" in next(row["reason"] for row in bench.files() if row["file_path"] == "shot/vanished.exr")
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


def test_a_file_whose_media_would_have_too_long_a_name_is_rejected_and_its_neighbours_are_made(
    bench: Bench, good: bytes, tmp_path: Path
) -> None:
    folder = "/".join(["d" * 200] * 4)
    in_store = [bench.put(f"{folder}/{'x' * 210}.exr", good), bench.put("a.exr", good)]
    names = (f"{'y' * 246}.exr", "b.exr")
    for name in names:
        (tmp_path / name).write_bytes(good)
    local = [Location.from_url((tmp_path / name).as_uri()) for name in names]

    progress = bench.ingest([*in_store, *local], THUMBNAILS)

    assert (progress.ready, progress.rejected, progress.retryable) == (2, 2, 0)
    reasons = {products.location: products.reason for products in bench.reported}
    assert "KeyTooLongError" in str(reasons[in_store[0]])
    assert "too long" in str(reasons[local[0]])


def test_a_changed_file_whose_media_would_have_too_long_a_name_is_rejected_with_nothing_to_remove(
    bench: Bench, good: bytes
) -> None:
    location = bench.put("/".join(["d" * 200] * 4) + f"/{'x' * 210}.exr", good)
    assert bench.ingest([location], HEADERS).ready == 1
    bench.put(location.key, another(good, 1))

    assert bench.ingest([location], THUMBNAILS).rejected == 1


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


@pytest.mark.parametrize("wanted", [HEADERS, THUMBNAILS])
def test_a_store_that_goes_away_and_comes_back_costs_nothing_but_time(
    bench: Bench,
    good: bytes,
    s3_server: EmbeddedS3,
    on_warning: Callable[[Callable[[], None]], None],
    wanted: Sequence[FileProduct],
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
    assert [row["state"] for row in bench.files()] == ["retryable"] * 3
    for row in bench.files():
        assert row["reason"].startswith("read failed: no answer from the store. Fix: ")
        assert relay.endpoint in row["reason"]


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
    on_warning: Callable[[Callable[[], None]], None],
) -> None:
    locations = [bench.put(f"{number}.exr", good) for number in range(6)]
    tries: list[int] = []
    on_warning(lambda: tries.append(1))

    with pytest.raises(RetryableError, match=str(holder.pid)):
        bench.ingest(locations, write_seconds=0.0)

    assert bench.reported == []
    assert len(tries) == bench.retries.attempts - 1, (
        "the rows of one batch were tried, not those of the next ones as well"
    )


class Refusing(ObjectStorage):
    """Media of which those of `bad.exr` may not be written."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.refused = threading.Event()

    def write(self, location: Location, data: bytes | Path, **kind: Any) -> None:
        if location.name.startswith("bad"):
            self.refused.set()
            raise MisconfiguredError("S3_ACCESS_KEY", f"write is refused at {location.url}", "allow it")
        super().write(location, data, **kind)


class SlowStorage(WatchedStorage):
    """`slow.exr` arrives only some time after a write was refused."""

    def __init__(self, settings: Settings, refused: threading.Event) -> None:
        super().__init__(settings)
        self.refused = refused

    def download(self, location: Location, path: Path, **more: Any) -> ObjectInfo:
        if location.name == "slow.exr":
            assert self.refused.wait(60)
            time.sleep(0.5)
        return super().download(location, path, **more)


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

    def change(_reads: int) -> None:
        bench.put("a.exr", another(good, 1))

    bench.storage = WatchedStorage(bench.settings, change)

    bench.ingest([location], THUMBNAILS)

    (version,) = bench.rows.current_versions([location]).values()
    assert version.etag == fetched != bench.owner.head(location).etag


class OvertakenMedia(ObjectStorage):
    """Just before the first write, another run puts the media of a newer version there."""

    def __init__(self, settings: Settings, other_run: Callable[[], None]) -> None:
        super().__init__(settings)
        self.other_runs = [other_run]

    def write(self, location: Location, data: bytes | Path, **kind: Any) -> None:
        if self.other_runs:
            self.other_runs.pop()()
        super().write(location, data, **kind)


def test_media_of_an_older_version_that_come_late_are_made_again_of_the_newer_one(
    bench: Bench, good: bytes, tmp_path: Path
) -> None:
    location = bench.put("a.exr", good)
    newer = write_rgb(tmp_path / "x.exr", flat(64, 32, (0.0, 0.0, 0.9))).read_bytes()

    def other_run() -> None:
        time.sleep(1.1)  # The store dates to the second.
        bench.put("a.exr", newer)
        ChunkIngest(bench.settings, bench.owner, media=bench.owner, rows=bench.rows, pool=bench.pool).run(
            [location], THUMBNAILS, on_written=lambda _: None
        )

    bench.media = OvertakenMedia(bench.settings, other_run)
    bench.ingest([location], THUMBNAILS)

    _, thumbnail = bench.owner.read(bench.bucket.child(".proxies/a_thumb.jpg"))
    red, _, blue = simplejpeg.decode_jpeg(thumbnail)[16, 32].tolist()
    assert blue > red + 100
    assert [products.location for products in bench.reported] == [location]
    (row,) = bench.rows.read("proxy_outputs", locations=[location]).to_pylist()
    assert row["thumbnail_size_bytes"] == len(thumbnail)


def test_a_file_that_was_away_for_a_moment_is_wanted_again_as_the_version_that_it_was(
    bench: Bench, good: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.exr"
    path.write_bytes(good)
    location = Location.from_url(path.as_uri())
    bench.ingest([location])
    path.rename(tmp_path / "elsewhere")
    bench.ingest([location])
    assert bench.rows.current_versions([location])[location].state == "rejected"
    (tmp_path / "elsewhere").rename(path)

    listed = [bench.owner.head(location)]
    known = bench.rows.current_versions([location])
    found = needs_work(listed, known, now=datetime.now(UTC), retry_after=timedelta(minutes=5))

    assert [candidate.need for candidate in found] == ["changed"]
    bench.ingest([location])
    (version,) = bench.rows.current_versions([location]).values()
    assert (version.state, version.deleted_at) == ("ready", None)


class StubbornMedia(ObjectStorage):
    """Media that can't be removed while the store is in trouble."""

    is_in_trouble = True

    def delete(self, location: Location) -> None:
        if self.is_in_trouble:
            raise RetryableError(f"{location.url}: no answer from the store")
        super().delete(location)


def test_media_that_could_not_be_removed_are_removed_by_the_next_run(bench: Bench, good: bytes) -> None:
    location = bench.put("a.exr", good)
    bench.ingest([location], FILE_PRODUCTS)
    bench.put("a.exr", good[:100])
    bench.media = media = StubbornMedia(bench.settings)
    with pytest.raises(RetryableError, match="no answer"):
        bench.ingest([location], FILE_PRODUCTS)
    assert bench.states() == {"a.exr": "ready"}, "not yet known as what it is now"

    media.is_in_trouble = False
    bench.ingest([location], FILE_PRODUCTS)

    assert bench.states() == {"a.exr": "rejected"}
    assert bench.keys() == ["a.exr"]


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
    (reason,) = [row["reason"] for row in bench.files() if row["state"] == "retryable"]
    assert "no space left in the temporary folder" in reason
    assert "set TMPDIR" in reason


class DeafStorage(WatchedStorage):
    """A store that answers for no file but those named."""

    def __init__(self, settings: Settings, answers: set[str]) -> None:
        super().__init__(settings)
        self.answers = answers
        self.asked: list[str] = []

    def download(self, location: Location, path: Path, **more: Any) -> ObjectInfo:
        self.asked.append(location.name)
        if location.name not in self.answers:
            raise RetryableError(f"{location.url}: read failed: no answer from the store")
        return super().download(location, path, **more)


def test_a_store_that_answers_nothing_at_all_ends_the_chunk_before_every_file_was_tried(
    bench: Bench, good: bytes
) -> None:
    bench.retries = replace(bench.retries, patience_seconds=0)
    locations = [bench.bucket.child(f"{number:03}.exr") for number in range(200)]
    storage = bench.storage = DeafStorage(bench.settings, set())

    with pytest.raises(OutageError, match=r"no file could be read for .* in a row: .*no answer from the store"):
        bench.ingest(locations, THUMBNAILS)

    assert len(storage.asked) < 100
    assert bench.reported == []


def test_what_ended_before_an_outage_is_in_the_tables(bench: Bench, good: bytes) -> None:
    bench.retries = replace(bench.retries, patience_seconds=0)
    first = bench.put("000.exr", good)
    bench.storage = DeafStorage(bench.settings, {"000.exr"})

    with pytest.raises(OutageError):
        bench.ingest([first, *(bench.bucket.child(f"{number:03}.exr") for number in range(1, 200))], THUMBNAILS)

    assert bench.states() == {"000.exr": "ready"}
    assert [products.location for products in bench.reported] == [first]


def test_as_long_as_some_files_answer_the_others_are_tried_to_the_end(bench: Bench, good: bytes) -> None:
    bench.retries = replace(bench.retries, attempts=1, failures_of_an_outage=4, patience_seconds=0)
    names = [f"{number:03}.exr" for number in range(12)]
    answers = set(names[::3])
    locations = [bench.put(name, good) if name in answers else bench.bucket.child(name) for name in names]
    bench.storage = DeafStorage(bench.settings, answers)

    progress = bench.ingest(locations, THUMBNAILS, workers=1, fetches=1)

    assert (progress.ready, progress.retryable) == (4, 8)


def test_no_usable_temporary_folder_is_said_with_what_to_do(
    bench: Bench, good: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))

    with pytest.raises(RetryableError, match="cannot create a temporary folder: "):
        bench.ingest([bench.put("a.exr", good)], THUMBNAILS)
