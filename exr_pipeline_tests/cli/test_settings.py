"""`settings`: what is in force and from where; and variables that look like settings but are none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exr_pipeline.settings import Settings
from exr_pipeline_tests.cli.conftest import Cli, bare_environment
from exr_pipeline_tests.docs.generated import REPOSITORY


def shown(cli: Cli, *arguments: str) -> dict[str, tuple[object, str]]:
    """The value and the origin of each setting."""
    said = cli("settings", "--json", *arguments)
    assert said.status == 0
    return {row["setting"]: (row["value"], row["from"]) for row in json.loads(said.out)}


def test_each_setting_is_shown_with_its_value_and_where_that_comes_from(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".env").write_text("S3_REGION=of-file\nEXR_PIPELINE_FETCHES=3\n")
    monkeypatch.setenv("S3_REGION", "of-environment")
    monkeypatch.setenv("exr_pipeline_sources", "s3://a/b, file:///c d")
    monkeypatch.setenv("EXR_PIPELINE_PRIORITIES", "show_a=10,show_b=-5")
    found = shown(cli)
    assert list(found) == [Settings.variable(field) for field in Settings.model_fields]
    assert found["S3_REGION"] == ("of-environment", "environment")
    assert found["EXR_PIPELINE_SOURCES"] == (["s3://a/b", "file:///c d"], "environment")
    assert found["EXR_PIPELINE_FETCHES"] == (3, ".env")
    assert found["EXR_PIPELINE_CHUNK_SIZE"] == (500, "default")
    assert found["EXR_PIPELINE_DATABASE"] == (".state/tables.duckdb", "default")
    lines = [line.split("│")[1:-1] for line in cli("settings").out.splitlines() if line.startswith("│")]
    table = {name.strip(): (value.strip(), origin.strip()) for name, value, origin in lines}
    assert list(table) == list(found)
    assert table["EXR_PIPELINE_SOURCES"] == ("s3://a/b,file:///c d", "environment")
    assert table["EXR_PIPELINE_PRIORITIES"] == ("show_a=10,show_b=-5", "environment")


def test_only_those_that_were_set_are_shown_if_asked_for(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("settings", "--changed").out == "All settings have their defaults.\n"
    monkeypatch.setenv("EXR_PIPELINE_WORKERS", "1")
    assert shown(cli, "--changed") == {"EXR_PIPELINE_WORKERS": (1, "environment")}


@pytest.mark.parametrize("form", [[], ["--json"], ["--changed"]])
def test_no_secret_is_shown(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]) -> None:
    secrets = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    for field in secrets:
        monkeypatch.setenv(Settings.variable(field), "hush-hush")
    monkeypatch.setenv("S3_ENDPOINT", "http://me:hush-hush@127.0.0.1:9")
    monkeypatch.setenv("EXR_PIPELINE_SOURCES", "s3://a/b,s3://hush-hush@c/d")
    said = cli("settings", *form)
    assert said.status == 0
    assert "hush" not in said.out + said.err
    assert said.out.count("(hidden)") == len(secrets) + 2
    assert "@127.0.0.1:9" in said.out


def test_it_makes_nothing(cli: Cli, home: Path) -> None:
    before = sorted(home.iterdir())
    cli("settings")
    assert sorted(home.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("EXR_PIPELINE_SORCES", "EXR_PIPELINE_SOURCES"),
        ("EXR_PIPELINE_THUMBNAIL_SIZES", "EXR_PIPELINE_THUMBNAIL_SIZE"),
        ("exr_pipeline_thumb_size", "EXR_PIPELINE_THUMBNAIL_SIZE"),
        ("VAST_DB_BUKET", "VAST_DB_BUCKET"),
        ("EXR_PIPELINE_S3_ENDPOINTS", "S3_ENDPOINT"),
        ("EXR_PIPELINE_XYZZY_QQ", None),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_variable_that_is_no_setting_is_named_with_the_nearest_right_name(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch, name: str, nearest: str | None, place: str
) -> None:
    if place == ".env":
        (home / ".env").write_text(f"{name}=hush-hush\n")
    else:
        monkeypatch.setenv(name, "hush-hush")
    said = cli("settings", "--json")
    meant = f"; did you mean {nearest}?" if nearest else ""
    assert (said.status, said.err) == (0, f"Warning: {name.upper()} is not a setting{meant}\n")


def test_dagster_processes_name_it_too(home: Path) -> None:
    environment = bare_environment(EXR_PIPELINE_SORCES="x")
    command = [sys.executable, "-c", "import exr_pipeline.definitions"]
    said = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=True)
    assert "EXR_PIPELINE_SORCES is not a setting; did you mean EXR_PIPELINE_SOURCES?" in said.stderr


def test_variables_that_the_shipped_deployments_set_are_not_called_wrong(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = [path for path in (REPOSITORY / "deploy").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    texts = [path.read_text("utf-8") for path in shipped]
    names = {name for text in texts for name in re.findall(r"\b(?:EXR_PIPELINE|VAST_DB)_[A-Z0-9_]+", text)}
    assert {"EXR_PIPELINE_POSTGRES_URL", "EXR_PIPELINE_REDIS_URL", "EXR_PIPELINE_SOURCES"} <= names
    for name in names - {Settings.variable(field) for field in Settings.model_fields}:
        monkeypatch.setenv(name, "x")
    assert cli("settings", "--json").err == ""


@pytest.mark.parametrize("name", ["EXR_PIPELINE_S3_REGION", "s3_region", "EXR_PIPELINE_TEST_BENCH", "S3_BUCKET"])
def test_what_is_read_or_belongs_to_somebody_else_is_not_warned_of(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "x")
    assert cli("settings", "--json").err == ""
