"""What the commands share at the terminal: errors as one line, tables, progress.

Belongs here: output. Not here: anything that knows files or tables.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.untrusted_text import visible, visible_line

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType
    from rich.progress import Progress

    from exr_pipeline.settings import Settings


class _VisibleConsole(Console):
    """A console on which no text of a file or name can command the terminal, whoever prints it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


# Elsewhere than on a terminal nothing is cut to a width that nobody chose.
# Values are shown as they are: no colors that guess at numbers and paths, no pictures for `:names:`.
stdout = _VisibleConsole(width=None if sys.stdout.isatty() else 1000, highlight=False, emoji=False)
stderr = _VisibleConsole(stderr=True, highlight=False, emoji=False)

SECONDS_BETWEEN_LINES: Final = 3.0
# Wider than any table.
_UNBOUNDED: Final = 1_000_000
# The status after Ctrl-C; what typer makes of it.
INTERRUPTED: Final = 130


def fail(message: str, *, status: int = 1) -> NoReturn:
    """Print one line on stderr and end with a status."""
    tell(message)
    sys.exit(status)


def tell(message: str) -> None:
    """Print an error as one line on stderr."""
    _say("Error", message)


def warn(message: str) -> None:
    """Print what a user should know of something that was made all the same, as one line on stderr."""
    _say("Warning", message)


def _say(what: str, message: str) -> None:
    sys.stderr.write(f"{what}: {visible_line(message)}\n")


def load_settings(*, warn_of_unknown: bool = True) -> Settings:
    """The settings of the environment, and a warning for each variable that is named like one but is none.

    Raises `MisconfiguredError` that names the first wrong one.
    """
    from pydantic import ValidationError

    from exr_pipeline.settings import Settings, describe_unknown_variables

    if warn_of_unknown:
        for text in describe_unknown_variables():
            warn(text)
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # The location is the variable's name where it is not made of the field's.
        name = str(first["loc"][0])
        setting = Settings.variable(name) if name in Settings.model_fields else name
        raise MisconfiguredError(setting, str(first["msg"]), "see docs/settings.md") from None


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> Table:
    """A table for the terminal."""
    made = Table(*columns, title=title, title_justify="left")
    for row in rows:
        # Before the columns are measured, so that they stay aligned.
        made.add_row(*("" if cell is None else visible(str(cell)) for cell in row))
    return made


def show(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of texts with markup; where it is too wide for the terminal, each row as lines `column: value`."""
    made = table(columns, rows)
    if Measurement.get(stdout, stdout.options.update(max_width=_UNBOUNDED), made).maximum <= stdout.width:
        stdout.print(made)
        return
    for number, row in enumerate(rows):
        if number:
            stdout.print()
        for column, cell in zip(columns, row, strict=True):
            stdout.print(f"{escape(column)}: {cell}", soft_wrap=True)


class ProgressLine:
    """How far long work is: a bar on a terminal, a line every few seconds elsewhere (a log, a CI job)."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, detail="") if bar else None
        self._told = time.monotonic()

    def update(self, what: str, done: int, total: int | None = None, detail: str = "") -> None:
        """Say what is being done, how much of it is done, of how much if that is known."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what, completed=done, total=total, detail=escape(detail))
        elif done == total or time.monotonic() - self._told >= SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            of = "" if total is None else f"/{total}"
            sys.stderr.write(visible_line(f"{what}: {done}{of} {detail}") + "\n")
            sys.stderr.flush()


@contextmanager
def progress_line() -> Iterator[ProgressLine]:
    """Show progress on stderr for as long as the block runs."""
    if not stderr.is_terminal:
        yield ProgressLine(None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=stderr,
        transient=True,
    ) as bar:
        yield ProgressLine(bar)
