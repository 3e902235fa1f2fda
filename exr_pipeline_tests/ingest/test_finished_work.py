"""Which files may be archived, and which partitions of sequences go with them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.ingest.finished_work import (
    ArchivePlan,
    Scope,
    age_limit,
    live_files,
    require_criterion,
    to_archive,
    to_unarchive,
    with_frames_among,
)
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables import TableStore, open_table_store
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ALL = Scope()


@pytest.fixture
def tables(tmp_path: Path) -> TableStore:
    return open_table_store(Settings(_env_file=None, database=tmp_path / "tables.duckdb"))


def put(tables: TableStore, *keys: str, inspected: datetime = NOW - 100 * DAY, **changes: Any) -> None:
    for key in keys:
        file = SampleFile(key=key, **({"mtime": NOW - 100 * DAY} | changes))
        tables.write({"files": rows_of(file)["files"]}, now=inspected)


def mark(tables: TableStore, key: str, what: Any) -> None:
    location = Location("s3", "renders", key)
    tables.mark({location: tables.current_versions([location])[location].file_id}, what, now=NOW)


def chosen(tables: TableStore, scope: Scope = ALL, days: float | None = None) -> tuple[set[str], ArchivePlan]:
    older_than = None if days is None else timedelta(days=days)
    with to_archive(tables, scope, older_than=older_than, now=NOW) as found:
        return {location.key for location in found.locations()}, found


def test_finished_files_are_chosen_and_retryable_archived_and_deleted_ones_are_not(tables: TableStore) -> None:
    put(tables, "a/ready.1.exr", "a/archived.1.exr", "a/deleted.1.exr")
    put(tables, "a/rejected.1.exr", state="rejected", header=False)
    put(tables, "a/retryable.1.exr", state="retryable", header=False)
    mark(tables, "a/archived.1.exr", "archived")
    mark(tables, "a/deleted.1.exr", "deleted")

    keys, found = chosen(tables)

    assert keys == {"a/ready.1.exr", "a/rejected.1.exr"}
    assert (found.chosen, found.archived, found.unfinished, found.recent) == (2, 1, 1, 0)


def test_a_file_is_as_old_as_its_latest_change_or_inspection(tables: TableStore) -> None:
    put(tables, "old.1.exr")
    put(tables, "written.1.exr", mtime=NOW - 2 * DAY)
    put(tables, "inspected.1.exr", inspected=NOW - 2 * DAY)

    assert chosen(tables, days=90)[0] == {"old.1.exr"}
    assert chosen(tables, days=90)[1].recent == 2
    assert len(chosen(tables, days=1)[0]) == 3
    assert chosen(tables, days=100.5)[0] == set()


def limit(tables: TableStore, most_live: int | None, days: float | None = None) -> timedelta | None:
    older_than = None if days is None else timedelta(days=days)
    return age_limit(tables, ALL, older_than=older_than, most_live=most_live, now=NOW)


@pytest.mark.parametrize(("most_live", "left"), [(0, 0), (1, 1), (3, 3), (4, 4), (5, 5), (9, 5)])
def test_of_files_beyond_a_number_those_touched_longest_ago_are_chosen(
    tables: TableStore, most_live: int, left: int
) -> None:
    for days in range(5):
        put(tables, f"{days}.exr", mtime=NOW - (days + 10) * DAY, inspected=NOW - (days + 1) * DAY)
    put(tables, "archived.exr", "deleted.exr", inspected=NOW - DAY / 2)
    mark(tables, "archived.exr", "archived")
    mark(tables, "deleted.exr", "deleted")

    with to_archive(tables, ALL, older_than=limit(tables, most_live), now=NOW) as found:
        keys = sorted(location.key for location in found.locations())

    assert keys == [f"{days}.exr" for days in range(left, 5)]


def test_files_touched_at_once_go_together_and_never_more_stay_than_may(tables: TableStore) -> None:
    put(tables, *(f"{number}.exr" for number in range(6)))
    with to_archive(tables, ALL, older_than=limit(tables, 4), now=NOW) as found:
        assert found.chosen == 6


def test_of_an_age_and_a_number_the_one_that_archives_more_counts(tables: TableStore) -> None:
    for days in (1, 5, 50):
        put(tables, f"{days}.exr", mtime=NOW - days * DAY, inspected=NOW - days * DAY)
    assert limit(tables, 1, days=30) == 5 * DAY
    assert limit(tables, 3, days=30) == 30 * DAY
    assert limit(tables, None, days=30) == 30 * DAY
    assert limit(tables, None) is None


def test_only_the_current_version_of_a_file_counts(tables: TableStore) -> None:
    put(tables, "a.1.exr")
    mark(tables, "a.1.exr", "archived")
    put(tables, "a.1.exr", mtime=NOW - DAY, etag="etag-2", inspected=NOW - DAY)

    keys, found = chosen(tables, days=90)
    assert (keys, found.archived, found.recent) == (set(), 0, 1)
    assert chosen(tables)[0] == {"a.1.exr"}


def test_a_scope_is_a_prefix_a_show_or_both(tables: TableStore) -> None:
    put(tables, "one/a.1.exr", "one/b.1.exr", "two/a.1.exr")
    put(tables, "one/a.1.exr", bucket="others")
    prefix = Location("s3", "renders", "one/")

    def in_show(location: Location) -> bool:
        return location.name.startswith("a.")

    assert chosen(tables, Scope(prefix))[0] == {"one/a.1.exr", "one/b.1.exr"}
    assert chosen(tables, Scope(prefix, in_show))[0] == {"one/a.1.exr"}
    assert chosen(tables, Scope(None, in_show))[1].chosen == 3


def test_saying_nothing_does_not_mean_all_files() -> None:
    with pytest.raises(MisconfiguredError, match=r"^url_prefix: no files are selected"):
        require_criterion("url_prefix", "", "", None)
    require_criterion("url_prefix", "", "show")


def test_versions_come_in_batches_with_names_as_they_are(tables: TableStore) -> None:
    keys = {"a/tab\t.exr", "a/line\n.exr", "a/per%20cent.exr", "a/ü #.exr", "a/x.exr"}
    put(tables, *keys)

    with to_archive(tables, Scope(), older_than=None, now=NOW) as found:
        batches = list(found.batches(2))

    assert [len(batch) for batch in batches] == [2, 2, 1]
    versions = {location: file_id for batch in batches for location, file_id in batch.items()}
    assert {location.key for location in versions} == keys
    assert {location: known.file_id for location, known in tables.current_versions(versions).items()} == versions


def test_what_is_unarchived_are_archived_files_that_are_there(tables: TableStore) -> None:
    put(tables, "live.1.exr", "archived.1.exr", "gone.1.exr")
    for key in ("archived.1.exr", "gone.1.exr"):
        mark(tables, key, "archived")
    mark(tables, "gone.1.exr", "deleted")

    with to_unarchive(tables, Scope()) as found:
        assert {location.key for location in found.locations()} == {"archived.1.exr"}
    assert {location.key for location in live_files(tables)} == {"live.1.exr"}
    assert list(live_files(tables, Location("s3", "renders", "other/"))) == []


def test_frames_are_told_by_folder_and_name() -> None:
    def at(key: str) -> Location:
        return Location("s3", "renders", key)

    sequences = {at("a/beauty.####.exr"), at("a/depth.#.exr"), at("b/beauty.####.exr"), at("a/####.dpx")}

    assert with_frames_among(sequences, [at("a/beauty.1001.exr")]) == {at("a/beauty.####.exr")}
    assert with_frames_among(sequences, [at("a/0001.dpx"), at("a/c/depth.1.exr")]) == {at("a/####.dpx")}
    assert with_frames_among(sequences, [at("a/beauty.1001.png"), at("notes.txt")]) == set()
    # A # of the name itself.
    assert with_frames_among([at("a/no#1.####.exr")], [at("a/no#1.0001.exr")]) == {at("a/no#1.####.exr")}
