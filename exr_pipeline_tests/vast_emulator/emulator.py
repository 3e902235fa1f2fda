"""What stands around a command: which one a request means, access keys, faults, the log, the admin endpoints.

Belongs here: the above. Not here: what a command does (`api`) or HTTP (`server`).
"""

import collections
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Iterable
from email.message import Message
from typing import Any
from xml.sax.saxutils import escape

from exr_pipeline_tests.vast_emulator.answers import ApiError, DropConnectionError, not_implemented
from exr_pipeline_tests.vast_emulator.api import COMMANDS, Api
from exr_pipeline_tests.vast_emulator.columns import MAX_CELL, ROW_ID
from exr_pipeline_tests.vast_emulator.transactions import Engine

ACCESS_KEY = "test"


class Request:
    """A request: /bucket/schema/.../table?command&param=value."""

    def __init__(self, method: str, target: str, headers: Message, body: bytes) -> None:
        self.method, self.headers, self.body = method, headers, body
        self.header = headers.get
        path, _, query = target.partition("?")
        parts = [urllib.parse.unquote(p) for p in path.split("/") if p]
        self.pathname = "/" + "/".join(parts)
        self.bucket, self.path = (parts[0] if parts else ""), "/".join(parts[1:])
        self.schema, _, self.table = self.path.rpartition("/")
        self.params = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        first = next(iter(self.params), "")
        methods = dict(zip(("GET", "POST", "PUT", "DELETE"), COMMANDS.get(first, ()), strict=False))
        self.command = methods.get(method) or f"S3 {method} ?{first}".removesuffix(" ?")
        if self.command == "get_transaction" and self.header("tabular-get-vast-version"):
            self.command = "version"
        elif method == "HEAD" and self.bucket and not self.path and not first:
            self.command = "head_bucket"

    @property
    def txid(self) -> int:
        return int(self.header("tabular-txid") or 0)


