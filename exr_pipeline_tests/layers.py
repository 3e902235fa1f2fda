"""Which package may import which: the table that the test of layering reads and docs/architecture.md draws.

Belongs here: the table, its drawing, and what the code really imports. `python -m exr_pipeline_tests.layers` writes the
drawing into the document.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "exr_pipeline"
DOCUMENT: Final = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawing: python -m exr_pipeline_tests.layers -->\n", "<!-- end of drawing -->"

_BASE: Final = {"errors", "formats", "untrusted_text"}
_NAMES: Final = _BASE | {"settings", "storage"}

# Not an order from bottom to top: what two packages need not know of each other is an edge that is not here.
ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    package: frozenset(allowed)
    for package, allowed in {
        "untrusted_text": set(),
        "errors": {"untrusted_text"},
        "addresses": {"errors"},
        "extras": {"errors", "untrusted_text"},
        "retries": {"errors"},
        "formats": set(),
        "settings": {"formats"},
        "exr": {"errors", "untrusted_text"},
        "frame_rates": {"exr"},
        "dpx": {"exr", "frame_rates"},
        "cineon": {"dpx", "exr", "frame_rates"},
        "storage": _BASE | {"settings"},
        "tables": _NAMES | {"extras"},
        "telemetry": _NAMES | {"extras", "tables"},
        "inspection": _BASE | {"cineon", "dpx", "exr", "frame_rates", "storage", "tables"},
        "sequences": _NAMES | {"inspection"},
        "color": _BASE | {"exr", "inspection"},
        "workers": _BASE | {"extras", "storage"},
        "pictures": _BASE | {"cineon", "color", "dpx", "exr", "frame_rates", "inspection", "settings", "workers"},
        "sequence_movies": _NAMES | {"color", "frame_rates", "pictures", "sequences", "workers"},
        "footage": _BASE
        | {"color", "exr", "frame_rates", "inspection", "pictures", "sequence_movies", "storage", "tables"},
        "pipeline": _NAMES | {"retries", "tables"},
        "products": _BASE
        | {
            "exr",
            "footage",
            "inspection",
            "pictures",
            "sequence_movies",
            "sequences",
            "settings",
            "storage",
            "tables",
            "workers",
        },
        "ingest": _NAMES
        | {"color", "exr", "footage", "inspection", "pictures", "products", "retries", "sequence_movies", "sequences"}
        | {"events", "tables", "telemetry", "workers"},
        "events": _NAMES | {"addresses", "extras", "inspection", "products", "retries", "tables", "telemetry"},
        "orchestration": _NAMES
        | {
            "addresses",
            "events",
            "extras",
            "ingest",
            "inspection",
            "pictures",
            "pipeline",
            "products",
            "retries",
            "sequence_movies",
            "sequences",
            "tables",
            "telemetry",
        },
        "functions": _NAMES
        | {"events", "extras", "ingest", "inspection", "pictures", "pipeline", "products", "retries", "tables"}
        | {"telemetry"},
        "catalog": _NAMES | {"sequences", "tables"},
        "service": {"addresses", "catalog", "errors", "settings", "storage", "untrusted_text"},
        "client": {"errors"},
        "definitions": {"orchestration", "settings", "telemetry"},
        "sample": {"exr"},
    }.items()
}
# Ways in: none imports another. The command line may import all, and starts each.
EDGES: Final = {"functions", "orchestration", "service"}
EVERYTHING: Final = "cli"


def packages() -> set[str]:
    """What is in `exr_pipeline`, packages and modules."""
    found = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    return found - {"__init__", "__pycache__"}


def imports() -> dict[tuple[str, str], list[str]]:
    """Who imports whom, for types too, and where."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        package = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                if module.startswith("exr_pipeline.") and (other := module.split(".")[1]) != package:
                    found.setdefault((package, other), []).append(str(path.relative_to(ROOT)))
    return found


def reachable(package: str, edges: Mapping[str, frozenset[str]]) -> set[str]:
    """All that a package depends on, directly or not."""
    found: set[str] = set()
    waiting = [package]
    while waiting:
        new = edges.get(waiting.pop(), frozenset()) - found
        found |= new
        waiting += new
    return found


def drawing() -> str:
    """The table as a Mermaid flowchart, without the edges that follow from others."""
    lines = ["```mermaid", "flowchart BT"]
    for package in sorted(ALLOWED):
        others = ALLOWED[package]
        implied = {far for near in others for far in reachable(near, ALLOWED)}
        lines += [f"  {package} --> {other}" for other in sorted(others - implied)]
    lines += [f"  {EVERYTHING} --> {package}" for package in ("client", "definitions", "sample")]
    return "\n".join([*lines, "```", ""])


def updated(text: str) -> str:
    """The document with today's drawing."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{drawing()}{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
