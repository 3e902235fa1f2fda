"""Google Cloud Storage as its client sees it: the XML interface, which is that of S3 with other credentials.

Belongs here: handing what the real client sends on to the embedded S3 server. Not here: storing anything.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import urlsplit

# Who comes without credentials, as the relay does.
ANYBODY = {"name": "anonymous", "actions": ["Read", "List", "Write"]}


class _Relay(BaseHTTPRequestHandler):
    """Passes requests on without their bearer token, which S3 knows nothing of."""

    s3: ClassVar[str]
    protocol_version = "HTTP/1.1"

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = {name: value for name, value in self.headers.items() if name.lower() not in {"authorization", "host"}}
        connection = http.client.HTTPConnection(self.s3, timeout=60)
        try:
            connection.request(self.command, self.path, body, sent)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _relay  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def google_storage(s3_endpoint: str, folder: Path) -> Iterator[dict[str, str]]:
    """A running server; the environment in which Google's client uses it."""
    relay = type("Relay", (_Relay,), {"s3": urlsplit(s3_endpoint).netloc})
    server = ThreadingHTTPServer(("127.0.0.1", 0), relay)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    account = folder / "account.json"
    nobody = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    address = f"http://127.0.0.1:{server.server_port}"
    account.write_text(json.dumps({**nobody, "gcs_base_url": address, "disable_oauth": True}), encoding="utf-8")
    try:
        yield {"GOOGLE_SERVICE_ACCOUNT": str(account)}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
