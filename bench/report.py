"""What a benchmark hands back, and how it is printed: Markdown, ratios first.

Belongs here: tables and numbers as text. Not here: measuring.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Cell = str | float | int | None


@dataclass
class Table:
    """Columns, with units in their names, and rows; None is printed as a dash."""

    columns: Sequence[str]
    rows: list[list[Cell]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """One more row."""
        self.rows.append(list(cells))

    def markdown(self) -> Iterator[str]:
        """Lines."""
        yield f"| {' | '.join(self.columns)} |"
        yield f"|---|{'---:|' * (len(self.columns) - 1)}"
        for row in self.rows:
            yield f"| {' | '.join(map(text_of, row))} |"


@dataclass
class Report:
    """One benchmark's results: what was compared on what, how many times faster or larger, then absolute figures."""

    name: str
    what: str
    ratios: Table
    figures: Table
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The report as a section."""
        lines = [f"## {self.name}", "", self.what, "", *self.ratios.markdown(), "", *self.figures.markdown()]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])


def text_of(cell: Cell) -> str:
    """A cell with about three digits that mean something."""
    if cell is None:
        return "–"
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
