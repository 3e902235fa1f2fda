"""The `settings` command: the value of every setting, and where it comes from.

Belongs here: how settings are shown. Not here: the settings (`exr_pipeline.settings`), or whether they work (`doctor`).
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, show, stdout

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings

# User and password in a URL.
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s]*@")
_HIDDEN: Final = "(hidden)"


def settings(
    *,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only settings that are set in the environment or in .env.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of objects.")] = False,
) -> None:
    """Show the value of every setting, and where it comes from: the environment, .env or the default.

    Keys and passwords are hidden. docs/settings.md explains each setting.
    """
    from exr_pipeline.settings import Settings, origins

    values = _public(load_settings())
    rows = [
        (Settings.variable(field), values[field], origin)
        for field, origin in origins().items()
        if not changed or origin != "default"
    ]
    if as_json:
        facts = [{"setting": name, "value": value, "from": origin} for name, value, origin in rows]
        json.dump(facts, sys.stdout, indent=1)
        sys.stdout.write("\n")
    elif rows:
        show(("setting", "value", "from"), [(name, escape(_text(value)), origin) for name, value, origin in rows])
    else:
        stdout.print("All settings have their defaults.")


def _public(settings: Settings) -> dict[str, Any]:
    """The values by field, as in JSON, without secrets."""
    from pydantic import SecretStr

    values = settings.model_dump(mode="json") | {"database": str(settings.database_path)}
    secret = {field for field in values if isinstance(getattr(settings, field), SecretStr)}
    return {field: _HIDDEN if field in secret else _without_credentials(value) for field, value in values.items()}


def _without_credentials(value: Any) -> Any:
    if isinstance(value, str):
        return _CREDENTIALS.sub(f"{_HIDDEN}@", value)
    return [_without_credentials(item) for item in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    """A value as it is written in the environment."""
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, dict):
        return ",".join(f"{name}={number}" for name, number in value.items())
    return "" if value is None else str(value)
