"""The schemas of docs/events.asyncapi.yaml, by the type of the event."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema
import yaml

from exr_pipeline_tests.docs.generated import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "events.asyncapi.yaml"


@cache
def _components() -> dict[str, Any]:
    whole: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    return dict(whole["components"])


def described() -> set[str]:
    """The types of events that the document describes."""
    return set(_components()["messages"])


def assert_described(kind: str, payload: Mapping[str, Any]) -> None:
    """Raise unless a payload is what the document says of its type."""
    jsonschema.validate(payload, _components()["schemas"][kind], format_checker=jsonschema.FormatChecker())


def assert_headers_described(headers: Mapping[str, Any]) -> None:
    """Raise unless the headers of a message are what the document says."""
    jsonschema.validate(headers, _components()["schemas"]["headers"], format_checker=jsonschema.FormatChecker())
