"""The services of the demonstration, and the variables by which each process finds them.

Belongs here: what runs, and who is told what. Not here: files and events (`show`), or the order of things (`play`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.orchestration.dagster_homes import DAGSTER_YAML
from exr_pipeline_tests.services.dataengine import FunctionProcess, secrets_of
from exr_pipeline_tests.services.environments import environment_without_services, of_emulator
from exr_pipeline_tests.services.kafka import Broker, Tansu, librdkafka_broker, make_topics
from exr_pipeline_tests.services.moto import Moto
from exr_pipeline_tests.services.processes import Service
from exr_pipeline_tests.vast_emulator.running import running_emulator

ROOT: Final = Path(__file__).parents[2]
SHOW: Final = Location("s3", "renders", "show/")
RENDERS: Final = "renders"
TRIGGERED: Final = "dataengine.renders"
PUBLISHED: Final = ("exr-pipeline.events", "spaceharbor.proxy")
REFERENCE: Final = tuple(f"reference.{topic}" for topic in PUBLISHED)
_TOPICS: Final = (RENDERS, TRIGGERED, *PUBLISHED, *REFERENCE)


@dataclass(frozen=True)
class Stage:
    """Everything that runs while the demonstration does. `environment` is that of a process with tables in VAST."""

    folder: Path
    s3: EmbeddedS3
    broker: Broker
    moto: Moto
    queue: str
    database: str
    environment: dict[str, str]

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps its history of the files that it takes."""
        return self.folder / "dagster"

    @contextmanager
    def function(self) -> Iterator[FunctionProcess]:
        """The function's process."""
        secrets = secrets_of(self.s3, self.database)
        with FunctionProcess(self.folder / "function", self.environment, secrets) as process:
            process.wait()
            yield process

    @contextmanager
    def dagster(self) -> Iterator[Service]:
        """Dagster's daemon, whose sensors read the broker and the queue."""
        home = self.dagster_home
        home.mkdir()
        shutil.copy(DAGSTER_YAML, home)
        module = {"module_name": "exr_pipeline_tests.demo_vast.definitions", "location_name": "exr_pipeline"}
        (home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"python_module": module}]}))
        environment = {**self.environment, **self._of_sensors(), **self.moto.keys}
        # Of a new history, there are no partition keys of earlier versions: else the sensors of events wait.
        prepare = "from exr_pipeline.orchestration.instance.home import prepare_instance; prepare_instance()"
        subprocess.run([sys.executable, "-c", prepare], env=environment, cwd=home, check=True)
        daemon: list[str | Path] = [sys.executable, "-m", "dagster._daemon", "run", "-w", home / "workspace.yaml"]
        with Service("dagster", daemon, home / "daemon.log", environment=environment, folder=home) as service:
            yield service

    def _of_sensors(self) -> dict[str, str]:
        return {
            "DAGSTER_HOME": str(self.dagster_home),
            "EXR_PIPELINE_EVENTS_KAFKA_BROKERS": self.broker.address,
            "EXR_PIPELINE_EVENTS_KAFKA_TOPICS": RENDERS,
            "EXR_PIPELINE_EVENTS_SQS_QUEUES": self.queue,
            # All files are written before Dagster starts.
            "EXR_PIPELINE_SETTLE_SECONDS": "0",
            # The movies are made when the event of a `.ready` object has come, and not by themselves.
            "EXR_PIPELINE_SEQUENCE_QUIET_SECONDS": "36000",
        }

    def reference(self) -> dict[str, str]:
        """The variables of the commands that ingest the same files into DuckDB."""
        state = self.folder / "duckdb"
        state.mkdir(exist_ok=True)
        found = {name: value for name, value in self.environment.items() if not name.startswith("VAST_DB_")}
        topics = {"EXR_PIPELINE_PUBLISH_TOPIC": REFERENCE[0], "EXR_PIPELINE_PUBLISH_PROXY_TOPIC": REFERENCE[1]}
        return found | topics | {"EXR_PIPELINE_STATE_DIR": str(state)}


@contextmanager
def set_stage(folder: Path, broker: str) -> Iterator[Stage]:
    """Start what is there before any file is: object storage, the emulated database, a broker, a queue."""
    with ExitStack() as stack:
        s3 = stack.enter_context(EmbeddedS3(folder / "store"))
        s3.create_bucket(SHOW.bucket)
        emulator = stack.enter_context(running_emulator())
        moto = stack.enter_context(Moto(folder))
        running = _broker(stack, folder, broker)
        environment = {
            **environment_without_services(),
            **s3.environment(),
            **of_emulator(emulator.url, "exr_metadata"),
            "PYTHONPATH": str(ROOT),
            "EXR_PIPELINE_SOURCES": SHOW.url,
            "EXR_PIPELINE_PUBLISH_BROKERS": running.address,
        }
        yield Stage(folder, s3, running, moto, moto.new_queue(), emulator.url, environment)


def _broker(stack: ExitStack, folder: Path, name: str) -> Broker:
    if name == "librdkafka":
        return stack.enter_context(librdkafka_broker())
    tansu = stack.enter_context(Tansu(folder))
    make_topics(tansu.address, _TOPICS)
    return Broker(tansu.address, can_create=True)
