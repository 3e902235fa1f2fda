"""Runs over the same files at the same time: they share the work, and each shows every file as it is."""

import multiprocessing
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import dagster as dg
import pyarrow as pa

from exr_pipeline.ingest import chunk
from exr_pipeline.ingest.overlap import finished_since
from exr_pipeline.orchestration.assets.specs import FILE_ASSETS
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.instance.step_events import materializations_of_run
from exr_pipeline.orchestration.partitions import locations_of
from exr_pipeline.orchestration.steps import other_runs
from exr_pipeline.products.product import FileProduct
from exr_pipeline.products.registry import FILE_PRODUCTS, products_named
from exr_pipeline.settings import Settings
from exr_pipeline_tests.orchestration.conftest import RANGE_END, RANGE_START, Workshop
from exr_pipeline_tests.renders import render

FILES = 40
BAD = 7
ASSETS = [key.path[-1] for key in FILE_ASSETS]


def inspections(workshop: Workshop) -> dict[str, int]:
    rows = workshop.pipeline.tables.read("files", columns=["file_path", "inspection_count"], current_only=False)
    counted = rows.to_pylist()
    assert len({row["file_path"] for row in counted}) == len(counted), "one row per file"
    return {row["file_path"]: row["inspection_count"] for row in counted}


def ingest_in_small_steps(settings: Settings, keys: list[str]) -> None:
    """A run of its own process, whose work is in the tables after a few files already."""
    chunk.GROUP_WITH_PICTURES = 4
    setattr(other_runs, "GROUP_WITH_PICTURES", 4)  # noqa: B010 - it is imported there
    job = build_defs(settings=settings).resolve_job_def("ingest")
    with dg.DagsterInstance.get() as instance:
        tags = {RANGE_START: keys[0], RANGE_END: keys[-1]}
        job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def test_two_runs_over_the_same_files_share_the_work_and_both_end_right(workshop: Workshop) -> None:
    files = {f"shot/a.{frame:04d}.exr": render(size=(320, 180)) for frame in range(FILES)}
    files[f"shot/a.{BAD:04d}.exr"] = b"not a picture"
    keys = workshop.put(files)
    good = {key for key in keys if key != keys[BAD]}
    settings = workshop.pipeline.settings.model_copy(update={"workers": 1, "fetches": 4, "write_seconds": 0.1})

    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=ingest_in_small_steps, args=(settings, keys)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=900)
        assert process.exitcode == 0

    counts = inspections(workshop)
    assert set(counts) == set(files)
    assert sum(counts.values()) < 1.8 * FILES, "each does what the other has not"
    assert workshop.pipeline.tables.read("proxy_outputs", current_only=False).num_rows == FILES - 1
    assert len([key for key in workshop.objects() if ".proxies/" in key]) == 2 * (FILES - 1)
    runs = workshop.instance.get_runs()
    assert [run.status for run in runs] == [dg.DagsterRunStatus.FAILURE] * 2, "one file is bad, in both"
    for run in runs:
        made = materializations_of_run(workshop.instance, run.run_id)
        for asset in ASSETS:
            assert {m.partition for m in made if m.asset_key.path[-1] == asset} == good, asset
    for asset in ASSETS:
        assert workshop.statuses(asset) == {"failed": {keys[BAD]}, "in progress": set(), "materialized": good}
    pictured = [made[-1].metadata for made in workshop.materializations("thumbnail").values()]
    assert all("source" in metadata for metadata in pictured)


def test_a_run_that_somebody_starts_over_finished_files_does_them_again(workshop: Workshop) -> None:
    keys = workshop.put({"a.0001.exr": render(), "a.0002.exr": b"bad"})
    workshop.run_range(keys)
    workshop.run_range(keys)
    assert set(inspections(workshop).values()) == {2}
    assert {len(events) for events in workshop.materializations("thumbnail").values()} == {2}


def test_more_than_what_the_other_run_has_made_is_made(workshop: Workshop) -> None:
    before = datetime.now(UTC)
    keys = workshop.put({"a.exr": render(), "b.exr": render(), "c.exr": b"bad"})
    a, b, c = locations_of(keys)
    tables = workshop.pipeline.tables

    def finished(wanted: Collection[FileProduct], since: datetime = before) -> set[str]:
        return {file.location.key for file in finished_since(tables, [a, b, c], wanted, since)}

    headers, thumbnails = products_named(["header"]), products_named(["thumbnail"])
    workshop.select(partitions=keys, assets=["exr_header"])
    assert finished(headers) == {"a.exr", "b.exr", "c.exr"}
    assert finished(thumbnails) == {"c.exr"}, "a bad file has no pictures, ever"
    workshop.select(partitions=keys[:1], assets=["thumbnail"])
    assert finished(thumbnails) == {"a.exr", "c.exr"}
    assert finished(FILE_PRODUCTS) == {"c.exr"}
    assert finished(headers, datetime.now(UTC)) == set()
    tables.mark({a: tables.current_versions([a])[a].file_id}, "deleted", now=datetime.now(UTC))
    assert finished(headers) == {"b.exr", "c.exr"}


def test_what_a_clock_ahead_has_met_is_not_taken_for_met_since(workshop: Workshop) -> None:
    before = datetime.now(UTC)
    keys = workshop.put({"a.exr": render(), "b.exr": render()})
    a, b = locations_of(keys)
    tables = workshop.pipeline.tables
    workshop.select(partitions=keys, assets=["exr_header"])
    ahead = datetime.now(UTC) + timedelta(days=400)
    (row,) = tables.read("files", locations=[a]).to_pylist()
    tables.write({"files": pa.Table.from_pylist([row | {"seen_at": ahead.isoformat()}])}, now=ahead)

    found = finished_since(tables, [a, b], products_named(["header"]), before)

    assert [file.location for file in found] == [b]
