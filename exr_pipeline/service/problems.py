"""Errors as problem details: each kind of error has a status, and says what happened and what to do.

Belongs here: that mapping. Not here: raising errors. Source: RFC 9457.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from exr_pipeline.catalog.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    StaleError,
    TooManyAttemptsError,
    UnauthenticatedError,
)
from exr_pipeline.errors import (
    BadInputError,
    ExrPipelineError,
    MisconfiguredError,
    RetryableError,
    StateUnknownError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE: Final = "application/problem+json"
BAD_INPUT: Final = "Bad input"
_LOG = logging.getLogger(__name__)

# The first that fits: kinds of a kind come before it.
_STATUSES: Final[tuple[tuple[type[ExrPipelineError], int, str], ...]] = (
    (UnauthenticatedError, 401, "Unauthenticated"),
    (ForbiddenError, 403, "Forbidden"),
    (NotFoundError, 404, "Not found"),
    (ConflictError, 409, "Conflict"),
    (StaleError, 412, "Changed meanwhile"),
    (TooManyAttemptsError, 429, "Too many attempts"),
    (BadInputError, 422, BAD_INPUT),
    (RetryableError, 503, "Not available now"),
    (StateUnknownError, 500, "State unknown"),
    (MisconfiguredError, 500, "Misconfigured"),
)
_HEADERS: Final[Mapping[int, dict[str, str]]] = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "300"},
    503: {"Retry-After": "2"},
}
_LOOK_FIRST: Final = "Read it by its identifier before you try again: it may have happened."

# For the OpenAPI document: what any route may answer.
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": title,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, title in (
        (400, "Bad request"),
        (401, "Unauthenticated"),
        (403, "Forbidden"),
        (404, "Not found"),
        (409, "Conflict"),
        (412, "Changed meanwhile"),
        (413, "Too large"),
        (422, BAD_INPUT),
        (428, "If-Match is missing"),
        (429, "Too many attempts"),
        (503, "Not available now"),
    )
}
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


def install(app: FastAPI) -> None:
    """Have the application answer errors as problem details."""
    app.add_exception_handler(HTTPException, _of_http)
    for kind in (ExrPipelineError, RequestValidationError, Exception):
        app.add_exception_handler(kind, _of_error)


def members(status: int, title: str, detail: str = "", **more: Any) -> dict[str, Any]:
    """The members of a problem."""
    found: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    return found | ({"detail": detail} if detail else {}) | more


def describe(error: Exception) -> dict[str, Any]:
    """An error as the members of a problem. What is the operator's business, or the program's, is logged instead."""
    if isinstance(error, ExrPipelineError):
        status, title = next((status, title) for kind, status, title in _STATUSES if isinstance(error, kind))
        if status != 500:
            return members(status, title, str(error))
        _LOG.error("%s", error)
        return members(status, title, _LOOK_FIRST if isinstance(error, StateUnknownError) else "See the service's log.")
    if isinstance(error, RequestValidationError):
        # Without what was sent: it may be a secret.
        errors = [{"where": [str(step) for step in each["loc"]], "problem": each["msg"]} for each in error.errors()]
        return members(422, BAD_INPUT, "The request does not fit its description: see errors.", errors=errors)
    _LOG.error("an error of the program", exc_info=error)
    return members(500, "Error of the program", "It is in the service's log.")


def problem(found: Mapping[str, Any]) -> JSONResponse:
    """A problem as an answer."""
    status: int = found["status"]
    return JSONResponse(found, status, headers=_HEADERS.get(status), media_type=MEDIA_TYPE)


class InPlaceOfText:
    """Wraps an application: the framework's own answer to a body that is too long becomes a problem too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        is_replaced = False

        async def replacing(message: Message) -> None:
            nonlocal is_replaced
            if message["type"] == "http.response.start" and message["status"] == 413:
                is_replaced = True
                await problem(members(413, "Too large", "The body is too long."))(scope, receive, send)
            if not is_replaced:
                await send(message)

        await self._app(scope, receive, replacing)


async def _of_error(_: Request, error: Exception) -> JSONResponse:
    return problem(describe(error))


async def _of_http(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    answer = problem(members(error.status_code, str(error.detail)))
    answer.headers.update(error.headers or {})
    return answer
