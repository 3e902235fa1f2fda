"""The tours of docs/transfers.md work as written: with the command line, with Python and with curl."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exr_pipeline_tests.cli.conftest import REPOSITORY
from exr_pipeline_tests.client.conftest import Running, running
from exr_pipeline_tests.docs.test_documents import blocks
from exr_pipeline_tests.service.conftest import ADMIN

__all__ = ["running"]
DOCUMENT = "docs/transfers.md"


@pytest.fixture
def environment(running: Running, tmp_path: Path) -> dict[str, str]:
    commands = tmp_path / "commands"
    commands.mkdir()
    ours = commands / "exr-pipeline"
    ours.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m exr_pipeline.cli "$@"\n')
    ours.chmod(0o755)
    (tmp_path / "beauty.exr").write_bytes(os.urandom(9 << 20))
    return {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "EXR_PIPELINE_SERVERS": running.urls[0],
        "EXR_PIPELINE_TOKEN": ADMIN,
    }


def run(folder: Path, environment: dict[str, str], *command: str) -> str:
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return ended.stdout


def test_the_tour_of_the_command_line(tmp_path: Path, environment: dict[str, str]) -> None:
    install, export, *tour, watch = blocks(DOCUMENT, "sh")[0].splitlines()
    assert (install.split()[0], export.split()[0]) == ("pip", "export")
    said = run(tmp_path, environment, "bash", "-e", "-c", "\n".join([*tour, f"{watch} --count 3"]))
    assert "hero" in said
    assert '"topic": "project.created"' in said
    assert (tmp_path / "fetched.exr").read_bytes() == (tmp_path / "beauty.exr").read_bytes()


def test_the_tour_of_python(tmp_path: Path, environment: dict[str, str]) -> None:
    (code,) = blocks(DOCUMENT, "python")
    assert "sending" in run(tmp_path, environment, sys.executable, "-c", code)
    assert (tmp_path / "from_python.exr").read_bytes() == (tmp_path / "beauty.exr").read_bytes()


def test_the_tour_of_curl_in_fifteen_lines(tmp_path: Path, environment: dict[str, str]) -> None:
    tour, places = blocks(DOCUMENT, "sh")[1:]
    assert len(tour.splitlines()) <= 15
    run(tmp_path, environment, "bash", "-e", "-o", "pipefail", "-c", tour)
    assert (tmp_path / "by_curl.exr").read_bytes() == (tmp_path / "beauty.exr").read_bytes()
    head = "\n".join(tour.splitlines()[:2])
    assert '"url_root":"s3://archive/show/"' in run(tmp_path, environment, "bash", "-e", "-c", f"{head}\n{places}")
