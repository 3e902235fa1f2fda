"""Names that Dagster's public interface lacks, for the rest of `orchestration`.

Belongs here: names alone. Not here: anything that is done with them.
"""

from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

__all__ = ["DATA_VERSION_TAG", "AssetPartitionStatus", "UnresolvedAssetJobDefinition"]
