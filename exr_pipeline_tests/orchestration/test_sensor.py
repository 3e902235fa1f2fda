"""The sensor's tick against a real instance, a real store and real tables: no version lost, none asked for twice."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exr_pipeline.ingest.products import FileProducts, last_known, rows_of
from exr_pipeline.ingest.read_header import source_file
from exr_pipeline.ingest.watch import Candidate, Sighting
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.jobs import INGEST_JOB, RETRY_JOB, SELECTION_JOB
from exr_pipeline.orchestration.partitions import FILES
from exr_pipeline.orchestration.resources import Pipeline
from exr_pipeline.orchestration.sensor import SENSOR, SIGHTINGS_KEPT, Cursor, tick
from exr_pipeline.orchestration.sweep import HOT_FOLDERS, hot_folders
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.object_info import ObjectInfo, Page
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.orchestration.dagster_homes import instance_at

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
SELECTED = "ingest_selected_files"
CODE = RemoteRepositoryOrigin(
    InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="exr_pipeline.definitions")), "__repository__"
)


@pytest.fixture(scope="module")
def shared_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with instance_at(tmp_path_factory.mktemp("home")) as opened:
        yield opened


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables that the tests share: each has files of its own."""
    return tmp_path_factory.mktemp("tables") / "tables.duckdb"


