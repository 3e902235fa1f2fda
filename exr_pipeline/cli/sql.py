"""The command `sql`: query the tables.

Belongs here: arguments. Not here: how rows are written (`results`), queries worth a name (`tables.views`).
"""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperCommand

from exr_pipeline.cli.console import load_settings, stdout
from exr_pipeline.cli.results import STDOUT, Format, print_result, result_format, save_result, show_result
from exr_pipeline.cli.tables import tables_to_read

if TYPE_CHECKING:
    from typer._click.core import Context

_PARAMETER: Final = ("-p", "--parameter")
_CSV: Final = "--csv"
_BEGINS_A_QUERY: Final = re.compile(r"\s*(\(|(FROM|SELECT|TABLE|VALUES|WITH)\b.*\s)", re.IGNORECASE | re.DOTALL)


class SqlCommand(TyperCommand):
    """Accepts `-p NAME VALUE`, an option of two words, and `--csv` without a file. typer has no types for them."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Join the two words, and put in the file that `--csv` stands for alone."""
        joined: list[str] = []
        rest = deque(args)
        while rest:
            joined.append(argument := rest.popleft())
            if argument == "--":
                break
            if argument in _PARAMETER:
                if len(rest) < 2:
                    raise typer.BadParameter(f"{argument} takes a name and a value")
                joined.append(f"{rest.popleft()}={rest.popleft()}")
            if argument == _CSV and not (rest and _names_a_file(rest[0])):
                joined.append(STDOUT)
        return super().parse_args(ctx, [*joined, *rest])


def _names_a_file(word: str) -> bool:
    """Whether a word after `--csv` is its file, and not the next option or the query."""
    return word == STDOUT or not (word.startswith("-") or _BEGINS_A_QUERY.match(word))


# For `commands`.
COMMAND_CLASS: Final = SqlCommand


def sql(
    query: Annotated[str, typer.Argument(help="SELECT statement on the tables and views of docs/tables.md.")],
    *,
    parameters: Annotated[
        list[str] | None,
        typer.Option(*_PARAMETER, metavar="NAME VALUE", help="Value of $NAME in the query. May be repeated."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="File to write. Its suffix selects the format: .parquet, .csv, .json or .ndjson."),
    ] = None,
    csv: Annotated[
        str | None, typer.Option(_CSV, metavar="FILE", help="CSV file to write; - or nothing to print CSV.")
    ] = None,
    parquet: Annotated[str | None, typer.Option(metavar="FILE", help="Parquet file to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of objects.")] = False,
    as_ndjson: Annotated[bool, typer.Option("--ndjson", help="Print one JSON object per line.")] = False,
) -> None:
    """Query the tables with SQL.

    Files and printed CSV, JSON and NDJSON are written as the rows are computed, in bounded memory, however many they
    are.
    """
    if parquet == STDOUT:
        raise typer.BadParameter("--parquet takes a file; to print, use --csv")
    chosen: list[tuple[str, Format]] = []
    chosen += [(str(output), result_format(output))] if output is not None else []
    chosen += [(csv, "csv")] if csv is not None else []
    chosen += [(parquet, "parquet")] if parquet is not None else []
    printed: dict[Format, bool] = {"json": as_json, "ndjson": as_ndjson}
    chosen += [(STDOUT, form) for form, is_chosen in printed.items() if is_chosen]
    if len(chosen) > 1:
        raise typer.BadParameter("choose one of --csv, --parquet, --json, --ndjson and --output")
    values = dict(text.split("=", 1) for text in parameters or [])
    store = tables_to_read(load_settings())
    if not chosen:
        show_result(store.sql(query, values))
        return
    ((file, form),) = chosen
    if file == STDOUT:
        print_result(store.stream_sql(query, values), form)
    else:
        count = save_result(store.stream_sql(query, values), Path(file), form)
        stdout.print(f"{file}: {count} rows", markup=False, highlight=False, soft_wrap=True)
