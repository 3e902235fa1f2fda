"""The commands below `catalog`: its database up to date, made again from the tables, and a token to ask it.

Belongs here: arguments and output. Not here: the service (`serve`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, progress_line, stdout
from exr_pipeline.extras import require

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings

catalog = typer.Typer(add_completion=False, rich_markup_mode=None, help="Look after the catalog's database.")


@catalog.command()
def migrate() -> None:
    """Bring the tables of the catalog up to date. `serve` does it too, at its start."""
    require("service")
    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.catalog.migrate import migrate as migrate_database

    done = migrate_database(CatalogDatabase.from_settings(load_settings()))
    stdout.print(f"Revisions applied: {', '.join(done)}" if done else "The catalog is up to date")


@catalog.command()
def update(
    *,
    again: Annotated[
        bool, typer.Option("--again", help="Look at all rows of the tables, not only at those changed since.")
    ] = False,
) -> None:
    """Bring the catalog up to what the tables say. `serve` does it every few seconds."""
    require("service")
    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.catalog.migrate import migrate as migrate_database
    from exr_pipeline.catalog.projection import project_tables
    from exr_pipeline.pipeline import Pipeline

    settings = load_settings()
    database = CatalogDatabase.from_settings(settings)
    migrate_database(database)
    with progress_line() as line:
        changed = project_tables(
            database,
            Pipeline(settings).tables,
            settings,
            again=again,
            report_progress=lambda count: line.update("rows of the tables", count),
        )
    stdout.print(f"{changed} assets made or changed")


@catalog.command()
def token() -> None:
    """Print a new token of the administrator, valid for twelve hours."""
    require("service")
    stdout.print(escape(new_token(load_settings())), highlight=False, soft_wrap=True)


def new_token(settings: Settings) -> str:
    """The secret of a new token of the administrator, in the catalog of the settings."""
    from exr_pipeline.catalog.accounts import new_admin_token
    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.catalog.migrate import migrate as migrate_database

    database = CatalogDatabase.from_settings(settings)
    try:
        migrate_database(database)
        with database.transaction() as session:
            return new_admin_token(session)
    finally:
        database.close()
