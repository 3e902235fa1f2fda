"""Objects that are named are looked up: one by one, or by listing where many are in one folder."""

from __future__ import annotations

from uuid import uuid4

import pytest

from exr_pipeline.events.notifications import ObjectEvent
from exr_pipeline.ingest.discovery.named import WORTH_LISTING, SourceFiles, look_up, named_sources
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.object_info import ObjectInfo, Page
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.services.processes import free_port


class Counting(ObjectStorage):
    """Counts what it asks its store for."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.heads = 0
        self.pages = 0

    def head(self, location: Location) -> ObjectInfo:
        self.heads += 1
        return super().head(location)

    def list_page(self, prefix: Location, *, after: str | None, limit: int) -> Page:
        self.pages += 1
        return super().list_page(prefix, after=after, limit=limit)


@pytest.fixture
def counting(s3_settings: Settings) -> Counting:
    return Counting(s3_settings)


def put(storage: ObjectStorage, *locations: Location) -> None:
    for location in locations:
        storage.write(location, uuid4().bytes, content_type="image/x-exr", tags={})


def test_many_objects_of_a_folder_take_few_requests_and_are_what_each_by_itself_would_be(
    counting: Counting, bucket: Location
) -> None:
    frames = [bucket.child(f"shot/beauty.{1001 + number}.exr") for number in range(3 * WORTH_LISTING)]
    others = [bucket.child(f"shot/beauty.{1001 + number}.txt") for number in range(10)]
    put(counting, *frames, *others)
    missing = [bucket.child(f"shot/beauty.{2001 + number}.exr") for number in range(3)]
    named = {location: location for location in [*reversed(frames), *missing]}

    found = look_up(named, counting, at_once=4)

    assert {info.location: info for info in found.files} == {
        each: ObjectStorage.head(counting, each) for each in frames
    }
    assert sorted(found.gone) == missing
    assert counting.pages == 1
    assert counting.heads == 1 + len(missing), "the first one, and those that the listing lacks"


def test_few_objects_of_a_folder_are_asked_for_one_by_one(counting: Counting, bucket: Location) -> None:
    frames = [bucket.child(f"shot_{number}/a.exr") for number in range(WORTH_LISTING)]
    put(counting, *frames[:-1])

    found = look_up({each: each for each in frames}, counting, at_once=4)

    assert sorted(info.location for info in found.files) == sorted(frames[:-1])
    assert found.gone == frames[-1:]
    assert (counting.heads, counting.pages) == (WORTH_LISTING, 0)


def test_a_store_that_does_not_answer_fails_each_object(s3_settings: Settings, bucket: Location) -> None:
    away = s3_settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_port()}", "request_retries": 0})
    frames = {bucket.child(f"{number}.exr"): bucket.child(f"{number}.exr") for number in range(WORTH_LISTING)}
    found = look_up(frames, ObjectStorage(away), at_once=4)
    assert (found.files, found.gone, set(found.failed)) == ([], [], set(frames))


def test_an_object_is_found_under_the_key_as_it_was_written(counting: Counting, bucket: Location) -> None:
    decoded, written = bucket.child("a b.exr"), bucket.child("a+b.exr")
    put(counting, written)
    sources = SourceFiles(Settings(_env_file=None, sources=(bucket.url,)))
    named = named_sources([ObjectEvent(decoded, as_written=written)], sources)

    found = look_up(named, counting, at_once=1)

    assert [info.location for info in found.files] == [written]
    assert found.gone == []
