"""Deleted files through Dagster: the job, its report, partitions, a file that comes back, a process that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from exr_pipeline.ingest.deletions import SourceReport, Tally
from exr_pipeline.ingest.discovery.cursor import Cursor
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.maintenance.reconcile import RECONCILE_JOB, markdown
from exr_pipeline.orchestration.partitions import FILES
from exr_pipeline.orchestration.sensors.files import tick
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline_tests.orchestration.conftest import RANGE_END, RANGE_START, Workshop
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.tables.sample_rows import output_rows

FILE_NAMES = [f"shot/a.{number:04}.exr" for number in range(1, 5)]


@pytest.fixture
def shop(workshop: Workshop) -> Workshop:
    """A workshop with four files whose headers are ingested, in which media of deleted files go at once."""
    settings = workshop.pipeline.settings.model_copy(update={"deleted_media_days": 0, "workers": 1})
    pipeline = Pipeline(settings)
    defs = build_defs(settings=settings, resource_overrides={"pipeline": pipeline})
    made = Workshop(workshop.instance, pipeline, workshop.bucket, defs)
    keys = made.put({name: render(size=(32, 18)) for name in FILE_NAMES})
    assert made.select(partitions=keys, assets=["exr_header"]).success
    return made


def add_media(shop: Workshop) -> None:
    """Thumbnails and their rows, without the work of making pictures."""
    rows = []
    for file in shop.pipeline.tables.read("files").to_pylist():
        thumbnail = OutputPlace().at(Location("s3", file["bucket"], file["file_path"]), "thumb.jpg")
        shop.pipeline.storage.write(thumbnail, b"a picture", content_type="image/jpeg", tags={})
        ids = {"proxy_id": file["file_id"], "file_id": file["file_id"]}
        ids |= {"s3_key": file["file_path"], "s3_bucket": file["bucket"], "output_bucket": thumbnail.bucket}
        rows.append(ids | {"thumbnail_s3_key": thumbnail.key, "thumbnail_size_bytes": 9})
    shop.pipeline.tables.write(output_rows(*rows), now=datetime.now(UTC))


def delete(shop: Workshop, *names: str) -> None:
    for name in names:
        shop.pipeline.storage.delete(shop.bucket.child(name))


def reconcile(shop: Workshop, **config: Any) -> Any:
    return shop.run(RECONCILE_JOB, run_config={"ops": {"reconcile_sources": {"config": config}}})


def metadata(result: Any) -> dict[str, Any]:
    if result.success:
        (event,) = result.filter_events(lambda event: event.event_type_value == "STEP_OUTPUT")
        return {name: value.value for name, value in event.event_specific_data.metadata.items()}
    (event,) = result.filter_events(lambda event: event.event_type_value == "STEP_FAILURE")
    return {name: value.value for name, value in event.step_failure_data.user_failure_data.metadata.items()}


def partitions(shop: Workshop) -> set[str]:
    return {Location.from_partition_key(key).key for key in shop.instance.get_dynamic_partitions(FILES)}


def everything(shop: Workshop) -> Any:
    tables = {
        name: sorted(shop.pipeline.tables.read(name, current_only=False).to_pylist(), key=str)
        for name in ("files", "proxy_outputs", "sequence_outputs")
    }
    return tables, shop.objects(), partitions(shop)


def test_a_dry_run_only_reports_and_applying_it_marks_and_removes(shop: Workshop) -> None:
    add_media(shop)
    gone, *others = FILE_NAMES
    delete(shop, gone)
    before = everything(shop)

    run = reconcile(shop)
    would = metadata(run)
    assert any(entry.user_message.startswith("listing: ") for entry in shop.instance.all_logs(run.run_id))
    assert (would["dry run"], would["deleted"], would["media"], would["partitions"]) == (True, 1, 1, 1)
    assert f"- `{shop.bucket.child(gone).url}`" in would["report"]
    assert "| partitions to remove | 1 | |" in would["report"]
    assert "nothing was changed" in would["report"]
    assert everything(shop) == before

    done = metadata(reconcile(shop, dry_run=False))
    assert done["bytes of media"] == would["bytes of media"] == 9
    assert "| partitions removed | 1 | |" in done["report"]
    tables, objects, keys = everything(shop)
    assert keys == set(others)
    assert before[1] - objects == {"shot/.proxies/a.0001_thumb.jpg"}
    assert [row["file_path"] for row in tables["files"] if row["deleted_at"]] == [gone]
    # The history of the others is as it was.
    assert shop.statuses("exr_header")["materialized"] == {shop.bucket.child(name).partition_key for name in others}

    again = metadata(reconcile(shop, dry_run=False))
    assert (again["deleted"], again["media"], again["partitions"]) == (0, 0, 0)
    assert everything(shop) == (tables, objects, keys)


def test_a_file_that_is_there_again_is_ingested_again(shop: Workshop) -> None:
    add_media(shop)
    name = FILE_NAMES[0]
    location = shop.bucket.child(name)
    _, data = shop.pipeline.storage.read(location)
    delete(shop, name)
    assert reconcile(shop, dry_run=False).success
    shop.pipeline.storage.write(location, data, content_type="image/x-exr", tags={})

    returned = metadata(reconcile(shop, dry_run=False))
    assert (returned["returned"], returned["media"], returned["partitions"]) == (1, 0, 0)
    result = tick(shop.instance, shop.pipeline, Cursor(), now=datetime.now(UTC))
    assert isinstance(result, dg.SensorResult)
    for request in result.dynamic_partitions_requests or []:
        shop.instance.add_dynamic_partitions(FILES, list(request.partition_keys or []))
    (run,) = result.run_requests or []
    assert shop.run(str(run.job_name), tags=dict(run.tags), run_config=run.run_config or {}).success

    version = shop.pipeline.tables.current_versions([location])[location]
    assert (version.state, version.deleted_at) == ("ready", None)
    assert partitions(shop) == set(FILE_NAMES)
    assert {"shot/.proxies/a.0001_thumb.jpg", "shot/.proxies/a.0001_proxy.mp4"} <= shop.objects()
    assert metadata(reconcile(shop))["returned"] == 0


def test_partitions_that_an_unfinished_run_is_at_stay_until_it_has_ended(shop: Workshop) -> None:
    delete(shop, *FILE_NAMES[:3])
    keys = list(shop.instance.get_dynamic_partitions(FILES))
    run = shop.instance.create_run_for_job(
        shop.defs.resolve_job_def("ingest"),
        tags={RANGE_START: keys[1], RANGE_END: keys[2]},
        status=dg.DagsterRunStatus.STARTED,
    )

    assert metadata(reconcile(shop, dry_run=False))["partitions"] == 1
    assert partitions(shop) == set(FILE_NAMES[1:])
    shop.instance.report_run_failed(run)
    done = metadata(reconcile(shop, dry_run=False))
    assert (done["deleted"], done["partitions"]) == (0, 2)
    assert partitions(shop) == {FILE_NAMES[3]}


def test_a_source_that_cannot_be_compared_fails_the_run_and_says_why(shop: Workshop) -> None:
    delete(shop, *FILE_NAMES)
    before = everything(shop)

    result = reconcile(shop, dry_run=False, sources=[shop.bucket.url, "s3://no-such-bucket-of-ours/x"])
    assert not result.success
    said = metadata(result)
    assert "lists no source file, but the tables have 4" in said["report"]
    assert "the store has no bucket" in said["report"]
    assert everything(shop) == before

    assert metadata(reconcile(shop, dry_run=False, force=True))["deleted"] == 4
    assert partitions(shop) == set()


_KILLED = """
import os, signal
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline.orchestration.maintenance.reconcile import reconcile_now
from exr_pipeline.settings import Settings

