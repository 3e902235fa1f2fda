"""Temporary folders for whole files are removed, also those of processes that were killed."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from exr_pipeline.errors import RetryableError
from exr_pipeline.storage.spool import PREFIX, spool_folder

HOLD = """
import sys
from exr_pipeline.storage.spool import spool_folder
with spool_folder() as folder:
    (folder / "source.exr").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test's own for temporary files, here and in processes that it starts."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_folder_is_removed_at_the_end_of_its_block(temporary: Path) -> None:
    with suppress(ZeroDivisionError), spool_folder() as folder:
        (folder / "x").touch()
        raise ZeroDivisionError
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(temporary: Path) -> None:
    command = [sys.executable, "-c", HOLD]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as alive,
    ):
        assert killed.stdout is not None
        assert alive.stdout is not None
        left, used = Path(killed.stdout.readline().strip()), Path(alive.stdout.readline().strip())
        killed.kill()
        killed.wait()
        assert (left / "source.exr").exists()
        with spool_folder():
            assert not left.parent.exists()
            assert (used / "source.exr").exists()
        alive.communicate()
    assert list(temporary.iterdir()) == []


def test_folders_of_earlier_versions_are_removed_after_a_day_and_others_never(temporary: Path) -> None:
    old, new, elsewhere = temporary / f"{PREFIX}old", temporary / f"{PREFIX}new", temporary / "elsewhere"
    for folder in (old, new, elsewhere):
        folder.mkdir()
        (folder / "source").touch()
    (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    long_ago = time.time() - 2 * 86_400
    os.utime(old, (long_ago, long_ago))
    os.utime(elsewhere, (long_ago, long_ago))
    with spool_folder():
        assert not old.exists()
        assert (new / "source").exists()
        assert (elsewhere / "source").exists()


def test_a_folder_that_cannot_be_made_is_said_with_what_to_do(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(temporary / "missing"))
    with pytest.raises(RetryableError, match="cannot create a temporary folder: "), spool_folder():
        pass
