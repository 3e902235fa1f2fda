"""Every metric: its name, its labels and what it means.

Belongs here: the list, which docs/observability.md shows. Not here: counting (`recording`), or the values of those that
follow from the tables (`table_gauges`). Names are those of Prometheus, and the same in OpenTelemetry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]
# Recorded where the work is done, by any process; or computed from the tables when somebody asks.
Origin = Literal["work", "tables"]

STAGES: Final = ("list", "fetch", "read_header", "decode", "encode", "store", "write_rows")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `unit` is in the notation of UCUM, as OpenTelemetry has it."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    unit: str = ""
    origin: Origin = "work"


STAGE_SECONDS: Final = Metric(
    "exr_pipeline_stage_seconds",
    "histogram",
    ("stage",),
    f"Seconds that one stage took: {', '.join(STAGES)}. Stages of several files overlap",
    "s",
)
STAGE_BYTES: Final = Metric(
    "exr_pipeline_stage_bytes_total",
    "counter",
    ("stage",),
    "Bytes that were fetched (fetch) and stored (store)",
    "By",
)
FILES: Final = Metric(
    "exr_pipeline_files_total",
    "counter",
    ("state", "kind", "error"),
    "Files that have ended in a state; error is the kind of error, empty for those that are ready",
)
TRIED_AGAIN: Final = Metric(
    "exr_pipeline_retries_total",
    "counter",
    ("what",),
    "What is tried again: file, sequence, rows (a write of them), step (of a Dagster run)",
)
EVENTS_READ: Final = Metric(
    "exr_pipeline_events_read_total", "counter", ("result",), "Messages that name objects: accepted or rejected"
)
EVENTS_PUBLISHED: Final = Metric(
    "exr_pipeline_events_published_total", "counter", ("sink", "result"), "Events published: delivered or rejected"
)
TICK_SECONDS: Final = Metric(
    "exr_pipeline_sensor_tick_seconds", "histogram", ("sensor",), "Seconds that a tick of a sensor took", "s"
)
LAST_TICK: Final = Metric(
    "exr_pipeline_sensor_last_tick_timestamp_seconds",
    "gauge",
    ("sensor",),
    "When the latest tick of a sensor ended without an error, as Unix time",
    "s",
)
SENSOR_WAITING: Final = Metric(
    "exr_pipeline_sensor_waiting_files",
    "gauge",
    ("sensor",),
    "Files that a sensor has seen and not asked a run for yet: not settled, or without room for a run",
)
UNFINISHED_RUNS: Final = Metric(
    "exr_pipeline_runs_unfinished",
    "gauge",
    ("of",),
    "Runs of Dagster that are queued or under way, of files or of sequences, at the latest tick of their sensor",
)
TABLES_UP: Final = Metric(
    "exr_pipeline_tables_up", "gauge", (), "1 if the tables could be read, else 0", origin="tables"
)
TABLE_FILES: Final = Metric(
    "exr_pipeline_files",
    "gauge",
    ("state", "kind"),
    "Files in the tables that are not deleted, by state and kind",
    origin="tables",
)
OUTBOX: Final = Metric(
    "exr_pipeline_outbox_events", "gauge", ("sink",), "Events that wait to be published", origin="tables"
)
OUTBOX_AGE: Final = Metric(
    "exr_pipeline_outbox_oldest_age_seconds",
    "gauge",
    (),
    "Age of the oldest event that waits to be published, 0 if none does",
    "s",
    origin="tables",
)
EVENT_REJECTS: Final = Metric(
    "exr_pipeline_event_rejects", "gauge", (), "Rows of the table event_rejects", origin="tables"
)

METRICS: Final = (
    *(STAGE_SECONDS, STAGE_BYTES, FILES, TRIED_AGAIN, EVENTS_READ, EVENTS_PUBLISHED),
    *(TICK_SECONDS, LAST_TICK, SENSOR_WAITING, UNFINISHED_RUNS),
    *(TABLES_UP, TABLE_FILES, OUTBOX, OUTBOX_AGE, EVENT_REJECTS),
)
