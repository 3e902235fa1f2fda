"""The command line: thin shells over the library. Each group of commands is a module beside this one.

Belongs here: the application and how errors become one line and an exit status. Not here: any work.
"""

import sys
from typing import Annotated

import typer

from exr_pipeline import __version__
from exr_pipeline.cli import archive, demo, doctor, files, ingest, probe, reconcile, sequences, similar, tables, ui
from exr_pipeline.cli.console import INTERRUPTED, fail
from exr_pipeline.errors import ExrPipelineError

app = typer.Typer(
    name="exr-pipeline",
    help="Ingest rendered images: OpenEXR and DPX files become metadata, pictures and tables.",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("sample")(demo.sample)
app.command("inspect")(files.inspect)
app.command("probe")(probe.probe)
app.command("thumbnail")(files.thumbnail)
app.command("proxy")(files.proxy)
app.command("movie")(sequences.movie)
app.command("contact-sheet")(sequences.contact_sheet)
app.command("filmstrip")(sequences.filmstrip)
app.command("ingest")(ingest.ingest)
app.command("retry")(ingest.retry)
app.command("sequences")(ingest.sequences)
app.command("reconcile")(reconcile.reconcile)
app.command("archive")(archive.archive)
app.command("unarchive")(archive.unarchive)
app.command("status")(tables.status)
app.command("sql")(tables.sql)
app.command("similar")(similar.similar)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.command("ui")(ui.ui)


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
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except (ExrPipelineError, OSError) as error:
        fail(str(error))
    except typer.TyperException as error:
        fail(f"{error.format_message()} (what there is: exr-pipeline --help)", status=2)
    if status == INTERRUPTED:
        fail("interrupted", status=status)
    sys.exit(status)
