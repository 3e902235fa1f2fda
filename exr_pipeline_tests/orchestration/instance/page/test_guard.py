"""The guard of the page: what a browser can be made to send, and what is answered."""

from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from exr_pipeline.orchestration.instance.page.guard import Guard
from exr_pipeline_tests.orchestration.instance.page.serving import Served, serving

GRAPHQL = "/graphql"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Served]]:
    """Applications that answer everything, by the address that the guard before them takes for the server's."""

    async def answer(_: Request) -> Response:
        return PlainTextResponse("answered")

    async def accept(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("answered")
        await socket.close()

    app = Starlette(
        routes=[Route("/{path:path}", answer, methods=["GET", "POST"]), WebSocketRoute("/{path:path}", accept)]
    )
    with ExitStack() as stack:
        yield {
            host: stack.enter_context(serving(Guard(app, host=host, names=["Page.Studio.example"])))
            for host in ("127.0.0.1", "0.0.0.0", "192.0.2.7")
        }


@pytest.fixture(scope="module")
def local(servers: dict[str, Served]) -> Served:
    """The one that listens to this machine only."""
    return servers["127.0.0.1"]


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost:3000", "LOCALHOST", "[::1]:3000", "127.0.0.2"])
def test_the_names_of_this_machine_are_answered(local: Served, host: str) -> None:
    assert local.ask("/", headers={"Host": host}).text == "answered"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:3000", "192.0.2.7:3000", "localhost.evil.example", "a@localhost", "[::1", ""]
)
def test_a_foreign_host_is_refused(local: Served, host: str) -> None:
    assert local.ask("/", headers={"Host": host}).status in {400, 403}


def test_a_name_that_is_configured_is_answered_and_the_refusal_of_others_names_the_setting(local: Served) -> None:
    assert local.ask("/", headers={"Host": "page.studio.example:8443"}).text == "answered"
    assert "EXR_PIPELINE_PAGE_HOSTS" in local.ask("/", headers={"Host": "rebound.example"}).text


def test_beyond_this_machine_addresses_are_answered_for_no_name_can_be_bound_to_them(
    servers: dict[str, Served],
) -> None:
    for host in ("0.0.0.0", "192.0.2.7"):
        assert servers[host].ask("/", headers={"Host": "192.0.2.7:3000"}).text == "answered"
        assert servers[host].ask("/", headers={"Host": "rebound.example"}).status == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:8888", "https://127.0.0.1", "null", "[::1"]
)
def test_what_a_page_of_another_address_sends_is_refused(local: Served, origin: str) -> None:
    assert local.ask(GRAPHQL, method="POST", headers={"Origin": origin}).status == 403
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(f"ws://127.0.0.1:{local.port}{GRAPHQL}", origin=Origin(origin), proxy=None),
    ):
        pass


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("localhost", "http://localhost:80"),
        ("[::1]:3000", "http://[::1]:3000"),
        # A proxy in front speaks TLS.
        ("page.studio.example", "https://page.studio.example"),
        ("page.studio.example:8443", "https://page.studio.example:8443"),
    ],
)
def test_what_the_page_itself_sends_is_answered(local: Served, host: str, origin: str) -> None:
    assert local.ask(GRAPHQL, method="POST", headers={"Host": host, "Origin": origin}).text == "answered"


def test_the_connection_over_which_the_page_is_kept_up_to_date_is_answered(local: Served) -> None:
    address = f"127.0.0.1:{local.port}"
    with connect(f"ws://{address}{GRAPHQL}", origin=Origin(f"http://{address}"), proxy=None) as socket:
        assert socket.recv(30) == "answered"


def test_programs_that_send_no_origin_are_answered(local: Served) -> None:
    assert local.ask(GRAPHQL, method="POST").text == "answered"


@pytest.mark.parametrize(
    "document",
    [
        "mutation { wipe }",
        "mutation Wipe { wipe }",
        "query Look { a } mutation Wipe { wipe }",
        "# harmless\nmutation{wipe}",
        "subscription { a }",
    ],
)
def test_a_link_can_change_nothing(local: Served, document: str) -> None:
    wipe, look = ("query", document), ("query", "{ a }")
    # Of two, whichever is taken.
    for sent in ([wipe, ("operationName", "Wipe")], [wipe, look], [look, wipe]):
        for accept in ("*/*", "text/html"):
            answer = local.ask(f"{GRAPHQL}?{urlencode(sent)}", headers={"Accept": accept})
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("document", ["{ version }", "query Mutation { mutation }", "not GraphQL", "{" * 5000])
def test_a_link_can_ask(local: Served, document: str) -> None:
    assert local.ask(f"{GRAPHQL}?{urlencode({'query': document})}").text == "answered"


def test_no_foreign_page_can_frame_an_answer(local: Served) -> None:
    assert local.ask("/").headers["X-Frame-Options"] == "SAMEORIGIN"
