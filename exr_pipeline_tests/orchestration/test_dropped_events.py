"""Events are an acceleration: without a single one of them the tables end the same."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from exr_pipeline.ingest.discovery.cursor import Cursor
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.partitions import FILES
from exr_pipeline.orchestration.sensors import events_in, files
from exr_pipeline.orchestration.sensors.events_in import EventsCursor
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.tables.specs import TABLES, tables_of
from exr_pipeline_tests.events.wire import notification
from exr_pipeline_tests.orchestration.conftest import Workshop
from exr_pipeline_tests.orchestration.sensors.conftest import emptied
from exr_pipeline_tests.orchestration.sensors.test_events_in import Line
from exr_pipeline_tests.renders import render

Rows = dict[str, list[dict[str, Any]]]


class World:
    """Tables of their own over the workshop's bucket, with both sensors and runs that really run."""

    def __init__(self, workshop: Workshop, database: Path) -> None:
        settings = workshop.pipeline.settings.model_copy(update={"database": database, "events_seconds": 0.1})
        self.instance = emptied(workshop.instance)
        self.pipeline = Pipeline(settings)
        self.defs = build_defs(settings=settings, resource_overrides={"pipeline": self.pipeline})
        self.line = Line()

    def run_all(self, result: dg.SensorResult | dg.SkipReason) -> int:
        assert isinstance(result, dg.SensorResult)
        for added in result.dynamic_partitions_requests or []:
            assert isinstance(added, dg.AddDynamicPartitionsRequest)
            self.instance.add_dynamic_partitions(FILES, list(added.partition_keys))
        for request in result.run_requests or []:
            self.defs.resolve_job_def(str(request.job_name)).execute_in_process(
                instance=self.instance, tags=dict(request.tags), run_config=request.run_config, raise_on_error=False
            )
        return len(result.run_requests or [])

    def read_events(self) -> int:
        return self.run_all(events_in.tick(self.instance, self.pipeline, EventsCursor(), [self.line]))

    def sweep(self) -> int:
        return self.run_all(files.tick(self.instance, self.pipeline, Cursor(), now=datetime.now(UTC)))

    def rows(self) -> Rows:
        """All rows but for when they were written, and how long that took."""
        found: Rows = {}
        for table in tables_of("versions", "children", "outputs"):
            kept = [
                column.name
                for column in TABLES[table].columns
                if column.type != "timestamp" and column.name != "processing_time_seconds"
            ]
            found[table] = sorted(self.pipeline.tables.read(table, columns=kept).to_pylist(), key=str)
        return found

    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions(FILES))


@pytest.mark.usefixtures("no_pauses")
def test_the_tables_are_the_same_if_every_event_is_dropped(workshop: Workshop, tmp_path: Path) -> None:
    names = [f"shot/beauty.{number}.exr" for number in (1001, 1002, 1003)]
    files = {name: render() for name in names} | {"shot/damaged.1001.exr": b"no EXR at all"}
    for name, data in files.items():
        workshop.pipeline.storage.write(workshop.bucket.child(name), data, content_type="image/x-exr", tags={})

    told = World(workshop, tmp_path / "told.duckdb")
    told.line.add(*(notification(workshop.bucket.child(name))[0] for name in files))
    assert told.read_events() == 1
    with_events, partitions = told.rows(), told.partitions()
    assert told.sweep() == 0, "events have left nothing for the sweep"

    untold = World(workshop, tmp_path / "untold.duckdb")
    assert untold.read_events() == 0
    assert untold.sweep() == 1

    assert len(with_events["files"]) == 4
    assert untold.rows() == with_events
    assert untold.partitions() == partitions
