"""Logging in, tokens and accounts.

Belongs here: those routes. Not here: what they do (`catalog.accounts`).
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse

from exr_pipeline.catalog import accounts
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.service.calls import Caller, Reading, Writes, database_of
from exr_pipeline.service.rest import shapes

router = APIRouter(tags=["access"])


@router.post("/auth/login", status_code=201, response_model=shapes.CreatedToken)
def log_in(body: shapes.Credentials, database: Annotated[CatalogDatabase, Depends(database_of)]) -> JSONResponse:
    """Get a token of twelve hours for a name and a password."""
    secret, token = accounts.log_in(database, body.name, body.password)
    return JSONResponse(shapes.of_token(token).model_dump(mode="json") | {"secret": secret}, 201)


@router.get("/auth/me")
def me(principal: Caller) -> shapes.Me:
    """Who the token says that you are."""
    scopes = None if principal.scopes is None else sorted(principal.scopes)
    return shapes.Me(name=principal.name, roles=dict(principal.grants), scopes=scopes)


@router.get("/auth/check", status_code=204)
def check(principal: Caller) -> Response:
    """Answer 204 to a valid token: for proxies that ask before they let a request through."""
    return Response(status_code=204)


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
