"""Checksums: of the bytes in storage, taken in the read that happens anyway."""

import hashlib
from pathlib import Path
from typing import Any

import xxhash

from exr_pipeline.ingest.chunk import ChunkIngest
from exr_pipeline.products.registry import FILE_PRODUCTS, products_named
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.ingest.chunk.conftest import HEADERS, Bench, WatchedStorage, bench, database, good, pool

__all__ = ["bench", "database", "good", "pool"]
ALONE = products_named(["checksum"])


def hashes(row: dict[str, Any]) -> tuple[str | None, str | None]:
    return row["xxh3_128"], row["sha256"]


def expected(data: bytes) -> tuple[str, str]:
    return xxhash.xxh3_128_hexdigest(data), hashlib.sha256(data).hexdigest()


def test_pictures_and_checksums_come_from_one_fetch(bench: Bench, good: bytes) -> None:
    location = bench.put("a.exr", good)

    bench.ingest([location], FILE_PRODUCTS)

    (row,) = bench.files()
    assert (row["state"], hashes(row)) == ("ready", expected(good))
    assert isinstance(bench.storage, WatchedStorage)
    assert (bench.storage.downloads, bench.storage.ranges) == (["a.exr"], [])


def test_headers_alone_are_not_worth_a_fetch_of_the_whole_file(bench: Bench, good: bytes) -> None:
    location = bench.put("a.exr", good)

    bench.ingest([location], HEADERS)

    (row,) = bench.files()
    assert hashes(row) == (None, None)
    assert isinstance(bench.storage, WatchedStorage)
    assert bench.storage.downloads == []


def test_what_is_known_of_the_bytes_stays_when_only_the_header_is_read_again(bench: Bench, good: bytes) -> None:
    location = bench.put("a.exr", good)
    bench.ingest([location], ALONE)

    bench.ingest([location], HEADERS)

    (row,) = bench.files()
    assert (row["inspection_count"], hashes(row)) == (2, expected(good))


def test_a_changed_file_loses_the_checksum_of_its_former_bytes(bench: Bench, good: bytes) -> None:
    location = bench.put("a.exr", good)
    bench.ingest([location], ALONE)
    changed = good + b"x"
    bench.put("a.exr", changed)

    bench.ingest([location], ALONE)

    assert [hashes(row) for row in bench.files()] == [expected(changed)]


def test_checksums_alone_need_no_picture_workers(bench: Bench, good: bytes) -> None:
    location = bench.put("a.exr", good)
    one = ChunkIngest(bench.settings, bench.storage, media=bench.media, rows=bench.rows, pool=None)

    one.run([location], ALONE, on_written=bench.reported.extend)

    (row,) = bench.files()
    assert (row["state"], hashes(row)) == ("ready", expected(good))
    assert bench.keys() == ["a.exr"]


def test_the_bytes_of_a_rejected_file_are_known_too(bench: Bench) -> None:
    bad = b"no picture" * 100
    location = bench.put("bad.exr", bad)

    bench.ingest([location], FILE_PRODUCTS)

    (row,) = bench.files()
    assert (row["state"], hashes(row)) == ("rejected", expected(bad))


def test_a_local_file_is_read_where_it_is(s3_settings: Settings, tmp_path: Path, good: bytes) -> None:
    (tmp_path / "a.exr").write_bytes(good)
    tables = DuckDBStore(tmp_path / "tables.duckdb")
    storage = ObjectStorage(s3_settings)
    location = Location.from_url((tmp_path / "a.exr").as_uri())

    ChunkIngest(s3_settings, storage, media=storage, rows=tables, pool=None).run(
        [location], ALONE, on_written=lambda _: None
    )

    (row,) = tables.read("files").to_pylist()
    assert hashes(row) == expected(good)
