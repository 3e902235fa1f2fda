"""`init`, and what is in force in a folder that has not been set up."""

from __future__ import annotations

from pathlib import Path

import pytest

from exr_pipeline.orchestration.instance.home import HOME_FILES, instance_summary
from exr_pipeline_tests.cli.conftest import REPOSITORY, Cli, small_exr


@pytest.fixture
def bare(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; no variable names a home of Dagster."""
    folder = tmp_path / "bare"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DAGSTER_HOME")
    return folder


def test_it_writes_the_files_of_the_project_and_an_env_file_for_this_user_only(cli: Cli, bare: Path) -> None:
    said = cli("init")
    assert (said.status, said.err) == (0, "")
    assert {path.name for path in bare.iterdir()} == {*HOME_FILES, ".env"}
    for name in HOME_FILES:
        assert (bare / name).read_text() == (REPOSITORY / name).read_text()
    assert (bare / ".env").stat().st_mode & 0o777 == 0o600
    assert f"Wrote dagster.yaml, workspace.yaml, .env in {bare}" in said.out
    assert "exr-pipeline doctor" in said.out


def test_the_folder_is_made_and_named_in_what_to_do_next(cli: Cli, bare: Path) -> None:
    said = cli("init", "shows/we [bold]ird")
    assert (bare / "shows/we [bold]ird/dagster.yaml").exists()
    assert "cd shows/we [bold]ird\n" in said.out


def test_what_exists_is_kept(cli: Cli, bare: Path) -> None:
    (bare / ".env").write_text("S3_REGION=mine\n")
    (bare / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    said = cli("init")
    assert "Wrote workspace.yaml in" in said.out
    assert "Kept dagster.yaml, .env" in said.out
    assert (bare / ".env").read_text() == "S3_REGION=mine\n"
    assert (bare / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"
    assert "Wrote" not in cli("init").out


def test_the_settings_that_the_env_file_offers_are_read_once_they_are_set(cli: Cli, bare: Path) -> None:
    cli("init")
    text = (bare / ".env").read_text()
    assert "#EXR_PIPELINE_SOURCES=\n" in text
    (bare / ".env").write_text(text.replace("#EXR_PIPELINE_SOURCES=", "EXR_PIPELINE_SOURCES=ftp://no"))
    assert "ftp://no" in cli("doctor").out


def test_another_home_of_dagster_in_the_environment_is_warned_of(
    cli: Cli, bare: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    said = cli("init")
    assert said.status == 0
    assert said.err.startswith(f"Warning: DAGSTER_HOME is {home}: ")
    assert cli("init", str(home)).err == ""


def test_a_folder_that_cannot_be_made_is_named(cli: Cli, bare: Path) -> None:
    (bare / "file").touch()
    said = cli("init", "file/below")
    assert said.status == 1
    assert said.error.startswith("FOLDER: cannot set up file/below: ")


def test_without_init_everything_lies_in_the_state_folder_and_init_keeps_the_history(
    cli: Cli, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "renders").mkdir()
    (bare / "renders/a.exr").write_bytes(small_exr())
    assert cli("ingest", "renders").out.startswith("1 of 1 files: 1 ready")
    assert {path.name for path in bare.iterdir()} == {"renders", ".state"}
    assert instance_summary() == f"{bare}/.state/dagster: BatchingSqliteEventLogStorage, 1 runs"
    cli("init")
    monkeypatch.delenv("DAGSTER_HOME")
    assert instance_summary() == f"{bare}: BatchingSqliteEventLogStorage, 1 runs"


def test_a_state_folder_elsewhere_takes_the_history_with_it(
    cli: Cli, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXR_PIPELINE_STATE_DIR", str(tmp_path / 'st"ate: #1'))
    monkeypatch.setenv("EXR_PIPELINE_WORKERS", "1")
    assert cli("doctor").status == 0
    assert list(bare.iterdir()) == []
    assert (tmp_path / 'st"ate: #1' / "dagster" / "history").is_dir()
