"""Single sign-on: where a browser begins to log in, and where the provider sends it back to.

Belongs here: those routes. Not here: what the provider says (`service.sign_on`), or accounts (`catalog.identities`).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse

from exr_pipeline.catalog import identities
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.errors import ConflictError, NotFoundError, UnauthenticatedError
from exr_pipeline.service import browsers
from exr_pipeline.service.calls import database_of
from exr_pipeline.service.rest.access import begin_session
from exr_pipeline.service.sign_on import Provider
from exr_pipeline.untrusted_text import visible_line

router = APIRouter(tags=["access"])
_CALLBACK = "/v1/auth/oidc/callback"
_REDIRECT: dict[int | str, dict[str, Any]] = {303: {"description": "To the next page"}}
_Database = Annotated[CatalogDatabase, Depends(database_of)]
# All of them, encoded, fit into the longest line that a server takes.
_Word = Annotated[str, Query(max_length=200)]
_Code = Annotated[str, Query(max_length=2000)]


def provider_of(request: Request) -> Provider:
    """The provider. Raises `NotFoundError` if no setting names one."""
    found: Provider | None = request.app.state.provider
    if found is None:
        raise NotFoundError("single sign-on", "provider: EXR_PIPELINE_OIDC_ISSUER is not set")
    return found


_Provider = Annotated[Provider, Depends(provider_of)]


@router.get("/auth/oidc/login", status_code=303, response_class=RedirectResponse, responses=_REDIRECT)
def begin(
    request: Request,
    provider: _Provider,
    database: _Database,
    destination: Annotated[
        str, Query(alias="next", max_length=2000, description="The path to go to afterwards.")
    ] = "/",
) -> RedirectResponse:
    """Send a browser to the provider, to log in."""
    destination = browsers.own_path(destination)
    url, state, begun = provider.begin(browsers.address_of(request) + _CALLBACK, destination)
    with database.transaction() as session:
        secret = identities.begin_sign_in(session, state, begun, browsers.cookie_of(request, browsers.SIGN_IN))
    answer = RedirectResponse(url, 303)
    browsers.set_cookie(request, answer, browsers.SIGN_IN, secret)
    return answer


@router.get("/auth/oidc/callback", status_code=303, response_class=RedirectResponse, responses=_REDIRECT)
def finish(
    request: Request,
    provider: _Provider,
    database: _Database,
    state: _Word = "",
    code: _Code = "",
    error: _Word = "",
) -> RedirectResponse:
    """Begin the session of a browser that comes back from the provider."""
    secret = browsers.cookie_of(request, browsers.SIGN_IN) or ""
    with database.transaction() as session:
        begun = identities.end_sign_in(session, state, secret)
    if begun is None:
        raise UnauthenticatedError("login", "it took too long, or was begun in another browser: begin again")
    if error or not code:
        raise UnauthenticatedError("login", f"the provider refused it: {visible_line(error) or 'without a reason'}")
    claims = provider.finish(code, begun)
    answer = RedirectResponse(begun.destination, 303)
    begin_session(request, answer, database, _log_in(database, provider, claims))
    return answer


def _log_in(database: CatalogDatabase, provider: Provider, claims: Any) -> str:
    def attempt() -> str:
        with database.transaction() as session:
            return identities.log_in(session, provider.issuer, claims, provider.rules, label=browsers.SESSION_LABEL)[0]

    try:
        return attempt()
    except ConflictError:
        # Of two first logins at once, the second finds what the first has made.
        return attempt()
