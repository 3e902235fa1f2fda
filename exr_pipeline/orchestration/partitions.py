"""The partition sets that the assets share: one partition per file, and one per sequence of frames.

Belongs here: the sets, and how their keys translate. The keys' text is `Location.partition_key`.
"""

from collections.abc import Sequence

import dagster as dg

from exr_pipeline.storage.locations import Location

FILES = "files"
SEQUENCES = "sequences"

files_partitions = dg.DynamicPartitionsDefinition(name=FILES)
sequences_partitions = dg.DynamicPartitionsDefinition(name=SEQUENCES)


def locations_of(partition_keys: Sequence[str]) -> list[Location]:
    """The files that partition keys name, in the same order."""
    return [Location.from_partition_key(key) for key in partition_keys]
