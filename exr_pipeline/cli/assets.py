"""The commands below `assets`: sending, fetching, finding and tagging assets of a catalog, at whichever server answers.

Belongs here: arguments and output. Not here: what is asked, and going on after an interruption (`client`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exr_pipeline.cli.console import load_settings, progress_line, show, stdout
from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.extras import require
from exr_pipeline.formats import category_of
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exr_pipeline.cli.console import ProgressLine
    from exr_pipeline.client import Asset, Client, Progress

assets = typer.Typer(
    add_completion=False, rich_markup_mode=None, help="Send, fetch, find and tag assets of a catalog that `serve` runs."
)

Named = Annotated[str, typer.Argument(metavar="PROJECT/NAME", help="The asset, as PROJECT/NAME.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Role = Annotated[str, typer.Option(help="What the file is to the asset, such as source or notes.")]
Direct = Annotated[
    bool, typer.Option("--direct", help="Send bytes straight to and from the store, not through a server.")
]
Parallel = Annotated[int, typer.Option(min=1, max=64, help="Parts at once.")]


@assets.command()
def put(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File to send.")],
    *,
    project: Annotated[str, typer.Option(help="Project of the asset.")],
    name: Annotated[str, typer.Option(help="Name of the asset. It is made if there is none.")],
    role: Role = "source",
    location: Annotated[str | None, typer.Option(help="Location to store it at. Defaults to the first.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag to add to the asset. May be repeated.")] = None,
    direct: Direct = False,
    parallel: Parallel = 4,
    as_json: AsJson = False,
) -> None:
    """Send a file of any size as part of an asset. If interrupted, run the same command again to resume."""
    with _client() as client, progress_line() as line:
        media = client.put(
            file,
            project=project,
            name=name,
            kind=category_of(file.name) or "file",
            role=role,
            location=location,
            direct=direct,
            parallel=parallel,
            report=_reporting(line, file.name),
        )
        if tag:
            _add_tags(client, client.asset(project, name), tag)
    _print(as_json, asdict(media), f"{file.name} is stored as {project}/{name}, SHA-256 {media.sha256}")


@assets.command()
def get(
    asset: Named,
    out: Annotated[Path, typer.Argument(help="File to write, or a folder for the file's own name.")],
    *,
    role: Role = "source",
    direct: Direct = False,
    parallel: Parallel = 4,
    as_json: AsJson = False,
) -> None:
    """Fetch a file of an asset, and verify its SHA-256. If interrupted, run the same command again to resume."""
    from exr_pipeline.client.client import source_of

    with _client() as client, progress_line() as line:
        media = source_of(client.media(client.asset(*_split(asset))), role)
        # A name that somebody else has given.
        path = out / Path(media.filename).name if out.is_dir() else out
        client.get(media, path, direct=direct, parallel=parallel, report=_reporting(line, path.name))
    checked = "SHA-256 verified" if media.sha256 else "the catalog knows no SHA-256 of it"
    _print(as_json, {"path": str(path), "sha256": media.sha256, "size": media.size}, f"{path} is fetched, {checked}")


@assets.command("list")
def list_assets(
    *,
    project: Annotated[str | None, typer.Option(help="Project to list.")] = None,
    kind: Annotated[str | None, typer.Option(help="Kind of assets, such as image or movie.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of assets.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List assets, latest first."""
    _list("", project=project, kind=kind, tags=(), limit=limit, as_json=as_json)


@assets.command()
def search(
    words: Annotated[str, typer.Argument(help="Words that are part of the folder or the name.")] = "",
    *,
    project: Annotated[str | None, typer.Option(help="Project to search in.")] = None,
    kind: Annotated[str | None, typer.Option(help="Kind of assets, such as image or movie.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag that assets have. May be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of assets.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Find assets by words and tags, latest first."""
    _list(words, project=project, kind=kind, tags=tag or (), limit=limit, as_json=as_json)


@assets.command()
def tag(
    asset: Named,
    tags: Annotated[list[str], typer.Argument(help="Tags to add.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Add tags to an asset."""
    with _client() as client:
        changed = _add_tags(client, client.asset(*_split(asset)), tags)
    _print(as_json, asdict(changed), f"{asset} has the tags {', '.join(changed.tags)}")


@assets.command()
def watch(
    *,
    after: Annotated[int, typer.Option(min=0, help="Number of the event to begin after.")] = 0,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print what is done in the catalog, as it happens, one line for each event, until interrupted."""
    with _client() as client:
        for number, event in enumerate(client.watch(after), start=1):
            values = asdict(event)
            _print(as_json, values, f"{event.seq} {event.at} {event.actor}: {event.topic} {event.subject_id}")
            if number == count:
                return


def _client() -> Client:
    require("client")
    from exr_pipeline.client import Client

    settings = load_settings()
    if settings.token is None:
        raise MisconfiguredError(
            "EXR_PIPELINE_TOKEN", "it is not set", "set it to a token of the catalog, see docs/catalog.md"
        )
    return Client(settings.servers, settings.token.get_secret_value())


def _reporting(line: ProgressLine, name: str) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        line.update(f"{progress.doing} {visible_line(name)}, MiB", progress.done >> 20, progress.total >> 20)

    return report


def _split(asset: str) -> tuple[str, str]:
    project, slash, name = asset.partition("/")
    if not slash or not project or not name:
        raise BadInputError(asset, "write the asset as PROJECT/NAME")
    return project, name


def _add_tags(client: Client, asset: Asset, tags: Sequence[str]) -> Asset:
    return client.set_tags(asset, list(dict.fromkeys([*asset.tags, *tags])))


def _list(words: str, *, project: str | None, kind: str | None, tags: Sequence[str], limit: int, as_json: bool) -> None:
    from itertools import islice

    with _client() as client:
        found = list(islice(client.assets(words, project=project, kind=kind, tags=tags), limit))
    if as_json:
        _print(as_json, [asdict(asset) for asset in found], "")
        return
    from rich.markup import escape

    rows = [(each.project, each.name, each.kind, each.status, ", ".join(each.tags)) for each in found]
    show(["project", "name", "kind", "status", "tags"], [[escape(cell) for cell in row] for row in rows])


def _print(as_json: bool, value: Any, text: str) -> None:
    if as_json:
        typer.echo(json.dumps(value, default=str))
    else:
        stdout.print(visible_line(text), markup=False, soft_wrap=True)
