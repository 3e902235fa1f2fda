"""Metrics that follow from the tables, on both stores, and how often the tables are asked for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.errors import RetryableError
from exr_pipeline.events.outbox import with_events
from exr_pipeline.settings import Settings
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline.telemetry.sums import Sample
from exr_pipeline.telemetry.table_gauges import KEPT_SECONDS, TableGauges, table_samples
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.conftest import duckdb_file as duckdb_file
from exr_pipeline_tests.tables.conftest import emulator as emulator
from exr_pipeline_tests.tables.conftest import tables as tables
from exr_pipeline_tests.tables.conftest import vast as vast
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

NOW = datetime(2026, 4, 2, 12, tzinfo=UTC)


def values(samples: list[Sample]) -> dict[tuple[str, ...], float]:
    return {(each.name, *each.labels.values()): each.value for each in samples}


def test_files_are_counted_by_state_and_kind_and_waiting_events_by_sink(tables: StoreUnderTest) -> None:
    settings = Settings(_env_file=None, publish_brokers="broker:9092")
    before = NOW - timedelta(seconds=90)
    files = [SampleFile(f"a.{number}.exr") for number in range(3)]
    rejected = SampleFile("b.exr", state="rejected", reason="why")
    rows = with_events(rows_of(*files, rejected), settings, now=before)
    tables.store.write(rows, now=before)

    found = values(table_samples(tables.store, now=NOW))

    assert found["exr_pipeline_tables_up",] == 1
    assert found["exr_pipeline_files", "ready", "exr"] == 3
    assert sum(value for (name, *_), value in found.items() if name == "exr_pipeline_files") == 4
    assert found["exr_pipeline_outbox_events", "kafka"] == rows["outbox"].num_rows > 0
    assert found["exr_pipeline_outbox_oldest_age_seconds",] == pytest.approx(90)
    assert found["exr_pipeline_event_rejects",] == 0


def test_a_version_that_was_replaced_is_not_counted(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "tables.duckdb")
    for number in range(3):
        moment = NOW + timedelta(seconds=number)
        store.write(rows_of(SampleFile("a.exr", etag=str(number), mtime=moment)), now=moment)
    assert values(table_samples(store, now=NOW))["exr_pipeline_files", "ready", "exr"] == 1


def test_without_tables_nothing_waits_and_nothing_is_made(tmp_path: Path) -> None:
    found = values(table_samples(DuckDBStore(tmp_path / "none" / "tables.duckdb"), now=NOW))
    assert found == {
        ("exr_pipeline_tables_up",): 1,
        ("exr_pipeline_outbox_oldest_age_seconds",): 0,
        ("exr_pipeline_event_rejects",): 0,
    }
    assert not list(tmp_path.iterdir())


class CountedStore(DuckDBStore):
    """A store that counts its queries; `takes` moves the clock, `is_away` refuses."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.queries, self.takes, self.time, self.is_away = 0, 0.0, 0.0, False

    def sql(self, *arguments: Any, **options: Any) -> Any:
        self.ask()
        return super().sql(*arguments, **options)

    def count(self, *arguments: Any) -> int:
        self.ask()
        return super().count(*arguments)

    def ask(self) -> None:
        self.queries += 1
        self.time += self.takes
        if self.is_away:
            raise RetryableError("the tables are locked")


@pytest.mark.parametrize(("takes", "kept"), [(0.0, KEPT_SECONDS), (1.0, 60.0)])
def test_whoever_asks_often_asks_the_tables_for_a_twentieth_of_the_time(
    tmp_path: Path, takes: float, kept: float
) -> None:
    store = CountedStore(tmp_path / "tables.duckdb")
    store.takes = takes
    gauges = TableGauges(store, clock=lambda: store.time)
    gauges.samples()
    asked = store.queries
    store.time += kept - 1
    gauges.samples()
    assert store.queries == asked
    store.time += 2
    gauges.samples()
    assert store.queries == 2 * asked


def test_tables_that_are_away_are_said_to_be_and_no_more(tmp_path: Path) -> None:
    store = CountedStore(tmp_path / "tables.duckdb")
    store.is_away = True
    assert values(TableGauges(store).samples()) == {("exr_pipeline_tables_up",): 0}
