"""deploy/celery as it is, on real services: two workers share an ingest, one is killed, the other ends its work."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import redis
import yaml
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

from exr_pipeline.orchestration.instance.celery_launcher import HealthCheckedCeleryRunLauncher
from exr_pipeline.orchestration.instance.postgres import BatchingPostgresEventLogStorage
from exr_pipeline.orchestration.instance.run_now import ingest_source
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables import open_table_store
from exr_pipeline_tests.orchestration.dagster_homes import instance_at
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.services.outcome import Outcome, partition_counts
from exr_pipeline_tests.services.processes import Service, answers, free_port, wait_until
from exr_pipeline_tests.services.redis import running_redis
from exr_pipeline_tests.vast_emulator.running import RunningEmulator, running_emulator

DEPLOY = Path(__file__).parents[2] / "deploy" / "celery"
FILES_COUNT, CHUNK = 40, 10
# Longer than any pause of a living worker on a machine that has much else to do.
SILENCE_SECONDS = 300
PATIENCE_SECONDS = 300
IDLE_SECONDS = 15

# Celery's own call of a client that is newer than it.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


# It would break a URL that it is put into as it is.
PASSWORD = "p@ss/w:rd #1%?"


@pytest.fixture
def redis_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The queue of runs; its password comes from a file."""
    file = tmp_path / "redis_password"
    file.write_text(f"{PASSWORD}\n")
    monkeypatch.setenv("EXR_PIPELINE_REDIS_PASSWORD_FILE", str(file))
    with running_redis(tmp_path / "redis", PASSWORD) as url:
        yield url


@pytest.fixture
def emulator() -> Iterator[RunningEmulator]:
    """An emulated VAST DataBase, as several machines need."""
    with running_emulator() as running:
        yield running


@pytest.fixture
def vast(emulator: RunningEmulator) -> dict[str, str]:
    """The environment that names it."""
    return {
        "VAST_DB_ENDPOINT": emulator.url,
        "VAST_DB_BUCKET": "vastdb",
        "VAST_DB_ACCESS_KEY": "test",
        "VAST_DB_SECRET_KEY": "test",
    }


def impatient(home: Path) -> None:
    """Put the deployment's dagster.yaml in place, with shorter waits and one worker for each run."""
    config = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    # A worker that only is slow must not pass for a silent one: its run would be failed, and another one started.
    config["run_launcher"]["config"]["silence_seconds"] = 15
    config["run_monitoring"]["poll_interval_seconds"] = 1
    config["concurrency"]["runs"]["max_concurrent_runs"] = 2
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))


class Cluster:
    """Code server, daemon and two workers, each a process of its own with the deployment's commands."""

    def __init__(self, folder: Path, environment: Mapping[str, str], stack: ExitStack) -> None:
        self.home = folder / "home"
        impatient(self.home)
        self.environment = {**os.environ, **environment, "DAGSTER_HOME": str(self.home)}
        self._logs = folder
        self._stack = stack
        port = free_port()
        self.services = [self._started("code", *code_server_command(port))]
        wait_until(lambda: answers(port), "the code server answers", seconds=PATIENCE_SECONDS)
        location = {"host": "127.0.0.1", "port": port, "location_name": "exr_pipeline"}
        (self.home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": location}]}))
        self.workers = {name: self._started(name, *worker_command(name)) for name in ("one", "two")}
        self.services += self.workers.values()
        self.services.append(self._started("daemon", "dagster._daemon", "run", "-w", self.home / "workspace.yaml"))

    def _started(self, name: str, *command: str | Path) -> Service:
        service = Service(
            name,
            [sys.executable, "-m", *command],
            self._logs / f"{name}.log",
            environment=self.environment,
            folder=self.home,
        )
        return self._stack.enter_context(service)

    def logs(self) -> str:
        return "\n".join(service.log_tail(60) for service in self.services)


def code_server_command(port: int) -> list[str]:
    return ["dagster", "api", "grpc", "-m", "exr_pipeline.definitions", "-h", "127.0.0.1", "-p", str(port)]


def worker_command(name: str, *, app: str = "exr_pipeline.orchestration.instance.celery_app") -> list[str]:
    return ["celery", "--app", app, "worker", "--concurrency", "1", "--hostname", f"{name}@%h", "--loglevel", "INFO"]


@contextmanager
def cluster(folder: Path, environment: Mapping[str, str]) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(folder, environment, stack)


def started_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])))


def worker_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    launcher = instance.run_launcher
    assert isinstance(launcher, HealthCheckedCeleryRunLauncher)
    result: Any = launcher.celery.AsyncResult(run.tags["dagster-celery/task_id"]).result
    return result["hostname"].partition("@")[0] if isinstance(result, dict) else None


