"""The login before the page: the repository's nginx configuration in a real nginx, before the page's real guard."""

import base64
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

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
from exr_pipeline_tests.orchestration.instance.page.serving import serving
from exr_pipeline_tests.services.processes import Service, answers, free_port, wait_until

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "login" / "nginx.conf"
HOST = "page.studio.test"
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"ada:lovelace").decode()}


def nginx_program() -> str:
    if path := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        return path
    message = "NOT TESTED: no nginx on this machine (apt-get install nginx-light); the login was not tried"
    if os.environ.get("EXR_PIPELINE_TEST_REQUIRE_ALL"):
        pytest.fail(message)
    pytest.skip(message)


@dataclass(frozen=True)
class Door:
    """Where nginx listens, and whom its clients trust."""

    port: int
    trust: ssl.SSLContext

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, str]:
        connection = HTTPSConnection("127.0.0.1", self.port, context=self.trust, timeout=30)
        try:
            connection.request(method, path, headers={"Host": f"{HOST}:{self.port}", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("nginx")
    certificate = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
    files: list[str | Path] = ["-keyout", folder / "page.key", "-out", folder / "page.crt"]
    subprocess.run(["openssl", "req", *certificate, *files], check=True, capture_output=True)
    hashed = subprocess.run(["openssl", "passwd", "-apr1", "lovelace"], check=True, capture_output=True, text=True)
    (folder / "page.htpasswd").write_text(f"ada:{hashed.stdout}")

    async def answer(request: Request) -> Response:
        return PlainTextResponse(f"answered {request.headers.get('Authorization', 'nobody')}")

    async def accept(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("answered")
        await socket.close()

    routes = [Route("/{path:path}", answer, methods=["GET", "POST"]), WebSocketRoute("/{path:path}", accept)]
    port = free_port()
    with serving(Guard(Starlette(routes=routes), host="127.0.0.1", names=[HOST])) as page:
        site = CONFIGURATION.read_text()
        for ours, theirs in {
            "listen 443": f"listen 127.0.0.1:{port}",
            "PAGE_HOST": HOST,
            "/etc/nginx": str(folder),
            "127.0.0.1:3000": f"127.0.0.1:{page.port}",
        }.items():
            assert ours in site
            site = site.replace(ours, theirs)
        temporary = "\n".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # As root it would give up its rights to what only we may read here.
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"{user} daemon off; pid {folder}/pid; error_log stderr;\n"
            f"events {{}}\nhttp {{ access_log off;\n{temporary}\n{site}\n}}\n"
        )
        command: list[str | Path] = [nginx_program(), "-p", folder, "-c", folder / "nginx.conf"]
        with Service("nginx", command, folder / "log") as service:
            wait_until(lambda: answers(port) or not service.is_running, "nginx answers", seconds=30)
            assert service.is_running, service.log_tail()
            trust = ssl.create_default_context(cafile=folder / "page.crt")
            trust.check_hostname = False
            yield Door(port, trust)


def test_nobody_gets_in_without_a_password(door: Door) -> None:
    assert door.ask("/")[0] == 401
    wrong = "Basic " + base64.b64encode(b"ada:byron").decode()
    assert door.ask("/", Authorization=wrong)[0] == 401
    assert door.ask("/media/thumbnail/a")[0] == 401


def test_with_a_password_the_page_answers_and_never_sees_it(door: Door) -> None:
    assert door.ask("/", **LOGIN) == (200, "answered nobody")


def test_the_page_itself_may_change_things_and_the_page_of_another_address_may_not(door: Door) -> None:
    own, foreign = f"https://{HOST}:{door.port}", "https://evil.example"
    assert door.ask("/graphql", method="POST", Origin=own, **LOGIN)[0] == 200
    assert door.ask("/graphql", method="POST", Origin=foreign, **LOGIN)[0] == 403
    assert door.ask("/graphql?query=mutation%7Bwipe%7D", **LOGIN)[0] == 405


def test_the_page_is_kept_up_to_date_through_it(door: Door) -> None:
    url = f"wss://{HOST}:{door.port}/graphql"
    own = Origin(f"https://{HOST}:{door.port}")
    where: dict[str, Any] = {"address": ("127.0.0.1", door.port), "ssl": door.trust, "proxy": None}
    with connect(url, origin=own, additional_headers=LOGIN, **where) as socket:
        assert socket.recv(30) == "answered"
    with pytest.raises(InvalidStatus, match="401"), connect(url, origin=own, **where):
        pass
