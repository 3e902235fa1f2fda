"""The HTTP server of the emulator, and its command line.

Belongs here: HTTP. Not here: what a request means (`emulator`).

    python -m exr_pipeline_tests.vast_emulator --port 9090 --bucket vastdb
    session = vastdb.connect(endpoint="http://127.0.0.1:9090", access="test", secret="test")

Every transaction reads the snapshot taken when it began plus its own writes; a commit replays its operations on the
newest committed state. Everything is in memory.

Admin endpoints (no authentication, JSON):
    GET  /__emulator__/log                       counters, transactions, the latest requests
    POST /__emulator__/log/reset                 zero the counters
    GET  /__emulator__/rows?bucket=&schema=&table=[&limit=&offset=]   committed rows
    GET / DELETE /__emulator__/tables            committed tables and their columns / drop every table and schema
    POST /__emulator__/fault {"match": "insert", "count": 3, "skip": 0, "status": 503, "code": "SlowDown"}
                             {"match": "commit", "drop": "before"}  close the connection, nothing is executed
                             {"match": "commit", "drop": "after"}   execute, then close without an answer
                             {"match": "query",  "delay": 2.5}      sleep, then serve as usual
    GET / DELETE /__emulator__/fault             list / clear the pending faults
    POST /__emulator__/expire {"idle": 0}        roll back transactions idle for at least that many seconds
`match` is a regular expression searched in "<command> <METHOD> <path>"; the commands are in `api.COMMANDS`.
"""

import argparse
import base64
import contextlib
import json
import signal
import socket
import sys
import threading
import time
import traceback
import urllib.parse
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

from exr_pipeline_tests.vast_emulator.answers import ApiError, DropConnectionError
from exr_pipeline_tests.vast_emulator.emulator import Emulator, Request

VERSION = "vast 5.5.0.0"
TX_TIMEOUT_SECONDS = 600  # a transaction idle for so long is rolled back


def to_json(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    emulator: Emulator

    def version_string(self) -> str:
        return VERSION

    def log_message(self, *args: object) -> None:
        """Nothing: the log endpoint tells."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer: bytes | list[bytes]
        try:
            if self.path.startswith("/__emulator__/"):
                status, headers, answer = self._admin(body)
            else:
                status, headers, answer = self.emulator.serve(Request(self.command, self.path, self.headers, body))
        except DropConnectionError:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        except Exception as e:  # noqa: BLE001 - a defect of the emulator: tell, and keep serving
            traceback.print_exc()
            status, headers = 500, {"Content-Type": "application/xml"}
            answer = f"<Error><Code>InternalError</Code><Message>{escape(repr(e))}</Message></Error>".encode()
        parts = answer if isinstance(answer, list) else [answer]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(sum(len(p) for p in parts)))
        self.end_headers()
        if self.command != "HEAD":
            for part in parts:
                self.wfile.write(part)
        self.wfile.flush()

    def _admin(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        url = urllib.parse.urlsplit(self.path)
        params = dict(urllib.parse.parse_qsl(url.query))
        status = 200
        try:
            answer = self.emulator.admin(self.command, url.path.removeprefix("/__emulator__/"), params, body)
        except ApiError as e:
            answer, status = {"error": e.message}, e.status
        except (KeyError, ValueError) as e:
            answer, status = {"error": repr(e)}, 400
        return status, {"Content-Type": "application/json"}, json.dumps(answer, default=to_json).encode()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle  # noqa: N815 - http.server's names


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--port", type=int, default=9090, help="0 picks a free one")
    p.add_argument("--bucket", action="append", help="a bucket that exists (repeatable; default: vastdb)")
    args = p.parse_args(argv)
    Handler.emulator = Emulator(args.bucket or ["vastdb"])
    server = Server(("127.0.0.1", args.port), Handler)

    def sweep() -> None:
        while True:
            time.sleep(1)
            Handler.emulator.engine.expire(TX_TIMEOUT_SECONDS)

    threading.Thread(target=sweep, daemon=True).start()
    stop = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: stop.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"ready on http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    stop.wait()
