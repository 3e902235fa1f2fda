"""One request as the services see it: who calls, the transaction, and the headers that make repeating it safe.

Belongs here: that, as FastAPI's dependencies. Not here: any one route (`rest`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from exr_pipeline.catalog import accounts, idempotency, identities
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.errors import ConflictError, UnauthenticatedError
from exr_pipeline.catalog.principals import Principal
from exr_pipeline.errors import BadInputError
from exr_pipeline.service import browsers

if TYPE_CHECKING:
    from pydantic import BaseModel
    from sqlalchemy.orm import Session

    from exr_pipeline.service.sign_on import Provider

_VERSION: Final = re.compile(r'"(\d{1,18})"')
# Tokens of the catalog have no dots.
_JWT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)

_bearer = HTTPBearer(auto_error=False, description="A token of the catalog: POST /v1/auth/login or /v1/tokens.")
BearerToken = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def database_of(request: Request) -> CatalogDatabase:
    """The catalog's database."""
    found: CatalogDatabase = request.app.state.database
    return found


def caller(
    request: Request,
    database: Annotated[CatalogDatabase, Depends(database_of)],
    credentials: BearerToken,
) -> Principal:
    """Who calls, by a token or by the cookie of a browser's session.

    Raises `UnauthenticatedError` for a request without either, and `ForbiddenError` where another site's page made a
    browser send the cookie.
    """
    if credentials is None:
        secret = browsers.cookie_of(request, browsers.SESSION)
        if secret is None:
            raise UnauthenticatedError("Authorization", "there is no bearer token")
        browsers.require_own_page(request)
    else:
        secret = credentials.credentials
        if _JWT.fullmatch(secret) is not None and request.app.state.provider is not None:
            return _service_of_provider(database, request.app.state.provider, secret)
    with database.transaction(read_only=True) as session:
        principal = accounts.authenticate(session, secret)
        is_use_to_note = accounts.is_use_to_note(session, secret)
    if is_use_to_note:
        with database.transaction() as session:
            accounts.note_use(session, secret)
    return principal


def _service_of_provider(database: CatalogDatabase, provider: Provider, token: str) -> Principal:
    claims = provider.verify(token)
    with database.transaction(read_only=True) as session:
        is_known = identities.is_known(session, provider.issuer, claims["sub"])
    if not is_known:
        # Of two first requests at once, the second finds what the first has made.
        with suppress(ConflictError), database.transaction() as session:
            identities.ensure_account(session, provider.issuer, claims)
    with database.transaction(read_only=True) as session:
        return identities.principal_of(session, provider.issuer, claims, provider.rules)


def reading(database: Annotated[CatalogDatabase, Depends(database_of)]) -> Iterator[Session]:
    """A transaction for a request that only reads."""
    with database.transaction(read_only=True) as session:
        yield session


def required_version(
    _: Annotated[Principal, Depends(caller)],
    if_match: Annotated[str | None, Header(description='The ETag, such as "3".')] = None,
) -> int:
    """The version that the caller has read, from `If-Match`; asked for once it is known who calls."""
    if if_match is None:
        raise HTTPException(428, "If-Match is missing: send the ETag of what you have read")
    found = _VERSION.fullmatch(if_match.strip())
    if found is None:
        raise BadInputError("If-Match", "it is not an ETag of this service")
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Writing:
    """A request that changes something: who makes it, and its key if it bears one."""

    database: CatalogDatabase
    principal: Principal
    key: str | None
    place: str

    def act(
        self,
        action: Callable[[Session], dict[str, Any]],
        *,
        body: BaseModel | None = None,
        status: int = 201,
        secret: Callable[[], dict[str, Any]] = dict,
    ) -> idempotency.Answer:
        """The status and the result of an action in a transaction of its own; with a key, those that it had before.

        `secret` gives what only the first result has, for it is not kept.
        """
        is_first = False

        def act() -> idempotency.Answer:
            nonlocal is_first
            is_first = True
            return status, action(session)

        with self.database.transaction() as session:
            if self.key is None:
                status, found = act()
            else:
                request = f"{self.place}\n{'' if body is None else body.model_dump_json()}".encode()
                status, found = idempotency.once(session, self.principal, self.key, request, act)
        return status, found | (secret() if is_first else {})

    def answer(
        self,
        action: Callable[[Session], dict[str, Any]],
        *,
        body: BaseModel | None = None,
        status: int = 201,
        secret: Callable[[], dict[str, Any]] = dict,
    ) -> JSONResponse:
        """The same as an answer."""
        status, found = self.act(action, body=body, status=status, secret=secret)
        headers = {"ETag": f'"{found["version"]}"'} if "version" in found else None
        return JSONResponse(found, status, headers=headers)


def writing(
    request: Request,
    database: Annotated[CatalogDatabase, Depends(database_of)],
    principal: Annotated[Principal, Depends(caller)],
    idempotency_key: Annotated[
        str | None,
        Header(max_length=200, description="The same request with the same key has the same answer, and no effect."),
    ] = None,
) -> Writing:
    """The request as one that changes something."""
    return Writing(database, principal, idempotency_key, f"{request.method} {request.url.path}")


Caller = Annotated[Principal, Depends(caller)]
Reading = Annotated["Session", Depends(reading)]
RequiredVersion = Annotated[int, Depends(required_version)]
Writes = Annotated[Writing, Depends(writing)]