@pytest.mark.skipif(
    "EXR_PIPELINE_TEST_KILLS" not in os.environ,
    reason="NOT TESTED: a whole cluster takes two minutes; EXR_PIPELINE_TEST_KILLS=6 tries it",
)
def test_what_a_killed_worker_was_at_is_ended_by_the_other(
    tmp_path: Path,
    bucket: Location,
    s3_settings: Settings,
    storage: ObjectStorage,
    postgres_url: str,
    redis_url: str,
    emulator: RunningEmulator,
    vast: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for index in range(FILES_COUNT):
        data = render(0.1 + index / 50, size=(480, 270))
        storage.write(bucket.child(f"show/beauty.{index:04d}.exr"), data, content_type="image/x-exr", tags={})
    sources = {info.location.key for info in storage.iter_objects(bucket)}
    environment = {
        **vast,
        "EXR_PIPELINE_POSTGRES_URL": postgres_url,
        "EXR_PIPELINE_REDIS_URL": redis_url,
        "EXR_PIPELINE_SOURCES": bucket.url,
        "EXR_PIPELINE_CHUNK_SIZE": str(CHUNK),
        "EXR_PIPELINE_SETTLE_SECONDS": "0",
        "EXR_PIPELINE_SENSOR_INTERVAL_SECONDS": "1",
        "EXR_PIPELINE_WORKERS": "1",
        # Not before this test is over, however slow the machine: a movie of the frames would be one run more.
        "EXR_PIPELINE_SEQUENCE_QUIET_SECONDS": "36000",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    open_table_store(settings).create_tables()

    with cluster(tmp_path, environment) as running:
        monkeypatch.setenv("DAGSTER_HOME", str(running.home))
        with dg.DagsterInstance.get() as instance:
            assert isinstance(instance.event_log_storage, BatchingPostgresEventLogStorage)
            killed = kill_a_worker_in_mid_run(instance, running, storage, bucket)
            try:
                wait_until(
                    lambda: is_done(instance, emulator),
                    "every file's partitions are materialized",
                    seconds=PATIENCE_SECONDS,
                    pause=1,
                )
            except AssertionError as error:
                pytest.fail(f"{error}\n{partition_counts(instance)}\n{running.logs()}")
            runs = list(instance.get_runs())
            failed = instance.get_run_by_id(killed)
            assert failed is not None
            assert failed.status == dg.DagsterRunStatus.FAILURE
            (retry,) = [run for run in runs if run.parent_run_id == killed]
            assert retry.status == dg.DagsterRunStatus.SUCCESS
            assert len(runs) == FILES_COUNT // CHUNK + 1
            counts = partition_counts(instance)
            assert all(states == {"MATERIALIZED": FILES_COUNT} for states in counts.values()), counts

    outcome = Outcome.of(settings, bucket)
    assert len(outcome.objects) == 3 * FILES_COUNT
    for key in outcome.objects.keys() - sources:
        storage.delete(Location(bucket.scheme, bucket.bucket, key))
    undisturbed = settings.model_copy(update={"vast_db_bucket": None, "database": tmp_path / "tables.duckdb"})
    with instance_at(tmp_path / "undisturbed"):
        ingest_source(bucket, undisturbed)
    assert outcome.differences(Outcome.of(undisturbed, bucket)) == []


def kill_a_worker_in_mid_run(
    instance: dg.DagsterInstance, running: Cluster, storage: ObjectStorage, bucket: Location
) -> str:
    """Kill a worker, and all that it started, that has made some but not all pictures of its run; that run's id."""

    def in_midst() -> tuple[dg.DagsterRun, str] | None:
        made = {info.location.key.rpartition("/")[2] for info in storage.iter_objects(bucket.child("show/.proxies/"))}
        for run in started_runs(instance):
            first = run.tags["dagster/asset_partition_range_start"].rpartition(".exr")[0]
            frame = int(first.rpartition(".")[2])
            some = sum(f"beauty.{index:04d}_thumb.jpg" in made for index in range(frame, frame + CHUNK))
            if 0 < some < CHUNK and (worker := worker_of(instance, run)):
                return run, worker
        return None

    try:
        run, worker = wait_until(in_midst, "a run is in its midst", seconds=PATIENCE_SECONDS, pause=0.2)
    except AssertionError as error:
        pytest.fail(f"{error}\n{running.logs()}")
    running.workers[worker].kill_group()
    return run.run_id


def is_done(instance: dg.DagsterInstance, emulator: RunningEmulator) -> bool:
    # The database does so by itself with the transaction that a killed worker has left open, but after minutes.
    emulator.admin("expire", {"idle": IDLE_SECONDS})
    counts = partition_counts(instance)
    return all(states == {"MATERIALIZED": FILES_COUNT} for states in counts.values())


def test_a_worker_of_another_dagster_yaml_says_what_is_wrong(tmp_path: Path) -> None:
    shutil.copy(DEPLOY.parents[1] / "dagster.yaml", tmp_path)
    service = Service(
        "worker",
        [sys.executable, "-m", *worker_command("lost")],
        tmp_path / "log",
        environment={**os.environ, "DAGSTER_HOME": str(tmp_path)},
        folder=tmp_path,
    )
    with service:
        wait_until(lambda: not service.is_running, "the worker ends", seconds=PATIENCE_SECONDS)
    assert "DAGSTER_HOME" in service.log_tail()
    assert "HealthCheckedRunLauncher" in service.log_tail()


@pytest.fixture
def launcher(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HealthCheckedCeleryRunLauncher]:
    """The launcher of an instance without a daemon."""
    config = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    del config["storage"]
    config["run_launcher"]["config"] |= {"silence_seconds": SILENCE_SECONDS, "answer_seconds": 0.5}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("EXR_PIPELINE_REDIS_URL", redis_url)
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.run_launcher, HealthCheckedCeleryRunLauncher)
        yield instance.run_launcher


def run_begun_by(launcher: HealthCheckedCeleryRunLauncher, worker: str) -> dg.DagsterRun:
    """A run of which Celery knows that this worker began it, and nothing since."""
    launcher.celery.backend.store_result("a-task", {"hostname": worker, "pid": 1}, "STARTED")
    tags = {"dagster-celery/task_id": "a-task"}
    return dg.DagsterRun("ingest", status=dg.DagsterRunStatus.STARTED, tags=tags)


def test_a_run_that_nobody_answers_for_is_given_time_and_then_failed(
    launcher: HealthCheckedCeleryRunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_begun_by(launcher, "one@gone")

    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    later = time.monotonic() + SILENCE_SECONDS
    monkeypatch.setattr("exr_pipeline.orchestration.instance.celery_launcher.time.monotonic", lambda: later)
    health = launcher.check_run_worker_health(run)

    assert health.status == WorkerStatus.FAILED
    assert "one@gone has not answered" in str(health.msg)


def test_a_run_whose_worker_was_restarted_is_failed_at_once(
    launcher: HealthCheckedCeleryRunLauncher, tmp_path: Path
) -> None:
    service = Service(
        "worker",
        [sys.executable, "-m", *worker_command("one")],
        tmp_path / "log",
        environment=os.environ,
        folder=tmp_path,
    )
    with service:
        ping = launcher.celery.control.inspect(timeout=1).ping
        answer = wait_until(lambda: ping() or not service.is_running, "the worker answers", seconds=PATIENCE_SECONDS)
        assert service.is_running, service.log_tail()
        (worker,) = answer
        run = run_begun_by(launcher, worker)

        def failure() -> CheckRunHealthResult | None:
            health = launcher.check_run_worker_health(run)
            return health if health.status == WorkerStatus.FAILED else None

        # Long before it would be failed for its silence.
        health = wait_until(failure, "it is failed", seconds=SILENCE_SECONDS / 2)

    assert f"{worker} was restarted and lost the run" in str(health.msg)


def test_a_worker_takes_no_run_that_it_cannot_start(
    launcher: HealthCheckedCeleryRunLauncher, redis_url: str, tmp_path: Path
) -> None:
    service = Service(
        "worker",
        [sys.executable, "-m", *worker_command("one", app="exr_pipeline_tests.deploy.holding_app")],
        tmp_path / "log",
        environment={**os.environ, "PYTHONPATH": str(DEPLOY.parents[1])},
        folder=tmp_path,
    )
    queue = redis.Redis.from_url(redis_url, password=PASSWORD)
    inspect = launcher.celery.control.inspect(timeout=1)
    with closing(queue), service:
        for _ in range(3):
            launcher.celery.send_task("hold", queue="dagster", routing_key="dagster.execute")

        def is_at_work() -> bool:
            return any((inspect.active() or {}).values())

        wait_until(lambda: is_at_work() or not service.is_running, "it takes a run", seconds=PATIENCE_SECONDS)
        assert service.is_running, service.log_tail()
        # Once more, so that it has had the time to take another one.
        wait_until(is_at_work, "it answers", seconds=PATIENCE_SECONDS)
        left = queue.llen("dagster")
        service.kill_group()

    assert left == 2


def test_what_celery_knows_of_the_end_of_a_run_needs_no_worker(launcher: HealthCheckedCeleryRunLauncher) -> None:
    run = run_begun_by(launcher, "one@gone")
    launcher.celery.backend.store_result("a-task", 0, "SUCCESS")
    assert launcher.check_run_worker_health(run).status == WorkerStatus.SUCCESS
    launcher.celery.backend.store_result("b-task", RuntimeError("killed"), "FAILURE")
    failed = dg.DagsterRun("ingest", tags={"dagster-celery/task_id": "b-task"})
    assert launcher.check_run_worker_health(failed).status == WorkerStatus.FAILED
