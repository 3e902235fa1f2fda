"""The command line: thin shells over the library.

Belongs here: the application, and how errors become one line and an exit status. Not here: the commands (`commands`).
"""

import os
import sys
from io import TextIOWrapper
from typing import Annotated, Final

import typer

from exr_pipeline import __version__
from exr_pipeline.cli.commands import CommandGroup
from exr_pipeline.cli.console import INTERRUPTED, fail
from exr_pipeline.errors import ExrPipelineError
from exr_pipeline.extras import explain
from exr_pipeline.storage.private_files import new_files_private

_READER_GONE: Final = 128 + 13

app = typer.Typer(
    name="exr-pipeline",
    cls=CommandGroup,
    help="Ingest renders, movies and sounds: write their metadata to tables, and make thumbnails and proxies.",
    pretty_exceptions_enable=False,
    # Help without boxes: importing what draws them takes as long as all the rest.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"exr-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Ingest renders, movies and sounds: write their metadata to tables, and make thumbnails and proxies."""


def main() -> None:
    """Run the command line. The exit status is 0 only on success. An error is one line on stderr.

    A character that the terminal's encoding lacks is written as an escape. If the reader of the output goes away, as
    `head` does, the command ends silently, with the status of a program that SIGPIPE ended.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run_command()
        sys.stdout.flush()
    except BrokenPipeError:
        # The rest of the buffer must not fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = _READER_GONE
    sys.exit(status)


def _run_command() -> int:
    """Run a command and return its exit status. Raises `BrokenPipeError` if nobody reads the output."""
    try:
        try:
            with new_files_private():
                status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        except BrokenPipeError:
            raise
        except (ExrPipelineError, OSError) as error:
            fail(str(error))
        except ModuleNotFoundError as error:
            missing = explain(error)
            if missing is None:
                raise
            fail(str(missing))
        except typer.TyperException as error:
            fail(f"{error.format_message().rstrip('.')} (see exr-pipeline --help)", status=2)
        if status == INTERRUPTED:
            fail("interrupted", status=status)
    except SystemExit as end:
        # typer and rich turn it into an exit.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return status or 0
