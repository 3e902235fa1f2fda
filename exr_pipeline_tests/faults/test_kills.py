"""Services and runs are killed while files arrive and are ingested; what comes of it is what comes of it undisturbed.

EXR_PIPELINE_TEST_KILLS says how often; EXR_PIPELINE_TEST_SEED chooses other moments and victims.
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.orchestration.assets.specs import FILE_ASSETS
from exr_pipeline.orchestration.instance.run_now import ingest_source
from exr_pipeline.orchestration.sensors.files import unfinished_runs
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables import open_table_store
from exr_pipeline_tests.faults.deployment import PATIENCE_SECONDS, Deployment, deployment
from exr_pipeline_tests.faults.files import files
from exr_pipeline_tests.orchestration.dagster_homes import instance_at
from exr_pipeline_tests.services.outcome import Outcome, partition_counts, partition_statuses
from exr_pipeline_tests.services.postgres import PostgresServer, require_postgres
from exr_pipeline_tests.services.processes import wait_until

KILLS = int(os.environ.get("EXR_PIPELINE_TEST_KILLS", "0"))
FILES_PER_KILL = 16
PAUSE_SECONDS = 3.0
SEED = int(os.environ.get("EXR_PIPELINE_TEST_SEED", "20261121"))
RUN_WORKER = "run worker"
FILE_ASSET_NAMES = {asset.to_user_string() for asset in FILE_ASSETS}
PAGE_QUERY = "{ assetNodes { assetKey { path } partitionStats { numMaterialized numFailed numMaterializing } } }"


@dataclass
class Chaos:
    """Kills one of the services, or a run's worker, at moments and in an order that the seed decides."""

    deployed: Deployment
    seed: int
    done: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _workers_killed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def victims(self, kills: int) -> list[str]:
        """Each kind as often as any other, give or take one, in any order."""
        kinds = [RUN_WORKER, *self.deployed.killable]
        chosen = [kinds[index % len(kinds)] for index in range(kills)]
        self._random.shuffle(chosen)
        return chosen

    def pause(self, most: float) -> None:
        """Wait up to `most` seconds."""
        time.sleep(self._random.uniform(0, most))

    def kill(self, victim: str) -> None:
        """Kill it now; a run's worker as soon as there is one, by turns while it works on files and whenever."""
        if victim == RUN_WORKER:
            self._workers_killed += 1
            self._kill_run_worker(at_work=self._workers_killed % 2 == 1)
        else:
            self.deployed.killable[victim].kill()
        self.done.append(f"{time.monotonic() - self.began:6.1f} s  {victim}")

    def _kill_run_worker(self, *, at_work: bool) -> None:
        # Those at work have begun to render pictures.
        chosen = self.deployed.rendering_run_workers if at_work else self.deployed.run_workers
        while True:
            workers = wait_until(chosen, "a run has a worker", seconds=PATIENCE_SECONDS)
            self.pause(2)
            with suppress(ProcessLookupError):
                os.kill(self._random.choice(workers), signal.SIGKILL)
                return


def put(storage: ObjectStorage, location: Location, data: bytes) -> None:
    """Write a file however long the store is away, once: a second time would make it another version."""
    attempts = 0

    def written() -> bool:
        nonlocal attempts
        attempts += 1
        try:
            if attempts > 1:
                with suppress(BadInputError):
                    storage.head(location)
                    return True
            storage.write(location, data, content_type="image/x-exr", tags={})
        except (RetryableError, MisconfiguredError):
            return False
        return True

    wait_until(written, f"{location.url} is written", seconds=PATIENCE_SECONDS, pause=0.5)


def converged(instance: dg.DagsterInstance, settings: Settings, good: set[str], bad: set[str]) -> bool:
    """Whether nothing is under way, and each file has ended as it has to, in the tables and on the page."""
    if unfinished_runs(instance):
        return False
    if open_table_store(settings).counts_by_state() != {"ready": len(good), "rejected": len(bad)}:
        return False
    statuses = partition_statuses(instance)
    return all(status == "MATERIALIZED" if key in good else status != "NONE" for (_, key), status in statuses.items())


