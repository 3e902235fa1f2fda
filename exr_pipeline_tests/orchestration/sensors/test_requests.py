"""What a tick of the sensor asks for: every version, and none twice at a time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from uuid import uuid4

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exr_pipeline.ingest.store_results import last_known, rows_of
from exr_pipeline.orchestration.jobs import INGEST_JOB, RETRY_JOB, SELECTION_JOB
from exr_pipeline.orchestration.steps.run_tags import FINISHED_ELSEWHERE_TAG
from exr_pipeline.products.file_result import FileResult
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables.specs import State
from exr_pipeline_tests.orchestration.sensors.conftest import (
    RANGE_END,
    RANGE_START,
    SELECTED,
    MakeWatch,
    Watch,
    emptied,
    evaluate,
)


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
    assert "nothing to ingest" in str(result.skip_reason)


def test_files_that_something_else_has_finished_are_asked_for_as_such_after_new_ones(make_watch: MakeWatch) -> None:
    watch = make_watch()
    watch.put("a.exr", "b.exr", "c.exr", "d.exr")
    watch.inspect_elsewhere("a.exr", "c.exr")
    watch.inspect_elsewhere("d.exr", state="rejected")

    result = watch.tick()

    assert isinstance(result, dg.SensorResult)
    new, elsewhere = result.run_requests or []
    assert watch.asked(result) == [(INGEST_JOB, ["b.exr"]), (INGEST_JOB, ["a.exr", "c.exr", "d.exr"])]
    assert FINISHED_ELSEWHERE_TAG not in new.tags
    assert elsewhere.tags[FINISHED_ELSEWHERE_TAG] == "true"
    watch.inspect("b.exr")
    assert watch.asked() == []


def test_what_was_finished_elsewhere_and_has_no_partition_is_left_if_archived_deleted_or_due_for_a_retry(
    make_watch: MakeWatch,
) -> None:
    watch = make_watch()
    watch.put("archived.exr", "deleted.exr", "retryable.exr", "changed.exr")
    watch.inspect_elsewhere("archived.exr", "deleted.exr", "changed.exr")
    watch.inspect_elsewhere("retryable.exr", state="retryable")
    places = {name: watch.root.child(f"{name}.exr") for name in ("archived", "deleted")}
    known = watch.pipeline.tables.current_versions(places.values())
    for mark in ("archived", "deleted"):
        watch.pipeline.tables.mark({places[mark]: known[places[mark]].file_id}, mark, now=watch.now)
    watch.put("changed.exr")

    result = watch.tick()

    # One that was taken for deleted is there again, and is worked on like one that has changed.
    assert watch.asked(result) == [(INGEST_JOB, ["changed.exr", "deleted.exr"])]
    assert isinstance(result, dg.SensorResult)
    (request,) = result.run_requests or []
    assert FINISHED_ELSEWHERE_TAG not in request.tags


def test_a_changed_file_is_asked_for_by_name_beside_new_ones(make_watch: MakeWatch) -> None:
    watch = make_watch()
    watch.put("a.exr", "b.exr", "c.exr")
    watch.tick()
    watch.inspect("a.exr", "b.exr", "c.exr")
    watch.put("b.exr", "d.exr")

    assert watch.asked() == [(INGEST_JOB, ["d.exr"]), (SELECTION_JOB, ["b.exr"])]


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
    make_watch: MakeWatch, state: State
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
    unseen = FileResult(location, "rejected", "not readable: permission denied", last_known(location, None))
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


def test_without_sources_the_sensor_says_what_to_set(make_watch: MakeWatch, instance: dg.DagsterInstance) -> None:
    answer = evaluate(make_watch(sources=()).pipeline, instance)

    assert not answer.run_requests
    assert "EXR_PIPELINE_SOURCES" in str(answer.skip_message)


def test_dagster_can_evaluate_the_sensor(make_watch: MakeWatch, instance: dg.DagsterInstance) -> None:
    watch = make_watch(settle_seconds=0)
    watch.put("a.exr")

    answer = evaluate(watch.pipeline, instance)

    assert [request.tags[RANGE_START] for request in answer.run_requests] == [watch.key("a.exr")]


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
                watch.inspect(*files, state=cast("State", state))
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
