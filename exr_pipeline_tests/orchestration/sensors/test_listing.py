"""What a tick of the sensor looks at: every file in the end, new ones soon, a bounded part at a time."""

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from pydantic import SecretStr

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.ingest.discovery.cursor import Cursor, HotFolder
from exr_pipeline.ingest.discovery.needs_work import Candidate, Sighting
from exr_pipeline.ingest.discovery.sweep import HOT_FOLDERS, hot_folders
from exr_pipeline.orchestration.jobs import INGEST_JOB
from exr_pipeline.orchestration.sensors.files import SIGHTINGS_KEPT
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.object_info import ObjectInfo, Page
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.orchestration.sensors.conftest import MakeWatch, evaluate


def test_outputs_hidden_and_other_files_are_ignored(make_watch: MakeWatch) -> None:
    watch = make_watch()
    watch.put("shot/.proxies/x.exr", ".hidden/x.exr", "shot/.x.exr", "shot/x.txt", "shot/exr", "shot/x.exr.tmp")
    watch.put("shot/X.EXR")

    assert watch.asked() == [(INGEST_JOB, ["shot/X.EXR"])]


def test_a_local_source_may_lie_below_a_hidden_folder(make_watch: MakeWatch, tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "renders"
    (folder / ".proxies").mkdir(parents=True)
    (folder / "a.exr").write_bytes(b"a")
    (folder / ".proxies" / "b.exr").write_bytes(b"b")
    watch = make_watch(sources=(folder.as_uri(),))

    assert watch.asked() == [(INGEST_JOB, [str(folder / "a.exr")[1:]])]


def test_a_name_that_is_not_utf8_is_passed_over_with_a_warning_and_its_neighbours_are_found(
    make_watch: MakeWatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (b"a.exr", b"caf\xe9.exr", b"caf\xc3\xa9.exr"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    watch = make_watch(sources=(tmp_path.as_uri(),))

    assert watch.asked() == [(INGEST_JOB, [str(tmp_path / name)[1:] for name in ("a.exr", "café.exr")])]
    assert f"{tmp_path.as_uri()}/caf%E9.exr is skipped: its name is not UTF-8" in caplog.messages


@pytest.mark.usefixtures("sweep_only")
def test_a_walk_in_tiny_steps_finds_every_file_and_begins_again(make_watch: MakeWatch) -> None:
    # Written within the same second or two, in an order that is neither that of bytes nor that of folders.
    names = [
        "a/z.exr",
        "a b/x.exr",
        "a-b.exr",
        "a/b/c.exr",
        "a.exr",
        "é.exr",
        "~.exr",
        "A/x.exr",
        "a/b.exr",
        "a/b c.exr",
    ]
    watch = make_watch(sensor_max_listed=3)
    watch.put(*names)
    found: list[str] = []

    for _ in range(4):
        found += [name for _, files in watch.asked() for name in files]

    assert sorted(found) == sorted(names)
    assert watch.cursor.after == {}, "the next look begins at the start"
    watch.inspect(*names)
    watch.put("a.exr", "0.exr")
    again = [name for _ in range(4) for _, files in watch.asked() for name in files]
    assert sorted(again) == ["0.exr", "a.exr"]


@pytest.mark.usefixtures("sweep_only")
def test_a_file_put_behind_the_cursor_is_found_on_the_next_round(make_watch: MakeWatch) -> None:
    watch = make_watch(sensor_max_listed=2)
    watch.put("b.exr", "c.exr", "d.exr")
    watch.tick()
    watch.inspect("b.exr", "c.exr")
    watch.put("a.exr")

    assert [watch.asked() for _ in range(2)] == [[(INGEST_JOB, ["d.exr"])], [(INGEST_JOB, ["a.exr"])]]


def test_a_new_file_where_files_have_just_arrived_is_seen_by_the_next_tick(make_watch: MakeWatch) -> None:
    watch = make_watch(sensor_max_listed=20)
    watch.put(*(f"old/{number}/x.exr" for number in range(60)), "shot/a.0001.exr")
    for _ in range(4):
        watch.tick()
    assert any(folder.url.endswith("/shot/") for folder in watch.cursor.hot)
    watch.cursor.hot = [folder for folder in watch.cursor.hot if folder.url.endswith("/shot/")]
    watch.cursor.after.clear()
    watch.put("shot/a.0002.exr", "shot/.proxies/a.0001_thumb.jpg")

    result = watch.tick()

    assert "shot/a.0002.exr" in [name for _, names in watch.asked(result) for name in names]
    assert len([name for _, names in watch.asked(result) for name in names]) <= 22
    watch.go_on(3 * 3600)
    watch.tick()
    assert watch.cursor.hot == [], "nothing arrived for hours"


def test_of_many_folders_of_the_same_second_those_met_last_are_hot() -> None:
    now = datetime(2026, 4, 2, 10, 0, 5, tzinfo=UTC)
    folders = [Location("s3", "renders", f"{number:03d}/") for number in range(200)]
    arrivals = [
        Candidate(ObjectInfo(folder.child("a.exr"), 1, "tag", now - timedelta(seconds=3)), "new") for folder in folders
    ]

    hot = hot_folders([], arrivals, now=now)

    assert [folder.url for folder in hot] == [folder.url for folder in folders[-HOT_FOLDERS:]]


class CountingStorage(ObjectStorage):
    """A listing of a million keys that nobody has to store; what a tick asks for is counted."""

    asked = 0

    def list_page(self, prefix: Location, *, after: str | None, limit: int) -> Page:
        self.asked += 1
        start = 0 if after is None else int(after[-10:-4]) + 1
        objects = [
            ObjectInfo(prefix.child(f"{number:06d}.exr"), 1, "tag", datetime(2020, 1, 1, tzinfo=UTC))
            for number in range(start, min(start + limit, 1_000_000))
        ]
        return Page(objects, objects[-1].location.key if objects else None, start + limit >= 1_000_000)


def test_a_tick_over_a_million_objects_lists_a_bounded_part_and_goes_on(make_watch: MakeWatch) -> None:
    watch = make_watch(sensor_max_listed=20_000, sensor_max_runs=1)
    storage = watch.pipeline.__dict__["storage"] = CountingStorage(watch.pipeline.settings)

    for tick_number in (1, 2):
        result = watch.tick()
        assert storage.asked == 20 * tick_number
        assert [len(files) for _, files in watch.asked(result)] == [500]
        assert watch.cursor.after == {watch.root.url: f"{20_000 * tick_number - 1:06d}.exr"}
    assert len(watch.cursor.to_text()) < 10_000


def test_a_tick_ends_when_its_time_is_over_and_the_next_source_is_the_next(make_watch: MakeWatch) -> None:
    watch = make_watch(sensor_seconds=1e-9)
    watch.put("one/a.exr", "one/b.exr", "two/c.exr")
    urls = (watch.root.child("one").url, watch.root.child("two").url)
    watch.pipeline = Pipeline(watch.pipeline.settings.model_copy(update={"sources": urls}))

    found = [[name for _, files in watch.asked() for name in files] for _ in range(2)]

    assert found == [["one/a.exr", "one/b.exr"], ["two/c.exr"]]


def test_an_unreachable_store_is_a_reason_to_look_again_from_the_same_place(
    make_watch: MakeWatch, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    closed = Settings(
        _env_file=None,
        s3_endpoint="http://127.0.0.1:1",
        s3_access_key=SecretStr("a"),
        s3_secret_key=SecretStr("b"),
        sources=("s3://renders",),
        database=tmp_path / "tables.duckdb",
        request_retries=0,
    )

    before = Cursor(after={"s3://renders": "m.exr"}).to_text()

    answer = evaluate(Pipeline(closed), instance, before)

    assert "s3://renders" in str(answer.skip_message)
    assert answer.cursor == before


@pytest.mark.parametrize("missing", ["s3://renders", "file:///not/mounted"])
def test_sources_that_are_unavailable_hold_up_no_other_and_go_on_from_where_they_were(
    make_watch: MakeWatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    (tmp_path / "a.exr").write_bytes(b"a")
    watch = make_watch(sources=(missing, tmp_path.as_uri()), s3_endpoint="http://127.0.0.1:1", request_retries=0)
    now = watch.now.replace(microsecond=0)
    watch.cursor = Cursor(after={missing: "m.exr"}, hot=[HotFolder(f"{missing}/shot/", now)])

    first = watch.tick()

    assert watch.asked(first) == [(INGEST_JOB, [str(tmp_path / "a.exr")[1:]])]
    assert watch.cursor.after == {missing: "m.exr"}
    assert any(message.startswith(f"{missing} is skipped: ") for message in caplog.messages)
    watch.start(first, dg.DagsterRunStatus.STARTED)
    idle = watch.tick()
    assert isinstance(idle, dg.SensorResult)
    assert f"nothing to ingest; {missing} is skipped: " in str(idle.skip_reason)


def test_a_hot_folder_of_a_store_that_is_away_stays_hot(make_watch: MakeWatch, tmp_path: Path) -> None:
    watch = make_watch(sources=("s3://renders", tmp_path.as_uri()), s3_endpoint="http://127.0.0.1:1", request_retries=0)
    hot = [HotFolder(f"s3://renders/{name}/", watch.now) for name in "ab"]
    watch.cursor = Cursor(hot=hot)

    assert watch.asked() == []
    assert sorted(watch.cursor.hot, key=lambda folder: folder.url) == hot


def test_a_folder_that_is_deleted_soon_after_files_arrived_stops_nothing(make_watch: MakeWatch, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.exr").write_bytes(b"a")
    watch = make_watch(sources=(tmp_path.as_uri(),))
    watch.start(watch.tick(), dg.DagsterRunStatus.STARTED)
    assert len(watch.cursor.hot) == 2
    shutil.rmtree(tmp_path / "one")
    (tmp_path / "two" / "b.exr").write_bytes(b"b")

    assert watch.asked() == [(INGEST_JOB, [str(tmp_path / "two" / "b.exr")[1:]])]
    assert [folder.url for folder in watch.cursor.hot] == [f"{tmp_path.as_uri()}/two/"]


def test_a_tick_whose_sources_are_all_unavailable_fails_as_that_of_one_does(make_watch: MakeWatch) -> None:
    watch = make_watch(sources=("file:///not/mounted", "file:///nor/this"))

    with pytest.raises(MisconfiguredError, match="/not/mounted"):
        watch.tick()


def test_files_whose_media_cannot_be_stored_are_not_asked_for_and_the_tick_says_why(
    make_watch: MakeWatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.exr").write_bytes(b"")
    (tmp_path / "closed/.proxies").touch()
    closed = make_watch(sources=((tmp_path / "closed").as_uri(),))
    with pytest.raises(MisconfiguredError, match="EXR_PIPELINE_OUTPUT_ROOT"):
        closed.tick()

    both = make_watch(sources=tuple((tmp_path / name).as_uri() for name in ("closed", "open")))
    requested: Any = both.tick()

    assert [key.rpartition("~open~")[2] for key in both.files_of(requested.run_requests[0])] == ["a.exr"]
    assert len(requested.run_requests) == 1
    assert "EXR_PIPELINE_OUTPUT_ROOT" in caplog.text
    assert [path.name for path in (tmp_path / "open").iterdir()] == ["a.exr"]


@pytest.mark.usefixtures("sweep_only")
def test_several_sources_are_walked_side_by_side(make_watch: MakeWatch, s3_server: EmbeddedS3) -> None:
    other = f"other-{uuid4().hex}"
    s3_server.create_bucket(other)
    watch = make_watch(sensor_max_listed=2)
    watch.pipeline = Pipeline(
        watch.pipeline.settings.model_copy(update={"sources": (watch.root.child("in").url, f"s3://{other}")})
    )
    watch.put("in/a.exr", "in/b.exr", "out/c.exr")
    second = Location("s3", other, "z.exr")
    watch.pipeline.storage.write(second, b"z", content_type="image/x-exr", tags={})

    asked = [sorted(name for _, files in watch.asked() for name in files) for _ in range(2)]

    assert asked == [["in/a.exr", "z.exr"], ["in/b.exr", "z.exr"]], "z.exr in each, as its run was not started"


def test_a_source_that_is_no_longer_configured_leaves_the_cursor(make_watch: MakeWatch) -> None:
    watch = make_watch()
    watch.cursor.after["s3://gone"] = "m.exr"

    watch.tick()

    assert watch.cursor.after == {}


def test_a_cursor_survives_as_text() -> None:
    cursor = Cursor({"s3://a/é": "x, y#.exr"}, {"s3://a/b.exr": Sighting("tag", datetime(2025, 1, 2, 3, tzinfo=UTC))})

    assert Cursor.from_text(cursor.to_text()) == cursor
    assert Cursor.from_text(None) == Cursor.from_text("") == Cursor()
    json.loads(cursor.to_text())


def test_the_cursor_stays_small_however_many_files_wait(make_watch: MakeWatch) -> None:
    watch = make_watch()
    for number in range(SIGHTINGS_KEPT + 50):
        watch.cursor.sightings[f"s3://gone/{number}.exr"] = Sighting("x", watch.now)

    watch.tick()

    assert len(watch.cursor.sightings) == SIGHTINGS_KEPT
