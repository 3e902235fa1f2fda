"""Which sequences need their media made, and when."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from exr_pipeline.ingest.discovery.settled_sequences import (
    LOOK_BACK,
    Watermark,
    due_again,
    frames_hash,
    outdated,
    sequences_in,
    settled_folders,
)
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables import TableStore, open_table_store
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

NOON = datetime(2026, 4, 2, 12, tzinfo=UTC)
QUIET = timedelta(seconds=30)
UDIM = Settings(_env_file=None).udim_hint


@pytest.fixture
def tables(tmp_path: Path) -> TableStore:
    return open_table_store(Settings(_env_file=None, database=tmp_path / "tables.duckdb"))


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def put(tables: TableStore, key: str, when: datetime = NOON, **changes: Any) -> None:
    tables.write(rows_of(SampleFile(key=key, **changes)), now=when)


def due(tables: TableStore, mark: Watermark, when: datetime, limit: int = 50, **options: int) -> list[str]:
    return settled_folders(tables, mark, now=when, quiet=QUIET, limit=limit, **options)


def test_a_folder_is_due_once_it_has_been_quiet_and_once_per_change(tables: TableStore) -> None:
    mark = Watermark()
    put(tables, "shot/a.0001.exr", at(0))
    put(tables, "shot/a.0002.exr", at(20))

    assert due(tables, mark, at(45)) == []
    assert due(tables, mark, at(50)) == ["s3://renders/shot/"]
    assert due(tables, mark, at(51)) == []
    put(tables, "shot/a.0003.exr", at(60))
    assert due(tables, mark, at(70)) == []
    assert due(tables, mark, at(90)) == ["s3://renders/shot/"]


def test_a_row_that_appears_late_is_not_missed(tables: TableStore) -> None:
    mark = Watermark()
    put(tables, "b/a.0001.exr", at(100))
    assert due(tables, mark, at(140)) == ["s3://renders/b/"]

    put(tables, "late/a.0001.exr", at(110) - LOOK_BACK + timedelta(seconds=1))

    assert due(tables, mark, at(141)) == ["s3://renders/late/"]


def test_more_folders_than_a_tick_takes_come_in_the_next_ones(tables: TableStore) -> None:
    mark = Watermark()
    for number in range(7):
        put(tables, f"shot_{number}/a.0001.exr", at(number // 2))
    seen = [due(tables, mark, at(100), limit=2) for _ in range(5)]

    assert sorted(url for some in seen for url in some) == [f"s3://renders/shot_{number}/" for number in range(7)]
    assert [len(some) for some in seen] == [2, 2, 2, 1, 0]


def test_what_the_watermark_remembers_is_bounded_by_time(tables: TableStore) -> None:
    mark = Watermark()
    put(tables, "shot/a.0001.exr", at(0))
    due(tables, mark, at(40))
    assert mark.seen

    due(tables, mark, at(40) + 2 * LOOK_BACK)

    assert mark.seen == {}
    assert due(tables, mark, at(41) + 2 * LOOK_BACK) == []


@pytest.mark.parametrize("behind", [timedelta(0), LOOK_BACK])
def test_a_burst_of_more_folders_than_are_remembered_is_visited_whole(tables: TableStore, behind: timedelta) -> None:
    for number in range(30):
        put(tables, f"shot_{number}/a.0001.exr", at(number * 8))
    mark, seen = Watermark(), []
    for tick in range(40):
        seen += due(tables, mark, at(270 + tick * 10) + behind, limit=4, most_remembered=10)
        assert len(mark.seen) <= 10

    assert sorted(seen) == sorted(f"s3://renders/shot_{number}/" for number in range(30))


def test_more_folders_of_one_moment_than_are_remembered_do_not_keep_later_ones_away(tables: TableStore) -> None:
    tables.write(rows_of(*(SampleFile(key=f"shot_{number}/a.0001.exr") for number in range(12))), now=NOON)
    put(tables, "later/a.0001.exr", at(60))
    put(tables, "latest/a.0001.exr", at(120))
    mark, seen = Watermark(), []
    for tick in range(60):
        seen += due(tables, mark, at(200 + tick * 10), limit=4, most_remembered=5)
        assert len(mark.seen) <= 5

    assert set(seen[:12]) == {f"s3://renders/shot_{number}/" for number in range(12)}
    assert set(seen[12:]) >= {"s3://renders/later/", "s3://renders/latest/"}
    assert len(seen) < 30
    assert mark.seen == {}


def test_frames_directly_in_the_folder_make_its_sequences(tables: TableStore) -> None:
    for key in ("shot/a.0001.exr", "shot/a.0002.exr", "shot/a.0003.exr", "shot/alone.exr", "shot/deeper/a.0004.exr"):
        put(tables, key)
    put(tables, "shot/a.0002.exr", state="rejected", reason="damaged", header=False)
    put(tables, "shot/a.0003.exr", state="retryable", reason="not reached", header=False)

    (sequence,) = sequences_in(tables, Location("s3", "renders", "shot/"), udim=UDIM)

    assert sequence.pattern == "a.####.exr"
    assert [str(frame.number) for frame in sequence.frames] == ["1", "2"]


def test_a_sequence_is_outdated_until_its_row_tells_the_same_frames(tables: TableStore) -> None:
    for number in (1, 2):
        put(tables, f"shot/a.000{number}.exr")
    folder = Location("s3", "renders", "shot/")

    def written(**changes: str) -> None:
        row = {"bucket": "renders", "sequence_path": "shot/a.####.exr", "state": "ready", **changes}
        tables.write({"sequence_outputs": pa.Table.from_pylist([row])}, now=NOON)

    def patterns() -> list[str]:
        found = sequences_in(tables, folder, udim=UDIM)
        return [one.pattern for one in outdated(tables, found, now=at(60), retry_after=timedelta(0))]

    assert patterns() == ["a.####.exr"]
    (sequence,) = sequences_in(tables, folder, udim=UDIM)
    written(frames_hash=frames_hash(sequence))
    assert patterns() == []
    written(frames_hash=frames_hash(sequence), state="retryable")
    assert patterns() == ["a.####.exr"]
    written(frames_hash=frames_hash(sequence), state="rejected")
    assert patterns() == []
    written(frames_hash=frames_hash(sequence), state="rejected", reason="3 workers ended: killed by SIGKILL)")
    assert patterns() == ["a.####.exr"], "that was no fault of a frame"
    written(frames_hash=frames_hash(sequence), state="ready", unreadable_frames='{"2": "took longer than 120 s"}')
    assert patterns() == ["a.####.exr"], "nor was that"
    written(frames_hash=frames_hash(sequence), state="ready", unreadable_frames='{"2": "damaged pixels"}')
    assert patterns() == []
    put(tables, "shot/a.0002.exr", mtime=at(60), etag="etag-2")
    assert patterns() == ["a.####.exr"]


def write_sequence(tables: TableStore, pattern: str, **changes: Any) -> None:
    path = f"shot/{pattern}"
    row = {"bucket": "renders", "sequence_path": path, "uri": f"s3://renders/{path}", "state": "retryable", **changes}
    tables.write({"sequence_outputs": pa.Table.from_pylist([row])}, now=NOON)


def retried(tables: TableStore, seconds: float) -> list[str]:
    found = due_again(tables, now=at(seconds), quiet=QUIET, retry_after=timedelta(seconds=300))
    return [location.name for location in found]


def test_a_retryable_sequence_waits_as_long_as_it_has_failed_within_bounds(tables: TableStore) -> None:
    last = 0
    for wait in (300, 300, 600, 1200, 2400, 3600, 3600):
        write_sequence(tables, "a.#.exr", generated_timestamp=at(last).isoformat(), retryable_since=at(0).isoformat())

        assert retried(tables, last + wait - 1) == []
        assert retried(tables, last + wait) == ["a.#.exr"]
        last += wait


def test_only_retryable_sequences_in_quiet_folders_are_due_again_those_untried_for_longest_first(
    tables: TableStore,
) -> None:
    for name, second in (("b", 20), ("a", 30), ("c", 10)):
        write_sequence(tables, f"{name}.#.exr", generated_timestamp=at(second).isoformat())
    write_sequence(tables, "bad.#.exr", generated_timestamp=at(0).isoformat(), state="rejected")
    write_sequence(tables, "good.#.exr", generated_timestamp=at(0).isoformat(), state="ready")

    assert retried(tables, 315) == ["c.#.exr"]
    put(tables, "shot/a.1.exr", at(500))
    assert retried(tables, 529) == [], "frames are still coming"
    assert retried(tables, 530) == ["c.#.exr", "b.#.exr", "a.#.exr"]


def test_a_retryable_sequence_of_the_same_frames_is_outdated_only_after_its_wait(tables: TableStore) -> None:
    for number in (1, 2):
        put(tables, f"shot/a.{number}.exr")
    folder = Location("s3", "renders", "shot/")
    (sequence,) = sequences_in(tables, folder, udim=UDIM)
    write_sequence(tables, "a.#.exr", generated_timestamp=at(0).isoformat(), frames_hash=frames_hash(sequence))

    def is_outdated(seconds: float) -> bool:
        found = sequences_in(tables, folder, udim=UDIM)
        return bool(outdated(tables, found, now=at(seconds), retry_after=timedelta(seconds=300)))

    assert not is_outdated(299)
    assert is_outdated(300)
    put(tables, "shot/a.2.exr", mtime=at(60), etag="etag-2")
    assert is_outdated(100), "other frames do not wait"
