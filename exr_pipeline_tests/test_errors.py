"""Errors name what a user can look up: the first argument of every `MisconfiguredError` in the code."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import typer

from exr_pipeline.cli import app
from exr_pipeline.orchestration.jobs import Selection
from exr_pipeline.orchestration.maintenance.archive import Archive
from exr_pipeline.settings import Settings
from exr_pipeline_tests.docs.generated import REPOSITORY, setting_name

SOURCES = {path: ast.parse(path.read_text("utf-8")) for path in sorted((REPOSITORY / "exr_pipeline").rglob("*.py"))}

# What is said about names that are no literals: where they come from.
COMPUTED = {
    # parameters and attributes, which get literals or names of `Settings` where they are passed
    "setting",
    "self._setting",
    # `unknown_variables`
    "', '.join(unknown)",
    # the attributes of a Dagster component, as its author wrote them
    "name",
    "Settings.variable(name)",
    "str(first['loc'][0])",
    # names of `_CREDENTIALS`, of VAST's settings, and of the key that is missing
    "missing",
    "f'VAST_DB_{name}'",
    # two options of `url` that exclude each other, and the fields of a resource of dagster-aws
    "f'--{named[0]}'",
    "f'S3Resource.{field}'",
}


def names_that_can_be_looked_up() -> set[str]:
    documented = re.findall(r"`([A-Z][A-Z0-9_]+)`", (REPOSITORY / "docs/settings.md").read_text("utf-8"))
    options = {
        name
        for command in typer.main.get_group(app).commands.values()
        for each in command.params
        for name in (*each.opts, *each.secondary_opts, *(each.metavar or each.name.upper()).rstrip(".").split("|"))
        if name.startswith("-") or name.isupper()
    }
    fields = Selection.model_fields.keys() | Archive.model_fields.keys()
    return {setting_name(field) for field in Settings.model_fields} | {"PATH", *documented, *options, *fields}


def constants(tree: ast.Module, modules: Mapping[str, ast.Module]) -> dict[str, str]:
    """The texts that a module has names for, its own ones and imported ones."""
    found: dict[str, str] = {}
    for node in tree.body:
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module in modules:
                others = constants(modules[module], {})
                found |= {each.asname or each.name: others[each.name] for each in names if each.name in others}
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(text))):
                found[name] = text
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                found[name] = text
    return found


def texts(node: ast.AST, known: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """The values that an expression may have, each with whether it is written down there."""
    match node:
        case ast.Constant(value=str(text)):
            yield text, True
        case ast.Constant(value=None):
            return
        case ast.Name(id=name) if name in known:
            yield known[name], True
        case ast.BoolOp(values=values):
            for value in values:
                yield from texts(value, known)
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts(body, known)
            yield from texts(orelse, known)
        case _:
            yield ast.unparse(node), False


def settings_named(tree: ast.Module, known: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """What `MisconfiguredError` gets as its first argument, and what else is a `setting` on its way there."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="MisconfiguredError"), args=[first, *_]):
                yield from texts(first, known)
            case ast.Call(func=ast.Name(id="MisconfiguredError")):
                yield "a call without arguments", True
            case ast.keyword(arg="setting", value=value):
                yield from texts(value, known)
            case ast.Assign(targets=[ast.Name(id="setting" | "missing")], value=value):
                yield from ((text, literal) for text, literal in texts(value, known) if literal)
            case ast.arguments():
                defaults = dict(zip([each.arg for each in node.kwonlyargs], node.kw_defaults, strict=True))
                if default := defaults.get("setting"):
                    yield from texts(default, known)


def wrong_names(sources: Mapping[Path, ast.Module]) -> list[str]:
    modules = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts): tree for path, tree in SOURCES.items()}
    right = names_that_can_be_looked_up()
    return [
        f"{path}: {text}"
        for path, tree in sources.items()
        for text, literal in settings_named(tree, constants(tree, modules))
        if text not in (right if literal else COMPUTED)
    ]


def test_a_wrong_setting_is_named_as_a_user_finds_it_in_the_documents() -> None:
    assert wrong_names(SOURCES) == []


@pytest.mark.parametrize(
    "code",
    [
        'raise MisconfiguredError("frame rate", "it is wrong", "mend it")',
        'raise MisconfiguredError(f"preset {name}", "it is wrong", "mend it")',
        'WHAT = "preset"\nraise MisconfiguredError(WHAT, "it is wrong", "mend it")',
        'raise MisconfiguredError(setting or "view", "it is wrong", "mend it")',
        'find_preset(name, presets, setting="preset")',
        'def find_preset(name, *, setting="preset"): ...',
        'setting = "URL" if urls else "sources"',
    ],
)
def test_a_name_that_nobody_can_look_up_is_noticed(code: str) -> None:
    assert len(wrong_names({Path("code.py"): ast.parse(code)})) == 1
