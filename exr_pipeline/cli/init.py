"""The `init` command: sets up a folder to run the pipeline in.

Belongs here: what it writes and prints. Not here: Dagster's own files (`orchestration.instance.home`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from exr_pipeline.cli.console import stdout, warn
from exr_pipeline.errors import MisconfiguredError

# The settings that a new .env file lists; `exr-pipeline settings` shows the others.
_OFFERED: Final = ("sources", "output_root", "s3_endpoint", "s3_access_key", "s3_secret_key", "s3_region")
_HEADER: Final = """\
# Settings of the exr-pipeline commands that run in this folder. Environment variables override them.
# To set one, remove the # before its name. To list all settings and their values: exr-pipeline settings
"""


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to set up. It is created if it does not exist.")] = Path(),
) -> None:
    """Set up a folder to run the pipeline in, with Dagster's configuration and a file for your settings.

    Writes dagster.yaml, workspace.yaml and .env. Existing files are kept. The files hold the defaults, for you to
    change. All commands also work without them.
    """
    from exr_pipeline.orchestration.instance.home import HOME_FILES, write_home

    names = (*HOME_FILES, ".env")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [*write_home(folder), *_write_env(folder)]
    except OSError as error:
        problem = f"cannot set up {folder}: {error.strerror}"
        raise MisconfiguredError("FOLDER", problem, "name a writable folder") from error
    if written:
        stdout.print(f"Wrote {', '.join(written)} in {escape(str(folder.resolve()))}", soft_wrap=True)
    if kept := [name for name in names if name not in written]:
        stdout.print(f"Kept {', '.join(kept)}: already exists")
    home = os.environ.get("DAGSTER_HOME")
    if home and Path(home).resolve() != folder.resolve():
        warn(f"DAGSTER_HOME is {home}: commands use the dagster.yaml in that folder, not the one here")
    enter = "" if folder.resolve() == Path.cwd() else f"  cd {escape(str(folder))}\n"
    stdout.print(
        f"Next:\n{enter}"
        "  edit .env                       set where your renders are, and the keys to them\n"
        "  exr-pipeline doctor             check the settings\n"
        "  exr-pipeline ingest SOURCE      ingest a folder, or a URL such as s3://renders/show/\n"
        "  exr-pipeline ui                 start Dagster's page and the sensor",
        soft_wrap=True,
    )


def _write_env(folder: Path) -> list[str]:
    from exr_pipeline.settings import Settings

    lines = [f"\n# {Settings.model_fields[field].description}\n#{Settings.variable(field)}=\n" for field in _OFFERED]
    try:
        # It holds keys, so nobody else may read it.
        handle = os.open(folder / ".env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return []
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(_HEADER + "".join(lines))
    return [".env"]
