"""`archive` and `unarchive` at the terminal: what they ask for, and what they say."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exr_pipeline.settings import Settings
from exr_pipeline.tables import open_table_store
from exr_pipeline_tests.cli.conftest import Cli
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

NOW = datetime.now(UTC)
LEFT = "Skipped: {} too recent, 0 unfinished, 0 in a run, {} already archived.\n"


@pytest.fixture
def files(home: Path) -> list[str]:
    """The partition keys of two old files and of one of yesterday, all of them ready."""
    import dagster as dg

    tables, keys = open_table_store(Settings(_env_file=None)), []
    for key, days in (("old/x.1.exr", 100), ("old/x.2.exr", 100), ("new/x.1.exr", 1)):
        when = NOW - timedelta(days=days)
        file = SampleFile(key=key, mtime=when)
        tables.write({"files": rows_of(file)["files"]}, now=when)
        keys.append(file.location.partition_key)
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("files", keys)
    return keys


def live() -> list[str]:
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        return sorted(instance.get_dynamic_partitions("files"))


def test_files_are_archived_by_age_and_brought_back_by_prefix(cli: Cli, files: list[str]) -> None:
    would = cli("archive", "--older-than", "90d", "--dry-run")
    assert (would.status, would.out) == (0, "Would archive 2 files. " + LEFT.format(1, 0))
    assert live() == sorted(files)

    done = cli("archive", "--older-than", "90d", "--yes")
    said = "Archived 2 files. Removed 2 file partitions and 0 sequence partitions. "
    assert (done.status, done.out) == (0, said + LEFT.format(1, 0))
    assert "marking: 2/2" in done.err
    assert live() == files[2:]
    counted = cli("sql", "SELECT count(*) AS files FROM latest_files WHERE archived_at IS NOT NULL")
    assert "2" in counted.out
    assert "3 ready" in (status := cli("status")).out or "3" in status.out

    back = cli("unarchive", "s3://renders/old/x.1")
    assert (back.status, back.out) == (0, "Restored 1 file and 0 sequence partitions.\n")
    assert live() == sorted([files[0], files[2]])


@pytest.mark.parametrize("command", ["archive", "unarchive"])
def test_a_prefix_or_show_that_no_file_of_the_tables_fits_is_an_error(
    cli: Cli, home: Path, command: str, request: pytest.FixtureRequest
) -> None:
    before = sorted(home.rglob("*"))
    assert cli(command, "s3://renders/").error == "s3://renders/: no such file in the tables"
    assert sorted(home.rglob("*")) == before, "not even a history is begun"
    request.getfixturevalue("files")
    assert cli(command, "s3://renders/odl/").error == "s3://renders/odl/: no such file in the tables"
    assert cli(command, "--show", "nosuch").error == "show nosuch: no such file in the tables"


def test_it_asks_unless_told_not_to(cli: Cli, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        cli("archive", "s3://renders/").error
        == "cannot ask for confirmation without a terminal: add --yes, or try --dry-run first"
    )
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    asked: list[str] = []

    def no(question: str, *, abort: bool) -> None:
        asked.append(question)
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.confirm", no)
    assert cli("archive", "s3://renders/").status != 0
    assert asked == ["Archive 3 files?"]
    assert live() == sorted(files)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("archive",), "PREFIX: no files are selected"),
        (("unarchive",), "PREFIX: no files are selected"),
        (("archive", "--older-than", "soon"), "'soon' is not a valid age: write 90d, 12h or 6w"),
        (("archive", "nowhere://bucket/"), "'nowhere://bucket/' is not an object storage URL"),
    ],
)
def test_what_is_not_clear_is_an_error_of_one_line(cli: Cli, arguments: tuple[str, ...], error: str) -> None:
    result = cli(*arguments)
    assert result.status != 0
    assert error in result.error
