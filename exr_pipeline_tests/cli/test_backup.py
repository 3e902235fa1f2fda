"""`backup`: a copy made while files are ingested, restored elsewhere, goes on to what the original has become."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.cli.conftest import Cli, bare_environment, make_home, small_exr
from exr_pipeline_tests.long_tests import takes_long
from exr_pipeline_tests.services.outcome import partition_statuses

FILES = 60
ROWS = "SELECT file_id, uri, state, reason, header_hash, etag FROM files ORDER BY uri"


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    folder = tmp_path / "renders"
    folder.mkdir()
    for number in range(FILES):
        data = b"this is a text" if number % 20 == 7 else small_exr(1 + number / FILES)
        (folder / f"beauty.{number:04d}.exr").write_bytes(data)
    return folder


def rows(home: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = DuckDBStore(home / ".state/tables.duckdb").sql(ROWS).to_pylist()
    return found


def statuses(home: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    import dagster as dg

    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        return partition_statuses(instance)


def restore(copy: Path, home: Path) -> Path:
    """What docs/backup.md says."""
    (home / ".state").mkdir(parents=True)
    shutil.copy(copy / "dagster.yaml", home)
    shutil.copytree(copy / "dagster", home / ".state/dagster")
    for file in copy.glob("tables.duckdb*"):
        shutil.copy(file, home / ".state")
    return home


@takes_long
def test_a_copy_made_during_an_ingest_is_restored_elsewhere_and_goes_on_to_the_same_tables_and_statuses(
    cli: Cli, home: Path, renders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("ingest", str(renders / "beauty.0000.exr")).status == 0
    environment = bare_environment(EXR_PIPELINE_CHUNK_SIZE="10", DAGSTER_HOME=str(home))
    command = [sys.executable, "-m", "exr_pipeline.cli", "ingest", str(renders)]
    with subprocess.Popen(command, cwd=home, env=environment, stderr=subprocess.DEVNULL) as ingest:
        while ingest.poll() is None and len(rows(home)) < FILES // 4:
            time.sleep(0.05)
        said = cli("backup", "kept/copy")
        assert ingest.poll() is None, "the copy was made while files were ingested"
        assert ingest.wait(600) == 0

    assert said.status == 0, said
    assert said.out.startswith(f"{home}/kept/copy: ")
    assert [path.name for path in (home / "kept").iterdir()] == ["copy"]
    elsewhere = restore(home / "kept/copy", tmp_path / "elsewhere")
    held = rows(elsewhere)
    assert FILES // 4 <= len(held) < FILES
    assert held == [row for row in rows(home) if row in held]

    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("DAGSTER_HOME", str(elsewhere))
    assert cli("ingest", str(renders)).status == 0
    cli("retry")
    assert rows(elsewhere) == rows(home)
    assert statuses(elsewhere, monkeypatch) == statuses(home, monkeypatch)


def test_a_folder_that_is_there_and_a_database_that_is_not_are_errors_that_leave_nothing(
    cli: Cli, home: Path, tmp_path: Path
) -> None:
    (home / "copy").mkdir()
    assert cli("backup", "copy").error.endswith("copy: it already exists; name a new folder")
    assert list((home / "copy").iterdir()) == []
    empty = make_home(tmp_path / "empty")
    assert "EXR_PIPELINE_DATABASE" in cli("backup", str(empty / "copy")).error
    assert [path.name for path in empty.iterdir()] == ["dagster.yaml"]
