"""The command `url`: a link to a file or to what was made of it, for someone without keys.

Belongs here: arguments and output. Not here: which object is meant (`ingest.deliverable`), or its URL
(`storage.presigned`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from exr_pipeline.cli.console import load_settings
from exr_pipeline.cli.places import sequence_place, url_prefix
from exr_pipeline.cli.tables import tables_to_read
from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.presigned import DEFAULT_SECONDS

if TYPE_CHECKING:
    from exr_pipeline.ingest.deliverable import Deliverable


def url(
    key: Annotated[
        str,
        typer.Argument(
            help="File in the tables; with --movie a sequence, such as shot.####.exr: a URL, path or partition key."
        ),
    ],
    *,
    thumbnail: Annotated[bool, typer.Option("--thumbnail", help="Link to its thumbnail.")] = False,
    proxy: Annotated[bool, typer.Option("--proxy", help="Link to its proxy.")] = False,
    movie: Annotated[bool, typer.Option("--movie", help="Link to the movie of a sequence.")] = False,
    expires: Annotated[
        int, typer.Option(metavar="SECONDS", help="How long the URL is valid: at most 604800 (7 days).")
    ] = DEFAULT_SECONDS,
) -> None:
    """Print a presigned URL of a file or one of its outputs. Anyone who has the URL can read that object.

    Without an option, the URL is that of the file itself. The URL cannot be revoked before it expires.
    """
    from exr_pipeline.ingest.deliverable import deliverable
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.storage.presigned import presigned_url

    wanted = _wanted(thumbnail=thumbnail, proxy=proxy, movie=movie)
    settings = load_settings()
    found = deliverable(tables_to_read(settings), settings, _location(key, wanted), wanted)
    text = presigned_url(ObjectStorage(settings), found, seconds=expires, download=wanted == "source")
    sys.stdout.write(f"{text}\n")


def _wanted(*, thumbnail: bool, proxy: bool, movie: bool) -> Deliverable:
    chosen: dict[Deliverable, bool] = {"thumbnail": thumbnail, "proxy": proxy, "movie": movie}
    named = [name for name, is_chosen in chosen.items() if is_chosen]
    if len(named) > 1:
        raise MisconfiguredError(f"--{named[0]}", f"it excludes --{named[1]}", "give one of them")
    return named[0] if named else "source"


def _location(key: str, wanted: Deliverable) -> Location:
    if wanted == "movie" and "://" in key:
        return sequence_place(key)
    return Location.from_url(url_prefix(key))
