"""The one address of the page: Dagster's web application, our additions, the catalog, and the guard before all.

Belongs here: what is served under which path. Not here: the answers themselves (`media`, `guard`, `catalog`), nor
starting and ending of processes (`__main__`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dagster_webserver.webserver import DagsterWebserver
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import FileResponse, HTMLResponse
from starlette.routing import BaseRoute, Mount, Route

from exr_pipeline.orchestration.instance.page.catalog import Catalog
from exr_pipeline.orchestration.instance.page.failures import Failures
from exr_pipeline.orchestration.instance.page.guard import Guard
from exr_pipeline.orchestration.instance.page.media import Media

if TYPE_CHECKING:
    from dagster._core.workspace.context import WorkspaceProcessContext
    from starlette.requests import Request

    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.objects import ObjectStorage

_REASONS_JS: Final = Path(__file__).with_name("reasons.js")
_NONCE: Final = re.compile(r"'nonce-([0-9a-f]+)'")
# Whatever text ends up on the page, it can't have the browser ask other servers for pictures.
_PICTURES: Final = "img-src 'self' data: blob:;"
_MILLISECONDS_BETWEEN_POLLS: Final = 2000


def page_app(
    context: WorkspaceProcessContext,
    storage: ObjectStorage,
    settings: Settings,
    *,
    host: str,
    catalog: Path | None = None,
) -> Starlette:
    """Everything that is served at `host`, as one ASGI application.

    `catalog`: the socket of the catalog's service, if one runs.
    """
    dagster = _DagsterPage(context, live_data_poll_rate=_MILLISECONDS_BETWEEN_POLLS).create_asgi_app()
    return Starlette(
        routes=[
            Route("/failures", Failures(context.instance).__call__),
            Route("/reasons.js", lambda _: FileResponse(_REASONS_JS, media_type="text/javascript")),
            Mount("/media", Media(context.instance, storage, settings)),
            *([] if catalog is None else catalog_routes(catalog)),
            Mount("/", dagster),
        ],
        middleware=[Middleware(Guard, host=host, names=settings.page_hosts)],
    )


def catalog_routes(socket: Path) -> list[BaseRoute]:
    """Where the catalog answers. Its `/graphql` is not among them, that is Dagster's: it is `/v1/graphql` too."""
    catalog = Catalog(socket)
    return [Mount("/v1", catalog), *(Route(path, catalog) for path in ("/healthz", "/readyz", "/openapi.json"))]


class _DagsterPage(DagsterWebserver[Any, Any]):
    """Dagster's page plus a script that shows why a partition has failed, and a link to all that failed."""

    def index_html_endpoint(self, request: Request) -> HTMLResponse:
        """The page that holds all others."""
        page = super().index_html_endpoint(request)
        policy = page.headers["Content-Security-Policy"]
        nonce = _NONCE.search(policy)
        script = f'<script nonce="{nonce[1] if nonce else ""}" src="/reasons.js"></script></head>'
        headers = {name: value for name, value in page.headers.items() if name != "content-length"}
        headers["content-security-policy"] = f"{policy.rstrip().rstrip(';')}; {_PICTURES}"
        return HTMLResponse(bytes(page.body).decode().replace("</head>", script, 1), headers=headers)
