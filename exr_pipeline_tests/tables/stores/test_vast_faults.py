"""One fault at each request of a write in turn: the write, or its repetition, leaves the rows of an undisturbed one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from exr_pipeline.errors import RetryableError, StateUnknownError
from exr_pipeline.tables.specs import TABLES, TableName
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.long_tests import takes_long
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from exr_pipeline.tables import TableStore
    from exr_pipeline_tests.tables.conftest import StoreUnderTest
    from exr_pipeline_tests.vast_emulator.running import RunningEmulator

FAULTS: Final[dict[str, dict[str, Any]]] = {
    "fails after": {"drop": "after"},
    "fails before": {"drop": "before"},
    # The SDK raises it bare.
    "502": {"status": 502},
}
FREQUENT: Final = ("fails after",)


def write_until_written(store: TableStore, file: SampleFile) -> None:
    """Write again after an error, as a run does."""
    for _ in range(4):
        try:
            store.write(rows_of(file), now=NOON)
        except (RetryableError, StateUnknownError):
            continue
        return
    raise AssertionError("still not written")


def stored(store: TableStore, file: SampleFile) -> dict[TableName, list[dict[str, Any]]]:
    found = {name: store.read(name, locations=[file.location], current_only=False).to_pylist() for name in TABLES}
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


@pytest.mark.parametrize(
    "kind", [kind if kind in FREQUENT else pytest.param(kind, marks=takes_long) for kind in FAULTS]
)
def test_a_fault_at_any_request_of_a_write_leaves_the_rows_of_an_undisturbed_one(
    vast: StoreUnderTest, emulator: RunningEmulator, tmp_path: Path, kind: str
) -> None:
    store, undisturbed = vast.store, DuckDBStore(tmp_path / "tables.duckdb")
    store.write(rows_of(SampleFile(key="shot/first.exr")), now=NOON)
    emulator.admin("log/reset", {})
    store.write(rows_of(SampleFile(key="shot/second.exr")), now=NOON)
    requests = sum(emulator.admin("log")["commands"].values())
    assert requests > 10
    for number in range(requests):
        file = SampleFile(key=f"shot/beauty.{number}.exr")
        emulator.fault(match="", skip=number, **FAULTS[kind])
        write_until_written(store, file)
        emulator.admin("fault", method="DELETE")
        vast.forget_dead_writers()
        undisturbed.write(rows_of(file), now=NOON)
        assert stored(store, file) == stored(undisturbed, file), f"{kind} at request {number} of {requests}"
