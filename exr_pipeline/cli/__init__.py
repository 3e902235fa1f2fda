"""The command line: thin shells over the library.

Belongs here: the application, and how errors become one line and an exit status. Not here: the commands (`commands`).
"""

import sys
from typing import Annotated

import typer

from exr_pipeline import __version__
from exr_pipeline.cli.commands import CommandGroup
from exr_pipeline.cli.console import INTERRUPTED, fail
from exr_pipeline.errors import ExrPipelineError
from exr_pipeline.storage.private_files import new_files_private

app = typer.Typer(
    name="exr-pipeline",
    cls=CommandGroup,
    help="Ingest rendered images: OpenEXR and DPX files become metadata, pictures and tables.",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"exr-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Ingest rendered images: OpenEXR and DPX files become metadata, pictures and tables."""


def main() -> None:
    """Run the command line; the exit status is 0 only on success, and an error is one line on stderr."""
    try:
        with new_files_private():
            status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except (ExrPipelineError, OSError) as error:
        fail(str(error))
    except typer.TyperException as error:
        fail(f"{error.format_message()} (what there is: exr-pipeline --help)", status=2)
    if status == INTERRUPTED:
        fail("interrupted", status=status)
    sys.exit(status)
