"""No command lets text of a file or of its name command the terminal."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from exr_pipeline_tests.cli.conftest import Cli, Result
from exr_pipeline_tests.hostile_texts import TERMINAL, exr_rejected_with, exr_that_says

# Any but those of lines, and what turns text around.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
GOOD = f"good.{TERMINAL}.exr"
BAD = f"bad.{TERMINAL}\n.exr"


def at_a_terminal(*arguments: str) -> Result:
    """Run the installed command with a pseudo-terminal for its output."""
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).with_name("exr-pipeline")), *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL) as process:
        os.close(theirs)
        parts = []
        # Linux answers EIO once the other end is closed.
        with suppress(OSError):
            while part := os.read(ours, 65536):
                parts.append(part)
    os.close(ours)
    # The line discipline ends lines with CR LF.
    return Result(process.returncode, b"".join(parts).decode().replace("\r", ""), "")


@pytest.fixture
def renders(home: Path) -> Path:
    folder = home / "renders"
    folder.mkdir()
    (folder / GOOD).write_bytes(exr_that_says(TERMINAL))
    (folder / f"like {GOOD}").write_bytes(exr_that_says(f"{TERMINAL} as well"))
    (folder / BAD).write_bytes(exr_rejected_with(TERMINAL))
    return folder


def is_harmless(said: Result) -> bool:
    assert "OWNED" in said.out + said.err, "the text is shown"
    return not OBEYED.search(said.out + said.err)


def test_inspecting_and_rendering_a_file_shows_its_texts_harmlessly(cli: Cli, renders: Path) -> None:
    assert is_harmless(cli("inspect", f"renders/{GOOD}"))
    assert is_harmless(cli("inspect", "--json", f"renders/{GOOD}"))
    assert is_harmless(cli("inspect", f"renders/{BAD}"))
    assert is_harmless(cli("thumbnail", f"renders/{GOOD}", "x.jpg", "--layer", TERMINAL))
    assert is_harmless(cli("probe", f"renders/{GOOD}"))


def test_ingest_and_what_asks_the_tables_show_names_and_reasons_harmlessly(cli: Cli, renders: Path) -> None:
    said = cli("ingest", "renders")
    assert "2 ready, 1 rejected" in said.out
    assert not OBEYED.search(said.out + said.err)
    assert is_harmless(cli("status"))
    assert is_harmless(cli("status", "--json"))
    assert is_harmless(cli("sql", "SELECT file_path, warnings FROM files"))
    assert TERMINAL in cli("sql", "SELECT channel_name FROM channels", "--csv").out, "programs get the exact text"
    assert is_harmless(at_a_terminal("sql", "SELECT channel_name FROM channels", "--csv"))
    assert is_harmless(cli("similar", f"renders/{GOOD}"))
    assert is_harmless(cli("url", f"renders/{GOOD}"))
    assert is_harmless(cli("url", f"renders/{BAD}", "--thumbnail"))
    (renders / GOOD).unlink()
    assert is_harmless(cli("reconcile", "renders"))
