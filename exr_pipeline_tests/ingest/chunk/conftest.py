"""A bucket with all that a chunk of its files needs: a real store, real tables and real picture workers."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from exr_pipeline.ingest.chunk import ChunkIngest, ChunkProgress
from exr_pipeline.pictures import PicturePool
from exr_pipeline.products.file_result import FileResult
from exr_pipeline.products.product import FileProduct
from exr_pipeline.products.registry import products_named
from exr_pipeline.retries import POLICY
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectInfo, ObjectStorage
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.pictures.files import flat, picture_settings, write_rgb

HEADERS = products_named(["header"])
THUMBNAILS = products_named(["thumbnail"])


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

    def download(self, location: Location, path: Path, **more: Any) -> ObjectInfo:
        info = super().download(location, path, **more)
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
        self.reported: list[FileResult] = []
        self.retries = replace(POLICY, first_pause_seconds=0.05)

    def put(self, name: str, data: bytes) -> Location:
        location = self.bucket.child(name)
        self.owner.write(location, data, content_type="image/x-exr", tags={})
        return location

    def ingest(
        self,
        locations: Sequence[Location],
        wanted: Sequence[FileProduct] = HEADERS,
        *,
        traces: Mapping[Location, str] = MappingProxyType({}),
        **changes: Any,
    ) -> ChunkProgress:
        settings = self.settings.model_copy(update=changes)
        one = ChunkIngest(
            settings,
            self.storage,
            media=self.media,
            rows=self.rows,
            pool=self.pool,
            retries=self.retries,
        )
        return one.run(locations, wanted, on_written=self.reported.extend, traces=traces)

    def states(self) -> dict[str, str]:
        return {Path(row["file_path"]).name: row["state"] for row in self.files()}

    def files(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.rows.read("files").to_pylist()
        return [row for row in rows if row["bucket"] == self.bucket.bucket]

    def keys(self) -> list[str]:
        return sorted(info.location.key for info in self.owner.iter_objects(self.bucket))


@pytest.fixture
def bench(s3_settings: Settings, bucket: Location, database: Path, pool: PicturePool) -> Bench:
    return Bench(s3_settings.model_copy(update={"request_retries": 0}), bucket, database, pool)
