"""The stores under test: an embedded DuckDB file, and a schema of its own in an emulated VAST DataBase.

Belongs here: opening stores. Not here: what is expected of them.
"""

import multiprocessing
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.settings import Settings
from exr_pipeline.tables import TableStore, open_table_store
from exr_pipeline_tests.vast_emulator.running import RunningEmulator, running_emulator


@dataclass
class StoreUnderTest:
    """One set of tables, which any thread or process may open."""

    kind: str
    settings: dict[str, Any]
    emulator: RunningEmulator | None = None
    store: TableStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = self.open()

    def open(self) -> TableStore:
        return open_table_store(Settings(_env_file=None, **self.settings))

    def forget_dead_writers(self) -> None:
        """What a server does by itself after a while: end the transactions that nobody ends."""
        if self.emulator is not None:
            self.emulator.admin("expire", {"idle": 0})


@pytest.fixture(scope="session")
def emulator() -> Iterator[RunningEmulator]:
    with running_emulator() as running:
        yield running


@pytest.fixture
def vast(emulator: RunningEmulator) -> Iterator[StoreUnderTest]:
    settings = {
        "vast_db_endpoint": emulator.url,
        "vast_db_access_key": "test",
        "vast_db_secret_key": "a secret",
        "vast_db_bucket": "vastdb",
        "vast_db_schema": f"test_{uuid.uuid4().hex}",
    }
    yield StoreUnderTest("vast", settings, emulator)
    emulator.admin("fault", method="DELETE")
    # What every test leaves would make the next one's transactions dearer.
    emulator.admin("tables", method="DELETE")


@pytest.fixture
def duckdb_file(tmp_path: Path) -> StoreUnderTest:
    return StoreUnderTest("duckdb", {"database": tmp_path / "state" / "tables.duckdb"})


@pytest.fixture(params=["duckdb", "vast"])
def tables(request: pytest.FixtureRequest) -> StoreUnderTest:
    """Each store in turn."""
    name = {"duckdb": "duckdb_file", "vast": "vast"}[request.param]
    opened: StoreUnderTest = request.getfixturevalue(name)
    return opened


Started = list[multiprocessing.context.ForkProcess]


@pytest.fixture
def start() -> Iterator[Callable[..., multiprocessing.context.ForkProcess]]:
    """Start a function in a process of its own; what still runs at the end of the test is killed."""
    started: Started = []

    def start(function: Callable[..., None], *args: Any) -> multiprocessing.context.ForkProcess:
        process = multiprocessing.get_context("fork").Process(target=function, args=args)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()
        process.close()
