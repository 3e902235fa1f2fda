"""Files that another run has finished while this one was under way: found in the tables, shown in this run as done.

Belongs here: the events of such files, and since when another run's work counts. Not here: the question to the tables
(`ingest.overlap`).
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from exr_pipeline import __version__
from exr_pipeline.errors import RetryableError
from exr_pipeline.ingest.chunk import GROUP_WITH_PICTURES
from exr_pipeline.ingest.overlap import FinishedFile, finished_since
from exr_pipeline.orchestration.instance.names import DATA_VERSION_TAG
from exr_pipeline.products.registry import FILE_PRODUCTS
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import READY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from exr_pipeline.orchestration.instance.event_storage import AssetEvent
    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.products.product import FileProduct

Context = dg.AssetExecutionContext | dg.OpExecutionContext


def finished_by_others(
    context: Context, pipeline: Pipeline, wanted: Collection[FileProduct]
) -> Callable[[Sequence[Location]], Sequence[FinishedFile]]:
    """Asks the tables for files that were dealt with since this run was created, whoever did it.

    Since then, not since whenever: a run that somebody starts over finished files does them again.
    """
    record = context.instance.get_run_record_by_id(context.run.run_id)
    if record is None:
        return lambda _: ()
    since = record.create_timestamp
    if since.microsecond == 0:
        # SQLite keeps whole seconds: what was done in the same second may have been done before.
        since += timedelta(seconds=1)

    def finished(locations: Sequence[Location]) -> Sequence[FinishedFile]:
        try:
            return finished_since(pipeline.tables, locations, wanted, since)
        except RetryableError:
            return ()

    return finished


def in_turns(context: Context, locations: list[Location]) -> list[Location]:
    """The files in the order of this run: their own, or in shuffled groups if other runs are under way.

    Two runs over the same files in the same order would do each file at the same time, and find nothing finished.
    """
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    if context.instance.get_runs_count(started) < 2:
        return locations
    groups = [locations[start : start + GROUP_WITH_PICTURES] for start in range(0, len(locations), GROUP_WITH_PICTURES)]
    random.Random(context.run.run_id).shuffle(groups)  # noqa: S311 - not a secret
    return [location for group in groups for location in group]


def events_of_finished(
    instance: dg.DagsterInstance, files: Sequence[FinishedFile], assets: Collection[dg.AssetKey]
) -> Iterator[AssetEvent]:
    """This run's events for files that another run has finished, so that each of its partitions gets its status.

    They say what the other run's say, pictures included, as far as those are written by now; else what the tables say.
    """
    ready = {file.location.partition_key: file for file in files if file.state == READY}
    for asset in assets:
        theirs = _latest(instance, asset, list(ready)) if ready else {}
        for partition, file in ready.items():
            version = f"{file.etag or ''}-{__version__}"
            materialization = theirs.get(partition)
            if materialization is None or (materialization.tags or {}).get(DATA_VERSION_TAG) != version:
                materialization = dg.AssetMaterialization(
                    asset, partition=partition, metadata=_metadata(file, asset), tags={DATA_VERSION_TAG: version}
                )
            yield materialization
        for file in files:
            if file.state != READY:
                yield dg.AssetObservation(
                    asset,
                    partition=file.location.partition_key,
                    description=f"{file.state}: {file.reason}",
                    metadata={"state": file.state, "reason": file.reason or "", "source": file.location.url},
                )


def _latest(
    instance: dg.DagsterInstance, asset: dg.AssetKey, partitions: Sequence[str]
) -> dict[str, dg.AssetMaterialization]:
    page = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset, asset_partitions=partitions), limit=3 * len(partitions)
    )
    found: dict[str, dg.AssetMaterialization] = {}
    for record in page.records:
        if record.asset_materialization is not None:
            found.setdefault(str(record.partition_key), record.asset_materialization)
    return found


def _metadata(file: FinishedFile, asset: dg.AssetKey) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "source": file.location.url,
        "size": file.row["size_bytes"],
        "modified": file.row["mtime"],
        "made by": "another run at the same time",
    }
    product = next(product for product in FILE_PRODUCTS if product.asset == asset.path[-1])
    if product.table == "files":
        metadata |= {name: file.row[name] for name in product.columns if file.row.get(name) is not None}
    if product.table == "proxy_outputs" and file.outputs is not None:
        shown = ("thumbnail_s3_key", "thumb_resolution", "proxy_s3_key", "proxy_resolution", "source_colorspace")
        metadata |= {name: file.outputs[name] for name in shown if file.outputs[name] is not None}
    return {name: value for name, value in metadata.items() if value is not None}
