"""The pipeline's assets as another code location sees them: to depend on and to read, not to make.

Belongs here: those specs and the resources that read their rows. Not here: the assets themselves
(`orchestration.assets.specs`, `orchestration.assets.sequences`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import dagster as dg

from exr_pipeline.orchestration.assets.sequences import SEQUENCE_SPECS
from exr_pipeline.orchestration.assets.specs import FILE_SPECS, MEDIA_IO, SOURCE_SPEC, TABLE_IO
from exr_pipeline.orchestration.io_managers import MediaIOManager, TableIOManager
from exr_pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings


def _seen_from_outside(spec: dg.AssetSpec) -> dg.AssetSpec:
    # Whoever makes an asset says what it depends on; a spec of another location that says so too might contradict it.
    return dg.AssetSpec(
        spec.key,
        description=spec.description,
        group_name=spec.group_name,
        kinds=spec.kinds,
        metadata=spec.metadata,
        partitions_def=spec.partitions_def,
    )


EXTERNAL_SPECS: Final = tuple(_seen_from_outside(spec) for spec in (SOURCE_SPEC, *FILE_SPECS, *SEQUENCE_SPECS))


def reading_resources(settings: Settings | None = None) -> dict[str, dg.IOManager]:
    """The IO managers, by the keys that the specs name, that give an asset's parameter the rows of its partitions.

    `settings` default to the environment: they are to name the tables of the pipeline's own location.
    """
    pipeline = Pipeline(settings)
    return {TABLE_IO: TableIOManager(pipeline), MEDIA_IO: MediaIOManager(pipeline)}
