"""The partition sets that the assets share: one partition per file, and one per sequence of frames.

Belongs here: the sets, how their keys translate, leave and come back. The keys' text is `Location.partition_key`.
"""

from collections.abc import Sequence

import dagster as dg

from exr_pipeline.orchestration.instance.event_storage import KEYS_PER_WRITE, BatchedEvents
from exr_pipeline.storage.locations import Location

FILES = "files"
SEQUENCES = "sequences"

files_partitions = dg.DynamicPartitionsDefinition(name=FILES)
sequences_partitions = dg.DynamicPartitionsDefinition(name=SEQUENCES)


def locations_of(partition_keys: Sequence[str]) -> list[Location]:
    """The files that partition keys name, in the same order."""
    return [Location.from_partition_key(key) for key in partition_keys]


def remove_partitions(instance: dg.DagsterInstance, name: str, keys: Sequence[str]) -> None:
    """Remove keys from a partition set, whatever of them is there; their events stay.

    In batches where the storage is one of ours, else one by one, as Dagster does it.
    """
    storage = instance.event_log_storage
    if isinstance(storage, BatchedEvents):
        storage.delete_dynamic_partitions(name, keys)
    else:
        for key in keys:
            instance.delete_dynamic_partition(name, key)
    forget_statuses(instance)


def restore_partitions(instance: dg.DagsterInstance, name: str, keys: Sequence[str]) -> None:
    """Add keys to a partition set that once were in it, so that they are shown as their events say."""
    for start in range(0, len(keys), KEYS_PER_WRITE):
        instance.add_dynamic_partitions(name, keys[start : start + KEYS_PER_WRITE])
    forget_statuses(instance)


def forget_statuses(instance: dg.DagsterInstance) -> None:
    """Have Dagster count the statuses of all partitions again, from the events."""
    # Dagster counts events on from where it stopped, those of partitions that were not there at the time never, and
    # removed partitions for ever; so it is to begin again.
    for asset in instance.all_asset_keys():
        instance.event_log_storage.wipe_asset_cached_status(asset)
