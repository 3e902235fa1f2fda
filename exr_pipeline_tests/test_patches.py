"""Pauses, sizes and counts are arguments: tests do not patch the constants of the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# What is left of them, as (file, constant). It only gets shorter.
REMAINING = {
    ("orchestration/instance/test_key_migration.py", "SECONDS_PER_TICK"),
    ("orchestration/sensors/conftest.py", "HOT_FOLDERS"),
    ("orchestration/conftest.py", "POLICY"),
    ("orchestration/test_overlap.py", "GROUP_WITH_PICTURES"),
    ("orchestration/test_runs.py", "POLICY"),
}


def patched_constants(tree: ast.AST) -> Iterator[str]:
    """The names in capitals that `setattr`, alone or of `monkeypatch`, or an assignment gives another value."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="setattr"),
                args=[ast.Constant(value=str(target)), _] | [_, ast.Constant(value=str(target)), _],
            ):
                name = target.rpartition(".")[2]
                if name.isupper():
                    yield name
            case ast.Call(func=ast.Name(id="setattr"), args=[_, ast.Constant(value=str(name)), _]) if name.isupper():
                yield name
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id=owner), attr=name)]) if (
                name.isupper() and owner != "self"
            ):
                yield name


def test_no_test_patches_a_constant() -> None:
    found = {
        (str(path.relative_to(TESTS)), name)
        for path in sorted(TESTS.rglob("*.py"))
        for name in patched_constants(ast.parse(path.read_text("utf-8")))
    }
    assert found - REMAINING == set(), "make it an argument, with the constant as its default"
    assert REMAINING - found == set(), "take it off the list"


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ('monkeypatch.setattr("exr_pipeline.ingest.chunk.ATTEMPTS", 1)', ["ATTEMPTS"]),
        ('monkeypatch.setattr(chunk, "_PAUSE", 0)', ["_PAUSE"]),
        ('with monkeypatch.context() as patch:\n    patch.setattr(chunk, "PAUSE", 0)', ["PAUSE"]),
        ('setattr(chunk, "PAUSE", 0)', ["PAUSE"]),
        ("chunk.PAUSE = 0", ["PAUSE"]),
        ('monkeypatch.setattr(os, "link", link)', []),
        ('monkeypatch.setattr("exr_pipeline.workers.pool.WorkerPool", InlinePool)', []),
    ],
)
def test_a_patched_constant_is_noticed(code: str, names: list[str]) -> None:
    assert list(patched_constants(ast.parse(code))) == names
