"""Which requests the page answers: those of its own address only, and none that changes anything by a link.

Belongs here: Host, Origin and GraphQL over GET. Not here: who a user is (a proxy in front asks for that, see
docs/operations.md).

A browser takes any web page's word for where to send requests: without these checks, a site that somebody visits could
launch and delete runs on the page of the same machine, also where nothing but this machine can reach it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from exr_pipeline.addresses import is_address, is_loopback, is_same_address, split_address

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """An ASGI application that refuses requests with a reason, and hands all others on to another one.

    `host` is the address that the server listens on. It answers to this machine's own names, to `host`, to `names`,
    and to any IP address if it listens beyond this machine: no foreign name can be made to mean an address.
    """

    def __init__(self, app: ASGIApp, *, host: str, names: Sequence[str] = ()) -> None:
        self._app = app
        self._names = {"localhost", host.lower(), *(name.lower() for name in names)}
        self._beyond = not is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        if problem := self._problem(scope):
            await PlainTextResponse(f"{problem}\n", status_code=403)(scope, receive, send)
            return
        if by_link := _changes_by_get(scope):
            await PlainTextResponse(f"{by_link}\n", status_code=405, headers={"Allow": "POST"})(scope, receive, send)
            return

        async def send_unframed(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A foreign page could show this one and have its visitors click on it.
                MutableHeaders(scope=message).setdefault("X-Frame-Options", "SAMEORIGIN")
            await send(message)

        await self._app(scope, receive, send_unframed)

    def _problem(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or (host := split_address(f"//{hosts[0]}")) is None:
            return "Refused: the request has no Host header, or more than one."
        if not self._is_ours(host.hostname or ""):
            return (
                "Refused: the Host header names a host that this page does not serve. To allow it, add it to "
                "EXR_PIPELINE_PAGE_HOSTS."
            )
        origin = headers.get("origin")
        if origin is None or (scope["type"] == "http" and scope["method"] in _SAFE_METHODS):
            return None
        if not is_same_address(origin, host):
            return (
                "Refused: the request comes from a page of another origin. Behind a proxy, configure the proxy to "
                "pass on the browser's Host header."
            )
        return None

    def _is_ours(self, name: str) -> bool:
        name = name.lower()
        return name in self._names or is_loopback(name) or (self._beyond and is_address(name))


def _changes_by_get(scope: Scope) -> str | None:
    """Why a request that a mere link can make is refused: its GraphQL changes something. None if it does not."""
    if scope["type"] != "http" or scope["method"] == "POST":
        return None
    for document in parse_qs(scope["query_string"].decode("latin-1")).get("query", ()):
        try:
            operations = [node for node in parse(document).definitions if isinstance(node, OperationDefinitionNode)]
        except (GraphQLError, RecursionError):
            # A search for text, or GraphQL that Dagster won't understand either.
            continue
        if any(operation.operation is not OperationType.QUERY for operation in operations):
            return "Refused: a GET request cannot change anything. Use POST."
    return None
