"""The objects that a runtime of VAST DataEngine hands to a function, in the forms of both of its generations.

Belongs here: what functions see of them. The runtimes themselves are not published. Only Python's own modules are
imported: `calls.py` uses this in environments that have nothing else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_EXTENSIONS = ("element", "knative", "traceparent")
EVENTS = Path(__file__).parents[2] / "deploy" / "dataengine" / "events"


@dataclass
class Context:
    """What `init` and `handler` get first."""

    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("function"))
    tracer: Any = None


class RuntimeEvent:
    """An event as a runtime makes it of a CloudEvent. `whole` is the trap of 5.5: data come with their envelope."""

    def __init__(self, wire: Mapping[str, Any], *, whole: bool = False) -> None:
        kind = str(wire["type"]).removeprefix("vastdata.com:")
        self.id, self.trigger, self.trigger_id = wire["id"], "new-renders", "8c4f2f8e"
        self.type, _, self.subtype = kind.partition(".")
        self.extensions = {name: value for name, value in wire.items() if name.startswith(_EXTENSIONS)}
        self._wire, self._whole = wire, whole

    def get_data(self) -> Any:
        return self._wire if self._whole else self._wire["data"]

    def as_element_event(self) -> Any:
        assert self.type == "Element"
        bucket, _, key = self.extensions["elementpath"].partition("/")
        return SimpleNamespace(bucket=bucket, object_key=key, extensions=self.extensions)


def wire(path: Path, bucket: str = "renders") -> dict[str, Any]:
    """An event of `deploy/`, about another bucket."""
    text = path.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.replace("renders/", f"{bucket}/").replace('"renders"', f'"{bucket}"'))
    return found