class Emulator:
    """What the HTTP handlers share: engine, API, faults, counters."""

    def __init__(self, buckets: Iterable[str]) -> None:
        self.engine = Engine(buckets)
        self.api = Api(self.engine, MAX_CELL)
        self.lock = threading.Lock()
        self.faults: list[dict[str, Any]] = []
        self.reset()

    def reset(self) -> None:
        self.counts, self.answers = collections.Counter[str](), collections.Counter[str]()
        self.sent = collections.Counter[str]()
        self.agents, self.tables = collections.Counter[str](), collections.Counter[str]()
        self.latest = collections.deque[dict[str, Any]](maxlen=500)
        self.engine.stats.clear()
        self.engine.max_open = len(self.engine.open)

    def fault(self, req: Request) -> dict[str, Any]:
        with self.lock:
            for rule in self.faults:
                if not re.search(rule.get("match", ""), f"{req.command} {req.method} {req.pathname}"):
                    continue
                if rule.get("skip", 0) > 0:
                    rule["skip"] -= 1
                    continue
                rule["count"] = rule.get("count", 1) - 1
                if rule["count"] <= 0:
                    self.faults.remove(rule)
                return dict(rule)
        return {}

    def authorize(self, req: Request) -> None:
        value = req.header("Authorization", "")
        found = re.search(r"AWS4-HMAC-SHA256 .*Credential=([^/,\s]+)/.*Signature=[0-9a-f]{64}", value)
        if not found:
            raise ApiError(403, "AccessDenied", "no AWS signature v4 in the Authorization header")
        if found.group(1) != ACCESS_KEY:
            raise ApiError(403, "InvalidAccessKeyId", "the access key is not known")

    def serve(self, req: Request) -> tuple[int, dict[str, str], bytes | list[bytes]]:
        """(status, headers, body) for an API request; the body is bytes or a list of bytes."""
        began = time.monotonic()
        status: int | str = 500
        sent = 0
        rule: dict[str, Any] = {}
        try:
            rule = self.fault(req)
            if rule.get("delay"):
                time.sleep(rule["delay"])
            if rule.get("drop") in ("before", True):
                status = "dropped"
                raise DropConnectionError
            if rule.get("status"):
                code = rule.get("code", {503: "SlowDown"}.get(rule["status"], "EmulatorFault"))
                raise ApiError(rule["status"], code, "a fault the test asked for")
            self.authorize(req)
            method = getattr(self.api, req.command, None) if not req.command.startswith("_") else None
            if method is None:
                raise not_implemented(req.command)
            headers, body = method(req) or ({}, b"")
            if rule.get("drop") == "after":
                status = "dropped after"
                raise DropConnectionError
            status, sent = 200, len(body) if isinstance(body, bytes) else sum(map(len, body))
        except ApiError as e:
            status = e.status
            body = (
                f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{escape(e.code)}</Code><Message>'
                f"{escape(e.message)}</Message><Resource>{escape(req.pathname)}</Resource></Error>"
            )
            return status, {"Content-Type": "application/xml"}, body.encode()
        else:
            return status, headers, body
        finally:
            with self.lock:
                self.counts[req.command] += 1
                self.sent[req.command] += sent
                self.answers[f"{req.command} {status}"] += 1
                self.agents[req.header("User-Agent", "")] += 1
                if req.command in ("insert", "update", "delete", "query"):
                    self.tables[f"{req.command} {req.pathname}"] += 1
                self.latest.append(
                    {
                        "command": req.command,
                        "method": req.method,
                        "path": req.pathname,
                        "txid": req.header("tabular-txid"),
                        "status": status,
                        "bytes": len(req.body),
                        "fault": rule or None,
                        "ms": round(1000 * (time.monotonic() - began), 2),
                    }
                )

    # admin

    def admin(self, method: str, path: str, params: dict[str, str], body: bytes) -> Any:
        command = {
            ("GET", "log"): self._log,
            ("POST", "log/reset"): self._reset_log,
            ("GET", "fault"): lambda params, data: self.faults,
            ("POST", "fault"): self._add_faults,
            ("DELETE", "fault"): self._clear_faults,
            ("POST", "expire"): lambda params, data: {"expired": self.engine.expire(data.get("idle", 0))},
            ("GET", "tables"): self._tables,
            ("DELETE", "tables"): self._forget,
            ("GET", "rows"): self._rows,
        }.get((method, path))
        if command is None:
            raise ApiError(404, "NoSuchAdminCommand", f"{method} {path}")
        return command(params, json.loads(body or b"{}"))

    def _log(self, params: dict[str, str], data: Any) -> Any:
        with self.lock, self.engine.lock:
            return {
                "commands": dict(self.counts),
                "answers": dict(self.answers),
                "sent_bytes": dict(self.sent),
                "user_agents": dict(self.agents),
                "tables": dict(self.tables),
                "faults": self.faults,
                "latest": list(self.latest),
                "transactions": {
                    "open": len(self.engine.open),
                    "max_concurrent": self.engine.max_open,
                    **self.engine.stats,
                },
            }

    def _reset_log(self, params: dict[str, str], data: Any) -> Any:
        with self.lock, self.engine.lock:
            self.reset()
        return {}

    def _add_faults(self, params: dict[str, str], data: Any) -> Any:
        with self.lock:
            self.faults += data if isinstance(data, list) else [data]
            return list(self.faults)

    def _clear_faults(self, params: dict[str, str], data: Any) -> Any:
        with self.lock:
            self.faults.clear()
        return []

    def _tables(self, params: dict[str, str], data: Any) -> Any:
        return [
            {
                "bucket": t.bucket,
                "schema": t.schema,
                "table": t.name,
                "rows": len(t.ids),
                "columns": {f.name: str(f.type) for _, f in t.cols},
            }
            for t in self.engine.committed.tables.values()
        ]

    def _forget(self, params: dict[str, str], data: Any) -> Any:
        self.engine.forget()
        return []

    def _rows(self, params: dict[str, str], data: Any) -> Any:
        table = self.engine.committed.table(params["bucket"], params["schema"], params["table"])
        first = int(params.get("offset", 0))
        size = int(params.get("limit", len(table.ids)))
        names = [f.name for _, f in table.cols]
        cols = [table.ids[first : first + size].tolist()]
        cols += [table.column(n).slice(first, size).to_pylist() for n in names]
        return {
            "count": len(table.ids),
            "columns": {f.name: str(f.type) for _, f in table.cols},
            "rows": [dict(zip([ROW_ID, *names], row, strict=True)) for row in zip(*cols, strict=True)],
        }