@pytest.fixture
def instance(shared_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """An instance with no partitions and no runs."""
    return emptied(shared_instance)


def emptied(instance: dg.DagsterInstance) -> dg.DagsterInstance:
    for run in instance.get_runs():
        instance.delete_run(run.run_id)
    for key in instance.get_dynamic_partitions(FILES):
        instance.delete_dynamic_partition(FILES, key)
    return instance


class Watch:
    """One sensor with its cursor, a source of its own, and a clock that stands still unless told to go on."""

    def __init__(self, instance: dg.DagsterInstance, server: EmbeddedS3, root: Location, **changes: Any) -> None:
        self.instance = instance
        self.root = root
        self.cursor = Cursor()
        # Ahead of the store by more than the settling time: what is put is settled at once.
        self.now = datetime.now(UTC) + timedelta(hours=1)
        access = {"endpoint": server.endpoint, "access_key": server.access_key, "secret_key": server.secret_key}
        values = {"sources": (root.url,), "settle_seconds": 60.0, **{f"s3_{name}": access[name] for name in access}}
        self.pipeline = Pipeline(Settings(_env_file=None, **(values | changes)))

    def put(self, *names: str, data: bytes | None = None) -> None:
        for name in names:
            self.pipeline.storage.write(
                self.root.child(name), data or uuid4().bytes, content_type="image/x-exr", tags={}
            )

    def key(self, name: str) -> str:
        return self.root.child(name).partition_key

    def names(self, keys: Sequence[str]) -> list[str]:
        start = len(self.root.child("").key)
        return [Location.from_partition_key(key).key[start:] for key in keys]

    def go_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def tick(self) -> dg.SensorResult | dg.SkipReason:
        """One tick, its cursor kept as Dagster keeps it, its partitions added; its runs are not started."""
        result = tick(self.instance, self.pipeline, Cursor.from_text(self.cursor.to_text()), now=self.now)
        if isinstance(result, dg.SensorResult):
            self.cursor = Cursor.from_text(result.cursor)
            for request in result.dynamic_partitions_requests or []:
                assert isinstance(request, dg.AddDynamicPartitionsRequest)
                self.instance.add_dynamic_partitions(FILES, list(request.partition_keys))
        return result

    def asked(self, result: dg.SensorResult | dg.SkipReason | None = None) -> list[tuple[str, list[str]]]:
        """The runs that a tick asks for: job and names of files."""
        result = result or self.tick()
        requests = [] if isinstance(result, dg.SkipReason) else result.run_requests or []
        return [(str(request.job_name), self.names(self.files_of(request))) for request in requests]

    def files_of(self, request: dg.RunRequest) -> list[str]:
        if RANGE_START in request.tags:
            keys = list(self.instance.get_dynamic_partitions(FILES))
            return keys[keys.index(request.tags[RANGE_START]) : keys.index(request.tags[RANGE_END]) + 1]
        return list(request.run_config["ops"][SELECTED]["config"]["partitions"])

    def start(self, result: dg.SensorResult | dg.SkipReason, status: dg.DagsterRunStatus) -> None:
        """Runs in the instance as a tick asked for them."""
        assert isinstance(result, dg.SensorResult)
        for request in result.run_requests or []:
            self.run(str(request.job_name), request.tags, request.run_config, status)

    def run(
        self,
        job: str,
        tags: Mapping[str, str],
        config: Mapping[str, Any],
        status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED,
        created: datetime | None = None,
    ) -> str:
        """A run in the instance that the test may end when and how it likes."""
        run = dg.DagsterRun(
            job_name=job,
            run_id=str(uuid4()),
            tags=dict(tags),
            run_config=dict(config),
            status=status,
            remote_job_origin=CODE.get_job_origin(job),
        )
        self.instance.add_run(run)
        moment = (created or self.now).replace(tzinfo=None)
        with self.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
            connection.execute(
                sqlalchemy.text("UPDATE runs SET create_timestamp = :t, update_timestamp = :t WHERE run_id = :id"),
                {"t": moment, "id": run.run_id},
            )
        return run.run_id

    def inspect(self, *names: str, state: str = "ready") -> None:
        """Rows as a run would leave them for the present versions."""
        batch = []
        for name in names:
            info = self.pipeline.storage.head(self.root.child(name))
            batch.append(FileProducts(info.location, state, None if state == "ready" else "why", source_file(info)))
        self.pipeline.tables.write(rows_of(batch, now=self.now), now=self.now)


MakeWatch = Callable[..., Watch]


@pytest.fixture
def make_watch(instance: dg.DagsterInstance, s3_server: EmbeddedS3, bucket: Location, database: Path) -> MakeWatch:
    return lambda **changes: Watch(instance, s3_server, bucket, database=database, **changes)


@pytest.fixture
def sweep_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder is looked at out of its turn, so that a test can tell which tick finds what."""
    monkeypatch.setattr("exr_pipeline.orchestration.sweep.HOT_FOLDERS", 0)


def test_new_files_become_partitions_in_order_and_runs_over_contiguous_ranges_of_them(make_watch: MakeWatch) -> None:
    watch = make_watch(chunk_size=3)
    watch.put("b/x.0002.exr", "b/x.0001.exr", "a/y.dpx", "b/x.0010.exr", "a/x.exr")

    result = watch.tick()

    assert isinstance(result, dg.SensorResult)
    (request,) = result.dynamic_partitions_requests or []
    ordered = ["a/x.exr", "a/y.dpx", "b/x.0001.exr", "b/x.0002.exr", "b/x.0010.exr"]
    assert watch.names(request.partition_keys) == ordered
    assert watch.asked(result) == [(INGEST_JOB, ordered[:3]), (INGEST_JOB, ordered[3:])]
    assert all(request.partition_key is None for request in result.run_requests or [])


def test_files_that_the_tables_know_are_left_alone(make_watch: MakeWatch) -> None:
    watch = make_watch()
    watch.put("a.exr", "b.exr")
    watch.tick()
    watch.inspect("a.exr", "b.exr")

    result = watch.tick()

    assert isinstance(result, dg.SensorResult)
    assert result.run_requests == []
    assert result.dynamic_partitions_requests == []
    assert "nothing to do" in str(result.skip_message if hasattr(result, "skip_message") else result.skip_reason)


def test_a_changed_file_is_asked_for_by_name_beside_new_ones(make_watch: MakeWatch) -> None:
    watch = make_watch()
    watch.put("a.exr", "b.exr", "c.exr")
    watch.tick()
    watch.inspect("a.exr", "b.exr", "c.exr")
    watch.put("b.exr", "d.exr")

    assert watch.asked() == [(INGEST_JOB, ["d.exr"]), (SELECTION_JOB, ["b.exr"])]


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


def test_runs_are_tagged_with_their_show_and_its_priority_and_shows_take_turns(make_watch: MakeWatch) -> None:
    watch = make_watch(show_folders=1, priorities={"b": 5}, chunk_size=2, sensor_max_runs=3)
    watch.put("a/1.exr", "a/2.exr", "a/3.exr", "b/1.exr", "c/1.exr")

    result = watch.tick()

    assert isinstance(result, dg.SensorResult)
    tags = [(r.tags["exr_pipeline/show"], r.tags.get("dagster/priority")) for r in result.run_requests or []]
    assert tags == [("b", "5"), ("a", None), ("c", None)], "a's second run waits"
    assert watch.asked(result)[1] == (INGEST_JOB, ["a/1.exr", "a/2.exr"])


def test_a_file_that_was_just_written_is_taken_when_it_is_old_enough(make_watch: MakeWatch) -> None:
    watch = make_watch()
    watch.put("a.exr")
    watch.now = watch.pipeline.storage.head(watch.root.child("a.exr")).last_modified + timedelta(seconds=59)

    assert watch.asked() == []
    watch.go_on(1)
    assert watch.asked() == [(INGEST_JOB, ["a.exr"])]


def test_a_store_whose_clock_is_ahead_delays_a_file_by_the_settling_time_only(make_watch: MakeWatch) -> None:
    watch = make_watch()
    watch.put("a.exr")
    watch.now -= timedelta(hours=5)

    assert watch.asked() == []
    watch.go_on(59)
    assert watch.asked() == []
    watch.go_on(1)
    assert watch.asked() == [(INGEST_JOB, ["a.exr"])]


def test_a_growing_file_waits_until_it_has_stopped_growing(make_watch: MakeWatch) -> None:
    watch = make_watch()
    watch.now -= timedelta(hours=5)
    for _ in range(3):
        watch.put("a.exr")
        assert watch.asked() == []
        watch.go_on(40)
    assert watch.asked() == []
    watch.go_on(20)

    assert watch.asked() == [(INGEST_JOB, ["a.exr"])]


@pytest.mark.usefixtures("sweep_only")
def test_sightings_survive_ticks_that_look_elsewhere(make_watch: MakeWatch) -> None:
    watch = make_watch(sensor_max_listed=1)
    watch.put("a.exr", "b.exr")
    watch.now -= timedelta(hours=5)
    watch.tick()
    watch.tick()
    watch.go_on(60)

    assert [watch.asked(), watch.asked()] == [[(INGEST_JOB, ["a.exr"])], [(INGEST_JOB, ["b.exr"])]]


@pytest.mark.parametrize("status", ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_files_of_unfinished_runs_are_not_asked_for_again(make_watch: MakeWatch, status: str) -> None:
    watch = make_watch()
    watch.put("a.exr", "b.exr", "c.exr")
    watch.start(watch.tick(), dg.DagsterRunStatus(status))

    assert watch.asked() == []
    watch.put("b.exr", "d.exr")
    assert watch.asked() == [(INGEST_JOB, ["d.exr"])]


@pytest.mark.parametrize("job", [SELECTION_JOB, RETRY_JOB])
def test_files_of_unfinished_selections_are_not_asked_for_again(make_watch: MakeWatch, job: str) -> None:
    watch = make_watch()
    watch.put("a.exr", "b.exr", "c.exr")
    watch.tick()
    watch.run(job, {}, {"ops": {SELECTED: {"config": {"partitions": [watch.key("a.exr"), watch.key("c.exr")]}}}})

    assert watch.asked() == [(SELECTION_JOB, ["b.exr"])]


def test_a_file_of_an_unfinished_run_of_one_partition_is_not_asked_for_again(make_watch: MakeWatch) -> None:
    watch = make_watch()
    watch.put("a.exr", "b.exr", "c.exr")
    watch.tick()
    watch.run("__ASSET_JOB", {"dagster/partition": watch.key("b.exr")}, {})

    assert watch.asked() == [(SELECTION_JOB, ["a.exr", "c.exr"])]


def test_a_run_of_another_job_does_not_count(make_watch: MakeWatch) -> None:
    watch = make_watch(sensor_max_runs=1)
    watch.put("a.exr")
    watch.run("somebody_elses", {"dagster/partition": watch.key("a.exr")}, {})

    assert watch.asked() == [(INGEST_JOB, ["a.exr"])]


def test_a_file_without_a_row_is_asked_for_again_some_time_after_its_run_failed(make_watch: MakeWatch) -> None:
    watch = make_watch(retry_after_seconds=300)
    watch.put("a.exr")
    watch.start(watch.tick(), dg.DagsterRunStatus.FAILURE)

    assert watch.asked() == []
    watch.go_on(299)
    assert watch.asked() == []
    watch.go_on(2)
    assert watch.asked() == [(SELECTION_JOB, ["a.exr"])]


@pytest.mark.parametrize("state", ["ready", "retryable"])
def test_a_run_that_died_over_a_known_file_is_not_repeated_at_every_tick_either(
    make_watch: MakeWatch, state: str
) -> None:
    watch = make_watch(retry_after_seconds=300)
    watch.put("a.exr")
    watch.tick()
    watch.inspect("a.exr", state=state)
    if state == "ready":
        watch.put("a.exr")
    watch.go_on(301)
    result = watch.tick()
    assert watch.asked(result) == [(SELECTION_JOB, ["a.exr"])]
    watch.start(result, dg.DagsterRunStatus.FAILURE)

    assert watch.asked() == []
    watch.go_on(301)
    assert watch.asked() == [(SELECTION_JOB, ["a.exr"])]


def test_a_file_that_may_not_be_read_is_not_asked_for_at_every_tick(make_watch: MakeWatch) -> None:
    watch = make_watch(retry_after_seconds=300)
    watch.put("a.exr")
    watch.start(watch.tick(), dg.DagsterRunStatus.FAILURE)
    # All that a run can write of a file that it may not even look up.
    location = watch.root.child("a.exr")
    unseen = FileProducts(location, "rejected", "not readable: permission denied", last_known(location, None))
    watch.pipeline.tables.write(rows_of([unseen], now=watch.now), now=watch.now)

    assert watch.asked() == []
    watch.go_on(24 * 300)
    assert watch.asked() == [(SELECTION_JOB, ["a.exr"])], "rights change rarely"


def test_a_rejected_file_is_asked_for_again_when_it_changes_even_right_after_its_run(make_watch: MakeWatch) -> None:
    watch = make_watch(retry_after_seconds=300)
    watch.put("bad.exr", "good.exr")
    result = watch.tick()
    # The store's clock counts, not the one of this test.
    keys = [watch.key("bad.exr"), watch.key("good.exr")]
    watch.run(
        INGEST_JOB,
        {RANGE_START: keys[0], RANGE_END: keys[1]},
        {},
        dg.DagsterRunStatus.FAILURE,
        created=datetime.now(UTC),
    )
    assert watch.asked(result) == [(INGEST_JOB, ["bad.exr", "good.exr"])]
    watch.inspect("bad.exr", state="rejected")
    watch.inspect("good.exr")

    assert watch.asked() == []
    watch.go_on(9999)
    assert watch.asked() == []
    watch.go_on(-9999)
    watch.put("bad.exr")
    assert watch.asked() == [(SELECTION_JOB, ["bad.exr"])]


def test_a_retryable_file_is_due_after_the_pause(make_watch: MakeWatch) -> None:
    watch = make_watch(retry_after_seconds=300)
    watch.put("a.exr")
    watch.tick()
    watch.inspect("a.exr", state="retryable")

    assert watch.asked() == []
    watch.go_on(300)
    assert watch.asked() == [(SELECTION_JOB, ["a.exr"])]


def test_nothing_is_asked_for_beyond_the_allowed_number_of_runs(make_watch: MakeWatch) -> None:
    watch = make_watch(sensor_max_runs=2, chunk_size=2)
    names = [f"{number}.exr" for number in range(7)]
    watch.put(*names)
    first = watch.tick()
    assert watch.asked(first) == [(INGEST_JOB, names[:2]), (INGEST_JOB, names[2:4])]
    watch.start(first, dg.DagsterRunStatus.STARTED)
    before = watch.cursor.to_text()

    skipped = watch.tick()

    assert isinstance(skipped, dg.SkipReason)
    assert "EXR_PIPELINE_SENSOR_MAX_RUNS" in str(skipped.skip_message)
    assert watch.cursor.to_text() == before
    for run in watch.instance.get_runs():
        watch.instance.delete_run(run.run_id)
    watch.inspect(*names[:4])
    assert watch.asked() == [(INGEST_JOB, names[4:6]), (INGEST_JOB, names[6:])]


@pytest.mark.usefixtures("sweep_only")
def test_every_version_of_a_flood_is_asked_for_in_the_end(make_watch: MakeWatch) -> None:
    watch = make_watch(sensor_max_runs=1, chunk_size=2, sensor_max_listed=4)
    names = [f"{number}.exr" for number in range(9)]
    watch.put(*names)
    asked: list[str] = []
    for _ in range(20):
        for _, files in watch.asked():
            assert len(files) <= 2
            asked += files
            watch.inspect(*files)

    assert sorted(asked) == names


def evaluate(pipeline: Pipeline, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    sensor = build_defs(settings=pipeline.settings).get_repository_def().get_sensor_def(SENSOR)
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"pipeline": pipeline}) as context:
        return sensor.evaluate_tick(context)


def test_an_unreachable_store_is_a_reason_to_look_again_from_the_same_place(
    make_watch: MakeWatch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    monkeypatch.setattr("exr_pipeline.storage.objects._RETRIES", 0)
    closed = Settings(
        _env_file=None,
        s3_endpoint="http://127.0.0.1:1",
        s3_access_key="a",  # type: ignore[arg-type]
        s3_secret_key="b",  # type: ignore[arg-type]
        sources=("s3://renders",),
        database=tmp_path / "tables.duckdb",
    )

    before = Cursor(after={"s3://renders": "m.exr"}).to_text()

    answer = evaluate(Pipeline(closed), instance, before)

    assert "s3://renders" in str(answer.skip_message)
    assert answer.cursor == before


def test_without_sources_the_sensor_says_what_to_set(make_watch: MakeWatch, instance: dg.DagsterInstance) -> None:
    answer = evaluate(make_watch(sources=()).pipeline, instance)

    assert not answer.run_requests
    assert "EXR_PIPELINE_SOURCES" in str(answer.skip_message)


def test_dagster_can_evaluate_the_sensor(make_watch: MakeWatch, instance: dg.DagsterInstance) -> None:
    watch = make_watch(settle_seconds=0)
    watch.put("a.exr")

    answer = evaluate(watch.pipeline, instance)

    assert [request.tags[RANGE_START] for request in answer.run_requests] == [watch.key("a.exr")]


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


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(["a.exr", "a/b.exr", "a b.exr", "a/c.exr"])),
        st.tuples(st.just("tick"), st.just("")),
        st.tuples(st.just("end"), st.sampled_from(["ready", "rejected", "retryable", "died"])),
        st.tuples(st.just("wait"), st.just("")),
    ),
    max_size=14,
)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(steps=steps)
def test_whatever_happens_every_version_is_asked_for_and_none_twice_at_a_time(
    shared_instance: dg.DagsterInstance,
    s3_server: EmbeddedS3,
    database: Path,
    tmp_path: Path,
    steps: list[tuple[str, str]],
) -> None:
    folder = tmp_path / uuid4().hex
    folder.mkdir()
    limits = {"sensor_max_listed": 2, "chunk_size": 2, "sensor_max_runs": 3}
    root = Location.from_url(folder.as_uri())
    watch = Watch(emptied(shared_instance), s3_server, root, database=database, **limits)
    under_way: dict[str, list[str]] = {}
    put: set[str] = set()

    def look() -> None:
        result = watch.tick()
        for request in (result.run_requests or []) if isinstance(result, dg.SensorResult) else []:
            files = watch.names(watch.files_of(request))
            assert not {name for running in under_way.values() for name in running} & set(files)
            under_way[watch.run(str(request.job_name), request.tags, request.run_config)] = files

    def end_all(state: str) -> None:
        for run_id, files in under_way.items():
            if state != "died":
                watch.inspect(*files, state=state)
            run = watch.instance.get_run_by_id(run_id)
            assert run is not None
            watch.instance.delete_run(run_id)
            ended = dg.DagsterRunStatus.SUCCESS if state == "ready" else dg.DagsterRunStatus.FAILURE
            watch.run(run.job_name, run.tags, run.run_config, ended)
        under_way.clear()

    for step, argument in steps:
        if step == "put":
            watch.put(argument)
            put.add(argument)
        elif step == "tick":
            look()
        elif step == "end":
            end_all(argument)
        else:
            watch.go_on(301)
    end_all("ready")
    for _ in range(6):
        watch.go_on(301)
        look()
        end_all("ready")

    known = watch.pipeline.tables.current_versions([watch.root.child(name) for name in put])
    storage: ObjectStorage = watch.pipeline.storage
    present = {watch.root.child(name): storage.head(watch.root.child(name)).etag for name in put}
    assert {location: version.etag for location, version in known.items()} == present
