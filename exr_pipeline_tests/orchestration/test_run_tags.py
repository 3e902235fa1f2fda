"""The tags of a run say how its files ended, and the documented sensor calls nobody for a rejected file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.docs.test_documents import blocks
from exr_pipeline_tests.orchestration.conftest import RANGE_END, RANGE_START, Workshop
from exr_pipeline_tests.renders import render

REJECTED_ONLY = {"ready": "1", "rejected": "1", "retryable": "0"}


class Alarm:
    """The sensor of docs/operations.md, and whom it has called."""

    def __init__(self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        (code,) = (code for code in blocks("docs/operations.md", "python") if "run_failure_sensor" in code)
        names: dict[str, Any] = {"__name__": "alarms"}
        exec(compile(code, "docs/operations.md", "exec", dont_inherit=True), names)
        assert "alarm" in {sensor.name for sensor in names["defs"].sensors}
        self.called: list[str] = []
        monkeypatch.setitem(names, "call_somebody", self.called.append)
        self._sensor: dg.SensorDefinition = names["alarm"]
        self._instance = instance
        self._cursor: str | None = None
        self.tick()

    def tick(self) -> list[str]:
        """Let the sensor see what has happened since; the runs that it called somebody for."""
        self.called.clear()
        while True:
            context = dg.build_sensor_context(self._instance, cursor=self._cursor)
            cursor = self._sensor.evaluate_tick(context).cursor
            if cursor in {None, self._cursor}:
                return [message.split()[1].rstrip(":") for message in self.called]
            self._cursor = cursor


def tags(workshop: Workshop, result: Any) -> dict[str, str]:
    run = workshop.instance.get_run_by_id(result.run_id)
    assert run is not None
    return {name: run.tags[name] for name in ("ready", "rejected", "retryable")}


def test_a_run_says_how_its_files_ended_and_only_what_is_not_a_rejected_file_is_alarming(
    workshop: Workshop, no_pauses: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alarm = Alarm(workshop.instance, monkeypatch)
    keys = workshop.put({"a.exr": render(), "b.exr": b"not a picture"})
    span = {RANGE_START: keys[0], RANGE_END: keys[1]}
    headers: dict[str, Any] = {"asset_selection": [dg.AssetKey("exr_header")]}

    rejected = workshop.run(tags=span, **headers)
    assert not rejected.success
    assert tags(workshop, rejected) == REJECTED_ONLY
    assert workshop.run(tags={RANGE_START: keys[0], RANGE_END: keys[0]}, **headers).success
    assert alarm.tick() == []

    good = workshop.pipeline.storage
    away = workshop.pipeline.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    monkeypatch.setitem(workshop.pipeline.__dict__, "storage", ObjectStorage(away))
    unreachable = workshop.run(tags=span, **headers)
    assert tags(workshop, unreachable) == {"ready": "0", "rejected": "0", "retryable": "2"}
    assert alarm.tick() == [unreachable.run_id]
    monkeypatch.setitem(workshop.pipeline.__dict__, "storage", good)

    # Done again, a run is given the tags of the first one: they say nothing of how it ends itself.
    rules = workshop.pipeline.settings.model_copy(update={"picture_rules": tmp_path / "nosuch.yaml"})
    defs = build_defs(settings=rules, resource_overrides={"pipeline": Pipeline(rules)})
    broken = defs.resolve_job_def("ingest").execute_in_process(
        instance=workshop.instance, tags=span | REJECTED_ONLY, raise_on_error=False
    )
    assert tags(workshop, broken) == {"ready": "0", "rejected": "0", "retryable": "2"}

    killed = workshop.instance.create_run_for_job(workshop.defs.resolve_job_def("ingest"), tags=span)
    workshop.instance.report_run_failed(killed, "its process is gone")
    assert alarm.tick() == [broken.run_id, killed.run_id]
