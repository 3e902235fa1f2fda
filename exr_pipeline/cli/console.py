"""What the commands share at the terminal: errors as one line, tables, progress.

Belongs here: output. Not here: anything that knows files or tables.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.settings import Settings

stdout = Console()
stderr = Console(stderr=True)


def fail(message: str, *, status: int = 1) -> NoReturn:
    """Print one line on stderr and end with a status."""
    tell(message)
    sys.exit(status)


def tell(message: str) -> None:
    """Print an error as one line on stderr."""
    sys.stderr.write("Error: " + re.sub(r"\s*\n\s*", " ", message.strip()) + "\n")


def load_settings() -> Settings:
    """The settings of the environment. Raises `MisconfiguredError` that names the first wrong one."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        field = Settings.model_fields.get(name)
        setting = str(field.validation_alias) if field and field.validation_alias else f"EXR_PIPELINE_{name.upper()}"
        raise MisconfiguredError(setting, str(first["msg"]), "see docs/settings.md") from None


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> Table:
    """A table for the terminal."""
    made = Table(*columns, title=title, title_justify="left")
    for row in rows:
        made.add_row(*("" if cell is None else str(cell) for cell in row))
    return made


def progress_bar() -> Progress:
    """A progress bar on stderr, plain lines of it where there is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=stderr,
    )
