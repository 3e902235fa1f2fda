from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from exr_pipeline.tables.specs import REJECTED, arrow_schema
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of


@pytest.fixture
def view(duckdb_file: StoreUnderTest) -> Any:
    """The rows of a view over a small show: a sequence with gaps, a failure, a superseded version."""
    frames = [SampleFile(key=f"s/a.{frame:04}.exr", frame_number=frame) for frame in (1001, 1002, 1005, 1007)]
    failed = SampleFile(
        key="s/a.1008.exr", frame_number=1008, state=REJECTED, reason="truncated header", header=False, etag="x"
    )
    other = SampleFile(key="s/a_v2.1003.exr", frame_number=1003, color_space="lin_rec709")
    duckdb_file.store.write(rows_of(*frames, failed, other), now=NOON)
    duckdb_file.store.write(rows_of(frames[0].later(1), outputs=False), now=NOON)
    return lambda name: duckdb_file.store.sql(f"SELECT * FROM {name}").to_pylist()


def test_latest_files_has_one_row_per_file(view: Any) -> None:
    assert len(view("latest_files")) == 6
    assert len(view("files")) == 7


def test_files_by_color_space_counts_current_files(view: Any) -> None:
    found = [
        (row["color_space"], row["files"], row["parts"], row["size_bytes"]) for row in view("files_by_color_space")
    ]
    assert found == [("ACEScg", 4, 4, 4000), ("lin_rec709", 1, 1, 1000)]


def test_files_by_compression_and_resolution_count_current_files(view: Any) -> None:
    assert [(row["compression"], row["files"]) for row in view("files_by_compression")] == [("zip", 5)]
    assert [(row["width"], row["display_height"], row["files"]) for row in view("files_by_resolution")] == [
        (1920, 1080, 5)
    ]


def test_failed_files_say_why(view: Any) -> None:
    assert [(row["file_path"], row["reason"]) for row in view("failed_files")] == [("s/a.1008.exr", "truncated header")]


def test_files_without_pictures_are_ready_files_without_current_outputs(view: Any) -> None:
    found = [(row["file_path"], row["has_thumbnail"], row["has_proxy"]) for row in view("files_without_pictures")]
    assert found == [("s/a.1001.exr", False, False)]


def test_sequence_gaps_are_the_runs_of_missing_frames(view: Any) -> None:
    found = [(row["sequence_path"], row["first_missing"], row["last_missing"]) for row in view("sequence_gaps")]
    assert found == [("s/a.####.exr", 1003, 1004), ("s/a.####.exr", 1006, 1006)]


def test_sequences_count_frames_missing_and_failed(view: Any) -> None:
    names = ("sequence_path", "first_frame", "last_frame", "frames", "missing_frames", "failed_frames")
    assert [tuple(row[name] for name in names) for row in view("sequences")] == [
        ("s/a.####.exr", 1001, 1008, 5, 3, 1),
        ("s/a_v2.####.exr", 1003, 1003, 1, 0, 0),
    ]


def test_movies_shows_the_first_streams_of_current_movies(duckdb_file: StoreUnderTest) -> None:
    movie = SampleFile("cut.mov", streams=3)
    written = rows_of(movie, SampleFile("still.exr", streams=0))
    streams = written["media_streams"].to_pylist()
    for row, kind, codec in zip(streams, ("audio", "video", "video"), ("pcm_s24le", "prores", "h264"), strict=True):
        row |= {"stream_type": kind, "codec": codec, "container_duration_seconds": 2.5}
    written["media_streams"] = pa.Table.from_pylist(streams, schema=arrow_schema("media_streams"))
    duckdb_file.store.write(written, now=NOON)
    (row,) = duckdb_file.store.sql("SELECT * FROM movies").to_pylist()
    assert (row["file_path"], row["duration_seconds"]) == ("cut.mov", 2.5)
    assert (row["video"]["codec"], row["audio"]["codec"]) == ("prores", "pcm_s24le")


def test_views_give_times_and_json_in_their_types(tables: StoreUnderTest) -> None:
    file = SampleFile()
    written = rows_of(file)
    for table, values in {
        "files": {"warnings": '["odd"]', "archived_at": "yesterday"},
        "parts": {"data_window": '{"min": {"x": 5, "y": 0}, "max": {"x": 9, "y": 9}}'},
        "proxy_outputs": {"library_versions": '{"av": "15"}', "generated_timestamp": NOON.isoformat()},
    }.items():
        changed = [row | values for row in written[table].to_pylist()]  # type: ignore[index]
        written[table] = pa.Table.from_pylist(changed, schema=arrow_schema(table))  # type: ignore[index]
    tables.store.write(written, now=NOON)
    (row,) = tables.store.sql(
        """SELECT f.mtime, f.warnings[0]->>'$' AS warning, f.archived_at, p.data_window.min.x::INT AS x,
            o.library_versions->>'av' AS av, o.generated_timestamp = f.mtime AS same, a.value_json->>'$' AS value,
            typeof(f.warnings) AS json, f.last_inspected >= '2026-04-02' AS since
        FROM latest_files f JOIN latest_parts p USING (file_id) JOIN latest_proxy_outputs o USING (file_id)
        JOIN latest_attributes a USING (file_id) WHERE a.attr_index = 0"""
    ).to_pylist()
    assert row == {
        "mtime": NOON,
        "warning": "odd",
        "archived_at": None,
        "x": 5,
        "av": "15",
        "same": True,
        "value": "etag-1 value 0",
        "json": "JSON",
        "since": True,
    }
    assert tables.store.read("files", columns=["mtime"]).to_pylist() == [{"mtime": NOON.isoformat()}]


def test_tables_can_be_asked_as_of_a_time(tables: StoreUnderTest) -> None:
    first, other = SampleFile(), SampleFile(key="other.exr")
    second = first.later(60)
    tables.store.write(rows_of(first), now=NOON + timedelta(hours=1))
    tables.store.write(rows_of(second, other), now=NOON + timedelta(hours=2))
    tables.store.mark({other.location: other.file_id}, "deleted", now=NOON + timedelta(hours=3))

    def at(hour: float) -> list[str]:
        moment = (NOON + timedelta(hours=hour)).isoformat()
        asked = tables.store.sql(f"SELECT etag FROM files_as_of('{moment}') ORDER BY file_path DESC")
        etags: list[str] = asked.column("etag").to_pylist()
        attributes = tables.store.sql(f"SELECT count(*) AS n FROM attributes_as_of('{moment}')").to_pylist()
        assert attributes == [{"n": 6 * len(etags)}]
        return etags

    assert [at(0.5), at(1), at(1.5), at(2.5), at(3.5)] == [[], ["etag-1"], ["etag-1"], ["etag-2", "etag-1"], ["etag-2"]]
    assert tables.store.sql("FROM files_as_of(now())").num_rows == 1
