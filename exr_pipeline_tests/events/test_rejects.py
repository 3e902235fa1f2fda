"""Rejected events are kept for some days, then forgotten; nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from exr_pipeline.events.rejects import forget_rejects
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.tables.specs import arrow_schema
from exr_pipeline_tests.orchestration.dagster_homes import instance_at
from exr_pipeline_tests.tables.conftest import duckdb_file as duckdb_file
from exr_pipeline_tests.tables.conftest import emulator as emulator
from exr_pipeline_tests.tables.conftest import tables as tables
from exr_pipeline_tests.tables.conftest import vast as vast
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from exr_pipeline.tables import TableStore
    from exr_pipeline_tests.tables.conftest import StoreUnderTest

NOW = datetime.now(UTC)


def rejects(*days: int, copies: int = 1) -> pa.Table:
    """Events that were rejected so many days ago."""
    made = [
        {"source": "kafka", "position": f"{age}-{copy}", "reason": "why", "rejected_at": moment.isoformat()}
        for age in days
        for copy in range(copies)
        for moment in [NOW - timedelta(days=age)]
    ]
    return pa.Table.from_pylist(made, schema=arrow_schema("event_rejects"))


def left(store: TableStore) -> list[str]:
    return sorted(store.read("event_rejects").column("position").to_pylist())


def test_events_rejected_before_a_moment_are_forgotten_however_many_they_are(tables: StoreUnderTest) -> None:
    store = tables.store
    store.write(rows_of(SampleFile()), now=NOW)
    store.write({"event_rejects": rejects(90, 31, copies=1100)}, now=NOW)
    store.write({"event_rejects": rejects(29, 0)}, now=NOW)

    before = NOW - timedelta(days=30)
    assert [forget_rejects(store, before=before, now=NOW) for _ in range(2)] == [2200, 0]

    assert left(store) == ["0-0", "29-0"]
    assert store.count("files") == 1


def test_the_nightly_job_forgets_events_by_the_setting(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, database=tmp_path / "tables.duckdb", event_rejects_days=7)
    pipeline = Pipeline(settings)
    pipeline.tables.write({"event_rejects": rejects(8, 6)}, now=NOW)
    defs = build_defs(settings=settings, resource_overrides={"pipeline": pipeline})
    with instance_at(tmp_path / "home") as instance:
        assert defs.resolve_job_def("retention").execute_in_process(instance=instance).success
    assert left(pipeline.tables) == ["6-0"]
