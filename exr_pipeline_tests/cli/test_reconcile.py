"""`reconcile` as users have it: it reports, then does what it is told, and says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exr_pipeline_tests.cli.conftest import Cli, small_exr


@pytest.fixture
def folder(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ingested folder, the only source."""
    folder = home / "renders"
    folder.mkdir()
    for frame in (1001, 1002, 1003):
        (folder / f"a.{frame}.exr").write_bytes(small_exr())
    assert cli("ingest", "renders").status == 0
    monkeypatch.setenv("EXR_PIPELINE_SOURCES", folder.as_uri())
    return folder


def partitions(home: Path) -> int:
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        return len(instance.get_dynamic_partitions("files"))


def test_it_reports_first_does_it_when_told_to_and_doubts_an_empty_folder(
    cli: Cli, home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Nothing to do: no file is gone." in cli("reconcile").out
    (folder / "a.1001.exr").unlink()
    (folder / "a.1002.exr").unlink()

    said = cli("reconcile")
    assert said.status == 0
    assert "3 files in the tables" in said.out
    assert f"deleted at the source: {(folder / 'a.1002.exr').as_uri()}" in said.out
    assert "media of deleted files kept" in said.out
    assert said.out.endswith("Nothing was changed. To apply, run the same command with --apply.\n")
    assert json.loads(cli("status", "--json").out)["states"] == {"ready": 3}

    monkeypatch.setenv("EXR_PIPELINE_DELETED_MEDIA_DAYS", "0")
    (report,) = json.loads(cli("reconcile", str(folder), "--apply", "--json").out)
    assert (report["deleted"]["count"], report["media"]["count"], report["partitions"]) == (2, 2, 2)
    assert len(report["deleted"]["first"]) == 2
    assert json.loads(cli("status", "--json").out)["states"] == {"ready": 1}
    assert {path.name for path in (folder / ".proxies").iterdir()} == {"a.1003_thumb.jpg", "a.1003_proxy.mp4"}
    assert partitions(home) == 1
    assert "Nothing to do: no file is gone." in cli("reconcile").out

    (folder / "a.1003.exr").unlink()
    refused = cli("reconcile", "--apply")
    assert refused.status == 1
    assert "lists no source file, but the tables have 1" in refused.error
    assert cli("reconcile", "--apply", "--force").status == 0
    assert json.loads(cli("status", "--json").out)["states"] == {}


def test_without_sources_it_says_what_to_set(cli: Cli) -> None:
    refused = cli("reconcile")
    assert refused.status == 1
    assert refused.error.startswith("EXR_PIPELINE_SOURCES: there are no sources")


def test_a_folder_that_is_named_and_holds_nothing_is_an_error_and_a_source_that_is_empty_yet_is_none(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "empty").mkdir()
    before = sorted(home.rglob("*"))
    refused = cli("reconcile", "empty")
    assert refused.status == 1
    assert f"neither the store nor the tables have a file below {(home / 'empty').as_uri()}/" in refused.error
    monkeypatch.setenv("EXR_PIPELINE_SOURCES", (home / "empty").as_uri())
    assert "Nothing to do: no file is gone." in cli("reconcile").out
    assert sorted(home.rglob("*")) == before, "a report leaves nothing behind"
