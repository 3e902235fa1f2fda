"""The wheel as somebody has it who never saw a clone: installed elsewhere, run from an empty folder.

What it depends on is taken from the environment of the tests, by a path; the package itself is the installed wheel.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline_tests.cli.conftest import REPOSITORY, Result, bare_environment
from exr_pipeline_tests.long_tests import takes_long

HOME = {"dagster.yaml", "workspace.yaml", ".env"}
# The sample show's first files, in the order in which they are written.
FIRST = 4


@dataclass(frozen=True)
class Installed:
    """The installed program, and the folder that it is run from."""

    program: Path
    folder: Path

    def run(self, *arguments: str) -> Result:
        ended = subprocess.run(
            [self.program, *arguments],
            cwd=self.folder,
            env=bare_environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert "Traceback" not in ended.stdout + ended.stderr
        return Result(ended.returncode, ended.stdout, ended.stderr)

    def started(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self.program, *arguments], cwd=self.folder, env=bare_environment(**environment))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=REPOSITORY, check=True
    )
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "--disable-pip-version-check",
        "install",
        "--quiet",
    ]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    where = subprocess.run(
        [python, "-c", "import exr_pipeline; print(exr_pipeline.__file__)"],
        cwd=folder,
        env=bare_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(packages)
    empty = folder / "empty"
    empty.mkdir()
    return Installed(environment / "bin" / "exr-pipeline", empty)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it has ended"
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.2)


def ask(port: int, query: str) -> Any:
    """What the page answers."""
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]


def loaded_code(port: int) -> bool:
    """Whether the page is served and knows the assets of the installed package."""
    try:
        found = ask(port, "{ assetsOrError { ... on AssetConnection { nodes { key { path } definition { id } } } } }")
    except OSError:
        return False
    nodes = found["assetsOrError"]["nodes"]
    return any(node["key"]["path"] == ["exr_header"] and node["definition"] for node in nodes)


@takes_long
def test_from_an_empty_folder_to_pictures_tables_and_the_page(installed: Installed) -> None:
    # All of the show takes half a minute and is written by other tests; what is there after Ctrl-C is whole.
    sample = installed.started("sample", "renders")
    renders = installed.folder / "renders"
    wait_for(lambda: len(list(renders.rglob("*.exr"))) >= FIRST, sample)
    sample.send_signal(signal.SIGINT)
    assert sample.wait(60) == 130
    written = sorted(renders.rglob("*.exr"), key=lambda path: path.stat().st_size)
    for large in written[FIRST:]:
        large.unlink()

    said = installed.run("ingest", "renders")
    assert said.status == 0, said.err
    assert f"{FIRST} of {FIRST} files" in said.out
    assert len(list(renders.rglob("*_thumb.jpg"))) > 0
    assert {path.name for path in installed.folder.iterdir()} == {"renders", ".state"}

    assert "ready" in installed.run("status").out
    counted = installed.run("sql", "SELECT count(*) AS n FROM files", "--csv")
    assert counted.out.split() == ["n", str(FIRST)]

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page = installed.started("ui", "--port", str(port), EXR_PIPELINE_SOURCES=f"file://{renders}")
    try:
        wait_for(lambda: loaded_code(port), page)
        runs = ask(port, "{ runsOrError { ... on Runs { count } } }")
    finally:
        page.send_signal(signal.SIGINT)
        page.wait(60)
    # The page shows what the command line did.
    assert runs["runsOrError"]["count"] >= 1

    assert installed.run("init").status == 0
    assert {path.name for path in installed.folder.iterdir()} == {"renders", ".state", *HOME}
    assert installed.run("ingest", "renders").out.startswith(f"Nothing to do: all {FIRST} files are ")
