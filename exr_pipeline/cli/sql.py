"""The command `sql`: query the tables.

Belongs here: arguments. Not here: how rows are written (`results`), queries worth a name (`tables.views`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperCommand

from exr_pipeline.cli.console import load_settings, stdout
from exr_pipeline.cli.results import TextFormat, print_result, result_format, save_result, show_result
from exr_pipeline.cli.tables import tables_to_read

if TYPE_CHECKING:
    from typer._click.core import Context

_PARAMETER: Final = ("-p", "--parameter")


class SqlCommand(TyperCommand):
    """Accepts `-p NAME VALUE`, a repeatable option of two words. typer has no type for it."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Join the two words."""
        joined: list[str] = []
        rest = iter(args)
        for argument in rest:
            joined.append(argument)
            if argument == "--":
                break
            if argument in _PARAMETER:
                name, value = next(rest, None), next(rest, None)
                if name is None or value is None:
                    raise typer.BadParameter(f"{argument} takes a name and a value")
                joined.append(f"{name}={value}")
        return super().parse_args(ctx, [*joined, *rest])


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
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of objects.")] = False,
    as_ndjson: Annotated[bool, typer.Option("--ndjson", help="Print one JSON object per line.")] = False,
) -> None:
    """Query the tables with SQL."""
    forms: dict[TextFormat, bool] = {"csv": as_csv, "json": as_json, "ndjson": as_ndjson}
    chosen = [form for form, is_chosen in forms.items() if is_chosen]
    if len(chosen) + (output is not None) > 1:
        raise typer.BadParameter("choose one of --csv, --json, --ndjson and --output")
    if output is not None:
        result_format(output)
    values = dict(text.split("=", 1) for text in parameters or [])
    result = tables_to_read(load_settings()).sql(query, values)
    if output is not None:
        save_result(result, output)
        stdout.print(f"{output}: {result.num_rows} rows", markup=False, highlight=False, soft_wrap=True)
    elif chosen:
        print_result(result, chosen[0])
    else:
        show_result(result)
