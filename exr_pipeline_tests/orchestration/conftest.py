"""Fixtures of the tests that run Dagster: an instance of the repository's dagster.yaml, a bucket, tables."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as db
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.partitions import FILES, files_partitions
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.retries import POLICY
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.orchestration.dagster_homes import instance_at

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


@dataclass
class Workshop:
    """A bucket, tables and a Dagster instance, with the few words that tests need."""

    instance: dg.DagsterInstance
    pipeline: Pipeline
    bucket: Location
    defs: dg.Definitions

    def put(self, files: dict[str, bytes]) -> list[str]:
        """Write files, add their partitions; returns the partition keys in the same order."""
        locations = [self.bucket.child(key) for key in files]
        for location, data in zip(locations, files.values(), strict=True):
            self.pipeline.storage.write(location, data, content_type="application/octet-stream", tags={})
        keys = [location.partition_key for location in locations]
        self.instance.add_dynamic_partitions(FILES, keys)
        return keys

    def run(self, job: str = "ingest", *, tags: dict[str, str] | None = None, **options: Any) -> Any:
        """Run a job in this process; a failed run is a result like another."""
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, tags=tags, raise_on_error=False, **options
        )

    def run_range(self, keys: list[str], **options: Any) -> Any:
        """Run the ingest job over a range of partitions."""
        return self.run(tags={RANGE_START: keys[0], RANGE_END: keys[-1]}, **options)

    def run_with_announcements_lost(self, job: str, tags: dict[str, str], kept: dg.AssetKey | None = None) -> str:
        """Run a job as the next daemon does after one that was killed while it announced what the run will make.

        Dagster stores a run first, and then what it will make. `kept` is what was announced; returns the run's id.
        """
        resolved = self.defs.resolve_job_def(job)
        run = self.instance.create_run_for_job(resolved, tags=tags)
        storage = self.instance.event_log_storage
        assert isinstance(storage, SqlEventLogStorage)
        events = SqlEventLogStorageTable
        lost = db.delete(events).where(events.c.run_id == run.run_id)
        if kept is not None:
            lost = lost.where(events.c.asset_key != kept.to_string())
        for database in (storage.index_transaction(), storage.run_connection(run.run_id)):
            with database as connection:
                connection.execute(lost)
        execute_run(InMemoryJob(resolved), run, self.instance)
        return run.run_id

    def select(self, job: str = "ingest_selection", **selection: Any) -> Any:
        """Run a job over a selection of files."""
        return self.run(job, run_config={"ops": {"ingest_selected_files": {"config": selection}}})

    def statuses(self, asset: str) -> dict[str, set[str]]:
        """Partition keys by the status that the UI shows for an asset."""
        value = get_and_update_asset_status_cache_value(self.instance, dg.AssetKey(asset), files_partitions)
        assert value is not None
        with dg.partition_loading_context(dynamic_partitions_store=self.instance):
            failed = value.deserialize_failed_partition_subsets(files_partitions)
            in_progress = value.deserialize_in_progress_partition_subsets(files_partitions)
            materialized = value.deserialize_materialized_partition_subsets(files_partitions)
            found = {
                "failed": set(failed.get_partition_keys()),
                "in progress": set(in_progress.get_partition_keys()),
            }
            found["materialized"] = set(materialized.get_partition_keys()) - found["failed"]
            return found

    def materializations(self, asset: str) -> dict[str, list[dg.AssetMaterialization]]:
        """The materializations of an asset by partition key, oldest first."""
        page = self.instance.fetch_materializations(dg.AssetKey(asset), limit=1000, ascending=True)
        found: dict[str, list[dg.AssetMaterialization]] = {}
        for record in page.records:
            assert record.asset_materialization is not None
            found.setdefault(str(record.partition_key), []).append(record.asset_materialization)
        return found

    def observations(self, asset: str) -> dict[str, list[dg.AssetObservation]]:
        """The observations of an asset by partition key, oldest first."""
        page = self.instance.fetch_observations(dg.AssetKey(asset), limit=1000, ascending=True)
        found: dict[str, list[dg.AssetObservation]] = {}
        for record in page.records:
            observation = record.event_log_entry.asset_observation
            assert observation is not None
            found.setdefault(str(record.partition_key), []).append(observation)
        return found

    def objects(self) -> set[str]:
        """The keys of everything in the bucket."""
        return {info.location.key for info in self.pipeline.storage.iter_objects(self.bucket)}


@pytest.fixture
def workshop(
    tmp_path: Path, s3_server: EmbeddedS3, bucket: Location, monkeypatch: pytest.MonkeyPatch, lasting_workers: None
) -> Iterator[Workshop]:
    """Everything new and empty, on the session's S3 server."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    home = tmp_path / "home"
    # Workers that another test has left are in another folder: none of the paths may be relative.
    settings = Settings(
        _env_file=None,
        database=tmp_path / "tables.duckdb",
        state_dir=home / ".state",
        sources=(bucket.url,),
        settle_seconds=0,
    )
    with instance_at(home) as instance:
        pipeline = Pipeline(settings)
        yield Workshop(
            instance, pipeline, bucket, build_defs(settings=settings, resource_overrides={"pipeline": pipeline})
        )


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    hasty = replace(POLICY, first_pause_seconds=0.01, step_pause_seconds=0)
    monkeypatch.setattr("exr_pipeline.pipeline.POLICY", hasty)
