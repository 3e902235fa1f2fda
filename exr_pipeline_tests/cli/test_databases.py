"""`tables create`, `check`, `migrate` and `copy`, as users call them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from exr_pipeline.tables.specs import TABLES
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.cli.test_hostile_texts import OBEYED
from exr_pipeline_tests.hostile_texts import TERMINAL
from exr_pipeline_tests.tables.conftest import emulator, vast
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of
from exr_pipeline_tests.tables.test_former_database import load_former_database

if TYPE_CHECKING:
    from exr_pipeline_tests.cli.conftest import Cli
    from exr_pipeline_tests.tables.conftest import StoreUnderTest

__all__ = ["emulator", "vast"]


def test_tables_are_made_once_and_then_as_they_should_be(cli: Cli, home: Path) -> None:
    missing = cli("tables", "check")
    assert missing.status == 1
    assert missing.out.splitlines()[0] == "files: the table is missing. Fix: run exr-pipeline tables create"
    assert not (home / ".state/tables.duckdb").exists()
    name = f"duckdb:{home}/.state/tables.duckdb"
    assert cli("tables", "create").out.splitlines() == [f"{name}: created table {table}" for table in TABLES]
    assert cli("tables", "create").out == f"{name}: nothing is missing\n"
    checked = cli("tables", "check")
    assert (checked.status, checked.out) == (0, f"{name}: the tables are as this version expects them\n")
    assert json.loads(cli("tables", "check", "--json").out) == []


def test_a_database_of_an_earlier_version_is_migrated_and_what_was_done_is_printed(cli: Cli, home: Path) -> None:
    assert "no tables to migrate" in cli("tables", "migrate", "former.duckdb").error
    load_former_database(home / "former.duckdb")
    found = json.loads(cli("tables", "check", "former.duckdb", "--json").out)
    done = cli("tables", "migrate", "former.duckdb")
    assert done.status == 0
    assert len(done.out.splitlines()) == len(found)
    assert "made the local paths in column file_path of table files absolute" in done.out
    assert cli("tables", "check", "former.duckdb").status == 0
    assert cli("tables", "migrate", "former.duckdb").out.endswith(": the tables are up to date\n")


def test_rows_are_copied_to_vast_and_back_and_compared(
    cli: Cli, home: Path, vast: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    DuckDBStore(home / "first.duckdb").write(rows_of(SampleFile(), SampleFile(key="b.exr")), now=NOON)
    for name, value in vast.settings.items():
        monkeypatch.setenv(name.upper(), value)
    there = cli("tables", "copy", "--from", "first.duckdb", "--to", "vast")
    assert (there.status, there.err.count("Error")) == (0, 0)
    assert there.out.endswith(f"vast has the same rows as duckdb:{home}/first.duckdb\n")
    assert cli("tables", "check").out == "vast: the tables are as this version expects them\n"
    assert cli("tables", "copy", "--from", "vast", "--to", "duckdb:second.duckdb").status == 0
    first, second = (
        DuckDBStore(home / name).sql("FROM files ORDER BY ALL") for name in ("first.duckdb", "second.duckdb")
    )
    assert first.equals(second)


def test_sides_that_differ_are_an_error_for_each_table(cli: Cli, home: Path) -> None:
    DuckDBStore(home / "a.duckdb").write(rows_of(SampleFile(), outputs=False), now=NOON)
    DuckDBStore(home / "b.duckdb").write(rows_of(SampleFile(key="b.exr", header=False), outputs=False), now=NOON)
    said = cli("tables", "copy", "--from", "a.duckdb", "--to", "b.duckdb")
    assert said.status == 1
    assert said.error.startswith("files: the source has 1 rows, the target 2. Fix: ")


@pytest.mark.parametrize(
    ("source", "target", "problem"),
    [("a.duckdb", "duckdb:./a.duckdb", "both source and target"), ("none.duckdb", "b.duckdb", "no tables to copy")],
)
def test_a_copy_that_cannot_be_meant_is_refused_and_makes_nothing(
    cli: Cli, home: Path, source: str, target: str, problem: str
) -> None:
    said = cli("tables", "copy", "--from", source, "--to", target)
    assert said.status == 1
    assert problem in said.error
    assert list(home.glob("*.duckdb")) == []


def test_names_in_findings_do_not_reach_the_terminal_unescaped(cli: Cli, home: Path) -> None:
    cli("tables", "create", "a.duckdb")
    with duckdb.connect(str(home / "a.duckdb")) as connection:
        for file_id in "xy":
            row = {"id": file_id, "path": f"[bold]{TERMINAL}"}
            values = "SELECT $id AS file_id, '' AS bucket, $path AS file_path, 'ready' AS state"
            connection.execute(f"INSERT INTO files BY NAME {values}", row)
    said = cli("tables", "check", "a.duckdb")
    assert "[bold]" in said.out
    assert "OWNED" in said.out
    assert not OBEYED.search(said.out)
