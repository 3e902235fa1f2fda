"""The `ui` command: Dagster's page, daemon, sensor and the catalog, on the configured sources or the demonstration's.

Belongs here: starting and stopping them. Not here: what they show (`orchestration`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from exr_pipeline.addresses import check_free, in_url, is_loopback
from exr_pipeline.cli.console import load_settings, stdout, warn
from exr_pipeline.cli.demo import SHOW, embedded_store
from exr_pipeline.extras import is_installed, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exr_pipeline.storage.embedded import EmbeddedS3

SECONDS_TO_END: Final = 20
_SECONDS_BETWEEN_LOOKS: Final = 0.5
_HEALTH: Final = json.dumps({"query": "{ instance { daemonHealth { allDaemonStatuses { required healthy } } } }"})


def ui(
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Other machines can connect unless it is a loopback address.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Serve only the page. Daemon and code server run elsewhere.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print all messages of the daemon and the runs, not only warnings.")
    ] = False,
) -> None:
    """Serve Dagster's page, and run the daemon and the sensor, until interrupted.

    The sensor watches EXR_PIPELINE_SOURCES. If none is set, it watches the demonstration's embedded store. With the
    extra `service`, the catalog answers at the same address, below /v1.
    """
    require("ui")
    settings = load_settings()
    if not is_loopback(host):
        warn(
            f"anyone who can reach {host}:{port} can see all pictures, and launch and delete runs: the page asks for "
            "no password. Omit --host and put a proxy with a login in front: docs/operations.md, A login"
        )
    check_free(host, port)
    if not verbose:
        os.environ.setdefault("EXR_PIPELINE_CONSOLE_LEVEL", "WARNING")
    with nullcontext() if settings.sources else embedded_store(settings) as embedded:
        from exr_pipeline.orchestration.instance.home import page_command, prepare_instance

        prepare_instance()
        server = None if embedded is None else embedded[1]
        with nullcontext() if page_only or not is_installed("service") else _catalog() as found:
            catalog, service = found or (None, None)

            def print_address() -> None:
                # It has said why, if it has ended.
                if service is not None and service.poll() is None:
                    stdout.print(
                        f"Catalog: http://{in_url(host)}:{port}/v1  (for a token: exr-pipeline catalog token)",
                        highlight=False,
                    )
                stdout.print(_describe_sources(settings.sources, server), highlight=False, soft_wrap=True)
                stdout.print(f"Dagster: http://{in_url(host)}:{port}  (press Ctrl-C to stop)", highlight=False)

            sys.stderr.write("Starting Dagster\n")
            command = page_command(host, port, daemon=not page_only, verbose=verbose, catalog=catalog)
            status = _serve([sys.executable, *command], host, port, daemon=not page_only, when_up=print_address)
    raise typer.Exit(status)


@contextmanager
def _catalog() -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """The socket of a catalog's service, and the process that it is."""
    # Only this user gets to a socket in there.
    with TemporaryDirectory(prefix="exr-pipeline-") as folder:
        socket = Path(folder, "catalog")
        command = [sys.executable, "-m", "exr_pipeline.cli", "serve", "--socket", str(socket)]
        # Ctrl-C reaches it through us.
        with subprocess.Popen(command, start_new_session=True) as child:
            try:
                yield socket, child
            finally:
                child.terminate()
                try:
                    child.wait(SECONDS_TO_END)
                except subprocess.TimeoutExpired:
                    child.kill()


def _describe_sources(sources: Sequence[str], server: EmbeddedS3 | None) -> str:
    if server is None:
        return f"Watching {escape(', '.join(sources))}"
    credentials = f"--user {server.access_key}:{server.secret_key}"
    return (
        f"Watching {SHOW.url} on {server.endpoint}. Drop a file there:\n"
        f"  curl --aws-sigv4 aws:amz:us-east-1:s3 {credentials} -T FILE.exr {server.endpoint}/renders/show/"
    )


def _serve(command: Sequence[str], host: str, port: int, *, daemon: bool, when_up: Callable[[], None]) -> int:
    """Run Dagster's processes until they end or a signal arrives. On a signal, stop them, and kill what does not stop.

    `when_up` is called once the page answers and the daemon, if one is wanted, is alive.
    """
    # In its own group, so that Ctrl-C reaches it once, through us, and the whole group can be killed.
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
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to connect to, not to listen on
    connection = HTTPConnection(everywhere.get(host, host), port, timeout=10)
    try:
        connection.request("POST", "/graphql", _HEALTH, {"Content-Type": "application/json"})
        health = json.load(connection.getresponse())["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
        return not daemon or all(each["healthy"] for each in health if each["required"])
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return False
    finally:
        connection.close()
