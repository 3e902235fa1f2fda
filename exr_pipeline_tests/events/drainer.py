"""A process that does nothing but deliver what waits in the outbox, as the sensor `events_out` does: to be killed.

Belongs here: doing it again and again. Not here: delivering (`exr_pipeline.events.outbox`), or killing.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress

from exr_pipeline.errors import RetryableError, StateUnknownError
from exr_pipeline.events.outbox import drain, waiting
from exr_pipeline.settings import Settings
from exr_pipeline.tables import open_table_store

_SECONDS = 5.0
_PAUSE_SECONDS = 0.2


def drain_until_killed(settings: Settings) -> None:
    """Deliver whatever comes; what is away is asked again."""
    tables = open_table_store(settings)
    while True:
        with suppress(RetryableError, StateUnknownError):
            if waiting(tables)[0]:
                drain(tables, settings, seconds=_SECONDS)
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    drain_until_killed(Settings(_env_file=None))
