"""The application: routes, errors and limits over an open catalog.

Belongs here: putting it together. Not here: starting a server (`exr_pipeline.cli.serve`).
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from fastapi import FastAPI, Request

from exr_pipeline import __version__
from exr_pipeline.catalog.similar import SimilarIndex
from exr_pipeline.catalog.transfer_steps import TransferSteps
from exr_pipeline.service import browsers, problems
from exr_pipeline.service.calls import database_of
from exr_pipeline.service.graphql import route as graphql
from exr_pipeline.service.rest import (
    access,
    assets,
    collections,
    places,
    projects,
    search,
    shapes,
    sign_on,
    transfers,
)
from exr_pipeline.service.safe_headers import SafeHeaders
from exr_pipeline.service.sign_on import Provider
from exr_pipeline.storage.multipart import PartWriter

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.objects import ObjectStorage

TITLE: Final = "exr_pipeline catalog"
LONGEST_BODY: Final = 1 << 20


class _Application(FastAPI):
    def build_middleware_stack(self) -> ASGIApp:
        """Around all there is, what the framework answers by itself too."""
        return SafeHeaders(problems.InPlaceOfText(super().build_middleware_stack()))

    def openapi(self) -> dict[str, Any]:
        """The description, with the shape of problems, which no route has."""
        if self.openapi_schema is None:
            document = super().openapi()
            document["components"]["schemas"]["Problem"] = problems.SCHEMA
        return super().openapi()


def build_app(
    database: CatalogDatabase,
    storage: ObjectStorage,
    *,
    settings: Settings | None = None,
    background: Sequence[Callable[[threading.Event], None]] = (),
    similar: SimilarIndex | None = None,
    parts_in_flight: int = 16,
    transfer_hours: float = 72,
) -> FastAPI:
    """The application over a migrated catalog. `background` run in threads beside it, until their event is set.

    `similar` is the index of vectors that it asks, by default one of its own. Raises `MisconfiguredError` for settings
    of its address or of single sign-on that do not fit. Without settings, there is no single sign-on, and browsers log
    in on this machine only. A node takes `parts_in_flight` parts of transfers at once, which expire `transfer_hours`
    after their last part.
    """
    writer = PartWriter(storage)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        threads = [threading.Thread(target=each, args=(stop,)) for each in background]
        for thread in threads:
            thread.start()
        yield
        stop.set()
        for thread in threads:
            thread.join()
        await writer.close()

    # Its pages of documentation load programs from elsewhere.
    app = _Application(
        title=TITLE,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=problems.ANSWERS,
        max_body_size=LONGEST_BODY,
    )
    app.state.database, app.state.storage = database, storage
    app.state.service_url = None if settings is None else browsers.check_service_url(settings.service_url)
    app.state.provider = None if settings is None else Provider.from_settings(settings)
    app.state.similar = SimilarIndex() if similar is None else similar
    app.state.transfer_steps = TransferSteps(database, writer, transfer_hours)
    app.state.parts_in_flight = transfers.PartsInFlight(parts_in_flight)
    for router in (
        *(access.router, sign_on.router, projects.router, assets.router),
        *(search.router, collections.router, places.router, transfers.router),
    ):
        app.include_router(router, prefix="/v1")
    app.include_router(graphql.router)
    # At the address of Dagster's page, `/graphql` is Dagster's.
    app.include_router(graphql.router, prefix="/v1", include_in_schema=False)
    app.add_api_route("/healthz", healthz, tags=["health"])
    app.add_api_route("/readyz", readyz, tags=["health"])
    problems.install(app)
    # FastAPI makes routes when they are first needed, and sets warnings aside meanwhile, for all threads.
    app.openapi()
    return app


def healthz() -> shapes.Health:
    """Answer: the process runs."""
    return shapes.Health()


def readyz(request: Request) -> shapes.Health:
    """Answer 200 if the catalog's database answers, else 503."""
    with database_of(request).transaction(read_only=True) as session:
        session.execute(sa.text("SELECT 1"))
    return shapes.Health()
