"""The commands `tables create`, `check`, `migrate` and `copy`: the databases that hold the tables.

Belongs here: arguments, progress, output. Not here: what is checked (`tables.check`) or how rows are copied
(`tables.copy`).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, progress_line, report_error, show, stdout
from exr_pipeline.errors import BadInputError
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings
    from exr_pipeline.tables.store import TableStore

_WHICH: Final = "duckdb:PATH, a path, or vast (the VAST DataBase of the settings)"
Store = Annotated[str | None, typer.Argument(metavar="STORE", help=f"{_WHICH}. The store of the settings if omitted.")]


def create(store: Store = None) -> None:
    """Create the tables, columns and views that are missing. It is safe to repeat, and while other programs write."""
    from exr_pipeline.tables.check import bring_up_to_date

    name, opened = _open(store, load_settings())
    _print_done(name, bring_up_to_date(opened), "nothing is missing")


def migrate(store: Store = None) -> None:
    """Bring the tables of an earlier version up to date, and print what was done.

    Any command that writes does the same when it first opens the tables: missing tables and columns are created, views
    are replaced, and paths of local files become absolute. Nothing is removed, and it is safe to repeat.
    """
    from exr_pipeline.tables.check import bring_up_to_date

    name, opened = _open(store, load_settings())
    if not opened.stored_schemas():
        raise BadInputError(name, "it has no tables to migrate; to create them: exr-pipeline tables create")
    _print_done(name, bring_up_to_date(opened), "the tables are up to date")


def check(
    store: Store = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of objects.")] = False,
) -> None:
    """Compare the tables with what this version expects. Nothing is changed.

    Prints one line per finding, with what to do: missing tables and columns, columns of another type, nulls where a
    value is required, several rows with one key, paths of an earlier version. The status is 1 if there are any.
    """
    from exr_pipeline.tables.check import check_tables

    name, opened = _open(store, load_settings())
    findings = list(check_tables(opened))
    if as_json:
        json.dump([asdict(finding) for finding in findings], sys.stdout, indent=1, ensure_ascii=False)
        sys.stdout.write("\n")
    elif findings:
        for found in findings:
            _print_line(f"{found.table}: {found.problem}. Fix: {found.remedy}")
    else:
        _print_line(f"{name}: the tables are as this version expects them")
    if findings:
        raise typer.Exit(1)


def copy(
    *,
    source: Annotated[str, typer.Option("--from", metavar="STORE", help=f"Store to read: {_WHICH}.")],
    target: Annotated[str, typer.Option("--to", metavar="STORE", help=f"Store to write: {_WHICH}.")],
) -> None:
    """Copy all rows of all tables, history included, from one store to another, and compare the two.

    Both are first brought up to date, as by migrate. If interrupted, run the same command again to resume. Afterwards
    the row counts and checksums of both are compared; the status is 1 if they differ. Stop ingest meanwhile.
    """
    from exr_pipeline.tables.copy import copy_tables

    settings = load_settings()
    (source_name, read), (target_name, written) = _open(source, settings), _open(target, settings)
    if source_name == target_name:
        raise BadInputError(source_name, "it is both source and target; name two stores")
    if not read.stored_schemas():
        raise BadInputError(source_name, "it has no tables to copy")
    with progress_line() as line:
        copied = copy_tables(read, written, now=datetime.now(UTC), on_progress=line.update)
    show(
        ("table", "rows", "copied now", "checksum"),
        [(each.table, str(each.target.rows), str(each.put), f"{each.target.checksum:016x}") for each in copied],
    )
    problems = [each.problem for each in copied if each.problem]
    for problem in problems:
        report_error(f"{problem}. Fix: see that nothing writes to either, run the command again, then tables check")
    if problems:
        raise typer.Exit(1)
    _print_line(f"{target_name} has the same rows as {source_name}")


def _open(text: str | None, settings: Settings) -> tuple[str, TableStore]:
    """A store with its name."""
    from exr_pipeline.tables.store import open_named_store, store_name

    name = store_name(text, settings)
    return name, open_named_store(name, settings)


def _print_done(name: str, done: list[str], nothing: str) -> None:
    for line in done or [nothing]:
        _print_line(f"{name}: {line}")


def _print_line(text: str) -> None:
    stdout.print(escape(visible_line(text)), soft_wrap=True)
