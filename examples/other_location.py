"""Another code location: it depends on the pipeline's assets and reads their rows, but makes none of them.

In workspace.yaml it stands beside the pipeline's own location. Dagster joins both in one graph of assets.
"""

import dagster as dg
import pandas as pd

from exr_pipeline.orchestration.external_assets import EXTERNAL_SPECS, reading_resources
from exr_pipeline.orchestration.partitions import files_partitions


@dg.asset(
    partitions_def=files_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    automation_condition=dg.AutomationCondition.eager(),
)
def delivery_note(context: dg.AssetExecutionContext, exr_header: pd.DataFrame) -> None:
    """What would be delivered: one line per file."""
    lines = [f"{row.uri} {row.size_bytes}" for row in exr_header.itertuples()]
    context.add_output_metadata({"files": len(lines), "note": "\n".join(lines)})


defs = dg.Definitions(assets=[*EXTERNAL_SPECS, delivery_note], resources=reading_resources())
