"""The page of retries is true: every module that waits or tries again is on it, with the figures of the code."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exr_pipeline.retries import POLICY
from exr_pipeline.settings import Settings
from exr_pipeline_tests.docs.generated import REPOSITORY, setting_name

PAGE = (REPOSITORY / "docs" / "retries.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| what |")]
PACKAGE = REPOSITORY / "exr_pipeline"

# Names of constants that say how often something is tried, or how long something is waited for.
_POLICY_NAMES = re.compile(r"_?([A-Z]+_)*(RETRIES|RETRY|ATTEMPTS|TRIES|PAUSE|PATIENCE|WAIT|STALL)(_[A-Z]+)*")
_WAITING_CALLS = {"sleep", "RetryRequested", "RetryConfig", "RetryPolicy"}


def waits_or_retries(path: Path) -> bool:
    """Whether a module pauses, asks for another try, or has a constant about that."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in _WAITING_CALLS:
                return True
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and _POLICY_NAMES.fullmatch(target.id) for target in targets):
            return True
    return False


def named_constants() -> Iterator[tuple[str, str, str]]:
    """Each row with a module and the name of a constant in it: `retries.py` (`attempts`, `pauses`)."""
    for row in ROWS:
        for module, names in re.findall(r"`([\w/]+\.py)` \(((?:`\w+`(?:, )?)+)\)", row):
            for name in re.findall(r"`(\w+)`", names):
                yield row, module, name


def figures(row: str) -> set[float]:
    """The numbers of a row, without those within code."""
    return {float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", re.sub(r"`[^`]*`", "", row))}


def value_of(module: str, name: str) -> Any:
    """What the code has by that name, or what the policy has."""
    if module == "retries.py":
        return getattr(POLICY, name)
    return getattr(importlib.import_module(f"exr_pipeline.{module[:-3].replace('/', '.')}"), name)


def test_every_module_that_waits_or_tries_again_is_on_the_page() -> None:
    modules = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py")) if waits_or_retries(path)]

    assert len(modules) > 10
    assert [module for module in modules if f"`{module}`" not in PAGE] == []


def test_every_figure_of_the_policy_is_on_the_page() -> None:
    named = {name for _, module, name in named_constants() if module == "retries.py"}
    follows = {"first_pause_seconds", "pause_factor"}

    assert named >= set(type(POLICY).__slots__) - follows | {"pauses"}


@pytest.mark.parametrize(("row", "module", "name"), list(named_constants()), ids=lambda text: text[:40])
def test_a_row_has_the_figures_of_the_constants_that_it_names(row: str, module: str, name: str) -> None:
    value = value_of(module, name)

    assert {float(each) for each in (value if isinstance(value, tuple) else (value,))} <= figures(row)


def test_rows_have_the_defaults_of_the_settings_that_change_them() -> None:
    defaults = {setting_name(field): info.default for field, info in Settings.model_fields.items()}
    checked = 0
    for row in ROWS:
        for name in re.findall(r"\| (?:the same, and )?`(EXR_PIPELINE_\w+)` \|", row):
            assert float(defaults[name]) in figures(row), row
            checked += 1
    assert checked > 8


def test_rows_have_the_figures_of_dagster_yaml() -> None:
    config = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text(encoding="utf-8"))
    for block, key in (
        ("run_retries", "max_retries"),
        ("run_monitoring", "poll_interval_seconds"),
        ("run_monitoring", "start_timeout_seconds"),
    ):
        (row,) = [row for row in ROWS if f"`{block}.{key}`" in row]
        assert float(config[block][key]) in figures(row)
