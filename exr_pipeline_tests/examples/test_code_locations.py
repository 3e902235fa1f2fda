"""What docs/code-locations.md shows: the pipeline and another project in one workspace, loaded and run by Dagster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.remote_representation.grpc_server_registry import GrpcServerRegistry
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._grpc.constants import GrpcServerCommand
from dagster_graphql.test.utils import execute_dagster_graphql

from exr_pipeline.orchestration.partitions import FILES
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.docs.test_documents import blocks
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.services.processes import wait_until

PAGE = "docs/code-locations.md"
OURS, THEIRS = "exr_pipeline.definitions", "header_report"
# Runs start at once: no daemon is there to take them from a queue.
CONFIG = {
    "telemetry": {"enabled": False},
    "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "DefaultRunCoordinator"},
}
LAUNCH = """
    mutation ($parameters: ExecutionParams!) {
        launchRun(executionParams: $parameters) {
            __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
        }
    }"""


@pytest.fixture
def instance(
    tmp_path: Path, s3_server: EmbeddedS3, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """The folder of a deployment with the module and the workspace of the page, and its Dagster instance."""
    settings = {
        "EXR_PIPELINE_DATABASE": str(tmp_path / "tables.duckdb"),
        "EXR_PIPELINE_SOURCES": bucket.url,
        "DAGSTER_HOME": str(tmp_path),
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
    }
    for name, value in (s3_server.environment() | settings).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(CONFIG))
    (module,), (workspace,) = blocks(PAGE, "python"), blocks(PAGE, "yaml")
    (tmp_path / "header_report.py").write_text(module)
    (tmp_path / "workspace.yaml").write_text(workspace)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


@contextmanager
def workspace_of(instance: dg.DagsterInstance, folder: Path) -> Iterator[WorkspaceRequestContext]:
    """All locations of the workspace, each loaded by a code server of its own."""
    target = WorkspaceFileTarget([str(folder / "workspace.yaml")])
    # The servers of a context that has none given may outlive it.
    servers = GrpcServerRegistry(
        instance_ref=instance.get_ref(),
        server_command=GrpcServerCommand.API_GRPC,
        heartbeat_ttl=120,
        startup_timeout=300,
        wait_for_processes_on_shutdown=True,
    )
    with servers, WorkspaceProcessContext(instance, target, grpc_server_registry=servers) as process:
        yield process.create_request_context()


def launch(
    context: WorkspaceRequestContext, location: str, job: str, asset: str, tags: dict[str, str]
) -> dg.DagsterRun:
    """Launch a run as the page does, and wait for its end."""
    selector = {
        "repositoryLocationName": location,
        "repositoryName": "__repository__",
        "jobName": job,
        "assetSelection": [{"path": [asset]}],
    }
    metadata = {"tags": [{"key": key, "value": value} for key, value in tags.items()]}
    parameters: dict[str, Any] = {"selector": selector, "runConfigData": {}, "executionMetadata": metadata}
    answer = execute_dagster_graphql(context, LAUNCH, {"parameters": parameters}).data["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer

    def ended() -> dg.DagsterRun | None:
        run = context.instance.get_run_by_id(answer["run"]["runId"])
        return run if run is not None and run.is_finished else None

    run: dg.DagsterRun = wait_until(ended, f"{job} of {location} ends")
    return run


@pytest.mark.filterwarnings("ignore:Parameter `(backfill_policy|owners)`")
def test_an_asset_of_another_location_gets_the_rows_of_its_partition_only(
    instance: dg.DagsterInstance,
    bucket: Location,
    storage: ObjectStorage,
    tmp_path: Path,
) -> None:
    files = [bucket.child(f"shot/a.{number}.exr") for number in (1001, 1002, 1003)]
    for number, file in enumerate(files):
        storage.write(file, render(size=(64 + 16 * number, 36)), content_type="image/x-exr", tags={})
    keys = [file.partition_key for file in files]
    instance.add_dynamic_partitions(FILES, keys)
    every_file = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}

    with workspace_of(instance, tmp_path) as context:
        assert {name: str(entry.load_error) for name, entry in context.get_code_location_entries().items()} == {
            OURS: "None",
            THEIRS: "None",
        }
        graph = context.asset_graph
        header, report = dg.AssetKey("exr_header"), dg.AssetKey("header_report")
        assert report in graph.get(header).child_keys
        assert graph.get(header).parent_keys == {dg.AssetKey("source_file")}
        assert graph.get(report).partitions_def == graph.get(header).partitions_def
        makers = {
            key: [
                info.asset_node.repository_handle.location_name
                for info in graph.get(key).repo_scoped_asset_infos
                if info.asset_node.is_materializable
            ]
            for key in (header, report)
        }
        assert makers == {header: [OURS], report: [THEIRS]}
        assert launch(context, OURS, "ingest", "exr_header", every_file).is_success
        assert launch(context, THEIRS, "__ASSET_JOB", "header_report", {"dagster/partition": keys[1]}).is_success
        (made,) = instance.fetch_materializations(report, limit=10).records
        assert made.partition_key == keys[1]
        metadata = {name: value.value for name, value in made.asset_materialization.metadata.items()}
        assert metadata["files"] == files[1].url
        assert metadata["bytes"] == storage.head(files[1]).size
