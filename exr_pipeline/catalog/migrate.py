"""Bringing a catalog's database up to what this version expects, by Alembic's revisions in `migrations`.

Belongs here: when that is done, by whom, and what is refused. Not here: what a revision changes. Revisions only add
(expand) what the version before does without, so that two versions run side by side; what nobody needs any more goes
(contract) one release later.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from exr_pipeline.catalog.database import SETTING
from exr_pipeline.errors import MisconfiguredError

if TYPE_CHECKING:
    from exr_pipeline.catalog.database import CatalogDatabase

# "exr catlg" in ASCII, shortened to 63 bits: a number that nobody else uses.
_LOCK: Final = int.from_bytes(b"exrcatlg", "big") >> 1


def migrate(database: CatalogDatabase) -> list[str]:
    """Apply the revisions that are missing, and return their identifiers. Nodes that do it at once wait for the first.

    Raises `MisconfiguredError` for a database that a later version has changed in a way that this one cannot know.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    known = [script.revision for script in reversed(list(scripts.walk_revisions()))]
    with database.engine.connect() as connection, connection.begin():
        # SQLite's transactions exclude each other from their beginning.
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise MisconfiguredError(
                SETTING, f"a later version made this catalog (revision {current})", "start that version, or a later one"
            )
        missing = known[known.index(current) + 1 :] if current is not None else known
        if missing:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return missing