delete, mark, deleted = ObjectStorage.delete, DuckDBStore.mark, []

def one_delete(self, location):
    deleted.append(location)
    if len(deleted) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    delete(self, location)

def one_mark(self, *arguments, **options):
    mark(self, *arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

if os.environ["DIES"] == "between mark and partitions":
    DuckDBStore.mark = one_mark
else:
    ObjectStorage.delete = one_delete
reconcile_now(Settings(_env_file=None), dry_run=False)
"""


def test_a_process_that_is_killed_is_made_up_for_by_the_next_one(shop: Workshop) -> None:
    add_media(shop)
    gone = FILE_NAMES[:3]
    delete(shop, *gone)
    environment = os.environ | {
        "EXR_PIPELINE_DATABASE": str(shop.pipeline.settings.database),
        "EXR_PIPELINE_SOURCES": shop.bucket.url,
        "EXR_PIPELINE_DELETED_MEDIA_DAYS": "0",
        "EXR_PIPELINE_FETCHES": "1",
    }
    for dies, partitions_left in (("between mark and partitions", 4), ("among the media", 1)):
        command = [sys.executable, "-c", _KILLED]
        ended = subprocess.run(command, env=environment | {"DIES": dies}, timeout=120, check=False)
        assert ended.returncode == -9
        rows = shop.pipeline.tables.sql("SELECT file_path FROM deleted_files WHERE has_media").to_pylist()
        assert [row["file_path"] for row in rows] == gone
        assert len(partitions(shop)) == partitions_left
    assert len(shop.objects()) == 1 + 3, "it was killed before the second of three was removed"

    assert reconcile(shop, dry_run=False).success
    assert partitions(shop) == {FILE_NAMES[3]}
    assert shop.objects() == {FILE_NAMES[3], "shot/.proxies/a.0004_thumb.jpg"}
    assert shop.pipeline.tables.sql("FROM deleted_files WHERE has_media").num_rows == 0


def test_the_schedule_is_off_and_only_reports_unless_a_setting_says_otherwise(workshop: Workshop) -> None:
    schedule = workshop.defs.resolve_schedule_def(RECONCILE_JOB)
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    for dry_run in (True, False):
        settings = workshop.pipeline.settings.model_copy(update={"reconcile_dry_run": dry_run})
        defs = build_defs(settings=settings)
        ticked = defs.resolve_schedule_def(RECONCILE_JOB).evaluate_tick(dg.build_schedule_context())
        (request,) = ticked.run_requests or []
        assert request.run_config["ops"]["reconcile_sources"]["config"]["dry_run"] is dry_run
        assert dg.validate_run_config(defs.resolve_job_def(RECONCILE_JOB), request.run_config)


def test_names_in_the_report_stay_names() -> None:
    found = Tally()
    for number in range(150):
        found.add(f"s3://b/`{number}`\n# x.exr", 10)
    text = markdown([SourceReport("s3://b/", dry_run=False, deleted=found, error="<b>bad</b>")])
    assert "| deleted at the source | 150 | 1500 |" in text
    assert "- `` s3://b/`0` # x.exr ``" in text
    assert text.count("x.exr") == 100
    assert "- … and 50 more" in text
    assert "**Incomplete:** `<b>bad</b>`" in text
