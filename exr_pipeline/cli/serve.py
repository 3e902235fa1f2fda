"""The `serve` command: the catalog's web service.

Belongs here: starting it, and its first token. Not here: its routes (`service`), or what it answers (`catalog`).
"""

from __future__ import annotations

import logging
import platform
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from exr_pipeline.addresses import check_free, in_url, is_loopback
from exr_pipeline.cli.console import load_settings, stdout, warn
from exr_pipeline.errors import ExrPipelineError, MisconfiguredError
from exr_pipeline.extras import require

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.catalog.similar import SimilarIndex
    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.settings import Settings

SHORTEST_ADMIN_TOKEN: Final = 20
_SECONDS_BETWEEN_LOOKS: Final = 5.0
# A transfer that is complete is waited for.
_SECONDS_BETWEEN_TRANSFERS: Final = 1.0
_SECONDS_BETWEEN_SWEEPS: Final = 10.0
# Between two looks at the tables.
_VECTORS_AT_ONCE: Final = 20_000
_LOG = logging.getLogger(__name__)


def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8600,
    at_socket: Annotated[
        Path | None,
        typer.Option(
            "--socket", help="Socket to listen on instead, for whoever can reach its folder. `ui` does it so."
        ),
    ] = None,
) -> None:
    """Serve the catalog over HTTP until interrupted: assets, their media and tags, for programs and people.

    What is in the tables appears in the catalog by itself. The first start at a port prints a token of the
    administrator.
    """
    require("service")
    import uvicorn

    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.catalog.similar import SimilarIndex
    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.service.app import build_app

    settings = load_settings()
    if at_socket is None:
        check_free(host, port)
    pipeline = Pipeline(settings)
    database = CatalogDatabase.from_settings(settings)
    # The console of `ui` is often a log, and the command `catalog token` makes one whenever it is wanted.
    prepare(
        database,
        None if settings.admin_token is None else settings.admin_token.get_secret_value(),
        prints_token=at_socket is None,
    )
    if not is_loopback(host):
        warn(f"tokens and passwords go over {host}:{port} unencrypted: put a proxy with TLS in front")
    similar = SimilarIndex(settings.state_dir)
    node = settings.server_name or f"{platform.node() or 'node'}:{port}"
    app = build_app(
        database,
        pipeline.storage,
        settings=settings,
        background=[
            _projection(database, pipeline, similar),
            _heartbeat(database, settings, node),
            *_transfers(database, pipeline, node),
        ],
        similar=similar,
        parts_in_flight=settings.transfer_parts,
        transfer_hours=settings.transfer_hours,
    )
    if at_socket is not None:
        # The page is in front of it: its address is the one to know.
        uvicorn.run(app, uds=str(at_socket), log_level="warning", server_header=False)
        return
    stdout.print(f"Catalog: http://{in_url(host)}:{port}/v1  (press Ctrl-C to stop)", highlight=False)
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False)


def prepare(database: CatalogDatabase, admin_token: str | None, *, prints_token: bool) -> None:
    """Bring the database up to date, and print the administrator's token if it is made now and wanted."""
    from exr_pipeline.catalog.accounts import ensure_admin
    from exr_pipeline.catalog.errors import ConflictError
    from exr_pipeline.catalog.migrate import migrate

    if admin_token is not None and len(admin_token) < SHORTEST_ADMIN_TOKEN:
        raise MisconfiguredError(
            "EXR_PIPELINE_ADMIN_TOKEN",
            f"it has fewer than {SHORTEST_ADMIN_TOKEN} characters",
            "set it to a long random text, such as that of `openssl rand -base64 32`",
        )
    migrate(database)
    if admin_token is None and not prints_token:
        return
    secret = None
    # Of nodes that start at once, the second finds what the first has made.
    for _ in range(2):
        with suppress(ConflictError), database.transaction() as session:
            secret = ensure_admin(session, admin_token)
            break
    if secret is not None:
        stdout.print(f"Token of the administrator, shown this once: {escape(secret)}", highlight=False, soft_wrap=True)


def _projection(
    database: CatalogDatabase, pipeline: Pipeline, similar: SimilarIndex
) -> Callable[[threading.Event], None]:
    from exr_pipeline.catalog.projection import Recent, project_tables

    recent: Recent = {}

    def look() -> None:
        project_tables(database, pipeline.tables, pipeline.settings, recent=recent)
        with database.transaction(read_only=True) as session:
            similar.catch_up(session, most=_VECTORS_AT_ONCE)
        similar.save()

    return lambda stop: go_on(stop, look, "The catalog does not follow the tables now")


def _heartbeat(database: CatalogDatabase, settings: Settings, node: str) -> Callable[[threading.Event], None]:
    from exr_pipeline import __version__
    from exr_pipeline.catalog.places import ensure_location, forget_server, note_heartbeat

    def beat() -> None:
        with database.transaction() as session:
            ensure_location(session, settings)
            note_heartbeat(session, node, region=settings.region, url=settings.server_url, version=__version__)

    def beat_on(stop: threading.Event) -> None:
        go_on(stop, beat, "The catalog does not hear from this node now")
        with suppress(ExrPipelineError), database.transaction() as session:
            forget_server(session, node)

    return beat_on


def go_on(
    stop: threading.Event, look: Callable[[], None], trouble: str, seconds: float = _SECONDS_BETWEEN_LOOKS
) -> None:
    """Do something every few seconds until told to stop, whatever comes of it."""
    while not stop.is_set():
        try:
            look()
        except ExrPipelineError as error:
            _LOG.warning("%s: %s", trouble, error)
        except Exception:  # noqa: BLE001 - a thread that has ended would tell nobody, and the next look may succeed
            _LOG.exception(trouble)
        stop.wait(seconds)


def _transfers(database: CatalogDatabase, pipeline: Pipeline, node: str) -> list[Callable[[threading.Event], None]]:
    from exr_pipeline.catalog.transfer_work import TransferWork
    from exr_pipeline.storage.multipart import PartWriter

    # Another process may have the name of this one before its lease has ended.
    worker = f"{node} {secrets.token_hex(4)}"
    writer, hours = PartWriter(pipeline.storage), pipeline.settings.transfer_hours

    def work(stop: threading.Event) -> None:
        work = TransferWork(database, pipeline.storage, writer, worker, hours, stop)
        go_on(stop, work.work, "Transfers do not get on now", _SECONDS_BETWEEN_TRANSFERS)

    def sweep(stop: threading.Event) -> None:
        work = TransferWork(database, pipeline.storage, writer, worker, hours, stop)
        go_on(stop, work.sweep, "Transfers that have ended are not removed now", _SECONDS_BETWEEN_SWEEPS)

    return [work, sweep]
