"""Who may import whom: domain code knows no Dagster, and nothing heavy is loaded before it is used."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "exr_pipeline"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)
ORCHESTRATION = ("exr_pipeline.orchestration", "exr_pipeline.definitions")
DOMAIN = [module for module in MODULES if not module.startswith(ORCHESTRATION)]
HEAVY = {
    *("OpenEXR", "OpenImageIO", "PyOpenColorIO", "av", "cv2", "simplejpeg"),
    *("boto3", "duckdb", "obstore", "pandas", "pebble", "polars", "pyarrow", "vastdb"),
}

# Imports modules one after the other and prints each with those of the unwanted ones that it loaded first.
_WATCH = """
import importlib, sys
unwanted, modules = set(sys.argv[1].split(",")), sys.argv[2].split(",")
for module in modules:
    importlib.import_module(module)
    if loaded := unwanted & set(sys.modules):
        print(module, "loads", *sorted(loaded))
        unwanted -= loaded
"""


def loaded(unwanted: set[str], modules: list[str]) -> str:
    """Which unwanted modules get loaded when these are imported, in a fresh interpreter."""
    command = [sys.executable, "-c", _WATCH, ",".join(sorted(unwanted)), ",".join(modules)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=900).stdout


def test_there_are_modules_of_each_layer() -> None:
    assert len(DOMAIN) > 50
    assert "exr_pipeline.ingest.chunk" in DOMAIN
    assert "exr_pipeline.orchestration.steps.files" in MODULES


def test_domain_code_and_the_command_line_load_neither_dagster_nor_anything_heavy() -> None:
    assert loaded(HEAVY | {"dagster"}, DOMAIN) == ""


def test_loading_the_definitions_loads_nothing_heavy() -> None:
    assert loaded(HEAVY, ["exr_pipeline.definitions"]) == ""


def test_what_would_be_loaded_is_noticed() -> None:
    assert loaded({"boto3", "dagster"}, ["exr_pipeline.errors", "boto3"]) == "boto3 loads boto3\n"


def documented_order() -> list[str]:
    """The packages in the order of docs/architecture.md, from those that know nothing to those that know all."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("## Packages")[2].partition("## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [name.removesuffix(".py") for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def imported_packages(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[1] for name in names if name.startswith("exr_pipeline.")}


def test_packages_use_only_those_above_them_in_the_document() -> None:
    order = documented_order()
    assert sorted(order) == sorted(
        path.stem for path in PACKAGE.iterdir() if path.stem not in {"__init__", "__pycache__"}
    )
    for path in PACKAGE.rglob("*.py"):
        package = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if package != "__init__":
            allowed = order[: order.index(package) + 1]
            assert imported_packages(path) <= set(allowed), path.relative_to(PACKAGE)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_belongs_there(module: str) -> None:
    path = PACKAGE.parent / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
    assert docstring
    # A package's own docstring may be one line; a module in a package tells itself from its neighbours.
    if not path.is_dir() and module != "exr_pipeline.definitions":
        assert "\n\n" in docstring, "a second paragraph says what belongs there and what does not"
