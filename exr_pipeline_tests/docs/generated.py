"""The generated parts of docs/settings.md and docs/cli.md: settings and commands as the code has them.

Belongs here: writing them down. `python -m exr_pipeline_tests.docs.generated` brings both documents up to date.
"""

import inspect
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


GENERATED: dict[Path, Callable[[], Iterator[str]]] = {
    REPOSITORY / "docs" / "settings.md": settings_lines,
    REPOSITORY / "docs" / "cli.md": cli_lines,
}


def updated(document: Path) -> str:
    """A document with its generated part made anew."""
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n".join([*GENERATED[document](), "", ""]) + END + after


if __name__ == "__main__":
    for path in GENERATED:
        path.write_text(updated(path), encoding="utf-8")
