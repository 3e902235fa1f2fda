"""A whole deployment as processes, each of which is started again a moment after it ended, whatever ended it.

Belongs here: services, their configuration, and who starts them again. Not here: whom to kill.
"""

import json
import os
import signal
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import yaml

from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.orchestration.dagster_homes import DAGSTER_YAML
from exr_pipeline_tests.services.postgres import PostgresServer
from exr_pipeline_tests.services.processes import Service, answers, children_of, free_port, wait_until

PATIENCE_SECONDS = 600


class Startable(Protocol):
    """What can be started again after its process has gone."""

    @property
    def pid(self) -> int: ...

    @property
    def is_running(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class S3Server:
    """SeaweedFS that is found at the same place each time it starts."""

    def __init__(self, folder: Path) -> None:
        self.server = EmbeddedS3(folder, same_ports=True)

    @property
    def pid(self) -> int:
        return self.server.pid

    @property
    def is_running(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def start(self) -> None:
        self.server.__enter__()

    def stop(self) -> None:
        self.server.__exit__(None, None, None)


class Restarted:
    """A service inside a `with` block, started again `pause` seconds after it ended: systemd's Restart=always.

    What the dead process has left running ends before the next start, as systemd and Kubernetes see to.
    """

    def __init__(self, name: str, service: Startable, *, pause: float = 0.5) -> None:
        self.name = name
        self.service = service
        self.starts = 0
        self.error: BaseException | None = None
        self._pause = pause
        self._up = threading.Event()
        self._over = threading.Event()
        # The embedded S3 server ends with the thread that started it, so each service has one of its own.
        self._thread = threading.Thread(target=self._look_after, name=name)

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def wait(self) -> None:
        """Until it has been started."""
        wait_until(lambda: self._up.is_set() or self.error, f"{self.name} has been started", seconds=PATIENCE_SECONDS)
        if self.error is not None:
            raise AssertionError(f"{self.name} did not start") from self.error

    def kill(self) -> None:
        """SIGKILL, once it has been started; returns at once."""
        self.wait()
        self._up.clear()
        os.kill(self.service.pid, signal.SIGKILL)

    def _look_after(self) -> None:
        try:
            while not self._over.is_set():
                self.service.start()
                self.starts += 1
                self._up.set()
                while self.service.is_running and not self._over.wait(0.05):
                    pass
                self._up.clear()
                self._over.wait(self._pause)
                self.service.stop()
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            self.error = error
            self.service.stop()


class Deployment:
    """Object store, Postgres, code server, daemon and webserver, with the repository's dagster.yaml on Postgres.

    Waits are shorter than in dagster.yaml, so that a test sees in seconds what otherwise takes minutes.
    """

    def __init__(self, folder: Path, postgres: PostgresServer, s3: S3Server, stack: ExitStack) -> None:
        self._folder = folder
        self.home = folder / "home"
        self.postgres = stack.enter_context(Restarted("Postgres", postgres))
        self.s3 = stack.enter_context(Restarted("S3 server", s3))
        self.bucket = Location("s3", "renders", "")
        s3.server.create_bucket(self.bucket.bucket)
        self.environment = s3.server.environment()
        self._write_configuration(postgres.new_database())
        self._processes: dict[str, Service] = {}

    @contextmanager
    def working(self, environment: Mapping[str, str]) -> Iterator[None]:
        """Run what has the project's code, with these variables too."""
        self.environment = {**os.environ, **self.environment, **environment, "DAGSTER_HOME": str(self.home)}
        code_port, self._page_port = free_port(), free_port()
        location = {"host": "127.0.0.1", "port": code_port, "location_name": "exr_pipeline"}
        workspace = self.home / "workspace.yaml"
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": location}]}))
        grpc = ["dagster", "api", "grpc", "-m", "exr_pipeline.definitions", "-h", "127.0.0.1", "-p", str(code_port)]
        page = ["dagster_webserver", "-h", "127.0.0.1", "-p", str(self._page_port), "-w", str(workspace)]
        with ExitStack() as stack:
            self.code = stack.enter_context(self._process("code server", *grpc))
            wait_until(lambda: answers(code_port), "the code server answers", seconds=PATIENCE_SECONDS)
            self.daemon = stack.enter_context(self._process("daemon", "dagster._daemon", "run", "-w", str(workspace)))
            self.webserver = stack.enter_context(self._process("webserver", *page))
            yield

    @property
    def killable(self) -> dict[str, Restarted]:
        """The services that are to be killed, by name; runs' workers are not services."""
        return {each.name: each for each in (self.postgres, self.s3, self.daemon, self.webserver)}

    def run_workers(self) -> list[int]:
        """Process ids of the runs under way: the children of the code server."""
        return children_of(self.code.service.pid, command="spawn_main")

    def rendering_run_workers(self) -> list[int]:
        """Those of them that have processes of their own, in which they render pictures."""
        return [worker for worker in self.run_workers() if children_of(worker, command="spawn_main")]

    def ask_page(self, query: str) -> Any:
        """What the webserver answers to a GraphQL query."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._page_port}/graphql",
            json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["data"]

    def logs(self, lines: int = 60) -> str:
        """The ends of what the processes have printed."""
        return "\n".join(service.log_tail(lines) for service in self._processes.values())

    def _process(self, name: str, *module: str) -> Restarted:
        command = [sys.executable, "-m", *module]
        log = self._folder / f"{name}.log"
        service = Service(name, command, log, environment=self.environment, folder=self.home)
        self._processes[name] = service
        return Restarted(name, service)

    def _write_configuration(self, postgres_url: str) -> None:
        config = yaml.safe_load(DAGSTER_YAML.read_text(encoding="utf-8"))
        config["storage"]["custom"] = {
            "module": "exr_pipeline.orchestration.instance.postgres",
            "class": "BatchingPostgresStorage",
            "config": {"postgres_url": postgres_url},
        }
        config["run_monitoring"] |= {"poll_interval_seconds": 1, "start_timeout_seconds": 120}
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


@contextmanager
def deployment(folder: Path, postgres: PostgresServer) -> Iterator[Deployment]:
    """A deployment whose store and Postgres run; the server must not have been started."""
    with ExitStack() as stack:
        stack.callback(postgres.remove)
        yield Deployment(folder, postgres, S3Server(folder / "s3"), stack)
