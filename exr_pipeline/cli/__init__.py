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
    help="Ingest rendered images: OpenEXR, DPX and other files become metadata, pictures and tables.",
    pretty_exceptions_enable=False,
    # Help without boxes: importing what draws them takes as long as all the rest.
    rich_markup_mode=None,
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
    """Ingest rendered images: OpenEXR, DPX and other files become metadata, pictures and tables."""


def main() -> None:
    """Run the command line; the exit status is 0 only on success, and an error is one line on stderr.

    Where the terminal's encoding lacks a character, it is spelled out. If the reader of the output goes away, as `head`
    does, the command ends without a word, with the status of a program that SIGPIPE has ended.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _status()
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer must not fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = _READER_GONE
    sys.exit(status)


def _status() -> int:
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
            fail(f"{error.format_message()} (what there is: exr-pipeline --help)", status=2)
        if status == INTERRUPTED:
            fail("interrupted", status=status)
    except SystemExit as end:
        # What typer and rich make of it.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return status or 0
