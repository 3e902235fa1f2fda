"""Each package has a page for developers in docs/dev, and what the pages name exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from exr_pipeline.settings import Settings
from exr_pipeline.tables.specs import TABLES
from exr_pipeline_tests.docs.generated import REPOSITORY, setting_name

ROOMS = {path.parent.name for path in (REPOSITORY / "exr_pipeline").glob("*/__init__.py")}
PAGES = sorted((REPOSITORY / "docs/dev").glob("*.md"))


@cache
def known_names() -> frozenset[str]:
    """What the code and its tests give a name: functions, classes, constants, fixtures, modules, columns; and words."""
    names = {column.name for spec in TABLES.values() for column in spec.columns} | set(TABLES)
    names |= {setting_name(field) for field in Settings.model_fields}
    for path in [*(REPOSITORY / "exr_pipeline").rglob("*.py"), *(REPOSITORY / "exr_pipeline_tests").rglob("*.py")]:
        names |= {path.stem, path.parent.name}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and path.parts[-2] != "docs":
                names.add(node.value)
    return frozenset(names)


def unknown(text: str) -> list[str]:
    """What a page writes as code that is neither a path of the repository nor a name of the code."""
    found = []
    for code in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        if re.search(r"[\s=<*…]", code):
            continue  # A command, or a text that a user writes.
        if "/" in code or code.endswith((".py", ".toml", ".yaml")):
            if not (REPOSITORY / code).exists() and not list((REPOSITORY / "exr_pipeline").rglob(code)):
                found.append(code)
        elif re.fullmatch(r"\w+(\.\w+)*", code) and not set(code.split(".")) <= known_names():
            found.append(code)
    return found


def test_every_package_has_a_page() -> None:
    assert len(ROOMS) > 10
    assert {page.stem for page in PAGES} == ROOMS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short_and_says_where_to_begin_what_holds_and_what_tests_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.stem}\n")
    assert len(text.splitlines()) <= 60
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings[0] == "Read first"
    assert {"Flow", "Invariants", "Where to add"} <= set(headings)
    assert headings[-1].startswith("Tests")
    begin = text.split("## ")[1]
    assert 3 <= len(re.findall(r"^\d\. `exr_pipeline/[\w/.]+`: ", begin, re.MULTILINE)) <= 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"`exr_pipeline/", text)) > 3
    assert unknown(text) == []


def test_a_name_that_is_gone_is_noticed() -> None:
    gone = (
        "See `exr_pipeline/exr/gone.py`, `gone_function`, `Header.not_anywhere`, `parse_header` and `exr_pipeline/exr`."
    )
    assert unknown(gone) == ["exr_pipeline/exr/gone.py", "gone_function", "Header.not_anywhere"]
