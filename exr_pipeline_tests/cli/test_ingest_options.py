"""What `ingest` is asked for beyond a source: which files, what of them, and how it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline_tests.cli.conftest import Cli, Ingested, small_exr


@pytest.fixture
def folder(home: Path) -> Path:
    """Three frames and a file that is no picture, not ingested."""
    folder = home / "renders"
    folder.mkdir()
    for frame in (1001, 1002, 1003):
        (folder / f"a.{frame}.exr").write_bytes(small_exr())
    (folder / "b.exr").write_text("not a picture")
    return folder


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def media(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(".proxies/*")}


def answer(cli: Cli, *arguments: str) -> dict[str, Any]:
    said = cli("ingest", "renders", "--json", *arguments)
    found: dict[str, Any] = json.loads(said.out)
    return found


def test_a_dry_run_lists_what_would_be_done_and_why_and_leaves_nothing(cli: Cli, home: Path, folder: Path) -> None:
    before = everything(home)
    said = cli("ingest", "renders", "--dry-run", "--limit", "3")
    uris = [(folder / name).as_uri() for name in ("a.1001.exr", "a.1002.exr", "a.1003.exr")]
    assert said.status == 0
    assert said.out.splitlines() == [
        *(f"new      {uri}" for uri in uris),
        "Would ingest 3 of 4 files: 3 new",
        "1 more are beyond --limit.",
    ]
    would = answer(cli, "--dry-run")
    assert (would["dry_run"], would["listed"], would["chosen"], would["left"]) == (True, 4, 4, 0)
    assert would["files"][0] == {"uri": uris[0], "need": "new", "detail": None}
    assert everything(home) == before


def test_the_products_that_are_named_are_made_of_new_files_and_of_known_ones_that_a_condition_holds_for(
    cli: Cli, folder: Path
) -> None:
    headers = answer(cli, "--only", "header", "--limit", "3")
    assert (headers["states"], headers["left"]) == ({"ready": 3}, 1)
    assert {file["thumbnail"] for file in headers["files"]} == {None}
    assert media(folder) == set()

    # What is not in the tables yet is not met by any condition.
    asked = ("--where", "frame_number < 1003 AND width = 64 -- of the first part")
    assert cli("ingest", "renders", *asked).out == (
        "Nothing to do: all 2 files are known and unchanged. To ingest more, add --outdated or --again.\n"
    )
    pictures = answer(cli, *asked, "--again", "--only", "checksum, thumbnail, proxy", "--limit", "1")
    (file,) = pictures["files"]
    assert (pictures["chosen"], pictures["left"], file["need"], file["state"]) == (1, 1, "again", "ready")
    assert media(folder) == {"a.1001_thumb.jpg", "a.1001_proxy.mp4"}
    assert file["thumbnail"] == (folder / ".proxies/a.1001_thumb.jpg").as_uri()

    rest = cli("ingest", "renders", "--again", "--only", "thumbnail")
    assert rest.out.splitlines()[:2] == [
        "4 of 4 files: 3 ready, 1 rejected, 0 retryable",
        f"Pictures: {folder}/.proxies/",
    ]
    assert media(folder) == {"a.1001_proxy.mp4", *(f"a.{frame}_thumb.jpg" for frame in (1001, 1002, 1003))}

    lacking = [f"outdated {(folder / name).as_uri()} (no checksum; no proxy)" for name in ("a.1002.exr", "a.1003.exr")]
    would = cli("ingest", "renders", "--outdated", "--dry-run")
    assert would.out.splitlines() == [*lacking, "Would ingest 2 of 4 files: 2 outdated"]
    assert answer(cli, "--outdated")["states"] == {"ready": 2}
    assert len(media(folder)) == 6
    assert (
        cli("ingest", "renders", "--outdated").out
        == "Nothing to do: all 4 files are known, unchanged and up to date.\n"
    )


def test_the_assets_of_the_products_that_are_named_are_materialized_and_no_others(cli: Cli, folder: Path) -> None:
    import dagster as dg

    assert answer(cli, "--only", "proxy", "--limit", "1")["states"] == {"ready": 1}
    with dg.DagsterInstance.get() as instance:
        made = {key.path[-1] for key in instance.all_asset_keys() if instance.get_materialized_partitions(key)}
    assert made == {"source_file", "proxy_mp4"}


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (("--where", "width = 7"), 1, "width = 7: no file below file:///"),
        (("--where", "nosuch = 7"), 1, 'SQL: Binder Error: Referenced column "nosuch" not found'),
        (("--where", "true); DROP TABLE files; SELECT (1"), 1, "SQL: a query must be a single SELECT statement"),
        (("--only", "thumbnail,movie"), 2, "'movie' is not a product: choose from header, checksum, thumbnail, proxy"),
        (("--limit", "0"), 2, "Invalid value for '--limit'"),
    ],
)
def test_what_cannot_be_meant_is_an_error_of_one_line(
    in_ingested: Cli, ingested: Ingested, arguments: tuple[str, ...], status: int, error: str
) -> None:
    said = in_ingested("ingest", str(ingested.folder), "--dry-run", *arguments)
    assert (said.status, said.out) == (status, "")
    assert error in said.error
