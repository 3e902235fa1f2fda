"""One fault at each request in turn: a write, or its repetition, leaves the rows of an undisturbed one, and no others.

The faults are those of a server in trouble, of a proxy before it, and of a network. Where trying again cannot help, the
error names what to correct.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from exr_pipeline.errors import ExrPipelineError, MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.ingest.chunk import ChunkIngest
from exr_pipeline.products.registry import products_named
from exr_pipeline.retries import POLICY
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables.specs import TABLES, TableName
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.long_tests import takes_long
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from exr_pipeline.tables import TableStore
    from exr_pipeline_tests.vast_emulator.running import RunningEmulator

# Two tries of each request, so that a storm of few answers is one that the client does not wait out.
TRIES: Final = 2
NO_HELP: Final[tuple[type[ExrPipelineError], ...]] = (MisconfiguredError,)
PASSES: Final[tuple[type[ExrPipelineError], ...]] = (RetryableError, StateUnknownError)


class Fault(NamedTuple):
    """What the emulator is asked for, and the errors that a caller may get; none if it is waited out."""

    rule: dict[str, Any]
    errors: tuple[type[ExrPipelineError], ...]


FAULTS: Final[dict[str, Fault]] = {
    "fails before": Fault({"drop": "before"}, PASSES),
    "fails after": Fault({"drop": "after"}, PASSES),
    "answers late": Fault({"delay": 0.2}, ()),
    "asks to slow down": Fault({"status": 503, "count": TRIES - 1}, ()),
    "is overloaded": Fault({"status": 503, "count": TRIES}, PASSES),
    "400": Fault({"status": 400}, NO_HELP),
    "403": Fault({"status": 403, "code": "AccessDenied"}, NO_HELP),
    "404": Fault({"status": 404}, PASSES),
    "409": Fault({"status": 409}, ()),
    "500": Fault({"status": 500}, PASSES),
    # These the SDK raises bare.
    "413": Fault({"status": 413}, NO_HELP),
    "429": Fault({"status": 429}, PASSES),
    "502": Fault({"status": 502}, PASSES),
    "504": Fault({"status": 504}, PASSES),
}
# Without time, one kind of fault, at one in so many requests.
FREQUENT: Final = "fails after"
# With time, the kinds take turns, so that each request has one of them; or all, which takes hours.
EVERY: Final = os.environ.get("EXR_PIPELINE_TEST_FAULTS") == "every"
TURNS: Final = (
    [pytest.param(kind, 0, 1) for kind in FAULTS]
    if EVERY
    else [pytest.param(kind, start, len(FAULTS), marks=takes_long) for start, kind in enumerate(FAULTS)]
)
TIMES: Final = ("inspection_timestamp", "last_inspected", "seen_at")

Rows = dict[TableName, list[dict[str, Any]]]


@pytest.fixture
def vast(vast: StoreUnderTest) -> StoreUnderTest:
    return StoreUnderTest("vast", vast.settings | {"request_retries": TRIES - 1}, vast.emulator)


@dataclass
class Trial:
    """The same change of some files in a store where one request fails, and in one where none does."""

    emulator: RunningEmulator
    vast: StoreUnderTest
    fault: Fault
    undisturbed: TableStore
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.witness = self.vast.open()

    def fail(self, number: int, store: TableStore, change: Callable[[TableStore], None], *files: Location) -> None:
        """Have this request of a change fail. Before each repetition, all of its rows or none are visible."""
        change(self.undisturbed)
        expected = self.rows(self.undisturbed, files)
        self.emulator.fault(match="", skip=number, **self.fault.rule)
        for _ in range(4):
            try:
                change(store)
            except self.fault.errors:
                self.take_away_fault()
                rows = self.rows(self.witness, files)
                assert rows == expected or not any(rows.values())
            else:
                break
        self.take_away_fault()
        assert self.rows(self.witness, files) == expected, f"request {number}"

    def take_away_fault(self) -> None:
        self.emulator.admin("fault", method="DELETE")
        self.vast.forget_dead_writers()

    def rows(self, store: TableStore, files: Collection[Location]) -> Rows:
        found = {name: store.read(name, locations=files, current_only=False) for name in TABLES}
        return {
            name: sorted(
                (
                    {column: value for column, value in row.items() if column not in self.without}
                    for row in table.to_pylist()
                ),
                key=repr,
            )
            for name, table in found.items()
        }

    def requests(self, change: Callable[[], None]) -> int:
        """How many requests a change has if none fails."""
        self.emulator.admin("log/reset", {})
        change()
        return sum(self.emulator.admin("log")["commands"].values())


def write(file: SampleFile, store: TableStore) -> None:
    store.write(rows_of(file), now=NOON)


@pytest.mark.parametrize(("kind", "start", "step"), [(FREQUENT, 0, 4), *TURNS])
def test_a_fault_at_any_request_of_a_write_leaves_the_rows_of_an_undisturbed_one(
    vast: StoreUnderTest, emulator: RunningEmulator, tmp_path: Path, kind: str, start: int, step: int
) -> None:
    trial = Trial(emulator, vast, FAULTS[kind], DuckDBStore(tmp_path / "tables.duckdb"))
    write(SampleFile(key="shot/first.exr"), vast.store)
    requests = trial.requests(lambda: write(SampleFile(key="shot/second.exr"), vast.store))
    assert requests > 10
    for number in range(start, requests, step):
        file = SampleFile(key=f"shot/beauty.{number}.exr")
        trial.fail(number, vast.store, partial(write, file), file.location)


def two_files(folder: Path) -> list[Location]:
    folder.mkdir()
    paths = [folder / f"beauty.{frame}.exr" for frame in (1001, 1002)]
    for path in paths:
        path.write_bytes(render())
    return [Location("file", "", str(path)) for path in paths]


def ingest(files: Sequence[Location], store: TableStore) -> None:
    """A chunk of headers, as a run has it, which tries again after short pauses."""
    settings = Settings(_env_file=None)
    storage = ObjectStorage(settings)
    retries = replace(POLICY, first_pause_seconds=0.01)
    chunk = ChunkIngest(settings, storage, media=storage, rows=store, pool=None, retries=retries)
    progress = chunk.run(files, products_named(["header"]), on_written=lambda _: None)
    assert (progress.ready, progress.done) == (len(files), len(files))


@pytest.mark.parametrize(("kind", "start", "step"), [(FREQUENT, 0, 12), *TURNS])
def test_a_fault_at_any_request_of_a_chunk_leaves_the_rows_of_an_undisturbed_one(
    vast: StoreUnderTest, emulator: RunningEmulator, tmp_path: Path, kind: str, start: int, step: int
) -> None:
    trial = Trial(emulator, vast, FAULTS[kind], DuckDBStore(tmp_path / "tables.duckdb"), without=TIMES)
    write(SampleFile(key="shot/first.exr"), vast.store)
    requests = trial.requests(lambda: ingest(two_files(tmp_path / "undisturbed"), vast.open()))
    assert requests > 20
    for number in range(start, requests, step):
        files = two_files(tmp_path / str(number))
        # A process of its own, which has yet to connect.
        trial.fail(number, vast.open(), partial(ingest, files), *files)


@pytest.mark.parametrize("command", ["begin", "query", "update", "insert", "commit"])
def test_a_key_that_is_refused_is_named_with_the_endpoint_whatever_it_is_used_for(
    vast: StoreUnderTest, emulator: RunningEmulator, command: str
) -> None:
    vast.store.create_tables()
    emulator.fault(match=f"^{command}", status=403, code="AccessDenied", count=1000)
    with pytest.raises(MisconfiguredError, match=r"refused the access key") as caught:
        write(SampleFile(), vast.store)
    assert (caught.value.setting, emulator.url in str(caught.value)) == ("VAST_DB_ACCESS_KEY", True)


def test_a_request_that_is_too_large_for_what_is_before_the_server_is_a_wrong_setting(
    vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    vast.store.create_tables()
    emulator.fault(match="^insert", status=413)
    with pytest.raises(MisconfiguredError, match=r"VAST_DB_ENDPOINT.*413.*5 MiB"):
        write(SampleFile(), vast.store)
