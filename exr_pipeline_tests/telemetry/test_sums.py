"""The sums of a machine: of all processes, however short they live, and none of them twice."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from exr_pipeline.telemetry.sums import Sample, Sums, SumsWriter

# Counts in a process that ends at once, as a run does.
_COUNT = """
import sys
from pathlib import Path
from exr_pipeline.settings import Settings
from exr_pipeline.telemetry.instruments import FILES, STAGE_SECONDS
from exr_pipeline.telemetry.recording import record
from exr_pipeline.telemetry.start import start_telemetry
start_telemetry(Settings(_env_file=None, state_dir=Path(sys.argv[1]), metrics=True))
for _ in range(100):
    record(FILES, "ready", "exr", "")
    record(STAGE_SECONDS, "fetch", value=0.02)
"""


def value(sums: Sums, name: str, **labels: str) -> float:
    return {(each.name, *sorted(each.labels.items())): each.value for each in sums.read()}[
        (name, *sorted(labels.items()))
    ]


def test_what_processes_have_counted_at_the_same_time_is_added_up_after_they_have_ended(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", _COUNT, str(tmp_path)] for _ in range(4)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(120) for process in processes] == [0] * 4

    sums = Sums(tmp_path / "metrics.sqlite")
    assert value(sums, "exr_pipeline_files_total", state="ready", kind="exr", error="") == 400
    assert value(sums, "exr_pipeline_stage_seconds_count", stage="fetch") == 400
    assert value(sums, "exr_pipeline_stage_seconds_sum", stage="fetch") == pytest.approx(8)
    assert value(sums, "exr_pipeline_stage_seconds_bucket", stage="fetch", le="0.01") == 0
    assert value(sums, "exr_pipeline_stage_seconds_bucket", stage="fetch", le="0.025") == 400


def test_totals_that_are_written_again_add_only_what_is_new(tmp_path: Path) -> None:
    sums = Sums(tmp_path / "metrics.sqlite")
    writer = SumsWriter(sums)
    for total in (3.0, 3.0, 5.0):
        writer.write([Sample("a_total", {"x": "1"}, total)], [Sample("b", {}, total)])
    assert value(sums, "a_total", x="1") == 5
    SumsWriter(sums).write([Sample("a_total", {"x": "1"}, 2)], [Sample("b", {}, 1)])
    assert value(sums, "a_total", x="1") == 7
    assert value(sums, "b") == 1, "a gauge has the value that was set last"


def test_what_could_not_be_written_is_added_by_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "state" / "metrics.sqlite"
    writer = SumsWriter(Sums(path))
    path.parent.mkdir()
    path.mkdir()
    with pytest.raises(sqlite3.Error):
        writer.write([Sample("a_total", {}, 3)], [])
    path.rmdir()
    writer.write([Sample("a_total", {}, 4)], [])
    assert value(Sums(path), "a_total") == 4


def test_sums_are_readable_for_their_user_only(tmp_path: Path) -> None:
    Sums(tmp_path / "state" / "metrics.sqlite").add([Sample("a_total", {}, 1)], [])
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0


def test_nothing_is_there_before_something_was_counted(tmp_path: Path) -> None:
    assert Sums(tmp_path / "metrics.sqlite").read() == []
    assert not list(tmp_path.iterdir())
