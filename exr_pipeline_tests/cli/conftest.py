"""The command line as users have it: a folder with a dagster.yaml, files, an environment without anybody's settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from exr_pipeline.cli import main
from exr_pipeline.sample.writers import REC709, ExrPart, exr_bytes, rgb_channels
from exr_pipeline.settings import Settings
from exr_pipeline_tests.made_once import made_once

REPOSITORY = Path(__file__).parents[2]
ODD_NAME = "we [bold]ird, #ü.exr"


@dataclass(frozen=True)
class Result:
    """What a command left behind at the terminal."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr that says what went wrong, without its `Error: `."""
        lines = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err + self.out
        return lines[0].removeprefix("Error: ")


Cli = Callable[..., Result]


def small_exr(level: float = 1.0, **attributes: object) -> bytes:
    """A ramp of 64x48 in linear Rec.709."""
    y, x = np.mgrid[0:48, 0:64].astype(np.float32)
    pixels = np.stack([x / 64, y / 48, np.full_like(x, 0.2)], axis=-1) * level
    return exr_bytes([ExrPart(rgb_channels(pixels), attributes={"chromaticities": REC709, **attributes})])


def write_shot(folder: Path) -> Path:
    """Three frames, a file with a difficult name, and one that is no EXR."""
    folder.mkdir(parents=True)
    for frame in (1001, 1002, 1003):
        (folder / f"beauty.{frame}.exr").write_bytes(small_exr())
    (folder / ODD_NAME).write_bytes(small_exr())
    (folder / "notes.1004.exr").write_text("this is a text")
    return folder


def make_home(folder: Path) -> Path:
    """A working folder with the project's own dagster.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "dagster.yaml", folder)
    return folder


def setting_names() -> list[str]:
    """The environment variables that are settings."""
    return [str(f.validation_alias or f"EXR_PIPELINE_{n.upper()}") for n, f in Settings.model_fields.items()]


def bare_environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings, credentials and Dagster's home."""
    names = {*setting_names(), "DAGSTER_HOME"}
    return {k: v for k, v in os.environ.items() if k not in names and not k.startswith("AWS_")} | extra


def run_process(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Result:
    """Run the installed command."""
    command = [str(Path(sys.executable).with_name("exr-pipeline")), *arguments]
    ended = subprocess.run(
        command, cwd=cwd, env=bare_environment(**(env or {})), capture_output=True, text=True, timeout=900, check=False
    )
    return Result(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting_workers: None) -> Path:
    """A working folder of this test's own, entered, and no settings but the defaults."""
    folder = make_home(tmp_path / "home")
    monkeypatch.chdir(folder)
    for name in set(os.environ) - set(bare_environment()):
        monkeypatch.delenv(name)
    # Commands set it; so it is put back.
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    return folder


@pytest.fixture
def cli(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in this process, through the entry point of the installed one."""

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["exr-pipeline", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Result(int(ended.value.code or 0), *capfd.readouterr())

    return run


@dataclass(frozen=True)
class Ingested:
    """A folder that `exr-pipeline ingest` has dealt with, and what it said."""

    home: Path
    folder: Path
    said: Result


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """A local shot, ingested once for all tests that only look at it."""

    def ingest(home: Path) -> Ingested:
        folder = write_shot(make_home(home) / "renders" / "shot_010")
        return Ingested(home, folder, run_process("ingest", "renders", cwd=home))

    return made_once(tmp_path_factory, "ingested", ingest)


@pytest.fixture
def in_ingested(ingested: Ingested, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs commands where the shot was ingested."""
    monkeypatch.chdir(ingested.home)
    monkeypatch.setenv("DAGSTER_HOME", str(ingested.home))
    return cli
