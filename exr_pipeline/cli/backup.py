"""The command `backup`: a copy of tables and history, made while everything runs.

Belongs here: arguments, the order of copying, the summary. Not here: copying (`tables`,
`orchestration.maintenance.backup`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated

import typer

from exr_pipeline.cli.console import load_settings, progress_line, stdout, warn
from exr_pipeline.errors import BadInputError


def backup(
    folder: Annotated[Path, typer.Argument(help="Folder to create for the copy. It must not exist.")],
) -> None:
    """Copy the tables and Dagster's history to a new folder while ingest, daemon and Dagster's page keep running.

    The folder appears once the copy is complete. Media and sources are not copied: they are in object storage.
    docs/backup.md says how to restore, and how to back up VAST DataBase and PostgreSQL.
    """
    from exr_pipeline.orchestration.instance.home import dagster_home, open_instance
    from exr_pipeline.orchestration.maintenance.backup import copy_history

    settings = load_settings()
    folder = folder.absolute()
    if folder.exists():
        raise BadInputError(str(folder), "it already exists; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with progress_line() as progress:
            progress.update("copying tables", 0)
            # Before the history: files missing in the tables are ingested again, not those missing in the history.
            tables = _copy_tables(settings.database_path, staged) if settings.vast_db_bucket is None else None
            progress.update("copying history", 0)
            with open_instance() as instance:
                databases = copy_history(instance, staged / "dagster")
            shutil.copy(dagster_home() / "dagster.yaml", staged)
        staged.rename(folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    if tables is None:
        warn("the tables are in VAST DataBase and are not in this copy: see docs/backup.md")
    if not databases:
        warn("Dagster's history is not in SQLite and is not in this copy: see docs/backup.md")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    stdout.print(f"{folder}: {size / 1e6:.1f} MB", highlight=False, markup=False, soft_wrap=True)


def _copy_tables(database: Path, target: Path) -> Path:
    from exr_pipeline.tables.stores.duckdb import DuckDBStore

    copy = target / "tables.duckdb"
    DuckDBStore(database).copy_to(copy)
    return copy
