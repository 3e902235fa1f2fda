"""A provider of OpenID Connect in a process of its own: another project's, made strict, which lies when asked to.

Belongs here: starting it, registering, logging in there, and lies. Not here: what the catalog makes of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from exr_pipeline_tests.services.processes import Service, answers, free_port, wait_until


class OidcProvider:
    """A running one. `issuer` is its address."""

    def __init__(self, issuer: str, service: Service) -> None:
        self.issuer, self.service = issuer, service
        self._client = httpx.Client(base_url=issuer, timeout=60)

    def register(self, redirect_uri: str) -> tuple[str, str]:
        """Name and secret of a new client."""
        answer = self._client.post("/oauth2/clients", json={"redirect_uris": [redirect_uri]}).raise_for_status().json()
        return answer["client_id"], answer["client_secret"]

    def add_user(self, subject: str, **claims: Any) -> None:
        """Somebody who may log in there."""
        self._client.put(f"/users/{subject}", json=claims).raise_for_status()

    def log_in(self, address: str, subject: str) -> str:
        """What somebody does there: the address that the browser is sent back to."""
        answer = self._client.post(address, data={"sub": subject})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def refuse(self, address: str) -> str:
        """The same for somebody who does not agree."""
        return self._client.post(address, data={"action": "deny"}).headers["location"]

    def forge(self, algorithm: str = "RS256", **claims: Any) -> None:
        """Have the next proof of a login say something else; a claim that is None is left out."""
        self._client.put("/test/forge", json={"algorithm": algorithm, "claims": claims}).raise_for_status()

    def token(self, *, key: str = "its own", **claims: Any) -> str:
        """An access token of a service, signed by the provider, or by somebody else."""
        body = {"iss": self.issuer, "exp": int(time.time()) + 600, **claims}
        return self._client.post("/test/token", json={"key": key, "claims": body}).raise_for_status().text


@contextmanager
def oidc_provider(folder: Path) -> Iterator[OidcProvider]:
    """A provider for as long as it is needed."""
    port = free_port()
    command: list[str | Path] = [sys.executable, "-m", __name__, str(port)]
    environment = {**os.environ, "AUTHLIB_INSECURE_TRANSPORT": "1"}
    with Service("provider", command, folder / "provider.log", environment=environment) as service:
        wait_until(lambda: answers(port) or not service.is_running, "the provider answers", seconds=60)
        assert service.is_running, service.log_tail()
        yield OidcProvider(f"http://127.0.0.1:{port}", service)


def main() -> None:
    """Serve until terminated."""
    import oidc_provider_mock
    import werkzeug.serving

    app = oidc_provider_mock.app(require_client_registration=True, require_nonce=True)
    _require_pkce(app)
    _lie(app)
    werkzeug.serving.make_server("127.0.0.1", int(sys.argv[1]), app, threaded=True).serve_forever()


def _require_pkce(app: Any) -> None:
    """It does not know PKCE by itself."""
    from flask import request

    challenges: dict[str, str] = {}

    @app.before_request
    def check() -> Any:
        if request.path == "/oauth2/authorize" and request.args.get("code_challenge_method") != "S256":
            return "PKCE is required", 400
        if request.path == "/oauth2/token":
            hashed = hashlib.sha256(request.form.get("code_verifier", "").encode()).digest()
            if _encoded(hashed) != challenges.pop(request.form["code"], None):
                return {"error": "invalid_grant"}, 400
        return None

    @app.after_request
    def remember(answer: Any) -> Any:
        if request.path == "/oauth2/authorize" and answer.status_code == 302:
            for code in parse_qs(urlsplit(answer.headers["location"]).query).get("code", ()):
                challenges[code] = request.args["code_challenge"]
        return answer


def _lie(app: Any) -> None:
    from flask import g, request
    from joserfc.jwk import OctKey, RSAKey

    forged: dict[str, Any] = {}

    def its_key() -> Any:
        return RSAKey.import_key(g.oidc_provider_mock_storage.jwk.as_dict(is_private=True))

    @app.put("/test/forge")
    def forge() -> Any:
        forged.update(request.json)
        return "", 204

    @app.post("/test/token")
    def token() -> Any:
        wanted = request.json
        key = its_key() if wanted["key"] == "its own" else RSAKey.generate_key(2048)
        return _signed(wanted["claims"], key, its_key().thumbprint())

    @app.after_request
    def answer_forged(answer: Any) -> Any:
        if request.path == "/oauth2/token" and answer.status_code == 200 and forged:
            body = answer.get_json()
            part = body["id_token"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) | forged["claims"]
            is_secret = forged["algorithm"] == "HS256"
            key = OctKey.import_key("the secret of a client, or a guess") if is_secret else its_key()
            body["id_token"] = _signed(claims, key, its_key().thumbprint(), forged["algorithm"])
            answer.set_data(json.dumps(body))
            forged.clear()
        return answer


def _signed(claims: Mapping[str, Any], key: Any, key_id: str, algorithm: str = "RS256") -> str:
    from joserfc import jwt

    there = {name: value for name, value in claims.items() if value is not None}
    if algorithm == "none":
        return ".".join([*(_encoded(json.dumps(each).encode()) for each in ({"alg": "none"}, there)), ""])
    return jwt.encode({"alg": algorithm, "kid": key_id}, there, key, algorithms=[algorithm])


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


if __name__ == "__main__":
    main()
