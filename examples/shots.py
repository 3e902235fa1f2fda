"""An asset per sequence, and one per shot: file -> sequence -> shot.

Shots are a partition set of your own. Its keys are folders: add them from a sensor, or by hand with
`instance.add_dynamic_partitions("shots", [folder_key("s3://renders/show/shot_010/")])`.
"""

import dagster as dg
import pandas as pd

from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.partition_inputs import below_folder, frames_of_sequence
from exr_pipeline.orchestration.partitions import sequences_partitions

shots_partitions = dg.DynamicPartitionsDefinition(name="shots")


@dg.asset(
    partitions_def=sequences_partitions,
    ins={"exr_header": frames_of_sequence()},
)
def sequence_size(context: dg.AssetExecutionContext, exr_header: pd.DataFrame) -> None:
    """Frames and bytes of a sequence, from the rows of its frames."""
    context.add_output_metadata({"frames": len(exr_header), "bytes": int(exr_header["size_bytes"].sum())})


@dg.asset(
    partitions_def=shots_partitions,
    ins={"exr_header": below_folder(), "sequence_mp4": below_folder("sequence_outputs")},
)
def shot_size(context: dg.AssetExecutionContext, exr_header: pd.DataFrame, sequence_mp4: pd.DataFrame) -> None:
    """Files, bytes and sequences of a shot, at any depth below its folder."""
    context.add_output_metadata(
        {
            "files": len(exr_header),
            "bytes": int(exr_header["size_bytes"].sum()),
            "sequences": ", ".join(sorted(sequence_mp4["uri"])),
        }
    )


defs = dg.Definitions.merge(build_defs(), dg.Definitions(assets=[sequence_size, shot_size]))
