"""Which endpoints and keys a function uses: those of the event, else of the platform's secrets, else of the settings.

Belongs here: that order, and no more trust in an event than it deserves. Not here: clients (`pipeline`). Nothing here
is logged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.settings import Settings, first_fault

# Of an event or of a secret, by the settings that they stand for.
_FIELDS: Final = ("endpoint", "access_key", "secret_key")
_SERVICES: Final = ("s3", "vast_db")
# What the functions before this one write to if nothing is said.
_DEFAULT_BUCKET: Final = "exr-data"


def function_settings(secrets: Any, payload: Mapping[str, Any] | None = None) -> Settings:
    """The settings of one call.

    `secrets` is `ctx.secrets`: mappings by the name of a secret. `payload` is the event's data. An event that names an
    endpoint must name both of its keys too: else whoever can send events could have requests signed with our keys sent
    wherever they like. Raises `BadInputError` for such an event, and `MisconfiguredError` for a wrong setting.
    """
    values: dict[str, Any] = {}
    names = {
        "s3": os.environ.get("S3_SECRET_NAME") or "s3",
        "vast_db": os.environ.get("VAST_DB_SECRET_NAME") or "vast-db",
    }
    for service in _SERVICES:
        values |= _of_secret(service, secrets, names[service])
        values |= _of_event(service, payload or {})
    try:
        settings = Settings(**values)
    except ValidationError as error:
        setting, problem = first_fault(error)
        raise MisconfiguredError(setting, problem, "see docs/settings.md") from None
    names_database = settings.vast_db_endpoint is not None
    if settings.vast_db_bucket is None and names_database:
        settings = settings.model_copy(update={"vast_db_bucket": _DEFAULT_BUCKET})
    return settings


def has_tables(settings: Settings) -> bool:
    """Whether there is anywhere to write rows to: a file in a function's own folder is gone with it."""
    return settings.vast_db_bucket is not None or settings.database is not None


def names_credentials(payload: Mapping[str, Any]) -> bool:
    """Whether an event brings endpoints and keys of its own."""
    return any(f"{service}_{field}" in payload for service in _SERVICES for field in _FIELDS)


def _of_secret(service: str, secrets: Any, name: str) -> dict[str, Any]:
    secret = secrets.get(name) if isinstance(secrets, Mapping) else None
    if not isinstance(secret, Mapping):
        return {}
    return _values(service, {field: secret.get(field) for field in _FIELDS})


def _of_event(service: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    given = {field: payload[f"{service}_{field}"] for field in _FIELDS if payload.get(f"{service}_{field}")}
    if not given:
        return {}
    if set(given) != set(_FIELDS) or not all(isinstance(value, str) for value in given.values()):
        names = ", ".join(f"{service}_{field}" for field in _FIELDS)
        raise BadInputError("event", f"credentials in an event are complete or not there: {names}")
    return _values(service, given)


def _values(service: str, found: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {
        f"{service}_{field}": value if field == "endpoint" else SecretStr(value)
        for field, value in found.items()
        if isinstance(value, str) and value
    }
    # The token of the environment belongs to its keys.
    return values | {"s3_session_token": None} if "s3_access_key" in values else values
