"""The `ui` command: Dagster's page, daemon and sensor, on the configured sources or the demonstration's store.

Belongs here: starting and ending them. Not here: what they show (`orchestration`).
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, stdout
from exr_pipeline.cli.demo import SHOW, embedded_store


def ui(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
) -> None:
    """Serve Dagster's page with the sensor and daemon running, until interrupted.

    Watches EXR_PIPELINE_SOURCES; without it, the demonstration's embedded store.
    """
    settings = load_settings()
    with nullcontext() if settings.sources else embedded_store() as embedded:
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
        prepare_instance(settings)
        stdout.print(f"Dagster: http://{host}:{port}  (Ctrl-C ends it)", highlight=False)
        with subprocess.Popen([sys.executable, *dev_command(host, port)]) as child:
            # Ctrl-C reaches the child by itself; a TERM to us does not.
            signal.signal(signal.SIGTERM, lambda *_: child.terminate())
            while True:
                try:
                    status = child.wait()
                    break
                except KeyboardInterrupt:
                    continue
    raise typer.Exit(0 if status in {0, -signal.SIGINT, -signal.SIGTERM} else status)
