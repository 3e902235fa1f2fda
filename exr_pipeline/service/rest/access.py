"""Logging in, tokens and accounts.

Belongs here: those routes. Not here: what they do (`catalog.accounts`).
"""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from exr_pipeline.catalog import accounts
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.principals import EVERY_PROJECT, Permission
from exr_pipeline.errors import BadInputError
from exr_pipeline.service import browsers
from exr_pipeline.service.calls import BearerToken, Caller, Reading, Writes, database_of
from exr_pipeline.service.rest import shapes

router = APIRouter(tags=["access"])
SIGN_ON_PATH: Final = "/v1/auth/oidc/login"


@router.post("/auth/login", status_code=201, response_model=shapes.CreatedToken)
def log_in(
    body: shapes.Login, request: Request, database: Annotated[CatalogDatabase, Depends(database_of)]
) -> JSONResponse:
    """Get a token of twelve hours for a name and a password; for a page, in a cookie that no script can read."""
    if not body.session:
        secret, token = accounts.log_in(database, body.name, body.password)
        return JSONResponse(shapes.of_token(token).model_dump(mode="json") | {"secret": secret}, 201)
    # Else another site could log a browser in as somebody else.
    browsers.require_own_page(request)
    browsers.address_of(request)
    secret, token = accounts.log_in(database, body.name, body.password, label=browsers.SESSION_LABEL)
    answer = JSONResponse(shapes.of_token(token).model_dump(mode="json"), 201)
    begin_session(request, answer, database, secret)
    return answer


@router.post("/auth/logout", status_code=204)
def log_out(
    request: Request, principal: Caller, database: Annotated[CatalogDatabase, Depends(database_of)]
) -> Response:
    """End the session of a browser. Other tokens are revoked by DELETE /v1/tokens."""
    secret = browsers.cookie_of(request, browsers.SESSION)
    if secret is None:
        raise BadInputError("logout", "the request has no session: revoke a token by DELETE /v1/tokens")
    browsers.require_own_page(request)
    with database.transaction() as session:
        accounts.end_login(session, secret)
    answer = Response(status_code=204)
    browsers.end_session(request, answer)
    return answer


@router.get("/auth/methods")
def methods(request: Request) -> shapes.Methods:
    """How somebody can log in. `single_sign_on`: the path where it begins; null if there is none."""
    return shapes.Methods(single_sign_on=None if request.app.state.provider is None else SIGN_ON_PATH)


@router.get("/auth/me")
def me(principal: Caller) -> shapes.Me:
    """Who the token says that you are."""
    scopes = None if principal.scopes is None else sorted(principal.scopes)
    return shapes.Me(name=principal.name, roles=dict(principal.grants), scopes=scopes)


@router.get("/auth/check", status_code=204)
def check(
    request: Request,
    principal: Caller,
    credentials: BearerToken,
    permission: Annotated[
        Permission | None, Query(description="What the caller must be allowed to do in all projects.")
    ] = None,
    x_forwarded_method: Annotated[str, Header(description="The method of the request that the proxy holds.")] = "GET",
) -> Response:
    """Answer 204 to a valid token or session: for proxies that ask before they let a request through.

    The header `X-Forwarded-User` of the answer has the name of the account, percent-encoded.
    """
    if credentials is None:
        browsers.require_own_page(request, method=x_forwarded_method)
    if permission is not None:
        principal.require(permission, EVERY_PROJECT)
    return Response(status_code=204, headers={"X-Forwarded-User": quote(principal.name, safe=" @+")})


def begin_session(request: Request, answer: Response, database: CatalogDatabase, secret: str) -> None:
    """Put a new session in the cookie of an answer, and end the one that the browser had."""
    before = browsers.cookie_of(request, browsers.SESSION)
    if before is not None:
        with database.transaction() as session:
            accounts.end_login(session, before)
    browsers.set_cookie(request, answer, browsers.SESSION, secret)


@router.get("/tokens")
def own_tokens(session: Reading, principal: Caller) -> list[shapes.TokenShape]:
    """List the tokens of your own account."""
    return [shapes.of_token(token) for token in accounts.own_tokens(session, principal)]


@router.post("/tokens", status_code=201, response_model=shapes.CreatedToken)
def create_token(body: shapes.NewToken, call: Writes) -> JSONResponse:
    """Make a token of your own account. Its secret is shown this once."""
    secret = ""

    def act(session: Any) -> dict[str, Any]:
        nonlocal secret
        secret, token = accounts.create_token(
            session, call.principal, body.label, scopes=body.scopes, expires_at=body.expires_at
        )
        return shapes.of_token(token).model_dump(mode="json")

    return call.answer(act, body=body, secret=lambda: {"secret": secret})


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(token_id: UUID, call: Writes) -> Response:
    """Make a token of your own account worthless."""
    with call.database.transaction() as session:
        accounts.revoke_token(session, call.principal, str(token_id))
    return Response(status_code=204)


@router.get("/accounts")
def list_accounts(session: Reading, principal: Caller) -> list[shapes.AccountShape]:
    """List all accounts and their roles."""
    return [shapes.of_account(account, grants) for account, grants in accounts.accounts(session, principal)]


@router.post("/accounts", status_code=201, response_model=shapes.AccountShape)
def create_account(body: shapes.NewAccount, call: Writes) -> JSONResponse:
    """Make an account, without any role."""

    def act(session: Any) -> dict[str, Any]:
        account = accounts.create_account(
            session, call.principal, body.name, password=body.password, is_service=body.is_service
        )
        return shapes.of_account(account, ()).model_dump(mode="json")

    return call.answer(act, body=body)


@router.put("/accounts/{name}/role", status_code=204)
def set_role(name: shapes.Name, body: shapes.NewRole, call: Writes) -> Response:
    """Give an account a role, or take it away."""
    with call.database.transaction() as session:
        accounts.set_role(session, call.principal, name, body.role, project=body.project)
    return Response(status_code=204)


@router.post("/accounts/{name}/tokens", status_code=201, response_model=shapes.CreatedToken)
def create_token_for(name: shapes.Name, body: shapes.NewToken, call: Writes) -> JSONResponse:
    """Make a token of an account, such as a service. Its secret is shown this once."""
    secret = ""

    def act(session: Any) -> dict[str, Any]:
        nonlocal secret
        secret, token = accounts.create_token_for(
            session, call.principal, name, body.label, scopes=body.scopes, expires_at=body.expires_at
        )
        return shapes.of_token(token).model_dump(mode="json")

    return call.answer(act, body=body, secret=lambda: {"secret": secret})


@router.post("/accounts/{name}/disable", status_code=204)
def disable_account(name: shapes.Name, call: Writes) -> Response:
    """Refuse all logins and tokens of an account from now on."""
    with call.database.transaction() as session:
        accounts.disable_account(session, call.principal, name)
    return Response(status_code=204)
