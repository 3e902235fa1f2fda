"""The command `serve` as a new user runs it: a token once, what was ingested, and a good end."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path

import httpx
import pytest

from exr_pipeline.cli.serve import go_on
from exr_pipeline.errors import RetryableError
from exr_pipeline_tests.cli.conftest import bare_environment, make_home, run_process, write_shot
from exr_pipeline_tests.services.processes import Service, answers, free_port, wait_until


def test_a_short_token_of_the_administrator_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    ended = run_process("serve", cwd=home, env={"EXR_PIPELINE_ADMIN_TOKEN": "guess me"})
    assert ended.status == 1
    assert "EXR_PIPELINE_ADMIN_TOKEN: it has fewer than 20 characters" in ended.err
    assert "guess me" not in ended.err


def test_what_was_ingested_is_served_to_whoever_has_the_token_that_was_printed_once(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    write_shot(home / "shot")
    assert run_process("ingest", "shot", "--only", "header", cwd=home, env=bare_environment()).status == 0
    port = free_port()
    command: list[str | Path] = [sys.executable, "-m", "exr_pipeline.cli", "serve", "--port", str(port)]
    log = tmp_path / "serve.log"
    service = Service("serve", command, log, environment=bare_environment(), folder=home)
    with service:
        wait_until(lambda: answers(port) or not service.is_running, "the service answers", seconds=120)
        assert service.is_running, service.log_tail()
        wait_until(lambda: "Catalog: http" in log.read_text(), "the address is printed")
        secret = re.search(r"shown this once: (\S+)", log.read_text())[1]  # type: ignore[index]
        headers = {"Authorization": f"Bearer {secret}"}
        url = f"http://127.0.0.1:{port}/v1"

        def names() -> list[str]:
            items = httpx.get(f"{url}/assets", headers=headers).json()["items"]
            return sorted(each["name"] for each in items)

        wait_until(lambda: len(names()) >= 5, "the files are in the catalog")
        assert any(name.endswith(".exr") for name in names())
        assert httpx.get(f"{url}/assets").status_code == 401
    with service:
        wait_until(lambda: log.read_text().count("Catalog: http") == 2, "it starts again")
        wait_until(lambda: answers(port), "it answers again")
        assert httpx.get(f"{url}/auth/me", headers=headers).json()["name"] == "admin"
    # The second start prints no token, and neither does anything else.
    assert log.read_text().count(secret) == 1


def test_what_it_does_beside_requests_goes_on_after_any_error_until_it_is_told_to_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop = threading.Event()
    errors: list[Exception] = [RetryableError("the tables are locked"), KeyError("a fault of the program")]

    def look() -> None:
        if errors:
            raise errors.pop(0)
        stop.set()

    go_on(stop, look, "It does not follow", 0.01)
    assert stop.is_set()
    assert caplog.messages == ["It does not follow: the tables are locked", "It does not follow"]
    assert "a fault of the program" in caplog.text
