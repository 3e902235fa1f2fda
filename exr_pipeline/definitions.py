"""The code location that Dagster loads: wiring only, see `orchestration.build`."""

from exr_pipeline.orchestration.build import build_defs

defs = build_defs()
