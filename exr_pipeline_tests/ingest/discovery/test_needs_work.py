"""Which files need work, as a plain comparison."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from exr_pipeline.ingest.discovery.needs_work import Candidate, Sighting, in_chunks, needs_work, settled
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.object_info import ObjectInfo
from exr_pipeline.tables.store import FileVersion

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
LOCATION = Location("s3", "renders", "shot/a.0001.exr")
MINUTE = timedelta(minutes=1)


def listed(etag: str = "one", *, location: Location = LOCATION, age: timedelta = 60 * MINUTE) -> ObjectInfo:
    return ObjectInfo(location, 10, etag, NOW - age)


def known(state: str, **changes: Any) -> dict[Location, FileVersion]:
    facts = {"file_id": "x", "etag": "one", "mtime": NOW - 60 * MINUTE, "state": state, "last_inspected": NOW - MINUTE}
    # Whatever else a store says of a version is nothing to this comparison.
    others = dict.fromkeys(FileVersion._fields)
    return {LOCATION: FileVersion(**(others | facts | changes))}  # type: ignore[arg-type]


def needs(info: ObjectInfo, versions: dict[Location, FileVersion], retry_after: timedelta = 5 * MINUTE) -> list[str]:
    return [candidate.need for candidate in needs_work([info], versions, now=NOW, retry_after=retry_after)]


def test_a_file_in_no_table_is_new() -> None:
    assert needs(listed(), {}) == ["new"]


@pytest.mark.parametrize("state", ["ready", "rejected", "retryable"])
def test_another_etag_is_a_change_whatever_the_state_and_even_with_the_same_or_an_older_date(state: str) -> None:
    assert needs(listed("two"), known(state)) == ["changed"]
    assert needs(listed("two", age=90 * MINUTE), known(state)) == ["changed"]
    if state != "rejected":
        assert needs(listed(), known(state, etag=None)) == ["changed"]


def test_the_same_version_is_left_alone_once_it_is_ready_or_rejected() -> None:
    assert needs(listed(), known("ready", last_inspected=NOW - timedelta(days=9))) == []
    assert needs(listed(), known("rejected", last_inspected=NOW - timedelta(days=9))) == []


def test_bytes_that_were_rejected_are_looked_at_again_when_they_are_put_there_anew() -> None:
    # A run that met the file while it was away has rejected the version that the tables knew.
    assert needs(listed(age=MINUTE), known("rejected")) == ["changed"]
    assert needs(listed(age=MINUTE), known("ready")) == []


def test_a_retryable_version_is_due_after_the_pause_and_not_before() -> None:
    assert needs(listed(), known("retryable"), retry_after=2 * MINUTE) == []
    assert needs(listed(), known("retryable"), retry_after=MINUTE) == ["retry"]


def test_a_version_that_stays_retryable_waits_as_long_as_it_has_failed_within_bounds() -> None:
    def failing_for(minutes: float, *, tried: float) -> dict[Location, FileVersion]:
        last = NOW - tried * MINUTE
        return known("retryable", last_inspected=last, retryable_since=last - minutes * MINUTE)

    for minutes, wait in ((0, 5), (4, 5), (10, 10), (40, 40), (60, 60), (6000, 60)):
        assert needs(listed(), failing_for(minutes, tried=wait - 0.1)) == []
        assert needs(listed(), failing_for(minutes, tried=wait)) == ["retry"]
        assert needs(listed("two"), failing_for(minutes, tried=0)) == ["changed"]


def test_what_needs_work_comes_in_listed_order() -> None:
    infos = [listed(location=LOCATION.child(name)) for name in "cab"]

    found = needs_work(infos, {}, now=NOW, retry_after=MINUTE)

    assert [candidate.info for candidate in found] == infos


def settle(info: ObjectInfo, seen: dict[str, Sighting]) -> tuple[bool, dict[str, Sighting]]:
    ready, waiting = settled([Candidate(info, "new")], seen, now=NOW, settle=MINUTE)
    return bool(ready), waiting


def test_a_file_older_than_the_settling_time_is_ready_at_first_sight() -> None:
    assert settle(listed(age=MINUTE), {}) == (True, {})


def test_a_younger_file_waits_and_what_was_seen_of_it_is_remembered() -> None:
    assert settle(listed(age=MINUTE / 2), {}) == (False, {LOCATION.url: Sighting("one", NOW)})


def test_a_file_of_a_store_whose_clock_is_ahead_is_ready_once_it_was_seen_unchanged_for_long_enough() -> None:
    ahead = listed(age=-60 * MINUTE)

    assert settle(ahead, {LOCATION.url: Sighting("one", NOW - MINUTE)}) == (True, {})
    half = Sighting("one", NOW - MINUTE / 2)
    assert settle(ahead, {LOCATION.url: half}) == (False, {LOCATION.url: half})


def test_a_file_that_changed_since_it_was_seen_begins_to_wait_anew() -> None:
    seen = {LOCATION.url: Sighting("zero", NOW - 9 * MINUTE)}

    assert settle(listed(age=-60 * MINUTE), seen) == (False, {LOCATION.url: Sighting("one", NOW)})


def test_chunks_keep_a_sequence_together_whatever_order_it_was_listed_in() -> None:
    names = ["b/x.0002.exr", "a/y.0001.exr", "b/x.0001.exr", "a/x.0002.exr", "a/x.0001.exr"]
    candidates = [Candidate(listed(location=Location("s3", "renders", name)), "new") for name in names]

    chunks = in_chunks(candidates, 2)

    assert [[candidate.info.location.key for candidate in chunk] for chunk in chunks] == [
        ["a/x.0001.exr", "a/x.0002.exr"],
        ["a/y.0001.exr", "b/x.0001.exr"],
        ["b/x.0002.exr"],
    ]
    assert in_chunks([], 2) == []


def test_a_file_that_may_not_be_looked_up_is_tried_now_and_then_and_when_it_is_put_anew() -> None:
    forbidden = known("rejected", etag=None, last_inspected=NOW - 119 * MINUTE)
    assert needs(listed(age=200 * MINUTE), forbidden) == []
    assert needs(listed(age=118 * MINUTE), forbidden) == ["changed"]
    assert needs(listed(age=200 * MINUTE), known("rejected", etag=None, last_inspected=NOW - 120 * MINUTE)) == ["retry"]


@pytest.mark.parametrize("state", ["ready", "rejected", "retryable"])
def test_a_file_that_was_taken_for_deleted_and_is_there_needs_work(state: str) -> None:
    assert needs(listed(), known(state, deleted_at=NOW)) == ["changed"]


def test_an_archived_file_is_left_alone_until_it_changes() -> None:
    assert needs(listed(), known("ready", archived_at=NOW)) == []
    assert needs(listed("two"), known("ready", archived_at=NOW)) == ["changed"]


def test_an_archived_file_needs_work_only_once_it_has_changed() -> None:
    archived = {"archived_at": NOW - timedelta(days=9)}
    long_ago = {"last_inspected": NOW - timedelta(days=99), "mtime": NOW - timedelta(days=100)}

    assert needs(listed(age=timedelta(days=100)), known("ready", **archived, **long_ago)) == []
    assert needs(listed(age=timedelta(days=100)), known("rejected", **archived, **long_ago)) == []
    assert needs(listed(age=timedelta(days=100)), known("rejected", etag=None, **archived, **long_ago)) == []
    assert needs(listed("two"), known("ready", **archived, **long_ago)) == ["changed"]
    assert needs(listed(age=MINUTE), known("rejected", etag=None, **archived, **long_ago)) == ["changed"]
