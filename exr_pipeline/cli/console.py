"""Terminal output that the commands share: errors as one line, tables, progress.

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
from exr_pipeline.telemetry.logs import set_up_logs
from exr_pipeline.untrusted_text import visible, visible_line

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType
    from rich.progress import Progress

    from exr_pipeline.settings import Settings


class _VisibleConsole(Console):
    """A console that escapes control characters, so that no text of a file or name can command the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


# Without a terminal there is no width to cut lines to.
# Values are shown as they are: numbers and paths are not colored, `:names:` do not become emoji.
stdout = _VisibleConsole(width=None if sys.stdout.isatty() else 1000, highlight=False, emoji=False)
stderr = _VisibleConsole(stderr=True, highlight=False, emoji=False)

SECONDS_BETWEEN_LINES: Final = 3.0
# Wider than any table.
_UNBOUNDED: Final = 1_000_000
# The exit status after Ctrl-C, as typer sets it.
INTERRUPTED: Final = 130


def fail(message: str, *, status: int = 1) -> NoReturn:
    """Print one line on stderr and end with a status."""
    report_error(message)
    sys.exit(status)


def report_error(message: str) -> None:
    """Print an error as one line on stderr."""
    _write_line("Error", message)


def warn(message: str) -> None:
    """Print a warning about work that was done all the same, as one line on stderr."""
    _write_line("Warning", message)


def _write_line(label: str, message: str) -> None:
    sys.stderr.write(f"{label}: {visible_line(message)}\n")


def load_settings(*, warn_of_unknown: bool = True) -> Settings:
    """The settings of the environment. Warns of each variable that is named like a setting but is not one.

    Raises `MisconfiguredError` that names the first wrong setting.
    """
    from pydantic import ValidationError

    from exr_pipeline.settings import Settings, describe_unknown_variables, first_fault

    if warn_of_unknown:
        for text in describe_unknown_variables():
            warn(text)
    try:
        settings = Settings()
    except ValidationError as error:
        setting, problem = first_fault(error)
        raise MisconfiguredError(setting, problem, "see docs/settings.md") from None
    set_up_logs(settings)
    return settings


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> Table:
    """A table for the terminal."""
    result = Table(*columns, title=title, title_justify="left")
    for row in rows:
        # Before the columns are measured, so that they stay aligned.
        result.add_row(*("" if cell is None else visible(str(cell)) for cell in row))
    return result


def show(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of texts with markup. If the terminal is too narrow, print each row as lines `column: value`."""
    content = table(columns, rows)
    if Measurement.get(stdout, stdout.options.update(max_width=_UNBOUNDED), content).maximum <= stdout.width:
        stdout.print(content)
        return
    for number, row in enumerate(rows):
        if number:
            stdout.print()
        for column, cell in zip(columns, row, strict=True):
            stdout.print(f"{escape(column)}: {cell}", soft_wrap=True)


class ProgressLine:
    """The progress of long work: a bar on a terminal, a line every few seconds elsewhere (a log, a CI job)."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, detail="") if bar else None
        self._printed_at = time.monotonic()

    def update(self, what: str, done: int, total: int | None = None, detail: str = "") -> None:
        """Show what is being done and how much of it is done. `total` is None if it is not known yet."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what, completed=done, total=total, detail=escape(detail))
        elif done == total or time.monotonic() - self._printed_at >= SECONDS_BETWEEN_LINES:
            self._printed_at = time.monotonic()
            of = "" if total is None else f"/{total}"
            sys.stderr.write(visible_line(f"{what}: {done}{of} {detail}") + "\n")
            sys.stderr.flush()


@contextmanager
def progress_line() -> Iterator[ProgressLine]:
    """Show progress on stderr while the block runs."""
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
