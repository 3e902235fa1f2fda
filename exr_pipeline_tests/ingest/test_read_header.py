"""How much of a file is read for its header."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.ingest.read_header import FIRST_READ_BYTES, HeaderReader, inspect_local, source_file
from exr_pipeline.inspection import Inspection
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.pictures.files import write_exr


def exr_of(folder: Path, comment_bytes: int) -> bytes:
    path = write_exr(folder / "x.exr", {"Z": np.zeros((8, 8), np.float32)}, comments="x" * comment_bytes)
    return path.read_bytes()


def put(storage: ObjectStorage, location: Location, data: bytes) -> Location:
    storage.write(location, data, content_type="image/x-exr", tags={})
    return location


def inspected(storage: ObjectStorage, location: Location) -> Inspection:
    async def both() -> Inspection:
        reader = HeaderReader(storage)
        return await reader.inspect(*await reader.start(location))

    return asyncio.run(both())


@pytest.mark.parametrize("comment_bytes", [10, FIRST_READ_BYTES - 300, FIRST_READ_BYTES, 3 * FIRST_READ_BYTES + 1])
def test_a_header_of_any_length_reads_the_same_from_a_bucket_and_from_a_file(
    storage: ObjectStorage, bucket: Location, tmp_path: Path, comment_bytes: int
) -> None:
    data = exr_of(tmp_path, comment_bytes)
    location = put(storage, bucket.child("x.exr"), data)

    found = inspected(storage, location)

    local = inspect_local(tmp_path / "x.exr", found.source)
    assert found == local
    assert found.source.size_bytes == len(data)
    assert found.source.etag == storage.head(location).etag


def test_a_header_cut_off_anywhere_is_rejected(storage: ObjectStorage, bucket: Location, tmp_path: Path) -> None:
    data = exr_of(tmp_path, 2 * FIRST_READ_BYTES)
    for length in (0, 3, 200, FIRST_READ_BYTES, FIRST_READ_BYTES + 1, 2 * FIRST_READ_BYTES):
        location = put(storage, bucket.child("x.exr"), data[:length])
        path = tmp_path / "cut.exr"
        path.write_bytes(data[:length])
        with pytest.raises(BadInputError) as remote:
            inspected(storage, location)
        with pytest.raises(BadInputError) as local:
            inspect_local(path, source_file(storage.head(location)))
        assert local.value.reason == remote.value.reason


def test_a_file_cut_off_in_its_header_says_how_long_it_is(
    storage: ObjectStorage, bucket: Location, tmp_path: Path
) -> None:
    data = exr_of(tmp_path, 2 * FIRST_READ_BYTES)
    location = put(storage, bucket.child("x.exr"), data[: FIRST_READ_BYTES + 5])

    with pytest.raises(BadInputError) as caught:
        inspected(storage, location)

    assert f"truncated: the file has {FIRST_READ_BYTES + 5} bytes" in caught.value.reason


@pytest.mark.parametrize("length", [3 * FIRST_READ_BYTES, FIRST_READ_BYTES])
def test_bytes_of_two_versions_are_never_put_together(
    storage: ObjectStorage, bucket: Location, tmp_path: Path, length: int
) -> None:
    location = put(storage, bucket.child("x.exr"), exr_of(tmp_path, 2 * FIRST_READ_BYTES))

    async def changed_in_between() -> None:
        reader = HeaderReader(storage)
        source, data = await reader.start(location)
        put(storage, location, b"y" * length)
        await reader.inspect(source, data)

    with pytest.raises(RetryableError, match="changed while it was read"):
        asyncio.run(changed_in_between())
