"""A sensor to be ticked by hand: a real instance, a real store and real tables, and a clock that stands still."""

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

from exr_pipeline.ingest.discovery.cursor import Cursor
from exr_pipeline.ingest.read_header import source_file
from exr_pipeline.ingest.store_results import rows_of
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.partitions import FILES
from exr_pipeline.orchestration.sensors.files import SENSOR, tick
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.products.file_result import FileResult
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import State
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
        values: dict[str, Any] = {
            "sources": (root.url,),
            "settle_seconds": 60.0,
            **{f"s3_{name}": access[name] for name in access},
        }
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

    def inspect(self, *names: str, state: State = "ready") -> None:
        """Rows and partitions as a run would leave them for the present versions."""
        self.inspect_elsewhere(*names, state=state)
        self.instance.add_dynamic_partitions(FILES, [self.key(name) for name in names])

    def inspect_elsewhere(self, *names: str, state: State = "ready") -> None:
        """Rows as something other than Dagster would leave them for the present versions."""
        batch = []
        for name in names:
            info = self.pipeline.storage.head(self.root.child(name))
            batch.append(FileResult(info.location, state, None if state == "ready" else "why", source_file(info)))
        self.pipeline.tables.write(rows_of(batch, now=self.now), now=self.now)


MakeWatch = Callable[..., Watch]


@pytest.fixture
def make_watch(instance: dg.DagsterInstance, s3_server: EmbeddedS3, bucket: Location, database: Path) -> MakeWatch:
    return lambda **changes: Watch(instance, s3_server, bucket, database=database, **changes)


@pytest.fixture
def sweep_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder is looked at out of its turn, so that a test can tell which tick finds what."""
    monkeypatch.setattr("exr_pipeline.ingest.discovery.sweep.HOT_FOLDERS", 0)


def evaluate(pipeline: Pipeline, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    sensor = build_defs(settings=pipeline.settings).get_repository_def().get_sensor_def(SENSOR)
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"pipeline": pipeline}) as context:
        return sensor.evaluate_tick(context)
