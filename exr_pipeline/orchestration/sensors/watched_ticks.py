"""What a tick of any sensor tells those who watch from outside: that it ended, and how long it took.

Belongs here: what ticks have in common, such as the port for Prometheus. Not here: any sensor, or the metrics
themselves (`exr_pipeline.telemetry`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exr_pipeline.telemetry.exposition import watch
from exr_pipeline.telemetry.instruments import LAST_TICK, TICK_SECONDS
from exr_pipeline.telemetry.recording import is_recording, record
from exr_pipeline.telemetry.start import start_telemetry

if TYPE_CHECKING:
    from exr_pipeline.pipeline import Pipeline


@contextmanager
def watched_tick(sensor: str, pipeline: Pipeline) -> Iterator[None]:
    """Count a tick. The process that ticks is the one that answers Prometheus, and sends what the tables say."""
    start_telemetry(pipeline.settings)
    if is_recording():
        watch(pipeline.settings, pipeline.tables)
    started = time.perf_counter()
    yield
    record(TICK_SECONDS, sensor, value=time.perf_counter() - started)
    record(LAST_TICK, sensor, value=time.time())
