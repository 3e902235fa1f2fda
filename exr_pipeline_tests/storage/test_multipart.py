"""Objects in parts, in S3 and in folders: any order, again, whole or not at all, and gone when they are aborted."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.multipart import SMALLEST_PART, GoneUploadError, Part, PartWriter, Target
from exr_pipeline.storage.objects import ObjectStorage

SIZES = (SMALLEST_PART, SMALLEST_PART, 17)
BLOCKS = [os.urandom(size) for size in SIZES]
STARTS = (0, SMALLEST_PART, 2 * SMALLEST_PART)


@pytest.fixture(params=["s3", "file"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "file":
        return Location("file", "", f"{str(tmp_path)[1:]}/assets/")
    found: Location = request.getfixturevalue("bucket").child("assets/")
    return found


@pytest.fixture
def target(root: Location) -> Target:
    return Target(root, "show/1/a file.exr")


class Sender:
    """Parts as a node takes them: in pieces, through one event loop."""

    def __init__(self, storage: ObjectStorage) -> None:
        self.storage = storage
        self.writer = PartWriter(storage)
        self._loop = asyncio.new_event_loop()

    def put(self, target: Target, upload: str, number: int, block: bytes) -> Part:
        async def body() -> AsyncIterator[bytes]:
            for start in range(0, len(block), 1 << 16):
                yield block[start : start + (1 << 16)]

        place = (number, STARTS[number - 1], len(block))
        etag = self._loop.run_until_complete(self.writer.put(target, upload, place, body()))
        return Part(number, len(block), etag)

    def close(self) -> None:
        self._loop.run_until_complete(self.writer.close())
        self._loop.close()


@pytest.fixture
def sender(storage: ObjectStorage) -> Iterator[Sender]:
    found = Sender(storage)
    yield found
    found.close()


def test_parts_in_any_order_make_the_object_at_once_and_completing_again_changes_nothing(
    sender: Sender, target: Target
) -> None:
    upload = sender.writer.begin(target, "image/x-exr")
    parts = {number: sender.put(target, upload, number, BLOCKS[number - 1]) for number in (3, 1)}
    with pytest.raises(BadInputError):
        sender.storage.head(target.location)
    # A block in memory is a part too.
    etag = sender.writer.put_block(target, upload, 2, STARTS[1], BLOCKS[1])
    parts[2] = Part(2, SIZES[1], etag)
    for number, part in parts.items():
        assert part.etag == hashlib.md5(BLOCKS[number - 1]).hexdigest()
    for _ in range(2):
        sender.writer.complete(target, upload, [parts[number] for number in (1, 2, 3)])
    assert sender.storage.read(target.location)[1] == b"".join(BLOCKS)


def test_a_part_that_is_sent_again_is_the_part(sender: Sender, target: Target) -> None:
    upload = sender.writer.begin(target, "image/x-exr")
    sender.put(target, upload, 1, bytes(SIZES[0]))
    parts = [sender.put(target, upload, number, BLOCKS[number - 1]) for number in (1, 2, 3)]
    sender.writer.complete(target, upload, parts)
    assert sender.storage.read(target.location)[1] == b"".join(BLOCKS)


def test_an_aborted_upload_leaves_nothing_and_takes_nothing(sender: Sender, target: Target) -> None:
    upload = sender.writer.begin(target, "image/x-exr")
    part = sender.put(target, upload, 1, BLOCKS[0])
    for _ in range(2):
        sender.writer.abort(target, upload)
    with pytest.raises(GoneUploadError):
        sender.put(target, upload, 2, BLOCKS[1])
    with pytest.raises(GoneUploadError):
        sender.writer.complete(target, upload, [part])
    assert list(sender.storage.iter_objects(target.root)) == []


def test_of_parts_that_were_sent_again_by_a_link_the_one_that_is_named_counts(sender: Sender, bucket: Location) -> None:
    target = Target(bucket, "show/1/a.exr")
    upload = sender.writer.begin(target, "image/x-exr")
    sender.put(target, upload, 1, bytes(SIZES[0]))
    for number in (1, 2):
        answer = httpx.put(sender.writer.sign_part(target, upload, number), content=BLOCKS[number - 1], timeout=60)
        assert answer.status_code == 200
    listed = sender.writer.parts(target, upload)
    named = [Part(number, SIZES[number - 1], hashlib.md5(BLOCKS[number - 1]).hexdigest()) for number in (1, 2)]
    assert set(named) <= set(listed)
    sender.writer.complete(target, upload, named)
    assert sender.storage.read(target.location)[1] == BLOCKS[0] + BLOCKS[1]


def test_a_part_of_which_less_comes_than_was_said_is_no_part(sender: Sender, bucket: Location) -> None:
    target = Target(bucket, "show/1/a.exr")
    upload = sender.writer.begin(target, "image/x-exr")

    async def torn() -> AsyncIterator[bytes]:
        yield BLOCKS[0][:1000]

    with pytest.raises(RetryableError, match="part 1 was not stored"):
        sender._loop.run_until_complete(sender.writer.put(target, upload, (1, 0, SIZES[0]), torn()))
    assert sender.writer.parts(target, upload) == []


def test_a_link_below_the_root_is_not_written_through(sender: Sender, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "assets", tmp_path / "elsewhere"
    (root / "show").mkdir(parents=True)
    elsewhere.mkdir()
    (root / "show" / "1").symlink_to(elsewhere)
    target = Target(Location("file", "", f"{str(root)[1:]}/"), "show/1/a.exr")
    with pytest.raises(BadInputError, match="is a link"):
        sender.writer.begin(target, "image/x-exr")
    assert list(elsewhere.iterdir()) == []
