"""The commands below `catalog`: bringing its database up to date, and making it again from the tables.

Belongs here: arguments and output. Not here: the service (`serve`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from exr_pipeline.cli.console import load_settings, progress_line, stdout
from exr_pipeline.extras import require

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
