"""The command `similar`: files in the tables whose metadata resemble those of a given file.

Belongs here: arguments and output. Not here: the query (`tables.similar`) or the vectors (`inspection.embedding`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, show, stdout
from exr_pipeline.cli.places import existing, url_prefix
from exr_pipeline.cli.tables import tables_to_read
from exr_pipeline.errors import BadInputError
from exr_pipeline.formats import labels
from exr_pipeline.storage.locations import Location

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.settings import Settings
    from exr_pipeline.tables.store import TableStore


def similar(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY|FILE",
            help=f"File in the tables (a URL, path or partition key), or any other {labels('render')} file.",
        ),
    ],
    *,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Only files that match this condition on the columns of files and of their first part.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of files to show.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of objects.")] = False,
) -> None:
    """Find the files whose metadata are most similar to those of a file, nearest first.

    If the file is not in the tables, its header is read. Distances range from 0 (alike) to 1. docs/embeddings.md says
    how much each property counts.
    """
    from exr_pipeline.tables.similar import similar_files

    settings = load_settings()
    store = tables_to_read(settings)
    location = Location.from_url(url_prefix(key))
    vector, version = _stored(store, key, location) or _read(key, settings)
    found = similar_files(store, vector, version, without=location.url, where=where, limit=limit).to_pylist()
    if as_json:
        json.dump(found, sys.stdout, indent=1)
        sys.stdout.write("\n")
    elif found:
        rows = [(escape(f["uri"]), f"{f['distance']:.4f}", f["resolution"], f["compression"]) for f in found]
        show(("uri", "distance", "resolution", "compression"), rows)
    else:
        stdout.print("The tables have no other file to compare with.")


def _stored(store: TableStore, key: str, location: Location) -> tuple[Sequence[float], int] | None:
    from exr_pipeline.tables.similar import stored_embedding

    known = stored_embedding(store, location)
    if known is None:
        return None
    if known.vector is None or known.version is None:
        raise BadInputError(key, f"its header could not be read ({known.state}: {known.reason})")
    return known.vector, known.version


def _read(key: str, settings: Settings) -> tuple[Sequence[float], int]:
    import asyncio

    from exr_pipeline.ingest.read_header import HeaderReader
    from exr_pipeline.inspection import EMBEDDING_VERSION, Inspection, vectors
    from exr_pipeline.storage.objects import ObjectStorage

    if "://" not in key and not Path(key).exists():
        raise BadInputError(key, "no such file in the tables or on this machine")

    async def inspect() -> Inspection:
        reader = HeaderReader(ObjectStorage(settings))
        return await reader.inspect(*await reader.start(existing(key)))

    return vectors(asyncio.run(inspect())).metadata_embedding.tolist(), EMBEDDING_VERSION
