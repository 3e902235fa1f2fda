"""Commands that report on the tables: `status`, `tables` and `schema`; and the group of those below `tables`.

Belongs here: arguments and output. Not here: users' own queries (`sql`), queries worth a name (`tables.views`), what
is done to whole databases (`databases`).
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from exr_pipeline.cli import databases
from exr_pipeline.cli.console import load_settings, stdout, table, warn
from exr_pipeline.cli.places import url_prefix
from exr_pipeline.cli.results import show_result
from exr_pipeline.errors import BadInputError
from exr_pipeline.tables.specs import READY

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings
    from exr_pipeline.tables.store import TableStore


def tables_to_read(settings: Settings) -> TableStore:
    """The tables. Warns if they do not exist yet; they then have no rows."""
    from exr_pipeline.tables import open_table_store
    from exr_pipeline.tables.store import missing_tables

    if missing := missing_tables(settings):
        warn(missing)
    return open_table_store(settings)


def status(
    key: Annotated[
        str | None, typer.Argument(help="File or folder: a URL, path or partition key. All files if omitted.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count the ready, rejected and retryable files, and list those that are not ready with the reason.

    For all files, also tell how many events wait to be published and since when, if any do.
    """
    from exr_pipeline.events.outbox import waiting

    store = tables_to_read(load_settings())
    prefix = _quoted(url_prefix(key)) if key else ""
    condition = f"starts_with(uri, '{prefix}')"
    counts = store.sql(f"SELECT state, count(*) AS files FROM latest_files WHERE {condition} GROUP BY 1 ORDER BY 1")  # noqa: S608
    listed = f"uri = '{prefix}' OR {condition} AND state <> '{READY}'"
    files = store.sql(f"SELECT uri, state, reason FROM latest_files WHERE {listed} ORDER BY uri")  # noqa: S608
    events, oldest = (0, None) if key else waiting(store)
    if key and counts.num_rows == 0:
        raise BadInputError(key, "no such file in the tables")
    if as_json:
        by_state = {row["state"]: row["files"] for row in counts.to_pylist()}
        answer = {"states": by_state, "files": files.to_pylist()}
        if not key:
            answer["outbox"] = {"waiting": events, "oldest": oldest.isoformat() if oldest else None}
        json.dump(answer, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    if counts.num_rows == 0:
        stdout.print("No files yet. To ingest some: exr-pipeline ingest SOURCE")
    else:
        show_result(counts)
    if files.num_rows:
        show_result(files)
    if oldest:
        stdout.print(f"{events} events wait to be published, the oldest since {oldest:%Y-%m-%d %H:%M:%S} UTC")


def _quoted(text: str) -> str:
    return text.replace("'", "''")


tables = typer.Typer(add_completion=False, rich_markup_mode=None)
for _command in (databases.create, databases.check, databases.migrate, databases.copy):
    tables.command()(_command)


@tables.callback(invoke_without_command=True)
def _list_tables(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of objects.")] = False,
) -> None:
    """List the tables and views that `sql` can query; or create, check, migrate or copy the tables.

    Without a command, lists them with the meaning of each.
    """
    if context.invoked_subcommand is not None:
        return
    from exr_pipeline.tables.specs import TABLES
    from exr_pipeline.tables.views import VIEWS

    listed: list[tuple[str, str, str]] = [
        ("table", name, f"One row per {', '.join(spec.row_key)}") for name, spec in TABLES.items()
    ]
    listed += [("view", view.usage, view.meaning) for view in VIEWS]
    _show_rows(("kind", "name", "meaning"), listed, as_json=as_json)


def schema(
    name: Annotated[str, typer.Argument(help="Table or view, as listed by `exr-pipeline tables`.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of objects.")] = False,
) -> None:
    """List the columns of a table or view, with SQL type and meaning."""
    from exr_pipeline.tables.queries import described_columns

    described = described_columns(name.partition("(")[0])
    if described is None:
        raise BadInputError(name, "no such table or view; to list them: exr-pipeline tables")
    _show_rows(("column", "type", "meaning"), described, as_json=as_json)


def _show_rows(names: tuple[str, ...], rows: list[tuple[str, str, str]], *, as_json: bool) -> None:
    if as_json:
        json.dump([dict(zip(names, row, strict=True)) for row in rows], sys.stdout, indent=1, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        stdout.print(table(names, [[escape(cell) for cell in row] for row in rows]))
