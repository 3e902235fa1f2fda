"""The generated part of docs/tables.md: tables, columns and views as the code has them.

Belongs here: writing them down. `python -m exr_pipeline_tests.tables.document` brings the document up to date.
"""

from pathlib import Path

from exr_pipeline.tables.specs import TABLES
from exr_pipeline.tables.views import VIEWS

DOCUMENT = Path(__file__).parents[2] / "docs" / "tables.md"
BEGIN = "<!-- tables: begin (python -m exr_pipeline_tests.tables.document) -->\n"
END = "<!-- tables: end -->\n"


def generated() -> str:
    lines = []
    for table, spec in TABLES.items():
        keys = ", ".join(f"`{key}`" for key in spec.row_key)
        lines += ["", f"### {table}", "", f"One row per {keys}.", "", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{column.name}` | {column.type} | {column.meaning} |" for column in spec.columns]
    lines += ["", "### Views", "", "| view | what it answers |", "|---|---|"]
    lines += [f"| `{view.usage}` | {view.meaning} |" for view in VIEWS]
    return "\n".join([*lines, "", ""])


def updated(text: str) -> str:
    """The document with its generated part made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + generated() + END + after


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
