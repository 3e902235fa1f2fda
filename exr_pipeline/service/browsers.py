"""Browsers: the cookies of their sessions, and which pages may use them.

A browser sends a cookie whoever asks it to. So a cookie is not enough where something changes: the browser must say
that a page of this service asks. Belongs here: that. Not here: who a session is of (`catalog.accounts`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exr_pipeline.addresses import is_loopback, is_same_address, split_address
from exr_pipeline.catalog.accounts import LOGIN_HOURS
from exr_pipeline.catalog.errors import ForbiddenError
from exr_pipeline.catalog.identities import SIGN_IN_SECONDS
from exr_pipeline.errors import BadInputError, MisconfiguredError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from fastapi import Request, Response

SETTING: Final = "EXR_PIPELINE_SERVICE_URL"
# The label of the tokens that are in cookies.
SESSION_LABEL: Final = "browser"
SESSION: Final = "exr_session"
SIGN_IN: Final = "exr_sign_in"
_SECONDS: Final = {SESSION: LOGIN_HOURS * 3600, SIGN_IN: SIGN_IN_SECONDS}
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def check_service_url(url: str | None) -> str | None:
    """The address without a slash at its end. Raises `MisconfiguredError` if sessions would not be safe there."""
    if url is None:
        return None
    parts = split_address(url)
    if parts is None or parts.query or parts.fragment or parts.scheme not in {"http", "https"}:
        raise MisconfiguredError(SETTING, "it is not an address", "write https://HOST or https://HOST:PORT")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise MisconfiguredError(SETTING, "passwords would travel unencrypted", "put a proxy with TLS in front: https")
    return url.rstrip("/")


def address_of(request: Request) -> str:
    """The address under which the browser reaches the service.

    Raises `MisconfiguredError` where no setting says it and it is not this machine's: a browser can be told any `Host`.
    """
    if request.app.state.service_url is not None:
        return str(request.app.state.service_url)
    host = request.headers.get("host", "")
    parts = split_address(f"//{host}")
    if parts is None or not is_loopback(parts.hostname or ""):
        raise MisconfiguredError(SETTING, "it is not set", "set it to the address that browsers use")
    return f"{request.url.scheme}://{host}"


def cookie_of(request: Request, kind: str) -> str | None:
    """The secret in the cookie of this kind, if the browser sent one."""
    # Whether this is TLS is not asked: a cookie of either name came from this service.
    return request.cookies.get(f"__Host-{kind}") or (
        request.cookies.get(kind) if request.app.state.service_url is None else None
    )


def set_cookie(request: Request, response: Response, kind: str, secret: str) -> None:
    """Have the browser keep a secret, out of reach of scripts and of other sites."""
    is_secure = address_of(request).startswith("https:")
    response.set_cookie(
        _name(kind, is_secure=is_secure),
        secret,
        max_age=_SECONDS[kind],
        path="/",
        secure=is_secure,
        httponly=True,
        samesite="lax",
    )


def end_session(request: Request, response: Response) -> None:
    """Have the browser forget the secret of its session."""
    is_secure = address_of(request).startswith("https:")
    name = _name(SESSION, is_secure=is_secure)
    response.delete_cookie(name, path="/", secure=is_secure, httponly=True, samesite="lax")


def require_own_page(request: Request, *, method: str | None = None) -> None:
    """Raise `ForbiddenError` unless a page of this service asks, where something may change or the origin is known."""
    headers = request.headers
    origin = headers.get("origin")
    if origin is not None:
        own = _own_address(request)
        if own is None or not is_same_address(origin, own):
            raise ForbiddenError("browser", "a page of another site asks, which may not use the session")
    elif (method or request.method) not in _SAFE_METHODS and headers.get("sec-fetch-site") != "same-origin":
        raise ForbiddenError("browser", "it does not say which page asks: send Origin, or a token in Authorization")


def own_path(text: str) -> str:
    """A place of this service that a browser may be sent to. Raises `BadInputError` for any other place."""
    # Browsers take a backslash for a slash, and pass over tabs and line feeds.
    if not text.startswith("/") or text.startswith("//") or "\\" in text or not text.isprintable():
        raise BadInputError("next", "it is not a path of this service")
    return text


def _name(kind: str, *, is_secure: bool) -> str:
    # With the prefix, no other site, not even one of the same domain, can set it.
    return f"__Host-{kind}" if is_secure else kind


def _own_address(request: Request) -> SplitResult | None:
    return split_address(request.app.state.service_url or f"//{request.headers.get('host', '')}")
