"""The commands below `assets`: what they print, and what they say where something is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exr_pipeline_tests.cli.conftest import Cli
from exr_pipeline_tests.client.conftest import Running, running
from exr_pipeline_tests.service.conftest import ADMIN

__all__ = ["running"]


@pytest.fixture
def catalog(cli: Cli, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("EXR_PIPELINE_SERVERS", ",".join(running.urls))
    monkeypatch.setenv("EXR_PIPELINE_TOKEN", ADMIN)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "journals"))
    monkeypatch.chdir(tmp_path)
    return cli


def test_a_file_is_sent_found_tagged_and_fetched_into_a_folder(catalog: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.exr").write_bytes(b"some bytes")
    (tmp_path / "out").mkdir()
    sent = catalog("assets", "put", "a.exr", "--project", "show", "--name", "he\x1bro", "--tag", "wip")
    assert sent.status == 0, sent
    assert "a.exr is stored as show/he\\x1bro, SHA-256 " in sent.out
    assert "verifying a.exr" in sent.err
    again = catalog("assets", "put", "a.exr", "--project", "show", "--name", "hero", "--json")
    assert json.loads(again.out)["status"] == "ready"
    tagged = catalog("assets", "tag", "show/hero", "final", "wip", "--json")
    assert json.loads(tagged.out)["tags"] == ["final", "wip"]
    found = json.loads(catalog("assets", "search", "hero", "--tag", "final", "--json").out)
    assert [(each["name"], each["kind"]) for each in found] == [("hero", "render")]
    listed = catalog("assets", "list", "--project", "show")
    assert "hero" in listed.out
    assert "\x1b" not in listed.out
    fetched = catalog("assets", "get", "show/hero", "out")
    assert (fetched.status, "SHA-256 verified" in fetched.out) == (0, True)
    assert (tmp_path / "out" / "a.exr").read_bytes() == b"some bytes"
    watched = catalog("assets", "watch", "--count", "2", "--json")
    assert [json.loads(line)["seq"] for line in watched.out.splitlines()] == sorted(
        json.loads(line)["seq"] for line in watched.out.splitlines()
    )


def test_what_is_missing_is_said_in_one_line(catalog: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, problem in (
        (("get", "show/nothing", "out"), "show/nothing: there is no such asset"),
        (("get", "nothing", "out"), "write the asset as PROJECT/NAME"),
    ):
        ended = catalog("assets", *arguments)
        assert (ended.status, problem in ended.err) == (1, True), ended
    monkeypatch.delenv("EXR_PIPELINE_TOKEN")
    ended = catalog("assets", "list")
    assert (ended.status, "EXR_PIPELINE_TOKEN: it is not set" in ended.err) == (1, True)
