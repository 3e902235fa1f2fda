"""The catalog at the page's address: what goes through to its process, and what comes back."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from exr_pipeline.orchestration.instance.page.front import catalog_routes
from exr_pipeline.orchestration.instance.page.guard import Guard
from exr_pipeline_tests.orchestration.instance.page.serving import serving
from exr_pipeline_tests.services.processes import wait_until

first_part_is_seen = threading.Event()


async def echo(request: Request) -> Response:
    size = sum([len(part) async for part in request.stream()])
    headers = {name: request.headers.get(name, "") for name in ("host", "authorization", "cookie", "content-length")}
    target = f"{request.scope['raw_path'].decode()}?{request.scope['query_string'].decode()}"
    return JSONResponse({"target": target, "method": request.method, "size": size, **headers})


async def two_cookies(_: Request) -> Response:
    answer = RedirectResponse("https://id.studio.test/?a=b", 303)
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


async def in_parts(_: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        import anyio.to_thread

        await anyio.to_thread.run_sync(first_part_is_seen.wait)
        yield b"second"

    return StreamingResponse(parts())


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    routes = [
        Route("/v1/cookies", two_cookies),
        Route("/v1/parts", in_parts),
        Route("/{path:path}", echo, methods=["GET", "POST", "PUT", "DELETE"]),
    ]
    path = tmp_path / "catalog"
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), uds=str(path), log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "the service is up", seconds=60)
        yield path
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(socket: Path) -> Iterator[httpx.Client]:
    app = Guard(Starlette(routes=catalog_routes(socket)), host="127.0.0.1")
    with serving(app) as served, httpx.Client(base_url=f"http://127.0.0.1:{served.port}", timeout=60) as client:
        yield client


def test_a_request_arrives_as_the_browser_sent_it(page: httpx.Client) -> None:
    headers = {"Authorization": "Bearer x", "Cookie": "exr_session=y"}
    found = page.post("/v1/a%2Fb?q=%C3%A9&q=", content=b"x" * 100_000, headers=headers).json()
    assert found["target"] == "/v1/a%2Fb?q=%C3%A9&q="
    assert found["host"] == page.base_url.netloc.decode()
    assert (found["method"], found["size"], found["content-length"]) == ("POST", 100_000, "100000")
    assert (found["authorization"], found["cookie"]) == ("Bearer x", "exr_session=y")


def test_a_body_of_unknown_length_arrives_whole(page: httpx.Client) -> None:
    assert page.put("/v1/part", content=iter([b"a" * 70_000, b"b" * 70_000])).json()["size"] == 140_000


def test_health_and_description_are_the_catalogs(page: httpx.Client) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert page.get(path).json()["target"] == f"{path}?"
    assert page.get("/graphql").status_code == 404


def test_an_answer_keeps_its_status_and_all_its_cookies(page: httpx.Client) -> None:
    answer = page.get("/v1/cookies")
    assert (answer.status_code, answer.headers["location"]) == (303, "https://id.studio.test/?a=b")
    assert len(answer.headers.get_list("set-cookie")) == 2


def test_an_answer_comes_as_it_is_made(page: httpx.Client) -> None:
    first_part_is_seen.clear()
    with page.stream("GET", "/v1/parts") as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"first"
        first_part_is_seen.set()
        assert b"".join(parts) == b"second"


def test_the_guard_is_before_it_too(page: httpx.Client) -> None:
    assert page.get("/v1/x", headers={"Host": "evil.example"}).status_code == 403
    assert page.post("/v1/x", headers={"Origin": "https://evil.example"}).status_code == 403


def test_a_service_that_does_not_run_is_worth_another_try(tmp_path: Path) -> None:
    with serving(Starlette(routes=catalog_routes(tmp_path / "nothing"))) as served:
        answer = served.ask("/v1/assets")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert answer.headers["Content-Type"] == "application/problem+json"
