"""Who may import whom: domain code knows no Dagster, and nothing heavy is loaded before it is used."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exr_pipeline_tests.layers import ALLOWED, DOCUMENT, EDGES, EVERYTHING, imports, packages, reachable, updated

PACKAGE = Path(__file__).parents[1] / "exr_pipeline"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    # The second is run by Alembic, and cannot be imported.
    if path.name not in {"__main__.py", "env.py"}
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


def test_each_package_imports_only_what_the_table_allows() -> None:
    assert {*ALLOWED, EVERYTHING} == packages()
    forbidden = {
        f"{package} imports {other}": files
        for (package, other), files in imports().items()
        if package != EVERYTHING and other not in ALLOWED[package]
    }
    assert forbidden == {}


def test_no_package_depends_on_itself_through_others_and_no_edge_on_another() -> None:
    for package, others in ALLOWED.items():
        assert package not in reachable(package, ALLOWED)
        assert EVERYTHING not in others
        if package in EDGES:
            assert not reachable(package, ALLOWED) & EDGES


def test_a_circle_of_imports_is_noticed() -> None:
    around = {"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"a"})}
    assert "a" in reachable("a", around)


def test_the_architecture_document_draws_the_table() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert updated(text) == text, "run python -m exr_pipeline_tests.layers"
    table = text.partition("## Packages")[2].partition("## ")[0]
    described = {
        name.removesuffix(".py")
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([^`]+)`", line.split("|")[1])
    }
    assert described == packages()


def test_what_dagster_keeps_private_is_used_in_one_folder() -> None:
    for path in PACKAGE.rglob("*.py"):
        private = re.findall(r"^\s*(?:from|import) (dagster\._[\w.]*)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not private or path.is_relative_to(PACKAGE / "orchestration/instance"), (path, private)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_belongs_there(module: str) -> None:
    path = PACKAGE.parent / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
    assert docstring
    # A package's own docstring may be one line; a module in a package tells itself from its neighbours.
    if not path.is_dir() and module != "exr_pipeline.definitions":
        assert "\n\n" in docstring, "a second paragraph says what belongs there and what does not"
