"""The partition set that the assets share: one partition per file.

Belongs here: the set, and how its keys translate. The keys' text is `Location.partition_key`.
"""

from collections.abc import Sequence

import dagster as dg

from exr_pipeline.storage.locations import Location

FILES = "files"

files_partitions = dg.DynamicPartitionsDefinition(name=FILES)


def locations_of(partition_keys: Sequence[str]) -> list[Location]:
    """The files that partition keys name, in the same order."""
    return [Location.from_partition_key(key) for key in partition_keys]
