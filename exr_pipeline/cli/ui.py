"""The `ui` command: Dagster's page, daemon and sensor, on the configured sources or the demonstration's store.

Belongs here: starting and ending them. Not here: what they show (`orchestration`).
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, stdout
from exr_pipeline.cli.demo import SHOW, embedded_store
from exr_pipeline.errors import MisconfiguredError

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS_TO_END: Final = 20


def ui(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
) -> None:
    """Serve Dagster's page with the sensor and daemon running, until interrupted.

    Watches EXR_PIPELINE_SOURCES; without it, the demonstration's embedded store.
    """
    settings = load_settings()
    _check_free(host, port)
    with nullcontext() if settings.sources else embedded_store(settings) as embedded:
        from exr_pipeline.orchestration.instance import dev_command, prepare_instance

        if embedded is not None:
            settings, server = embedded
            credentials = f"--user {server.access_key}:{server.secret_key}"
            stdout.print(
                f"Watching {SHOW.url} on {server.endpoint}. Drop a file there:\n"
                f"  curl --aws-sigv4 aws:amz:us-east-1:s3 {credentials} -T FILE.exr {server.endpoint}/renders/show/",
                highlight=False,
                soft_wrap=True,
            )
        else:
            stdout.print(f"Watching {escape(', '.join(settings.sources))}", highlight=False)
        prepare_instance()
        stdout.print(f"Dagster: http://{host}:{port}  (Ctrl-C ends it)", highlight=False)
        status = _serve([sys.executable, *dev_command(host, port)])
    raise typer.Exit(status)


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


def _serve(command: Sequence[str]) -> int:
    """Run Dagster's processes until they end or we are told to: then ask them to end, and make sure that they do."""
    # In a group of its own, so that Ctrl-C reaches it once, through us, and all of it can be ended.
    with subprocess.Popen(command, start_new_session=True) as child:

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
            return 0
