"""The sensor that publishes the events that wait in the outbox, and fails while one has waited for too long.

Belongs here: one tick. Not here: delivering events (`events.outbox`). Runs publish their own events when they end; this
sensor delivers what they could not.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import dagster as dg

from exr_pipeline.errors import RetryableError
from exr_pipeline.events.outbox import Drained, drain
from exr_pipeline.orchestration.sensors.watched_ticks import watched_tick

if TYPE_CHECKING:
    from exr_pipeline.pipeline import Pipeline

EVENTS_OUT_SENSOR: Final = "events_out"
_SECONDS_BETWEEN_TICKS: Final = 10
# Dagster ends a tick after 60 s.
_SECONDS_PER_TICK: Final = 20.0


def build_events_out_sensor() -> dg.SensorDefinition:
    """The sensor over the outbox."""

    def events_out(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        pipeline: Pipeline = context.resources.pipeline
        try:
            with watched_tick(EVENTS_OUT_SENSOR, pipeline):
                drained = drain(pipeline.tables, pipeline.settings, seconds=_SECONDS_PER_TICK)
        except RetryableError as error:
            return dg.SkipReason(f"Cannot read the outbox, trying again at the next tick: {error}")
        return dg.SkipReason(
            summary(drained, now=datetime.now(UTC), alarm_seconds=pipeline.settings.publish_alarm_seconds)
        )

    return dg.SensorDefinition(
        name=EVENTS_OUT_SENSOR,
        evaluation_fn=events_out,
        minimum_interval_seconds=_SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"pipeline"},
        description=(
            "Publishes the events that wait in the table outbox. A tick fails while one has waited for longer than "
            "EXR_PIPELINE_PUBLISH_ALARM_SECONDS."
        ),
    )


def summary(drained: Drained, *, now: datetime, alarm_seconds: float) -> str:
    """What a tick has done, in a line. Raises `Failure` if an event has waited for too long."""
    age = 0.0 if drained.oldest is None else (now - drained.oldest).total_seconds()
    parts = [f"{drained.delivered} events published, {drained.waiting} waiting"]
    if drained.waiting:
        parts.append(f"the oldest for {age:.0f} s")
    if drained.rejected:
        parts.append(f"{drained.rejected} rejected (see the table event_rejects)")
    parts += [f"{sink}: {problem}" for sink, problem in drained.problems.items()]
    text = "; ".join(parts)
    if age > alarm_seconds:
        raise dg.Failure(text)
    return text