@pytest.mark.skipif(KILLS == 0, reason="NOT TESTED: nothing is killed; EXR_PIPELINE_TEST_KILLS=32 tries it, in minutes")
def test_whatever_is_killed_while_files_are_ingested_tables_and_objects_end_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = KILLS * FILES_PER_KILL
    with deployment(tmp_path, PostgresServer(require_postgres())) as deployed:
        bucket = deployed.bucket
        environment = {
            **deployed.environment,
            "EXR_PIPELINE_SOURCES": bucket.url,
            "EXR_PIPELINE_DATABASE": str(tmp_path / "tables.duckdb"),
            "EXR_PIPELINE_CHUNK_SIZE": "40",
            "EXR_PIPELINE_SETTLE_SECONDS": "0",
            "EXR_PIPELINE_SENSOR_INTERVAL_SECONDS": "1",
            "EXR_PIPELINE_RETRY_AFTER_SECONDS": "10",
            "EXR_PIPELINE_SEQUENCE_QUIET_SECONDS": "36000",
            "EXR_PIPELINE_WORKERS": "1",
            "DAGSTER_HOME": str(deployed.home),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = Settings(_env_file=None)
        storage = ObjectStorage(settings)
        with dg.DagsterInstance.get() as instance:
            # Before anybody else: two processes that make its tables at once get in each other's way.
            assert not unfinished_runs(instance)
            with deployed.working(environment):
                good, bad, chaos = under_fire(deployed, storage, bucket, count, KILLS)
                sys.stdout.write("\n".join([f"seed {chaos.seed}:", *chaos.done, ""]))
                try:
                    wait_until(
                        lambda: converged(instance, settings, good, bad),
                        "it converges",
                        seconds=PATIENCE_SECONDS,
                        pause=1,
                    )
                except AssertionError as error:
                    pytest.fail(f"{error}\n{situation(instance, settings, good, bad)}\n{deployed.logs()}")
                took = time.monotonic() - chaos.began
                sys.stdout.write(f"converged after {took:.0f} s; runs: {runs_by_status(instance)}\n")
                assert len(chaos.done) == KILLS
                shown = partition_statuses(instance)
                assert statuses_on_page(deployed) == {
                    asset: (states["MATERIALIZED"], states["FAILED"], states["IN_PROGRESS"])
                    for asset, states in partition_counts(instance).items()
                }

        outcome = Outcome.of(settings, bucket)
        for key in outcome.objects:
            if "/.proxies/" in key:
                storage.delete(bucket.child(key))
        undisturbed = Settings(_env_file=None, database=tmp_path / "undisturbed.duckdb")
        with instance_at(tmp_path / "undisturbed") as other:
            ingest_source(bucket, undisturbed)
            assert shown == partition_statuses(other)
        assert outcome.differences(Outcome.of(undisturbed, bucket)) == []
        assert len(outcome.objects) == count + 2 * len(good)


def under_fire(
    deployed: Deployment, storage: ObjectStorage, bucket: Location, count: int, kills: int
) -> tuple[set[str], set[str], Chaos]:
    """Files arrive a few at a time, and after each few something is killed; partition keys of good and bad files."""
    chaos = Chaos(deployed, SEED)
    good: set[str] = set()
    bad: set[str] = set()
    victims = chaos.victims(kills)
    for index, (name, data, is_good) in enumerate(files(count)):
        location = bucket.child(name)
        put(storage, location, data)
        (good if is_good else bad).add(location.partition_key)
        if len(victims) == kills and index:
            wait_until(deployed.run_workers, "the first run begins", seconds=PATIENCE_SECONDS)
        while victims and (index + 1) * kills >= (kills - len(victims) + 1) * count:
            chaos.pause(PAUSE_SECONDS)
            chaos.kill(victims.pop())
    return good, bad, chaos


def runs_by_status(instance: dg.DagsterInstance) -> dict[str, int]:
    return dict(Counter(run.status.value for run in instance.get_runs()))


def statuses_on_page(deployed: Deployment) -> dict[str, tuple[int, int, int]]:
    """What the restarted webserver shows of each asset: partitions materialized, failed and in progress."""
    answer: Any = wait_until(lambda: _asked(deployed), "the page answers", seconds=PATIENCE_SECONDS, pause=0.5)
    shown = {}
    for node in answer["assetNodes"]:
        stats = node["partitionStats"]
        name = "/".join(node["assetKey"]["path"])
        if stats is not None:
            shown[name] = stats["numMaterialized"], stats["numFailed"], stats["numMaterializing"]
    return {asset: stats for asset, stats in shown.items() if asset in FILE_ASSET_NAMES}


def _asked(deployed: Deployment) -> Any:
    try:
        return deployed.ask_page(PAGE_QUERY)
    except OSError:
        return None


def situation(instance: dg.DagsterInstance, settings: Settings, good: set[str], bad: set[str]) -> str:
    """What to look at when it does not converge."""
    statuses = partition_statuses(instance)
    stuck = [
        f"{asset} {key}: {status}"
        for (asset, key), status in statuses.items()
        if (status != "MATERIALIZED" if key in good else status == "NONE")
    ]
    runs = [
        f"{run.run_id} {run.job_name} {run.status.value} {dict(run.tags)}"
        for run in instance.get_runs()
        if run.status != dg.DagsterRunStatus.SUCCESS
    ]
    return "\n".join(
        [str(open_table_store(settings).counts_by_state()), f"{len(good)} good, {len(bad)} bad", *runs, *stuck[:50]]
    )
