"""The `ui` command: Dagster's page, daemon and sensor, on the configured sources or the demonstration's store.

Belongs here: starting and ending them. Not here: what they show (`orchestration`).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, stdout, warn
from exr_pipeline.cli.demo import SHOW, embedded_store
from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exr_pipeline.storage.embedded import EmbeddedS3

SECONDS_TO_END: Final = 20
_SECONDS_BETWEEN_LOOKS: Final = 0.5
_HEALTH: Final = json.dumps({"query": "{ instance { daemonHealth { allDaemonStatuses { required healthy } } } }"})


def ui(
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Anything but a loopback address opens it to others.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Serve the page alone; daemon and code server run elsewhere.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print what the daemon and the runs do, not only warnings.")
    ] = False,
) -> None:
    """Serve Dagster's page with the sensor and daemon running, until interrupted.

    Watches EXR_PIPELINE_SOURCES; without it, the demonstration's embedded store.
    """
    require("ui")
    from exr_pipeline.orchestration.instance.page.guard import is_loopback

    settings = load_settings()
    if not is_loopback(host):
        warn(
            f"whoever reaches {host}:{port} can see all pictures, and launch and delete runs: the page asks for no "
            "password. Leave --host out and put a proxy that does in front: docs/operations.md, A login"
        )
    _check_free(host, port)
    if not verbose:
        os.environ.setdefault("EXR_PIPELINE_CONSOLE_LEVEL", "WARNING")
    with nullcontext() if settings.sources else embedded_store(settings) as embedded:
        from exr_pipeline.orchestration.instance.home import page_command, prepare_instance

        prepare_instance()
        server = None if embedded is None else embedded[1]

        def tell_where() -> None:
            stdout.print(_watched(settings.sources, server), highlight=False, soft_wrap=True)
            stdout.print(f"Dagster: http://{_in_url(host)}:{port}  (Ctrl-C ends it)", highlight=False)

        sys.stderr.write("Starting Dagster\n")
        command = [sys.executable, *page_command(host, port, daemon=not page_only, verbose=verbose)]
        status = _serve(command, host, port, daemon=not page_only, when_up=tell_where)
    raise typer.Exit(status)


def _watched(sources: Sequence[str], server: EmbeddedS3 | None) -> str:
    if server is None:
        return f"Watching {escape(', '.join(sources))}"
    credentials = f"--user {server.access_key}:{server.secret_key}"
    return (
        f"Watching {SHOW.url} on {server.endpoint}. Drop a file there:\n"
        f"  curl --aws-sigv4 aws:amz:us-east-1:s3 {credentials} -T FILE.exr {server.endpoint}/renders/show/"
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _check_free(host: str, port: int) -> None:
    """Raise `MisconfiguredError` if nothing can listen there: Dagster would stay up without its page."""
    try:
        # As Dagster's page does it: a port whose last user has just ended is free.
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise MisconfiguredError("--port", f"{port} is taken", "choose another one") from None
        raise MisconfiguredError("--host", f"{host}: {error.strerror}", "name an address of this machine") from None


def _serve(command: Sequence[str], host: str, port: int, *, daemon: bool, when_up: Callable[[], None]) -> int:
    """Run Dagster's processes until they end or we are told to: then ask them to end, and make sure that they do.

    `when_up` is called once the page answers and the daemon, if there is to be one, is alive.
    """
    # In a group of its own, so that Ctrl-C reaches it once, through us, and all of it can be ended.
    with subprocess.Popen(command, start_new_session=True) as child:

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        try:
            while child.poll() is None and not _is_up(host, port, daemon=daemon):
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            if child.returncode is None:
                when_up()
            return child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
            return 0


def _is_up(host: str, port: int, *, daemon: bool) -> bool:
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked of, not listened on
    connection = HTTPConnection(everywhere.get(host, host), port, timeout=10)
    try:
        connection.request("POST", "/graphql", _HEALTH, {"Content-Type": "application/json"})
        health = json.load(connection.getresponse())["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
        return not daemon or all(each["healthy"] for each in health if each["required"])
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return False
    finally:
        connection.close()
