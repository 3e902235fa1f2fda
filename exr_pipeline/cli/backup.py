"""The command `backup`: a copy of tables and history while everything runs.

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
    folder: Annotated[Path, typer.Argument(help="A new folder for the copy.")],
) -> None:
    """Copy the tables and Dagster's history into a new folder, while ingest, daemon and page go on.

    The folder appears when all of it is there. Media and sources are not copied: they lie in object storage. How to
    restore, and what to do with VAST DataBase and PostgreSQL: docs/backup.md.
    """
    from exr_pipeline.orchestration.instance.home import dagster_home, open_instance
    from exr_pipeline.orchestration.maintenance.backup import copy_history

    settings = load_settings()
    folder = folder.absolute()
    if folder.exists():
        raise BadInputError(str(folder), "it is there already; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with progress_line() as progress:
            progress.update("copying tables", 0)
            # Before the history: what the history has and the tables lack is ingested again, not the other way round.
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
        warn("the tables are in VAST DataBase: they are not in this copy (docs/backup.md)")
    if not databases:
        warn("Dagster's history is not in SQLite: it is not in this copy (docs/backup.md)")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    stdout.print(f"{folder}: {size / 1e6:.1f} MB", highlight=False, markup=False, soft_wrap=True)


def _copy_tables(database: Path, target: Path) -> Path:
    from exr_pipeline.tables.stores.duckdb import DuckDBStore

    copy = target / "tables.duckdb"
    DuckDBStore(database).copy_to(copy)
    return copy
