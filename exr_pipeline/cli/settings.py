"""The `settings` command: which settings are in force, and where each comes from.

Belongs here: how they are shown. Not here: the settings (`exr_pipeline.settings`), or whether they work (`doctor`).
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
    changed: Annotated[bool, typer.Option("--changed", help="Only those that do not have their default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of objects.")] = False,
) -> None:
    """Show which settings are in force, and where each comes from: the environment, .env or the default.

    Keys and passwords are not shown. docs/settings.md says what each setting means.
    """
    from exr_pipeline.settings import Settings, origins

    values = _public(load_settings())
    rows = [
        (Settings.variable(field), values[field], origin)
        for field, origin in origins().items()
        if not changed or origin != "default"
    ]
    if as_json:
        found = [{"setting": name, "value": value, "from": origin} for name, value, origin in rows]
        json.dump(found, sys.stdout, indent=1)
        sys.stdout.write("\n")
    elif rows:
        show(("setting", "value", "from"), [(name, escape(_text(value)), origin) for name, value, origin in rows])
    else:
        stdout.print("Every setting has its default.")


def _public(settings: Settings) -> dict[str, Any]:
    """The values by field as JSON has them, without secrets."""
    from pydantic import SecretStr

    values = settings.model_dump(mode="json") | {"database": str(settings.database_path)}
    secret = {field for field in values if isinstance(getattr(settings, field), SecretStr)}
    return {field: _HIDDEN if field in secret else _without_credentials(value) for field, value in values.items()}


def _without_credentials(value: Any) -> Any:
    if isinstance(value, str):
        return _CREDENTIALS.sub(f"{_HIDDEN}@", value)
    return [_without_credentials(item) for item in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    """A value as one would write it into the environment."""
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, dict):
        return ",".join(f"{name}={number}" for name, number in value.items())
    return "" if value is None else str(value)
