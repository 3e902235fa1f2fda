"""The commands in the groups that `--help` shows. A command's module is imported when the command is used.

Belongs here: names, groups, and where a command's function is. Not here: what a command does (the other modules).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from types import ModuleType

    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter

# Group, command, module. The function, or typer's application of commands below a command, has the name of its command,
# with underscores. A module may have a COMMAND_CLASS.
GROUPS: Final[dict[str, dict[str, str]]] = {
    "Start here": {
        "init": "init",
        "doctor": "doctor",
        "settings": "settings",
        "ui": "ui",
        "demo": "demo",
        "sample": "demo",
    },
    "Single files, without tables or Dagster": {
        "inspect": "files",
        "probe": "probe",
        "thumbnail": "files",
        "proxy": "files",
    },
    "Sequences of frames, without tables or Dagster": {
        "movie": "sequences",
        "contact-sheet": "sequences",
        "filmstrip": "sequences",
    },
    "Ingest through Dagster": {"ingest": "ingest", "retry": "ingest", "sequences": "ingest"},
    "Query the tables": {
        "status": "tables",
        "sql": "sql",
        "tables": "tables",
        "schema": "tables",
        "similar": "similar",
        "metrics": "metrics",
    },
    "Hand out": {"url": "url"},
    "Serve the catalog": {"serve": "serve", "catalog": "catalog"},
    "Use a catalog": {"assets": "assets"},
    "Back up": {"backup": "backup"},
    "Clean up": {"reconcile": "reconcile", "archive": "archive", "unarchive": "archive"},
}
_PLACES: Final = {name: module for names in GROUPS.values() for name, module in names.items()}


def _command(function: Callable[..., None], module: ModuleType) -> Command:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(function.__name__.replace("_", "-"), cls=getattr(module, "COMMAND_CLASS", None))(function)
    return get_command(app)


def _group(app: typer.Typer, name: str) -> Command:
    group = get_command(app)
    group.name = name
    return group


class _Commands(Mapping[str, "Command"]):
    """Commands by name. Each is created when it is first used."""

    def __init__(self) -> None:
        self._created: dict[str, Command] = {}

    def __getitem__(self, name: str) -> Command:
        if name not in self._created:
            module = import_module(f"exr_pipeline.cli.{_PLACES[name]}")
            found = getattr(module, name.replace("-", "_"))
            self._created[name] = _group(found, name) if isinstance(found, typer.Typer) else _command(found, module)
        return self._created[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


class CommandGroup(TyperGroup):
    """The application's commands. Starting one does not import the others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"commands": _Commands()})

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the commands in their groups, aligned with one another."""
        width = max(map(len, _PLACES))
        for group, names in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl(
                    [(name.ljust(width), self.commands[name].get_short_help_str(limit=1000)) for name in names]
                )
