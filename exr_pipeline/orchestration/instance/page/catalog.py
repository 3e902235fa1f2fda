"""The catalog's service at the page's address: requests are handed on to its process, bodies as they come.

Belongs here: handing on. Not here: starting the service (`exr_pipeline.cli.ui`), or what it answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import anyio
import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

# Of one connection, so not of the next. Source: RFC 9110, 7.6.1.
_OF_THE_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)


class Catalog:
    """An ASGI application over the service that listens at a socket of this machine."""

    def __init__(self, socket: Path) -> None:
        # A connection for each request costs nothing here, and is never one to a service that has ended.
        self._transport = httpx.AsyncHTTPTransport(uds=str(socket), limits=httpx.Limits(max_keepalive_connections=0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request as the service does; 503 if it does not run."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        names = {name for name, _ in scope["headers"]}
        path = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        outgoing = httpx.Request(
            request.method,
            httpx.URL(scheme="http", host="catalog", raw_path=path),
            headers=[pair for pair in scope["headers"] if pair[0] not in _OF_THE_CONNECTION],
            content=request.stream() if names & {b"content-length", b"transfer-encoding"} else None,
            # A login waits for its provider, a download for its client.
            extensions={"timeout": {"connect": 5.0, "read": None, "write": None, "pool": None}},
        )
        try:
            answer = await self._transport.handle_async_request(outgoing)
        except httpx.TransportError:
            body = {"type": "about:blank", "title": "Not available now", "status": 503}
            problem = JSONResponse(body, 503, {"Retry-After": "2"}, "application/problem+json")
            await problem(scope, receive, send)
            return
        response = StreamingResponse(_parts(answer), answer.status_code)
        response.raw_headers = [
            (name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _OF_THE_CONNECTION
        ]
        await response(scope, receive, send)


async def _parts(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        # Also where the client has gone away.
        with anyio.CancelScope(shield=True):
            await answer.aclose()
