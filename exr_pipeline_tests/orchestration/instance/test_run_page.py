"""The page of a run that is under way, in a browser: it moves without a reload, whatever Dagster's storage is."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from playwright.sync_api import expect

from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.io_managers import TableIOManager
from exr_pipeline.orchestration.partitions import FILES
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import TableName
from exr_pipeline_tests.browser import browser_page
from exr_pipeline_tests.orchestration.batched_steps import QUIET
from exr_pipeline_tests.orchestration.conftest import RANGE_END, RANGE_START
from exr_pipeline_tests.orchestration.dagster_homes import instance_at, postgres_instance_at
from exr_pipeline_tests.renders import render


class HeldTables(TableIOManager):
    """Tables that take no row until they are released: a step that writes to them stands still before its first."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline)
        self.reached, self.released = threading.Event(), threading.Event()

    def write(self, rows: Mapping[TableName, pa.Table], **options: Any) -> None:
        self.reached.set()
        assert self.released.wait(300)
        super().write(rows, **options)


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "home"
    if request.param == "SQLite":
        opening = instance_at(home)
    else:
        opening = postgres_instance_at(home, request.getfixturevalue("postgres_url"))
    with opening as opened:
        yield opened


@pytest.fixture
def webserver(instance: dg.DagsterInstance) -> Iterator[str]:
    """The page with a storage of its own. Of a run it shows what is stored, so it needs no code location."""
    with (
        dg.DagsterInstance.get() as its_own,
        WorkspaceProcessContext(its_own, EmptyWorkspaceTarget()) as workspace,
    ):
        app = create_app_from_workspace_process_context(workspace)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
            with running(lambda: server.run([listening])):
                try:
                    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
                finally:
                    server.should_exit = True


@contextmanager
def running(run: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(300)


def test_an_open_page_shows_steps_progress_and_failures_as_they_happen(
    instance: dg.DagsterInstance, webserver: str, tmp_path: Path
) -> None:
    files = [tmp_path / "good.0001.exr", tmp_path / "no_exr.0001.exr"]
    files[0].write_bytes(render())
    files[1].write_bytes(b"no EXR at all")
    keys = [Location("file", "", str(path).removeprefix("/")).partition_key for path in files]
    instance.add_dynamic_partitions(FILES, keys)
    settings = Settings(_env_file=None, database=tmp_path / "tables.duckdb", state_dir=tmp_path)
    pipeline = Pipeline(settings)
    tables = HeldTables(pipeline)
    defs = build_defs(settings=settings, resource_overrides={"pipeline": pipeline, "table_io": tables})

    def run() -> None:
        defs.resolve_job_def("ingest").execute_in_process(
            run_config=QUIET,
            instance=instance,
            tags={RANGE_START: keys[0], RANGE_END: keys[-1]},
            asset_selection=[dg.AssetKey("exr_header")],
            raise_on_error=False,
        )

    with browser_page() as page, running(run):
        try:
            assert tables.reached.wait(300)
            (record,) = instance.get_run_records()
            page.goto(f"{webserver}/runs/{record.dagster_run.run_id}", wait_until="domcontentloaded")
            # What had happened when the page was opened, and nothing since.
            page.get_by_text("STEP_START", exact=True).wait_for(timeout=60_000)
            steps = page.get_by_text("Executing (1)")
            steps.wait_for(timeout=60_000)
            for later in ("2/2 files", "rejected: ", "STEP_FAILURE", "RUN_FAILURE"):
                expect(page.get_by_text(later)).to_have_count(0)
        finally:
            tables.released.set()
        page.get_by_text("RUN_FAILURE", exact=True).wait_for(timeout=60_000)
        page.get_by_text("Errored (1)").wait_for(timeout=60_000)
        expect(page.get_by_text("2/2 files (1 ready, 1 rejected, 0 retryable)").first).to_be_attached()
        expect(page.get_by_text(f"rejected: file://{files[1]}").first).to_be_attached()
        expect(page.get_by_text("STEP_FAILURE", exact=True).first).to_be_attached()
