"""Which folders have changed since a moment."""

from datetime import UTC, datetime, timedelta

from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

NOON = datetime(2026, 4, 2, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=90.5)


def test_folders_that_hold_files_inspected_after_a_moment_are_told_with_the_latest_one(tables: StoreUnderTest) -> None:
    a, b, c = (SampleFile(key=key) for key in ("shot 1/a.0001.exr", "shot 1/a.0002.exr", "top.exr"))
    tables.store.write(rows_of(a, c), now=NOON)
    tables.store.write(rows_of(b), now=LATER)
    shot, top = (Location("s3", a.bucket, key) for key in ("shot 1/", ""))

    assert tables.store.folders_changed_since("") == {shot: LATER.isoformat(), top: NOON.isoformat()}
    assert tables.store.folders_changed_since(NOON.isoformat()) == {shot: LATER.isoformat()}
    assert tables.store.folders_changed_since(LATER.isoformat()) == {}


def test_a_file_that_was_deleted_changes_its_folder(tables: StoreUnderTest) -> None:
    a = SampleFile(key="shot/a.0001.exr")
    tables.store.write(rows_of(a), now=NOON)
    location = Location("s3", a.bucket, a.key)
    version = tables.store.current_versions([location])[location]

    tables.store.mark({location: version.file_id}, "deleted", now=LATER)

    assert tables.store.folders_changed_since(NOON.isoformat()) == {
        Location("s3", a.bucket, "shot/"): LATER.isoformat()
    }
