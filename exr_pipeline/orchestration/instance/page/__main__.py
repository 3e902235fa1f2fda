"""The program that serves the page, by default with Dagster's daemon and code server beside it.

Belongs here: processes, from first to last. `exr-pipeline ui` runs it (`orchestration.instance.page_command`).
"""

from __future__ import annotations

import argparse
import logging
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import uvicorn
import yaml
from dagster._cli.proxy_server_manager import ProxyServerManager
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._utils.log import configure_loggers
from dagster_webserver.cli import (
    DEFAULT_DB_STATEMENT_TIMEOUT,
    DEFAULT_POOL_MAX_OVERFLOW,
    DEFAULT_POOL_RECYCLE,
)
from dagster_webserver.version import __version__

from exr_pipeline.orchestration.instance.home import open_instance, workspace_file
from exr_pipeline.orchestration.instance.page.front import page_app
from exr_pipeline.settings import Settings
from exr_pipeline.storage.objects import ObjectStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dagster as dg
    from dagster._core.workspace.load_target import WorkspaceLoadTarget

_LOG: Final = logging.getLogger("dagster-webserver")
# Longer than a browser's usual answers, shorter than the patience of whoever pressed Ctrl-C.
_SECONDS_FOR_ANSWERS: Final = 3
_SECONDS_FOR_DAEMON: Final = 12


def main() -> int:
    """Serve until SIGINT or SIGTERM; the status is 1 if the daemon ended before that."""
    options = _parser().parse_args()
    level = "info" if options.verbose else "warning"
    settings = Settings()
    log_format = "json" if settings.log_format == "json" else "colored"
    configure_loggers(formatter=log_format, log_level=level.upper())
    target = WorkspaceFileTarget([options.workspace or str(workspace_file())])
    with ExitStack() as stack:
        instance = stack.enter_context(open_instance())
        daemon = None
        if options.daemon:
            target = stack.enter_context(_shared_code_servers(instance, target))
            daemon = stack.enter_context(_daemon(target, level, log_format))
        instance.optimize_for_webserver(DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_RECYCLE, DEFAULT_POOL_MAX_OVERFLOW)
        context = stack.enter_context(
            WorkspaceProcessContext(
                instance, version=__version__, workspace_load_target=target, code_server_log_level="warning"
            )
        )
        app = page_app(context, ObjectStorage(settings), settings, host=options.host, catalog=options.catalog)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=options.host,
                port=options.port,
                log_level=level,
                lifespan="off",
                timeout_graceful_shutdown=_SECONDS_FOR_ANSWERS,
            )
        )
        return _serve(server, daemon)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="exr_pipeline.orchestration.instance.page")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--workspace")
    parser.add_argument("--catalog", type=Path)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--no-daemon", dest="daemon", action="store_false")
    return parser


@contextmanager
def _shared_code_servers(instance: dg.DagsterInstance, target: WorkspaceLoadTarget) -> Iterator[WorkspaceFileTarget]:
    """Start the code servers once for page and daemon, which would each start their own."""
    with (
        ProxyServerManager(instance, target, code_server_log_level="warning") as servers,
        TemporaryDirectory() as folder,
    ):
        workspace = Path(folder, "workspace.yaml")
        workspace.write_text(yaml.safe_dump({"load_from": list(servers.get_code_server_specs())}))
        yield WorkspaceFileTarget([str(workspace)])


@contextmanager
def _daemon(target: WorkspaceFileTarget, level: str, log_format: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        sys.executable,
        "-m",
        "dagster._daemon",
        "run",
        "--log-level",
        level,
        "--log-format",
        log_format,
        "--code-server-log-level",
        "warning",
    ]
    workspace = [part for path in target.paths for part in ("--workspace", path)]
    with subprocess.Popen([*command, *workspace]) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_SECONDS_FOR_DAEMON)
            except subprocess.TimeoutExpired:
                process.kill()


def _serve(server: uvicorn.Server, daemon: subprocess.Popen[bytes] | None) -> int:
    ended_early = threading.Event()

    def end_with(process: subprocess.Popen[bytes]) -> None:
        process.wait()
        if not server.should_exit:
            ended_early.set()
            server.should_exit = True

    if daemon is not None:
        threading.Thread(target=end_with, args=(daemon,), daemon=True).start()
    try:
        server.run()
    except KeyboardInterrupt:
        return 0
    if ended_early.is_set():
        _LOG.error("Dagster's daemon has ended, so no sensor runs: stopping")
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
