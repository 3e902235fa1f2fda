"""The partition sets that the assets share: one partition per file, and one per sequence of frames.

Belongs here: the sets, how their keys translate, and their removal. The keys' text is `Location.partition_key`.
"""

from collections.abc import Sequence

import dagster as dg

from exr_pipeline.orchestration.event_batching import BatchedEvents
from exr_pipeline.storage.locations import Location

FILES = "files"
SEQUENCES = "sequences"

files_partitions = dg.DynamicPartitionsDefinition(name=FILES)
sequences_partitions = dg.DynamicPartitionsDefinition(name=SEQUENCES)


def locations_of(partition_keys: Sequence[str]) -> list[Location]:
    """The files that partition keys name, in the same order."""
    return [Location.from_partition_key(key) for key in partition_keys]


def remove_partitions(instance: dg.DagsterInstance, name: str, keys: Sequence[str]) -> None:
    """Remove keys from a partition set, whatever of them is there; their events and statuses stay as history.

    In batches where the storage is one of ours, else one by one, as Dagster does it.
    """
    storage = instance.event_log_storage
    if isinstance(storage, BatchedEvents):
        storage.delete_dynamic_partitions(name, keys)
        return
    for key in keys:
        instance.delete_dynamic_partition(name, key)
