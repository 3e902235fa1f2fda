"""Commands that ask the tables: `sql` and `status`.

Belongs here: arguments and output. Not here: queries worth a name (`tables.views`).
"""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, show, stdout, warn
from exr_pipeline.cli.places import url_prefix
from exr_pipeline.errors import BadInputError
from exr_pipeline.tables.schema import READY
from exr_pipeline.untrusted_text import visible

if TYPE_CHECKING:
    import pyarrow as pa

    from exr_pipeline.settings import Settings
    from exr_pipeline.tables.store import TableStore


def tables_to_read(settings: Settings) -> TableStore:
    """The tables; a warning says so if there are none yet, which then are without rows."""
    from exr_pipeline.tables import open_table_store
    from exr_pipeline.tables.store import missing_tables

    if missing := missing_tables(settings):
        warn(missing)
    return open_table_store(settings)


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the tables and views of docs/tables.md.")],
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of objects.")] = False,
) -> None:
    """Ask the tables in SQL."""
    if as_csv and as_json:
        raise typer.BadParameter("choose one of --csv and --json")
    result = tables_to_read(load_settings()).sql(query)
    if as_json:
        json.dump(result.to_pylist(), sys.stdout, indent=1, default=str)
        sys.stdout.write("\n")
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(result.column_names)
        # Exact for programs. A terminal obeys control characters, so a person is shown them spelled out.
        show_cell = _visible_cell if sys.stdout.isatty() else lambda value: value
        writer.writerows(map(show_cell, row.values()) for row in result.to_pylist())
    else:
        _print(result)


def _visible_cell(value: object) -> object:
    return visible(value) if isinstance(value, str) else value


def status(
    key: Annotated[
        str | None, typer.Argument(help="A file or folder: a URL, path or partition key; all files if omitted.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the state of files: how many are ready, rejected or retryable; which are not ready, and why."""
    store = tables_to_read(load_settings())
    prefix = _quoted(url_prefix(key)) if key else ""
    condition = f"starts_with(uri, '{prefix}')"
    counts = store.sql(f"SELECT state, count(*) AS files FROM latest_files WHERE {condition} GROUP BY 1 ORDER BY 1")  # noqa: S608
    told = f"uri = '{prefix}' OR {condition} AND state <> '{READY}'"
    files = store.sql(f"SELECT uri, state, reason FROM latest_files WHERE {told} ORDER BY uri")  # noqa: S608
    if key and counts.num_rows == 0:
        raise BadInputError(key, "no such file in the tables")
    if as_json:
        by_state = {row["state"]: row["files"] for row in counts.to_pylist()}
        json.dump({"states": by_state, "files": files.to_pylist()}, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    if counts.num_rows == 0:
        stdout.print("No files yet. Ingest some: exr-pipeline ingest SOURCE")
        return
    _print(counts)
    if files.num_rows:
        _print(files)


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _print(result: pa.Table) -> None:
    rows: list[list[Any]] = [[escape(_cell(cell)) for cell in row.values()] for row in result.to_pylist()]
    show(result.column_names, rows)
    if result.num_rows > 20:
        stdout.print(f"{result.num_rows} rows")


def _cell(value: object) -> str:
    if isinstance(value, list) and len(value) > 6:
        return f"[{value[0]:.4g}, {value[1]:.4g}, … {len(value)} numbers]"
    return "" if value is None else str(value)
