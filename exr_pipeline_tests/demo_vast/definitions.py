"""Dagster's definitions of the demonstration: all but the sensor that lists the sources.

So every file that Dagster knows in the end was named by an event. Belongs here: leaving it out. Not here: the
definitions themselves (`exr_pipeline.orchestration.build`).
"""

import dagster as dg

from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.sensors.files import SENSOR


def _by_events_alone() -> dg.Definitions:
    everything = build_defs()
    return dg.Definitions(
        assets=everything.assets,
        jobs=everything.jobs,
        resources=everything.resources,
        executor=dg.in_process_executor,
        sensors=[sensor for sensor in everything.sensors or [] if sensor.name != SENSOR],
    )


defs = _by_events_alone()
