"""The command `metrics`: what the pipeline tells Prometheus, printed once.

Belongs here: arguments and output. Not here: the metrics themselves (`telemetry`).
"""

from __future__ import annotations

import sys

from exr_pipeline.cli.console import load_settings


def metrics() -> None:
    """Print the metrics in the text format of Prometheus.

    Those that follow from the tables are always there. Those that processes add up are there if EXR_PIPELINE_METRICS or
    EXR_PIPELINE_METRICS_ADDRESS is set.
    """
    from exr_pipeline.tables import open_table_store
    from exr_pipeline.telemetry.exposition import prometheus_text
    from exr_pipeline.telemetry.table_gauges import TableGauges

    settings = load_settings()
    sys.stdout.write(prometheus_text(settings, TableGauges(open_table_store(settings))))
