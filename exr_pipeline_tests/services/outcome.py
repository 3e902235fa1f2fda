"""What an ingest came to: rows, objects and partitions, in a form in which two ingests can be compared.

Belongs here: what has to be the same whatever happened on the way, and what has not. Not here: ingesting.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg

from exr_pipeline.orchestration.assets.specs import FILE_ASSETS
from exr_pipeline.orchestration.partitions import FILES, files_partitions
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.object_info import ObjectInfo
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables import open_table_store
from exr_pipeline.tables.specs import TABLES, TableName

# When a thing was done, how long it took and how often are facts of the way there. Everything else counts.
OF_THE_WAY: Final[dict[TableName, set[str]]] = {
    "files": {"inspection_timestamp", "last_inspected", "inspection_count", "seen_at"},
    "proxy_outputs": {"generated_timestamp", "processing_time_seconds"},
}


@dataclass(frozen=True)
class Outcome:
    """Rows of all versions by table, sorted, without `OF_THE_WAY`; objects by key: a hash of the bytes, and tags."""

    rows: dict[str, list[tuple[Any, ...]]]
    objects: dict[str, str]

    @classmethod
    def of(cls, settings: Settings, bucket: Location) -> "Outcome":
        """What the tables and the bucket hold now."""
        tables, storage = open_table_store(settings), ObjectStorage(settings)
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for name in TABLES:
            left_out = OF_THE_WAY.get(name, set())
            assert left_out <= {column.name for column in TABLES[name].columns}
            found = tables.read(name, current_only=False).drop_columns(sorted(left_out)).to_pylist()
            rows[name] = sorted((tuple(map(_hashable, row.items())) for row in found), key=repr)
        objects = {
            info.location.key: f"{hashlib.sha256(storage.read(info.location)[1]).hexdigest()} {tags}"
            for info, tags in _with_tags(storage, bucket, settings)
        }
        return cls(rows, objects)

    def differences(self, other: "Outcome") -> list[str]:
        """What one of them has and the other has not, in words; nothing if they are the same."""
        found = []
        for name in TABLES:
            mine, others = Counter(self.rows[name]), Counter(other.rows[name])
            found += [f"{name}: only here: {row}" for row in (mine - others).elements()]
            found += [f"{name}: only there: {row}" for row in (others - mine).elements()]
        keys = self.objects.keys() | other.objects.keys()
        found += [
            f"object {key}: {self.objects.get(key)} here, {other.objects.get(key)} there"
            for key in sorted(keys)
            if self.objects.get(key) != other.objects.get(key)
        ]
        return found


def partition_statuses(instance: dg.DagsterInstance) -> dict[tuple[str, str], str]:
    """What the page shows for each asset and partition; one that was never tried is NONE."""
    keys = instance.get_dynamic_partitions(FILES)
    shown = {}
    for asset in FILE_ASSETS:
        statuses = instance.get_status_by_partition(asset, keys, files_partitions) or {}
        for key in keys:
            status = statuses.get(key)
            shown[asset.to_user_string(), key] = status.value if status is not None else "NONE"
    return shown


def partition_counts(instance: dg.DagsterInstance) -> dict[str, Counter[str]]:
    """For each asset, how many partitions the page shows in which state."""
    counts: dict[str, Counter[str]] = {asset.to_user_string(): Counter() for asset in FILE_ASSETS}
    for (asset, _), status in partition_statuses(instance).items():
        counts[asset][status] += 1
    return counts


def _with_tags(
    storage: ObjectStorage, bucket: Location, settings: Settings
) -> Iterator[tuple[ObjectInfo, list[tuple[str, str]]]]:
    import boto3
    from botocore.config import Config

    assert settings.s3_access_key is not None
    assert settings.s3_secret_key is not None
    client = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        aws_access_key_id=settings.s3_access_key.get_secret_value(),
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
        region_name=settings.s3_region,
        config=Config(proxies={}),
    )
    try:
        for info in storage.iter_objects(bucket):
            tags = client.get_object_tagging(Bucket=bucket.bucket, Key=info.location.key)["TagSet"]
            yield info, sorted((tag["Key"], tag["Value"]) for tag in tags)
    finally:
        client.close()


def _hashable(item: tuple[str, Any]) -> tuple[str, Any]:
    name, value = item
    return name, tuple(value) if isinstance(value, list) else value
