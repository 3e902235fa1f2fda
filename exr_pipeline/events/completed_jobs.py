"""The event by which SpaceHarbor learns that a job of its own has ended, and what was made.

Belongs here: which job an event of object storage belongs to, and the event that ends it. Not here: files without a
job (`outgoing`). Source: SpaceHarbor, `src/events/types.ts`: it takes only events with all of these fields, and drops
one whose identifier it has seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid5

from exr_pipeline.events.outgoing import COMPLETED, NAMESPACE, OutgoingEvent

if TYPE_CHECKING:
    from datetime import datetime

_FUNCTION: Final = "exr_pipeline"


@dataclass(frozen=True, slots=True)
class Job:
    """A job by the identifiers that its owner gave it; `asset_id` is the owner's too."""

    job_id: str
    asset_id: str
    function_id: str = _FUNCTION

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Self | None:
        """The job that an event names by `job_id` and `asset_id`; None if it names none."""
        job_id, asset_id, function_id = (payload.get(name) for name in ("job_id", "asset_id", "function_id"))
        if not (isinstance(job_id, str) and isinstance(asset_id, str) and job_id and asset_id):
            return None
        return cls(job_id, asset_id, function_id if isinstance(function_id, str) and function_id else _FUNCTION)

    def ended(self, *, subject: str, error: str | None, outputs: Mapping[str, str], now: datetime) -> OutgoingEvent:
        """The event that the job has ended, with an `error` if in vain. `outputs` are URIs by their names.

        Sent before the job exists, it would be dropped for good: only who was given the identifiers may send it.
        """
        data: dict[str, Any] = {"asset_id": self.asset_id, "job_id": self.job_id, "function_id": self.function_id}
        data |= {"success": error is None, "metadata": {"asset_id": self.asset_id, **outputs}}
        data |= {} if error is None else {"error": error}
        event_id = uuid5(NAMESPACE, json.dumps([COMPLETED, subject, data], sort_keys=True))
        return OutgoingEvent(str(event_id), COMPLETED, self.asset_id, subject, data | {"timestamp": now.isoformat()})
