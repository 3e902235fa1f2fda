"""Requests to whichever server answers: another one is asked where one is away, and a request has an effect once.

Belongs here: that. Not here: what is asked (`client`). The token goes to the servers that it was given for, and to no
other address.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError

PATIENCE_SECONDS: Final = 60.0
_TIMEOUT_SECONDS: Final = 60.0
_CONNECT_SECONDS: Final = 5.0
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class RefusedError(BadInputError):
    """The catalog has refused a request: `status` is that of HTTP, the reason is the catalog's."""

    def __init__(self, name: str, reason: str, status: int) -> None:
        super().__init__(name, reason)
        self.status = status

    def __reduce__(self) -> tuple[type[RefusedError], tuple[str, str, int]]:  # type: ignore[override]
        return type(self), (self.name, self.reason, self.status)


class Calls:
    """Connections to the servers of one catalog. Safe to share between threads.

    A server that does not answer, or says that it cannot now, is tried again after all others, for `patience` seconds;
    then `RetryableError` is raised. Raises `RefusedError` for what is refused.
    """

    def __init__(self, servers: Sequence[str], token: str, *, patience: float = PATIENCE_SECONDS) -> None:
        import httpx

        if not servers or not all(server.startswith(("http://", "https://")) for server in servers):
            raise MisconfiguredError(
                "EXR_PIPELINE_SERVERS", "it does not name servers", "write https://host, or several with commas"
            )
        self._servers = [server.rstrip("/") for server in servers]
        self._first = 0
        self.patience = patience
        timeout = httpx.Timeout(_TIMEOUT_SECONDS, connect=_CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        self._http = httpx.Client(timeout=timeout, limits=limits, headers={"Authorization": f"Bearer {token}"})
        # Stores are asked without the token.
        self.plain = httpx.Client(timeout=timeout, limits=limits)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
        self.plain.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """What is at a path, as JSON."""
        present = {name: value for name, value in parameters.items() if value is not None}
        return self.ask("GET", path, params=present).json()

    def post(self, path: str, body: Mapping[str, Any], *, key: str | None = None) -> Any:
        """The answer to a POST, which is the same for the same key."""
        return self.ask("POST", path, json=body, headers={"Idempotency-Key": key or uuid4().hex}).json()

    def stream(self, path: str, headers: Mapping[str, str]) -> Any:
        """The answer of the server that answered last, as a context to read its body in. Errors are the caller's."""
        return self._http.stream("GET", self._servers[self._first % len(self._servers)] + path, headers=headers)

    def turn_to_next(self) -> None:
        """Ask another server first."""
        self._first += 1

    def ask(
        self,
        method: str,
        path: str,
        *,
        content: Callable[[], Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Any:
        """The answer of the first server that has one. `content` makes the body of each try."""
        import httpx

        begun, wait, problem = time.monotonic(), _FIRST_WAIT, ""
        while True:
            for _ in self._servers:
                server = self._servers[self._first % len(self._servers)]
                body = {} if content is None else {"content": content()}
                try:
                    answer = self._http.request(method, server + path, headers=headers, **options, **body)
                except httpx.TransportError as error:
                    problem = f"{server}: {type(error).__name__}"
                else:
                    if answer.status_code not in PASSING:
                        return accepted(answer, path)
                    problem = f"{server}: HTTP {answer.status_code} {_reason(answer)}".rstrip()
                    wait = max(wait, _asked_wait(answer))
                self.turn_to_next()
            if time.monotonic() - begun + wait > self.patience:
                raise RetryableError(f"no server of the catalog answers: {problem}. Try again later")
            # Those who were turned away together do not come back together.
            time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - nothing secret depends on it
            wait = min(2 * wait, _LONGEST_WAIT)


def accepted(answer: Any, path: str) -> Any:
    """An answer, unless it is a refusal: that raises `RefusedError`."""
    if answer.status_code < 400:
        return answer
    raise RefusedError(path, f"{_reason(answer)} (HTTP {answer.status_code})", answer.status_code)


def _reason(answer: Any) -> str:
    try:
        found = answer.json()
        return str(found.get("detail") or found.get("title") or "")
    except (ValueError, AttributeError):
        return ""


def _asked_wait(answer: Any) -> float:
    asked = answer.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_WAIT) if asked.isdigit() else 0.0
