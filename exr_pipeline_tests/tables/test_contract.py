"""What every table store promises, on each of them. See docs/tables.md."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from exr_pipeline.tables import BadQueryError, FileVersion
from exr_pipeline.tables.specs import READY, REJECTED, RETRYABLE, TABLES, arrow_schema, tables_of
from exr_pipeline.tables.views import VIEWS
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, output_rows, rows_of

LATER = NOON + timedelta(hours=1)
COMPUTED = {"inspection_timestamp", "inspection_count", "last_inspected", "superseded_at"}


def rows(tables: StoreUnderTest, name: Any, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tables.store.read(name, **options).to_pylist()
    return found


def only(found: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(found) == 1
    return found[0]


def without_computed(table: pa.Table) -> list[dict[str, Any]]:
    found = [{name: value for name, value in row.items() if name not in COMPUTED} for row in table.to_pylist()]
    return sorted(found, key=repr)


def test_every_row_comes_back_as_it_was_written(tables: StoreUnderTest) -> None:
    written = rows_of(SampleFile(), SampleFile(key="shot/héro #1, “x”.exr", bucket="", vector_axis=3, channels=2))
    tables.store.write(written, now=NOON)
    for name in tables_of("versions", "children", "outputs"):
        read = tables.store.read(name)
        assert read.schema == arrow_schema(name)
        assert without_computed(read) == without_computed(written[name])


def test_the_first_inspection_is_counted_and_dated(tables: StoreUnderTest) -> None:
    tables.store.write(rows_of(SampleFile()), now=NOON)
    row = only(rows(tables, "files"))
    assert (row["inspection_count"], row["superseded_at"]) == (1, None)
    assert row["inspection_timestamp"] == row["last_inspected"] == "2026-04-02T12:00:00+00:00"


def test_the_same_rows_again_change_only_the_count_and_the_latest_inspection(tables: StoreUnderTest) -> None:
    written = rows_of(SampleFile(), SampleFile(key="b.exr"))
    tables.store.write(written, now=NOON)
    before = {name: rows(tables, name, current_only=False) for name in TABLES}
    tables.store.write(written, now=LATER)
    after = {name: rows(tables, name, current_only=False) for name in TABLES}
    for row in before["files"]:
        row |= {"inspection_count": 2, "last_inspected": LATER.isoformat()}
    for name in TABLES:
        assert sorted(after[name], key=repr) == sorted(before[name], key=repr)


def test_a_new_version_supersedes_the_file_and_its_outputs(tables: StoreUnderTest) -> None:
    old, new = SampleFile(), SampleFile().later(60)
    tables.store.write(rows_of(old), now=NOON)
    tables.store.write(rows_of(new, outputs=False), now=LATER)
    history = {row["file_id"]: row["superseded_at"] for row in rows(tables, "files", current_only=False)}
    assert history == {old.file_id: LATER.isoformat(), new.file_id: None}
    assert only(rows(tables, "files"))["file_id"] == new.file_id
    assert rows(tables, "proxy_outputs") == []
    assert only(rows(tables, "proxy_outputs", current_only=False))["superseded_at"] == LATER.isoformat()
    assert {row["file_id"] for row in rows(tables, "channels")} == {new.file_id}
    assert {row["file_id"] for row in rows(tables, "channels", current_only=False)} == {old.file_id, new.file_id}
    tables.store.write(output_rows(new.outputs_row()), now=LATER)
    assert only(rows(tables, "proxy_outputs"))["proxy_id"] == new.file_id


def test_a_late_writer_does_not_supersede_a_newer_version(tables: StoreUnderTest) -> None:
    old, new = SampleFile(), SampleFile().later(0.5)
    tables.store.write(rows_of(new), now=NOON)
    tables.store.write(rows_of(old), now=LATER)
    for name in ("files", "proxy_outputs"):
        assert only(rows(tables, name))["file_id"] == new.file_id
        assert len(rows(tables, name, current_only=False)) == 2


def test_a_file_replaced_by_one_with_an_older_date_is_known_by_when_it_was_met(tables: StoreUnderTest) -> None:
    first = SampleFile(seen_at=NOON)
    restored = replace(first.later(-3600), etag="etag-2", seen_at=LATER)
    tables.store.write(rows_of(first), now=NOON)
    tables.store.write(rows_of(restored), now=LATER)
    assert only(rows(tables, "files"))["etag"] == "etag-2"
    # A run that met the first one before, and comes late, changes nothing about that.
    tables.store.write(rows_of(first), now=LATER + timedelta(hours=1))
    assert only(rows(tables, "files"))["etag"] == "etag-2"
    # Put back, it is current again, as the same version as before.
    tables.store.write(rows_of(replace(first, seen_at=LATER + timedelta(hours=2))), now=LATER + timedelta(hours=2))
    assert only(rows(tables, "files"))["file_id"] == first.file_id
    assert len(rows(tables, "files", current_only=False)) == 2


def test_a_clock_that_was_once_ahead_does_not_keep_later_versions_from_being_current(tables: StoreUnderTest) -> None:
    before, ahead = SampleFile(seen_at=NOON - timedelta(hours=1)), NOON + timedelta(days=400)
    wrong = replace(before.later(60), seen_at=ahead)
    tables.store.write(rows_of(before), now=NOON - timedelta(hours=1))
    tables.store.write(rows_of(wrong), now=ahead)
    # What says nothing of when the file was met leaves the current version as it is.
    tables.store.write(output_rows(wrong.outputs_row()), now=NOON)
    assert only(rows(tables, "files"))["file_id"] == wrong.file_id

    changed = replace(before.later(120), seen_at=NOON)
    tables.store.write(rows_of(changed), now=NOON)
    tables.store.write(output_rows(changed.outputs_row()), now=NOON)
    for name in ("files", "proxy_outputs"):
        assert only(rows(tables, name))["file_id"] == changed.file_id

    # Put back, it is current again, and met when it was.
    tables.store.write(rows_of(replace(wrong, seen_at=LATER)), now=LATER)
    row = only(rows(tables, "files"))
    assert (row["file_id"], row["seen_at"], row["last_inspected"]) == (
        wrong.file_id,
        LATER.isoformat(),
        LATER.isoformat(),
    )


def test_clocks_that_differ_by_minutes_leave_the_version_that_was_met_last_current(tables: StoreUnderTest) -> None:
    first = SampleFile(seen_at=NOON)
    restored = replace(first.later(-3600), seen_at=NOON + timedelta(minutes=2))
    tables.store.write(rows_of(restored), now=NOON + timedelta(minutes=2))
    tables.store.write(rows_of(first), now=NOON)
    assert only(rows(tables, "files"))["file_id"] == restored.file_id


def test_several_versions_in_one_write_leave_the_latest_current(tables: StoreUnderTest) -> None:
    first = SampleFile()
    second, third = first.later(1), first.later(2)
    tables.store.write(rows_of(second, third, first), now=NOON)
    for name in ("files", "proxy_outputs"):
        assert only(rows(tables, name))["file_id"] == third.file_id


def test_other_bytes_in_the_same_second_replace_the_row_and_retire_its_outputs(tables: StoreUnderTest) -> None:
    first, again = SampleFile(), SampleFile(etag="etag-2", channels=2, color_space="lin_rec709")
    assert first.file_id == again.file_id
    tables.store.write(rows_of(first), now=NOON)
    tables.store.write(rows_of(again, outputs=False), now=LATER)
    row = only(rows(tables, "files", current_only=False))
    assert (row["etag"], row["inspection_count"]) == ("etag-2", 2)
    assert only(rows(tables, "parts"))["color_space"] == "lin_rec709"
    assert len(rows(tables, "channels", current_only=False)) == 2
    assert rows(tables, "proxy_outputs") == []
    tables.store.write(output_rows(again.outputs_row(proxy_s3_key=None, encoder=None)), now=LATER)
    outputs = only(rows(tables, "proxy_outputs"))
    assert outputs["encoder"] is None, "the proxy of the old bytes must not come back"


def test_other_bytes_that_cannot_be_read_take_the_old_header_with_them(tables: StoreUnderTest) -> None:
    tables.store.write(rows_of(SampleFile()), now=NOON)
    broken = SampleFile(etag="etag-2", state=REJECTED, reason="truncated", header=False)
    tables.store.write(rows_of(broken), now=LATER)
    row = only(rows(tables, "files"))
    assert (row["state"], row["header_hash"], row["metadata_embedding"]) == (REJECTED, None, None)
    for name in ("parts", "channels", "attributes", "media_streams"):
        assert rows(tables, name, current_only=False) == []


def test_the_streams_of_a_movie_are_replaced_with_its_other_rows(tables: StoreUnderTest) -> None:
    movie = SampleFile("cut.mov", streams=3)
    tables.store.write(rows_of(movie, SampleFile("other.mov", streams=1)), now=NOON)
    tables.store.write(rows_of(SampleFile("cut.mov", streams=2, etag="etag-2")), now=LATER)
    found = sorted((row["file_path"], row["stream_index"], row["tags_json"]) for row in rows(tables, "media_streams"))
    assert found == [("cut.mov", 0, '"etag-2"'), ("cut.mov", 1, '"etag-2"'), ("other.mov", 0, '"etag-1"')]
    tables.store.write(rows_of(movie.later(60)), now=LATER)
    current = tables.store.read("media_streams", locations=[movie.location])
    assert current.column("file_id").to_pylist() == [movie.later(60).file_id] * 3
    assert len(rows(tables, "media_streams", current_only=False)) == 6, "earlier versions are kept"


@pytest.mark.parametrize("state", [REJECTED, RETRYABLE])
def test_failing_after_having_been_read_changes_state_and_reason_only(tables: StoreUnderTest, state: str) -> None:
    tables.store.write(rows_of(SampleFile()), now=NOON)
    before = {name: rows(tables, name) for name in TABLES}
    tables.store.write(rows_of(SampleFile(state=state, reason="no luck", header=False)), now=LATER)
    before["files"][0] |= {
        "state": state,
        "reason": "no luck",
        "inspection_count": 2,
        "last_inspected": LATER.isoformat(),
        "retryable_since": LATER.isoformat() if state == RETRYABLE else None,
    }
    for name in TABLES:
        assert sorted(rows(tables, name), key=repr) == sorted(before[name], key=repr)


def test_a_retried_file_becomes_ready(tables: StoreUnderTest) -> None:
    failed = SampleFile(state=RETRYABLE, reason="timed out", header=False)
    tables.store.write(rows_of(failed), now=NOON)
    assert tables.store.counts_by_state() == {RETRYABLE: 1}
    tables.store.write(rows_of(SampleFile()), now=LATER)
    row = only(rows(tables, "files", current_only=False))
    assert (row["state"], row["reason"], row["inspection_count"]) == (READY, None, 2)
    assert len(rows(tables, "channels")) == 4


def test_a_run_for_thumbnails_only_keeps_the_proxy_and_the_other_way_round(tables: StoreUnderTest) -> None:
    file = SampleFile()
    tables.store.write(rows_of(file), now=NOON)
    no_proxy = {"proxy_s3_key": None, "proxy_size_bytes": None, "proxy_colorspace": None, "encoder": None}
    tables.store.write(output_rows(file.outputs_row(thumbnail_size_bytes=11, still_view=None, **no_proxy)), now=LATER)
    row = only(rows(tables, "proxy_outputs"))
    assert (row["thumbnail_size_bytes"], row["still_view"]) == (11, None)
    assert (row["proxy_s3_key"], row["proxy_size_bytes"], row["encoder"]) == (f"{file.key}_proxy.mp4", 20, "libx264")
    no_thumbnail = {"thumbnail_s3_key": None, "thumbnail_size_bytes": None, "thumb_colorspace": None}
    changed = file.outputs_row(proxy_size_bytes=21, source_colorspace=None, nan_pixels=3, **no_thumbnail)
    tables.store.write(output_rows(changed), now=LATER)
    row = only(rows(tables, "proxy_outputs", current_only=False))
    assert (row["proxy_size_bytes"], row["thumbnail_size_bytes"], row["thumb_colorspace"]) == (21, 11, "sRGB")
    assert (row["source_colorspace"], row["nan_pixels"]) == ("ACEScg", 3)


def test_the_same_key_in_two_buckets_is_two_files_even_in_the_same_second(tables: StoreUnderTest) -> None:
    left, right = SampleFile(bucket="left", etag="l"), SampleFile(bucket="right", etag="r", channels=1)
    assert left.file_id == right.file_id
    tables.store.write(rows_of(left, right), now=NOON)
    tables.store.write(rows_of(right), now=LATER)
    counts = {row["bucket"]: row["inspection_count"] for row in rows(tables, "files", current_only=False)}
    assert counts == {"left": 1, "right": 2}
    assert Counter(row["bucket"] for row in rows(tables, "channels")) == {"left": 4, "right": 1}
    assert {row["bucket"] for row in rows(tables, "files", locations=[left.location])} == {"left"}
    assert len(rows(tables, "proxy_outputs")) == 2


def test_rows_of_a_file_need_not_name_its_bucket(tables: StoreUnderTest) -> None:
    written = rows_of(SampleFile())
    written["channels"] = written["channels"].drop_columns(["bucket"])
    tables.store.write(written, now=NOON)
    assert {row["bucket"] for row in rows(tables, "channels")} == {"renders"}


@pytest.mark.parametrize("case", ["unknown column", "twice", "no files row", "outputs of an unknown file", "no key"])
def test_contradicting_rows_are_refused_and_nothing_is_written(tables: StoreUnderTest, case: str) -> None:
    file, other = SampleFile(), SampleFile(key="other.exr")
    written = rows_of(file)
    if case == "unknown column":
        written["parts"] = written["parts"].append_column("depth", pa.array([1]))
    elif case == "twice":
        written["files"] = pa.concat_tables([written["files"], written["files"]])
    elif case == "no files row":
        written["parts"] = rows_of(other)["parts"]
    elif case == "outputs of an unknown file":
        written["proxy_outputs"] = output_rows(other.outputs_row())["proxy_outputs"]
    else:
        written["files"] = pa.Table.from_pylist([file.files_row() | {"bucket": None}], schema=arrow_schema("files"))
    with pytest.raises(ValueError, match=r"has no column depth|several rows|files has no such row|must not be null"):
        tables.store.write(written, now=NOON)
    assert all(rows(tables, name, current_only=False) == [] for name in TABLES)


def test_current_versions_answers_for_thousands_of_files_at_once(tables: StoreUnderTest) -> None:
    files = [SampleFile(key=f"s/f.{i}.exr", channels=0, attributes=0, header=False) for i in range(1500)]
    tables.store.write(rows_of(*files), now=NOON)
    newer = files[7].later(1)
    tables.store.write(rows_of(newer), now=LATER)
    unknown = SampleFile(key="s/none.exr").location
    found = tables.store.current_versions([unknown, *(file.location for file in files)])
    assert set(found) == {file.location for file in files}
    assert found[newer.location] == FileVersion(newer.file_id, "etag-2", newer.mtime, READY, LATER)
    assert found[files[8].location] == FileVersion(files[8].file_id, "etag-1", NOON, READY, NOON)
    assert tables.store.current_versions([]) == {}


def test_read_gives_the_columns_and_files_asked_for(tables: StoreUnderTest) -> None:
    files = [SampleFile(key=f"f.{i}.exr") for i in range(3)]
    tables.store.write(rows_of(*files), now=NOON)
    read = tables.store.read("channels", columns=["channel_index", "file_path"], locations=[files[1].location])
    assert read.column_names == ["channel_index", "file_path"]
    assert sorted(map(tuple, (row.values() for row in read.to_pylist()))) == [(i, "f.1.exr") for i in range(4)]
    assert tables.store.read("proxy_outputs", locations=[files[2].location]).num_rows == 1
    assert tables.store.read("files", locations=[]).num_rows == 0


def test_counts_by_state_can_be_asked_for_a_bucket_and_a_prefix(tables: StoreUnderTest) -> None:
    bad: dict[str, Any] = {"state": REJECTED, "reason": "no", "header": False}
    files = [SampleFile(key="a/1"), SampleFile(key="a/2", **bad), SampleFile(key="b/1"), SampleFile(bucket="other")]
    tables.store.write(rows_of(*files), now=NOON)
    tables.store.write(rows_of(files[0].later(1)), now=LATER)
    assert tables.store.counts_by_state() == {READY: 3, REJECTED: 1}
    assert tables.store.counts_by_state("renders") == {READY: 2, REJECTED: 1}
    assert tables.store.counts_by_state("renders", "a/") == {READY: 1, REJECTED: 1}
    assert tables.store.counts_by_state("nowhere") == {}


def test_empty_tables_answer_every_question(tables: StoreUnderTest) -> None:
    tables.store.write({}, now=NOON)
    assert [tables.store.read(name).num_rows for name in TABLES] == [0] * len(TABLES)
    assert tables.store.counts_by_state() == {}
    for view in VIEWS:
        arguments = f"({', '.join(['now()'] * len(view.parameters))})" if view.parameters else ""
        assert tables.store.sql(f"SELECT * FROM {view.name}{arguments}").num_rows == 0


def test_sql_joins_tables_and_views(tables: StoreUnderTest) -> None:
    tables.store.write(rows_of(SampleFile(), SampleFile(key="b.exr", channels=1)), now=NOON)
    answer = tables.store.sql(
        """WITH layers AS (SELECT file_id, count(*) AS n FROM channels GROUP BY file_id)
        SELECT f.file_path, layers.n, a.inspection_count
        FROM latest_files f JOIN layers USING (file_id) JOIN files a USING (file_id) ORDER BY 1"""
    )
    assert [tuple(row.values()) for row in answer.to_pylist()] == [("b.exr", 1, 1), ("shot/beauty.1001.exr", 4, 1)]
    assert tables.store.sql("SELECT count(*) AS n FROM channels").to_pylist() == [{"n": 5}]
    assert tables.store.sql("FROM files").schema.names == arrow_schema("files").names


def test_sql_searches_vectors(tables: StoreUnderTest) -> None:
    files = [SampleFile(key=f"f{axis}.exr", vector_axis=axis) for axis in range(3)]
    tables.store.write(rows_of(*files), now=NOON)
    answer = tables.store.sql(
        """SELECT f.file_path, array_cosine_distance(f.metadata_embedding, q.metadata_embedding) AS distance
        FROM latest_files f, latest_files q WHERE q.file_path = 'f1.exr' ORDER BY distance, f.file_path"""
    )
    assert answer.column("file_path").to_pylist() == ["f1.exr", "f0.exr", "f2.exr"]
    assert answer.column("distance").to_pylist() == pytest.approx([0.0, 1.0, 1.0])


REFUSED = [
    ("SELECT * FROM nowhere", "nowhere does not exist"),
    ("SELECT nothing FROM files", "nothing"),
    ("SELEC 1", "syntax error"),
    ("", "single SELECT statement"),
    ("SELECT 1; SELECT 2", "single SELECT statement"),
    ("DELETE FROM files", "single SELECT statement"),
    ("DROP TABLE files", "single SELECT statement"),
    ("INSERT INTO files (file_id) VALUES ('x')", "single SELECT statement"),
    ("COPY files TO 'files.csv'", "single SELECT statement"),
    ("ATTACH 'other.duckdb'", "single SELECT statement"),
    ("SET enable_external_access = true", "single SELECT statement"),
    ("SELECT * FROM read_text('/etc/hostname')", "read_text\\(\\) is not allowed"),
    ("SELECT CAST('x' AS INTEGER) FROM (SELECT 1)", "Could not convert"),
]


def test_sql_that_is_wrong_or_does_more_than_reading_is_refused(tables: StoreUnderTest) -> None:
    tables.store.write(rows_of(SampleFile()), now=NOON)
    for query, reason in REFUSED:
        with pytest.raises(BadQueryError, match=reason) as caught:
            tables.store.sql(query)
        assert "\n" not in str(caught.value)
    assert len(rows(tables, "files")) == 1


def test_texts_of_any_length_come_back_unchanged(tables: StoreUnderTest) -> None:
    manifest = '{"é": "' + "0123456789abcdef" * 40_000 + '"}'
    deceptive = "exr-pipeline:long-value:" + "0" * 64
    for file in (SampleFile(), SampleFile(key="other.exr")):
        written = rows_of(file, outputs=False)
        attributes = file.attribute_rows()
        attributes[1] |= {"value_json": manifest, "value_text": deceptive}
        written["attributes"] = pa.Table.from_pylist(attributes, schema=arrow_schema("attributes"))
        tables.store.write(written, now=NOON)
        tables.store.write(written, now=LATER)
    read = [row for row in rows(tables, "attributes") if row["attr_index"] == 1]
    assert [(row["value_json"], row["value_text"]) for row in read] == [(manifest, deceptive)] * 2
    query = f"SELECT count(*) AS n FROM attributes WHERE len(value_json) = {len(manifest)}"
    assert tables.store.sql(query).to_pylist() == [{"n": 2}]


def test_a_write_of_more_than_one_request_is_whole(tables: StoreUnderTest) -> None:
    files = [SampleFile(key=f"f.{i}.exr", channels=40) for i in range(300)]
    tables.store.write(rows_of(*files), now=NOON)
    answer = tables.store.sql(
        """SELECT count(DISTINCT file_id) AS files, count(DISTINCT (file_id, channel_index)) AS channels,
            count(channel_fingerprint) AS fingerprints FROM channels"""
    )
    assert answer.to_pylist() == [{"files": 300, "channels": 12_000, "fingerprints": 12_000}]


def test_a_write_that_is_made_again_is_counted_once(tables: StoreUnderTest) -> None:
    for now in (NOON, NOON, LATER, LATER):
        tables.store.write(rows_of(SampleFile()), now=now)
    assert only(rows(tables, "files"))["inspection_count"] == 2


# Races


def assert_one_current_row(tables: StoreUnderTest, latest: SampleFile, versions: int) -> None:
    for name in ("files", "proxy_outputs"):
        assert only(rows(tables, name))["file_id"] == latest.file_id
        assert len(rows(tables, name, current_only=False)) == versions
    parts = Counter(row["file_id"] for row in rows(tables, "parts", current_only=False))
    assert set(parts.values()) == {1}
    assert len(parts) == versions


def test_threads_that_insert_the_same_new_file_at_once_leave_one_row(tables: StoreUnderTest) -> None:
    versions = [SampleFile().later(second) for second in range(3)]

    def write(index: int) -> None:
        tables.open().write(rows_of(versions[index % 3]), now=NOON + timedelta(seconds=index))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(9)))
    assert_one_current_row(tables, versions[2], 3)
    assert {row["inspection_count"] for row in rows(tables, "files", current_only=False)} == {3}


def write_versions(tables: StoreUnderTest, barrier: Any, times: int, versions: list[SampleFile]) -> None:
    barrier.wait()
    for _ in range(times):
        tables.store.write(rows_of(*versions), now=datetime.now(UTC))


def test_processes_that_insert_the_same_new_files_at_once_leave_one_row(
    tables: StoreUnderTest, start: Callable[..., multiprocessing.context.ForkProcess]
) -> None:
    old, new = SampleFile(), SampleFile().later(1)
    barrier = multiprocessing.get_context("fork").Barrier(4)
    processes = [start(write_versions, tables, barrier, 2, [version]) for version in (old, new, old, new)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert_one_current_row(tables, new, 2)
    assert {row["inspection_count"] for row in rows(tables, "files", current_only=False)} == {4}


def write_for_ever(tables: StoreUnderTest, first: int, beat: Any) -> None:
    for chunk in range(first, 1_000_000):
        files = [SampleFile(key=f"s/{chunk}.{i}.exr") for i in range(20)]
        tables.store.write(rows_of(SampleFile().later(chunk), *files), now=NOON)
        beat.release()


def test_a_writer_killed_at_any_moment_leaves_whole_chunks_and_one_current_row(
    tables: StoreUnderTest, start: Callable[..., multiprocessing.context.ForkProcess]
) -> None:
    for turn, delay in enumerate((0.0, 0.005, 0.015, 0.03)):
        beat = multiprocessing.get_context("fork").Semaphore(0)
        process = start(write_for_ever, tables, turn * 1000, beat)
        assert beat.acquire(timeout=600)
        assert beat.acquire(timeout=600)
        time.sleep(delay)
        process.kill()
        process.join()
        tables.forget_dead_writers()
    tables.store.write(rows_of(SampleFile().later(1_000_000)), now=LATER)
    chunks = Counter(row["file_path"].split(".")[0] for row in rows(tables, "files") if row["file_path"][:2] == "s/")
    assert len(chunks) >= 8
    assert set(chunks.values()) == {20}
    assert len(rows(tables, "proxy_outputs")) == len(rows(tables, "files")) == 20 * len(chunks) + 1
    versions = rows(tables, "files", current_only=False, locations=[SampleFile().location])
    assert len(versions) == len(chunks) + 1
    assert [row["file_id"] for row in versions if row["superseded_at"] is None] == [
        SampleFile().later(1_000_000).file_id
    ]
    assert len(rows(tables, "channels")) == 4 * (20 * len(chunks) + 1)


def test_a_streamed_result_has_the_rows_of_sql_in_batches(tables: StoreUnderTest) -> None:
    tables.store.write(rows_of(*(SampleFile(key=f"s/a.{frame}.exr") for frame in range(3))), now=NOON)
    query = "SELECT file_path, range FROM latest_files, range(10_000) WHERE file_path >= $first ORDER BY ALL"
    whole = tables.store.sql(query, {"first": "s/a.1.exr"})
    with tables.store.stream_sql(query, {"first": "s/a.1.exr"}) as rows:
        batches = list(rows)
    assert whole.num_rows == 20_000
    assert pa.Table.from_batches(batches, rows.schema).to_pylist() == whole.to_pylist()
    with pytest.raises(BadQueryError, match="nosuch"), tables.store.stream_sql("SELECT nosuch FROM files"):
        pass


def test_rows_put_as_they_are_take_the_place_of_those_with_their_key(tables: StoreUnderTest) -> None:
    file, other = SampleFile(), SampleFile(key="b.exr")
    written = rows_of(file, other)
    assert tables.open().stored_schemas() == {}
    for name, rows in written.items():
        assert tables.store.put_rows(name, rows, now=NOON) == rows.num_rows
        assert tables.open().put_rows(name, rows, now=NOON) == 0, "they are there"
    changed = pa.Table.from_pylist([file.files_row() | {"reason": "changed"}], schema=arrow_schema("files"))
    assert tables.store.put_rows("files", changed, now=NOON) == 1
    stored = pa.Table.from_batches(tables.store.stored_rows("files", ["file_path", "reason"])).to_pylist()
    assert sorted(stored, key=lambda row: row["file_path"]) == [
        {"file_path": "b.exr", "reason": None},
        {"file_path": file.key, "reason": "changed"},
    ]


def write_at_noon(tables: StoreUnderTest, barrier: Any, files: list[SampleFile]) -> None:
    barrier.wait()
    tables.store.write(rows_of(*files), now=NOON)


def test_eight_processes_that_race_on_the_same_files_leave_the_rows_of_one_after_the_other(
    tables: StoreUnderTest, duckdb_file: StoreUnderTest, start: Callable[..., multiprocessing.context.ForkProcess]
) -> None:
    files = [SampleFile(key=f"shot_{frame % 3}/a.{frame}.exr", channels=2, attributes=2) for frame in range(12)]
    barrier = multiprocessing.get_context("fork").Barrier(8)
    processes = [start(write_at_noon, tables, barrier, files) for _ in range(8)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    raced = {name: rows(tables, name, current_only=False) for name in TABLES}
    one_after_the_other = replace(duckdb_file, settings={"database": duckdb_file.settings["database"].with_name("b")})
    for _ in range(8):
        one_after_the_other.store.write(rows_of(*files), now=NOON)
    for name in TABLES:
        assert sorted(raced[name], key=repr) == sorted(rows(one_after_the_other, name, current_only=False), key=repr)
