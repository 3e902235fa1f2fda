"""A copy of Dagster's history in SQLite while runs, daemon and page go on.

Belongs here: which files hold the history, and copying each as it is at one moment. Not here: the tables
(`DuckDBStore.copy_to`), PostgreSQL, which has `pg_dump`.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from exr_pipeline.errors import RetryableError
from exr_pipeline.orchestration.instance.event_storage import history_folder

if TYPE_CHECKING:
    import dagster as dg

# Pages to a step: writers get in between two of them (SQLite, sqlite3_backup_step).
_PAGES_PER_STEP = 4096


def copy_history(instance: dg.DagsterInstance, target: Path) -> int:
    """Copy the databases of the instance's history below `target`; how many there were, 0 if it is not in SQLite.

    Each copy is whole and of one moment (SQLite Online Backup API). Databases that come after the first look are left
    out: they are of runs that have just begun. Raises `RetryableError` if a database stays locked.
    """
    folder = history_folder(instance)
    if folder is None:
        return 0
    copied = 0
    for database in sorted(folder.rglob("*.db")):
        copy = target / database.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copied += _copy_database(database, copy)
    return copied


def _copy_database(database: Path, copy: Path) -> bool:
    """False if the database has gone meanwhile, as runs of old go by retention."""
    try:
        with (
            closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=60)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target, pages=_PAGES_PER_STEP)
    except sqlite3.OperationalError as error:
        copy.unlink(missing_ok=True)
        if not database.exists():
            return False
        raise RetryableError(f"{database}: cannot copy the database: {error}") from error
    return True
