"""Archiving: partitions of finished work go and come back with their statuses; rows, media and history stay."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pyarrow as pa
import pytest

from exr_pipeline.ingest.discovery.cursor import Cursor
from exr_pipeline.ingest.finished_work import Scope
from exr_pipeline.orchestration.assets.specs import FILE_ASSETS
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.instance.purge import purge
from exr_pipeline.orchestration.maintenance import archive as archiving
from exr_pipeline.orchestration.maintenance.archive import Archived, Unarchived, archive, scope_of, unarchive
from exr_pipeline.orchestration.partitions import FILES, SEQUENCES, remove_partitions
from exr_pipeline.orchestration.sensors.files import tick
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.orchestration.conftest import Workshop
from exr_pipeline_tests.orchestration.dagster_homes import instance_at
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

ASSETS = [key.path[-1] for key in FILE_ASSETS]
ALL = Scope()
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
LONG_AGO = datetime.now(UTC) - timedelta(days=100)


class Shelf:
    """Tables and partitions of made-up files that nobody has to read, in the bucket `renders`."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path) -> None:
        sources = ("s3://renders/show_a/", "s3://renders/show_b/")
        self.settings = Settings(_env_file=None, database=folder / "tables.duckdb", sources=sources)
        self.pipeline = Pipeline(self.settings)
        self.instance = instance

    def put(self, *keys: str, **changes: Any) -> None:
        tables = [rows_of(SampleFile(key=key, mtime=LONG_AGO, **changes))["files"] for key in keys]
        self.pipeline.tables.write({"files": pa.concat_tables(tables)}, now=LONG_AGO)
        self.instance.add_dynamic_partitions(FILES, [at(key).partition_key for key in keys])

    def put_sequence(self, pattern: str, state: str = "ready") -> None:
        row = {"bucket": "renders", "sequence_path": pattern, "uri": at(pattern).url, "state": state}
        self.pipeline.tables.write({"sequence_outputs": pa.Table.from_pylist([row])}, now=LONG_AGO)
        self.instance.add_dynamic_partitions(SEQUENCES, [at(pattern).partition_key])

    def archive(self, scope: Scope = ALL, **options: Any) -> Archived:
        return archive(self.instance, self.pipeline, scope, **options)

    def unarchive(self, scope: Scope = ALL, **options: Any) -> Unarchived:
        return unarchive(self.instance, self.pipeline, scope, **options)

    def scope(self, url_prefix: str = "", show: str = "") -> Scope:
        return scope_of(url_prefix, show, self.pipeline)

    def start(self, job: str = "ingest_selection", **options: Any) -> None:
        self.instance.add_run(
            dg.DagsterRun(job_name=job, run_id=str(uuid4()), status=dg.DagsterRunStatus.STARTED, **options)
        )

    def end_all(self) -> None:
        for run in self.instance.get_runs():
            self.instance.delete_run(run.run_id)

    def live(self, name: str = FILES) -> list[str]:
        return sorted(location(key) for key in self.instance.get_dynamic_partitions(name))

    def marked(self) -> list[str]:
        found = self.pipeline.tables.sql("SELECT file_path FROM latest_files WHERE archived_at IS NOT NULL")
        return sorted(found.column("file_path").to_pylist())


def at(key: str) -> Location:
    return Location("s3", "renders", key)


def location(partition_key: str) -> str:
    return Location.from_partition_key(partition_key).key


@pytest.fixture(scope="module")
def shared_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with instance_at(tmp_path_factory.mktemp("home")) as opened:
        yield opened


