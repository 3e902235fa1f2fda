"""Archived and deleted files, on each store: what a mark changes, what it survives, what removes it."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from exr_pipeline.tables.specs import REJECTED, RETRYABLE
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, output_rows, rows_of

LATER = NOON + timedelta(hours=1)
STILL_LATER = NOON + timedelta(hours=2)


def marked(tables: StoreUnderTest, mark: Any, *files: SampleFile, now: datetime = LATER) -> set[str]:
    found = tables.store.mark({file.location: file.file_id for file in files}, mark, now=now)
    return {location.key for location in found}


def version(tables: StoreUnderTest, file: SampleFile) -> Any:
    return tables.store.current_versions([file.location])[file.location]


def test_an_archived_version_stays_so_however_often_it_is_written(tables: StoreUnderTest) -> None:
    file, other = SampleFile(), SampleFile(key="other.exr")
    tables.store.write(rows_of(file, other), now=NOON)
    assert marked(tables, "archived", file) == {file.key}
    before = tables.store.read("files", locations=[file.location]).to_pylist()
    tables.store.write(rows_of(file), now=STILL_LATER)

    assert marked(tables, "archived", file, now=STILL_LATER) == {file.key}
    assert version(tables, file).archived_at == LATER, "the first date stays"
    assert version(tables, other).archived_at is None
    (after,) = tables.store.read("files", locations=[file.location]).to_pylist()
    changed = {name for name, value in after.items() if value != before[0][name]}
    assert changed == {"inspection_count", "last_inspected"}
    assert marked(tables, "unarchived", file) == {file.key}
    assert version(tables, file).archived_at is None


@pytest.mark.parametrize("seconds", [60, 0])
def test_a_changed_file_is_no_longer_archived_nor_deleted(tables: StoreUnderTest, seconds: int) -> None:
    file = SampleFile()
    tables.store.write(rows_of(file), now=NOON)
    marked(tables, "archived", file)
    marked(tables, "deleted", file)
    tables.store.write(rows_of(file.later(seconds)), now=STILL_LATER)

    found = version(tables, file)
    assert (found.etag, found.archived_at, found.deleted_at) == ("etag-2", None, None)


def test_only_what_is_meant_is_marked(tables: StoreUnderTest) -> None:
    old, pending, bad = SampleFile(), SampleFile(key="b.exr", state=RETRYABLE), SampleFile(key="c.exr", state=REJECTED)
    elsewhere = replace(bad, bucket="another")
    tables.store.write(rows_of(old, pending, bad, elsewhere, outputs=False), now=NOON)
    new = old.later(60)
    tables.store.write(rows_of(new), now=NOON)

    assert marked(tables, "archived", old, pending, bad, SampleFile(key="never-seen.exr")) == {bad.key}
    assert [version(tables, file).archived_at for file in (new, pending, bad, elsewhere)] == [None, None, LATER, None]
    assert marked(tables, "deleted", pending) == {pending.key}
    assert marked(tables, "archived") == set()


def test_a_deleted_file_leaves_the_views_and_counts_but_not_the_tables(tables: StoreUnderTest) -> None:
    gone, here = SampleFile(), SampleFile(key="b.exr")
    tables.store.write(rows_of(gone, here), now=NOON)
    assert marked(tables, "deleted", gone) == {gone.key}

    assert version(tables, gone).deleted_at == LATER
    assert tables.store.counts_by_state() == {"ready": 1}
    assert tables.store.sql("SELECT file_path FROM latest_files").to_pylist() == [{"file_path": "b.exr"}]
    deleted = tables.store.sql("SELECT file_path, state, has_media FROM deleted_files").to_pylist()
    assert deleted == [{"file_path": gone.key, "state": "ready", "has_media": True}]
    assert tables.store.read("parts", locations=[gone.location]).num_rows == 1
    assert marked(tables, "media_removed", gone) == {gone.key}
    assert tables.store.sql("SELECT has_media FROM deleted_files").to_pylist() == [{"has_media": False}]
    assert tables.store.read("proxy_outputs").column("s3_key").to_pylist() == ["b.exr"]


def test_a_deleted_file_is_back_once_it_was_met_after_that(tables: StoreUnderTest) -> None:
    file = SampleFile(seen_at=NOON)
    tables.store.write(rows_of(file), now=NOON)
    marked(tables, "deleted", file)
    marked(tables, "media_removed", file)
    # A run that read it before it went, and one that could not find it.
    tables.store.write(rows_of(file, outputs=False), now=STILL_LATER)
    tables.store.write(rows_of(replace(file, seen_at=None, state=REJECTED), outputs=False), now=STILL_LATER)
    assert version(tables, file).deleted_at == LATER

    tables.store.write(rows_of(replace(file, seen_at=STILL_LATER), outputs=False), now=STILL_LATER)
    assert version(tables, file).deleted_at is None
    assert tables.store.read("proxy_outputs").num_rows == 0, "its pictures are gone until they are made again"
    tables.store.write(output_rows(file.outputs_row()), now=STILL_LATER)
    assert tables.store.read("proxy_outputs").num_rows == 1


def test_an_archived_file_that_was_deleted_and_returns_unchanged_is_no_longer_archived(tables: StoreUnderTest) -> None:
    file, stays = SampleFile(seen_at=NOON), SampleFile(key="stays.exr", seen_at=NOON)
    tables.store.write(rows_of(file, stays), now=NOON)
    marked(tables, "archived", file, stays)
    marked(tables, "deleted", file)
    # A run that read it before it went, and comes late, brings nothing back.
    tables.store.write(rows_of(file, outputs=False), now=STILL_LATER)
    assert (version(tables, file).archived_at, version(tables, file).deleted_at) == (LATER, LATER)

    returned = [replace(each, seen_at=STILL_LATER) for each in (file, stays)]
    tables.store.write(rows_of(*returned, outputs=False), now=STILL_LATER)
    found = version(tables, file)
    assert (found.file_id, found.archived_at, found.deleted_at) == (file.file_id, None, None)
    assert version(tables, stays).archived_at == LATER, "what was never gone stays archived"
    assert marked(tables, "archived", file, now=STILL_LATER) == {file.key}
    assert version(tables, file).archived_at == STILL_LATER


def test_a_file_that_a_clock_ahead_called_deleted_is_back_once_it_was_met(tables: StoreUnderTest) -> None:
    file = SampleFile(seen_at=NOON)
    tables.store.write(rows_of(file), now=NOON)
    tables.store.mark({file.location: file.file_id}, "deleted", now=NOON + timedelta(days=400))

    tables.store.write(rows_of(replace(file, seen_at=LATER)), now=LATER)

    assert version(tables, file).deleted_at is None


def test_a_scan_gives_the_current_rows_below_a_prefix(tables: StoreUnderTest) -> None:
    files = [SampleFile(key=f"shot/a.{number:04}.exr") for number in range(30)]
    tables.store.write(rows_of(*files, SampleFile(key="shots/b.exr"), replace(files[0], bucket="another")), now=NOON)
    tables.store.write(rows_of(files[0].later(5)), now=NOON)
    marked(tables, "deleted", files[1])

    def scanned(**where: str) -> list[tuple[str, str]]:
        batches = tables.store.scan("files", columns=["file_path", "etag"], **where)
        return sorted((row["file_path"], row["etag"]) for batch in batches for row in batch.to_pylist())

    expected = [(file.key, "etag-2" if file is files[0] else "etag-1") for file in files]
    assert scanned(bucket="renders", prefix="shot/") == expected
    assert len(scanned()) == 32
    assert scanned(bucket="") == []


def test_a_version_tells_since_when_every_try_has_ended_as_retryable(tables: StoreUnderTest) -> None:
    file = SampleFile(state=RETRYABLE, reason="no answer", header=False)
    ready = replace(file, state="ready", reason=None)
    moments = [NOON + timedelta(minutes=minutes) for minutes in range(5)]
    found = []
    for each, moment in zip((file, file, ready, file, file.later(60)), moments, strict=True):
        tables.store.write(rows_of(each, outputs=False), now=moment)
        found.append(version(tables, each).retryable_since)

    assert found == [moments[0], moments[0], None, moments[3], moments[4]]
