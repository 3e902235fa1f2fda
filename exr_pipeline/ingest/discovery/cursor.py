"""What one look at the sources leaves for the next.

Belongs here: that state and its text. Not here: looking (`sweep`), or what is found there (`needs_work`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from exr_pipeline.ingest.discovery.needs_work import Sighting


@dataclass(frozen=True, slots=True)
class HotFolder:
    """A folder where files arrive: the date of the latest one, and how far its own listing is (None: at the start)."""

    url: str
    latest: datetime
    after: str | None = None


@dataclass
class Cursor:
    """What one tick leaves for the next: how far listings are, and files that were not yet settled."""

    after: dict[str, str] = field(default_factory=dict)
    sightings: dict[str, Sighting] = field(default_factory=dict)
    hot: list[HotFolder] = field(default_factory=list)
    turn: int = 0

    @classmethod
    def from_text(cls, text: str | None) -> Cursor:
        """The cursor that an earlier tick wrote."""
        raw: dict[str, Any] = json.loads(text) if text else {}
        sightings = sightings_of(raw.get("sightings", {}))
        hot = [
            HotFolder(each["url"], datetime.fromisoformat(each["latest"]), each["after"]) for each in raw.get("hot", [])
        ]
        return cls(raw.get("after", {}), sightings, hot, raw.get("turn", 0))

    def to_text(self) -> str:
        """JSON for Dagster to keep."""
        return json.dumps(asdict(self), default=datetime.isoformat)


def sightings_of(raw: Mapping[str, Any]) -> dict[str, Sighting]:
    """Sightings by URL, as JSON has them."""
    return {url: Sighting(seen["etag"], datetime.fromisoformat(seen["since"])) for url, seen in raw.items()}