@pytest.fixture
def shelf(shared_instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(shared_instance, tmp_path)
    yield shelf
    shelf.end_all()
    for name in (FILES, SEQUENCES):
        shared_instance.event_log_storage.delete_dynamic_partitions(  # type: ignore[attr-defined]
            name, shared_instance.get_dynamic_partitions(name)
        )


def statuses(workshop: Workshop) -> dict[str, Any]:
    return {asset: workshop.statuses(asset) for asset in ASSETS}


def rows(workshop: Workshop) -> list[dict[str, Any]]:
    files = workshop.pipeline.tables.read("files").drop_columns(["archived_at"]).sort_by("file_path")
    return [*files.to_pylist(), *workshop.pipeline.tables.read("proxy_outputs").sort_by("s3_key").to_pylist()]


def test_partitions_go_and_come_back_as_they_were_and_rows_and_media_stay(workshop: Workshop) -> None:
    settings = workshop.pipeline.settings.model_copy(update={"retry_after_seconds": 0, "workers": 1})
    pipeline = Pipeline(settings)
    workshop.defs = build_defs(settings=settings, resource_overrides={"pipeline": pipeline})
    keys = workshop.put({"a/x.1.exr": render(), "a/y.2.exr": render(), "a/bad.3.exr": b"no picture"})
    workshop.run_range(keys)
    before = statuses(workshop), rows(workshop), workshop.objects()
    assert all(found["materialized"] == set(keys[:2]) for found in before[0].values())
    assert all(found["failed"] == set(keys[2:]) for found in before[0].values())

    assert archive(workshop.instance, pipeline, ALL) == Archived(archived=3, partitions_removed=3)

    assert workshop.instance.get_dynamic_partitions(FILES) == []
    assert pipeline.tables.sql("SELECT count(*) n FROM latest_files WHERE archived_at IS NOT NULL").to_pylist() == [
        {"n": 3}
    ]
    # The page counts anew, and finds nothing; and history of runs that have ended is purged meanwhile.
    assert all(not found for each in statuses(workshop).values() for found in each.values())
    purge(workshop.instance, before=datetime.now(UTC) + timedelta(days=1), most_runs=100)
    assert (rows(workshop), workshop.objects()) == before[1:]

    assert unarchive(workshop.instance, pipeline, ALL) == Unarchived(unarchived=3)

    assert (statuses(workshop), rows(workshop), workshop.objects()) == before
    assert archive(workshop.instance, pipeline, ALL, dry_run=True) == Archived(archived=3)


def test_the_sensor_leaves_an_archived_file_alone_until_it_changes_and_then_it_is_back(workshop: Workshop) -> None:
    keys = workshop.put({"a/x.1.exr": render(), "a/y.2.exr": render()})
    workshop.select(partitions=keys, assets=["exr_header"])
    archive(workshop.instance, workshop.pipeline, ALL)

    def look() -> Any:
        return tick(workshop.instance, workshop.pipeline, Cursor(), now=datetime.now(UTC) + timedelta(hours=1))

    assert isinstance(nothing := look(), dg.SensorResult)
    assert (nothing.run_requests, nothing.dynamic_partitions_requests) == ([], [])
    changed = workshop.bucket.child("a/y.2.exr")
    workshop.pipeline.storage.write(changed, render(0.5), content_type="image/x-exr", tags={})
    found = look()
    (request,), (added,) = found.run_requests, found.dynamic_partitions_requests
    assert added.partition_keys == [changed.partition_key]
    workshop.instance.add_dynamic_partitions(FILES, added.partition_keys)
    assert workshop.run(request.job_name, tags=request.tags).success

    versions = workshop.pipeline.tables.current_versions([workshop.bucket.child("a/x.1.exr"), changed])
    assert [version.archived_at is None for version in versions.values()] == [False, True]
    assert archive(workshop.instance, workshop.pipeline, ALL, older_than=timedelta(days=1)) == Archived(
        archived_before=1, recent=1
    )
    assert workshop.instance.get_dynamic_partitions(FILES) == [changed.partition_key]


def test_an_archived_file_that_was_deleted_and_returns_unchanged_keeps_its_new_partition(shelf: Shelf) -> None:
    key = "show_a/shot/x.1.exr"
    file = SampleFile(key=key, mtime=LONG_AGO)
    shelf.put(key)
    shelf.archive()
    assert shelf.live() == []
    shelf.pipeline.tables.mark({at(key): file.file_id}, "deleted", now=LONG_AGO + timedelta(days=1))
    shelf.put(key, seen_at=LONG_AGO + timedelta(days=2))

    assert shelf.archive(older_than=timedelta(days=200)) == Archived(recent=1)
    assert (shelf.live(), shelf.marked()) == ([key], [])


def test_only_what_is_meant_is_archived_and_doing_it_again_changes_nothing(shelf: Shelf) -> None:
    shelf.put("show_a/shot/x.1.exr", "show_b/shot/x.1.exr", "show_b/other/x.1.exr")
    shelf.put("show_b/shot/again.1.exr", state="retryable", header=False)
    day = timedelta(days=1)

    assert shelf.archive(shelf.scope(show="show_b"), older_than=200 * day) == Archived(recent=2, unfinished=1)
    expected = Archived(archived=2, unfinished=1, partitions_removed=2)
    assert shelf.archive(shelf.scope(show="show_b"), older_than=90 * day) == expected
    assert shelf.archive(shelf.scope(show="show_b")) == Archived(archived_before=2, unfinished=1)
    assert shelf.live() == ["show_a/shot/x.1.exr", "show_b/shot/again.1.exr"]

    assert shelf.unarchive(shelf.scope("s3://renders/show_b/other/")) == Unarchived(unarchived=1)
    assert shelf.unarchive(shelf.scope("s3://renders/show_b/other/")) == Unarchived()
    assert shelf.marked() == ["show_b/shot/x.1.exr"]
    assert shelf.live() == ["show_a/shot/x.1.exr", "show_b/other/x.1.exr", "show_b/shot/again.1.exr"]


@pytest.mark.parametrize("last", ["mark", "remove_partitions"])
def test_what_a_killed_archive_left_is_done_by_the_next_one(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    names = [f"show_a/x.{number}.exr" for number in range(7)]
    shelf.put(*names)
    shelf.put("show_b/x.1.exr")
    scope = shelf.scope(show="show_a")
    with monkeypatch.context() as patch:
        kill_after_two(patch, shelf.pipeline.tables if last == "mark" else archiving, last)
        with pytest.raises(KeyboardInterrupt):
            shelf.archive(scope, batch_size=3)
    live, marked = set(shelf.live()), set(shelf.marked())
    assert marked
    assert {*names, "show_b/x.1.exr"} - live <= marked, "no partition goes before its mark"

    shelf.archive(scope, batch_size=3)

    assert shelf.marked() == names
    assert shelf.live() == ["show_b/x.1.exr"]


@pytest.mark.parametrize("last", ["mark", "restore_partitions"])
def test_what_a_killed_unarchive_left_is_done_by_the_next_one(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    names = [f"show_a/x.{number}.exr" for number in range(7)]
    shelf.put(*names)
    shelf.put_sequence("show_a/x.#.exr")
    assert shelf.archive().sequences_removed == 1
    with monkeypatch.context() as patch:
        kill_after_two(patch, shelf.pipeline.tables if last == "mark" else archiving, last)
        with pytest.raises(KeyboardInterrupt):
            shelf.unarchive(batch_size=3)
    assert set(names) - set(shelf.live()) <= set(shelf.marked()), "no mark goes before the partition is there"

    shelf.unarchive(batch_size=3)

    assert shelf.marked() == []
    assert shelf.live() == names
    assert shelf.live(SEQUENCES) == ["show_a/x.#.exr"]


def kill_after_two(patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """The third call of a function does not come back, nor any later one."""
    whole = getattr(owner, name)
    calls: list[int] = []

    def killed(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    patch.setattr(owner, name, killed)


def test_files_of_a_run_stay_however_it_names_them(shelf: Shelf) -> None:
    names = [f"show_a/x.{number}.exr" for number in range(8)]
    shelf.put(*names)
    keys = [at(name).partition_key for name in names]
    shelf.start("ingest", tags={RANGE_START: keys[0], RANGE_END: keys[1]})
    shelf.start(run_config={"ops": {"ingest_selected_files": {"config": {"partitions": [keys[3]]}}}})
    shelf.start("somebody's own job", tags={"dagster/partition": keys[5]})
    kept = [names[index] for index in (0, 1, 3, 5)]

    assert shelf.archive(dry_run=True) == Archived(archived=4, in_runs=4)
    assert shelf.archive() == Archived(archived=4, in_runs=4, partitions_removed=4)
    assert shelf.live() == kept
    assert shelf.marked() == sorted(set(names) - set(kept))

    shelf.end_all()
    assert shelf.archive() == Archived(archived=4, archived_before=4, partitions_removed=4)
    assert shelf.live() == []


def test_a_file_that_a_run_or_an_unarchive_takes_up_meanwhile_keeps_its_partition(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.put("show_a/x.1.exr", "show_a/x.2.exr", "show_a/x.3.exr")

    def meanwhile(instance: dg.DagsterInstance, name: str, keys: Any) -> None:
        if name == FILES:
            shelf.start(tags={"dagster/partition": at("show_a/x.1.exr").partition_key})
            version = shelf.pipeline.tables.current_versions([at("show_a/x.2.exr")])
            ids = {where: known.file_id for where, known in version.items()}
            shelf.pipeline.tables.mark(ids, "unarchived", now=datetime.now(UTC))
        remove_partitions(instance, name, keys)

    monkeypatch.setattr(archiving, "remove_partitions", meanwhile)

    assert shelf.archive().partitions_removed == 1
    assert shelf.live() == ["show_a/x.1.exr", "show_a/x.2.exr"]


def test_the_partition_of_a_sequence_goes_with_the_last_of_its_frames_and_comes_back_with_the_first(
    shelf: Shelf,
) -> None:
    shelf.put("show_a/shot/x.1.exr", "show_a/shot/x.2.exr", "show_a/shot/y.1.exr")
    for pattern in ("show_a/shot/x.#.exr", "show_a/shot/y.#.exr"):
        shelf.put_sequence(pattern)
    shelf.put_sequence("show_a/gone/z.#.exr", state="retryable")

    assert shelf.archive(shelf.scope("s3://renders/show_a/shot/x.1")).sequences_removed == 0
    assert shelf.archive(shelf.scope("s3://renders/show_a/shot/x.")).sequences_removed == 1
    assert shelf.live(SEQUENCES) == ["show_a/gone/z.#.exr", "show_a/shot/y.#.exr"]
    shelf.start("sequences", tags={"dagster/partition": at("show_a/shot/y.#.exr").partition_key})
    assert shelf.archive().sequences_removed == 0
    shelf.end_all()
    assert shelf.archive().sequences_removed == 1, "not the one that is to be tried again"

    expected = Unarchived(unarchived=1, sequences_restored=1)
    assert shelf.unarchive(shelf.scope("s3://renders/show_a/shot/x.2")) == expected
    assert shelf.live(SEQUENCES) == ["show_a/gone/z.#.exr", "show_a/shot/x.#.exr"]


def test_the_jobs_do_it_from_the_page(shelf: Shelf) -> None:
    shelf.put("show_a/x.1.exr", "show_b/x.1.exr")
    defs = build_defs(settings=shelf.settings, resource_overrides={"pipeline": shelf.pipeline})

    def launch(job: str, **config: Any) -> Any:
        return defs.resolve_job_def(job).execute_in_process(
            instance=shelf.instance, run_config={"ops": {f"{job}_files": {"config": config}}}, raise_on_error=False
        )

    assert not launch("archive").success
    assert len(shelf.live()) == 2
    archived = launch("archive", show="show_a", older_than_days=90)
    assert shelf.live() == ["show_b/x.1.exr"]
    (event,) = [event for event in archived.all_events if event.event_type_value == "STEP_OUTPUT"]
    assert event.step_output_data.metadata["partitions removed"].value == 1
    assert launch("unarchive", url_prefix="s3://renders/show_a/").success
    assert len(shelf.live()) == 2
    nothing = "s3://renders/show_b/ of show show_a: no such file in the tables"
    for job in ("archive", "unarchive"):
        refused = launch(job, url_prefix="s3://renders/show_b/", show="show_a").failure_data_for_node(f"{job}_files")
        assert refused.user_failure_data.description == nothing


def test_the_schedule_retires_what_is_beyond_the_number_that_a_setting_names(shelf: Shelf) -> None:
    for number in range(5):
        shelf.put(f"show_a/{number}.exr", etag=str(number))
        moment = datetime.now(UTC) - timedelta(days=number)
        shelf.pipeline.tables.write(
            {"files": rows_of(SampleFile(key=f"show_a/{number}.exr", mtime=LONG_AGO, etag=str(number)))["files"]},
            now=moment,
        )
    settings = shelf.settings.model_copy(update={"archive_most_live": 2})
    defs = build_defs(settings=settings, resource_overrides={"pipeline": Pipeline(settings)})
    schedule = defs.resolve_schedule_def("archive")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING

    with dg.build_schedule_context(instance=shelf.instance) as context:
        (request,) = schedule.evaluate_tick(context).run_requests or []
    result = defs.resolve_job_def("archive").execute_in_process(
        instance=shelf.instance, run_config=dict(request.run_config)
    )

    assert result.success
    assert shelf.live() == ["show_a/0.exr", "show_a/1.exr"]
    assert len(shelf.marked()) == 3


def test_the_schedule_is_there_if_a_setting_says_what_is_to_go_and_does_no_harm_without_files(shelf: Shelf) -> None:
    schedules = build_defs(settings=shelf.settings).get_repository_def().schedule_defs
    assert "archive" not in {schedule.name for schedule in schedules}
    settings = shelf.settings.model_copy(update={"archive_after_days": 1.0})
    defs = build_defs(settings=settings, resource_overrides={"pipeline": Pipeline(settings)})
    with dg.build_schedule_context(instance=shelf.instance) as context:
        (request,) = defs.resolve_schedule_def("archive").evaluate_tick(context).run_requests or []
    job = defs.resolve_job_def("archive")
    assert job.execute_in_process(instance=shelf.instance, run_config=dict(request.run_config)).success
