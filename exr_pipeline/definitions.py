"""The code location that Dagster loads: wiring only, see `orchestration.build`."""

import logging

from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.settings import Settings, describe_unknown_variables
from exr_pipeline.telemetry.logs import set_up_logs

set_up_logs(Settings())
for _text in describe_unknown_variables():
    logging.getLogger(__name__).warning(_text)

defs = build_defs()
