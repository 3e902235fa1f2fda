"""`make demo-vast` as a newcomer runs it."""

import subprocess
import sys
from pathlib import Path

from exr_pipeline_tests.demo_vast.stage import ROOT
from exr_pipeline_tests.long_tests import takes_long
from exr_pipeline_tests.services.environments import environment_without_services


@takes_long
def test_the_tables_in_vast_are_those_in_duckdb_to_the_row(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "exr_pipeline_tests.demo_vast"],
        cwd=tmp_path,
        env={**environment_without_services(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "VAST next to DuckDB" in finished.stdout
    assert list(tmp_path.glob(".state/demo-vast-*")) == [], "nothing is left of what went well"
