"""What documents say of settings, commands, routes and the GraphQL schema, as the code has them.

Belongs here: writing it down. `python -m exr_pipeline_tests.docs.generated` brings the documents up to date.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from exr_pipeline.cli import app
from exr_pipeline.settings import Settings

REPOSITORY = Path(__file__).parents[2]
BEGIN = "<!-- generated: begin (python -m exr_pipeline_tests.docs.generated) -->\n"
END = "<!-- generated: end -->\n"

# Defaults that the machine decides.
COMPUTED_DEFAULTS = {"workers": "one per core"}


def setting_name(field: str) -> str:
    """The environment variable of a setting."""
    return str(Settings.model_fields[field].validation_alias or f"EXR_PIPELINE_{field.upper()}")


def settings_lines() -> Iterator[str]:
    yield from ("", "| setting | default | meaning |", "|---|---|---|")
    for field, info in Settings.model_fields.items():
        default = "" if info.default is PydanticUndefined else info.default
        assert not isinstance(default, SecretStr)
        default = ",".join(default) if isinstance(default, tuple) else default
        shown = COMPUTED_DEFAULTS.get(field) or (f"`{default}`" if default not in (None, (), "") else "")
        yield f"| `{setting_name(field)}` | {shown} | {info.description} |"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by the words that call it, each followed by the commands below it."""
    for name, command in typer.main.get_group(app).commands.items():
        yield name, command
        yield from ((f"{name} {below}", each) for below, each in getattr(command, "commands", {}).items())


def cli_lines() -> Iterator[str]:
    for name, command in commands():
        parameters = [parameter for parameter in command.params if parameter.name != "help"]
        usage = " ".join(
            ["exr-pipeline", name, *(f"[{_shown(p)}]" if not p.required else _shown(p) for p in parameters)]
        )
        yield from ("", f"### {name}", "", f"    {usage}", "")
        yield from inspect.cleandoc(command.help or "").splitlines()
        if parameters:
            yield from ("", "| parameter | meaning |", "|---|---|")
        for parameter in parameters:
            default = f" Default: `{parameter.default}`." if parameter.default not in (None, False, "") else ""
            escaped = _shown(parameter).replace("|", "\\|")
            yield f"| `{escaped}` | {getattr(parameter, 'help', None)}{default} |"


def _shown(parameter: Any) -> str:
    """An argument or option as one writes it."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return str(parameter.opts[0]) + ("" if parameter.is_flag else f" {parameter.name.upper()}")


def openapi_document() -> str:
    """The description of REST, as `/openapi.json` has it."""
    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.service.app import build_app
    from exr_pipeline.storage.objects import ObjectStorage

    # Neither is asked for anything.
    described = build_app(CatalogDatabase("sqlite://"), ObjectStorage(Settings(_env_file=None)))
    return json.dumps(described.openapi(), indent=1, ensure_ascii=False) + "\n"


def graphql_schema() -> str:
    """The schema of `/graphql` in its own language."""
    from exr_pipeline.service.graphql.schema import SCHEMA

    return SCHEMA.as_str() + "\n"


# Documents of which a part is generated, and those that are generated as a whole.
GENERATED: dict[Path, Callable[[], Iterator[str]]] = {
    REPOSITORY / "docs" / "settings.md": settings_lines,
    REPOSITORY / "docs" / "cli.md": cli_lines,
}
WHOLE: dict[Path, Callable[[], str]] = {
    REPOSITORY / "docs" / "openapi.json": openapi_document,
    REPOSITORY / "docs" / "schema.graphql": graphql_schema,
}


def updated(document: Path) -> str:
    """A document with what is generated of it made again."""
    if document in WHOLE:
        return WHOLE[document]()
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n".join([*GENERATED[document](), "", ""]) + END + after


if __name__ == "__main__":
    for path in (*GENERATED, *WHOLE):
        path.write_text(updated(path), encoding="utf-8")
