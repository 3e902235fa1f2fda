"""A function as VAST DataEngine runs it: a process that is sent CloudEvents over HTTP, one to a request, or a batch.

Usage: `runtime_server.py PORT SECRETS`, in the folder of the function's `main.py`. SECRETS is a file of JSON. Belongs
here: what the runtime answers: 204 whatever the function returns, 500 if it raises, and the platform sends the events
again then. Not here: where events come from (`services.dataengine`).
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from exr_pipeline.functions.dataengine import batch_handler
from exr_pipeline_tests.functions.runtimes import Context, RuntimeEvent

_LOG = logging.getLogger("function")


class Runtime(ThreadingHTTPServer):
    """Calls the function; several threads at once, as the platform may."""

    daemon_threads = True

    def __init__(self, port: int, secrets: Path) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.context = Context(secrets=json.loads(secrets.read_text(encoding="utf-8")))
        self.main: Any = importlib.import_module("main")
        self.main.init(self.context)

    def call(self, sent: Any) -> None:
        """Call the function with an event, or with a list of them: then it is one whose handler takes batches."""
        if isinstance(sent, list):
            batch_handler(self.context, [RuntimeEvent(event) for event in sent])
        else:
            self.main.handler(self.context, RuntimeEvent(sent))


class _Handler(BaseHTTPRequestHandler):
    server: Runtime

    def do_GET(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.server.call(json.loads(body))
        except Exception:  # noqa: BLE001 - whatever it is, the platform sends the event again
            _LOG.exception("the function raised")
            self._answer(500)
        else:
            self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the function logs."""


def run(port: int, secrets: Path) -> None:
    """Serve until killed. Whatever imports Dagster fails: a function has none."""
    sys.modules["dagster"] = None  # type: ignore[assignment]
    sys.path.insert(0, str(Path.cwd()))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    Runtime(port, secrets).serve_forever()


if __name__ == "__main__":
    run(int(sys.argv[1]), Path(sys.argv[2]))
