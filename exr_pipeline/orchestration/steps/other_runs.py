"""Files that another run or a function has finished: found in the tables, shown in this run as done.

Belongs here: the events of such files, and since when the work of others counts. Not here: the question to the tables
(`ingest.overlap`).
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from exr_pipeline import __version__
from exr_pipeline.errors import RetryableError
from exr_pipeline.ingest.chunk import GROUP_WITH_PICTURES
from exr_pipeline.ingest.overlap import FinishedFile, finished_since
from exr_pipeline.orchestration.assets.specs import SOURCE_FILE
from exr_pipeline.orchestration.instance.names import DATA_VERSION_TAG
from exr_pipeline.orchestration.steps.file_events import shown_facts
from exr_pipeline.orchestration.steps.run_tags import FINISHED_ELSEWHERE_TAG
from exr_pipeline.products.product import ServedLink, ServedPicture
from exr_pipeline.products.registry import FILE_PRODUCTS
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.merge import instant
from exr_pipeline.tables.specs import READY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from exr_pipeline.orchestration.instance.step_events import AssetEvent
    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.products.product import Facts, FileProduct

Context = dg.AssetExecutionContext | dg.OpExecutionContext


def finished_by_others(
    context: Context, pipeline: Pipeline, wanted: Collection[FileProduct]
) -> Callable[[Sequence[Location]], Sequence[FinishedFile]]:
    """Asks the tables for files that were dealt with since this run was created, whoever did it.

    Since then, not since whenever: a run that somebody starts over finished files does them again. Only one that the
    sensor asks for to show what was finished elsewhere takes it however old it is.
    """
    if context.run.tags.get(FINISHED_ELSEWHERE_TAG) == "true":
        return _asker(pipeline, wanted, datetime.min.replace(tzinfo=UTC))
    record = context.instance.get_run_record_by_id(context.run.run_id)
    if record is None:
        return lambda _: ()
    since = record.create_timestamp
    if since.microsecond == 0:
        # SQLite keeps whole seconds: what was done in the same second may have been done before.
        since += timedelta(seconds=1)
    return _asker(pipeline, wanted, since)


def _asker(
    pipeline: Pipeline, wanted: Collection[FileProduct], since: datetime
) -> Callable[[Sequence[Location]], Sequence[FinishedFile]]:
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
    """This run's events for files that others have finished, so that each of its partitions gets its status.

    They say what another run's say, pictures included, as far as those are written by now; else what the tables say.
    """
    seen = _latest(instance, SOURCE_FILE, [file.location.partition_key for file in files])
    for file in files:
        if file.location.partition_key not in seen and file.row["mtime"] is not None:
            yield _source_event(file)
    ready = {file.location.partition_key: file for file in files if file.state == READY}
    for asset in assets:
        theirs = _latest(instance, asset, list(ready)) if ready else {}
        for partition, file in ready.items():
            version = f"{file.etag or ''}-{__version__}"
            materialization = theirs.get(partition)
            if materialization is None or (materialization.tags or {}).get(DATA_VERSION_TAG) != version:
                materialization = dg.AssetMaterialization(
                    asset,
                    partition=partition,
                    metadata=shown_facts(_facts(file, asset), partition),
                    tags={DATA_VERSION_TAG: version},
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


def _source_event(file: FinishedFile) -> dg.AssetMaterialization:
    facts = {
        "state": file.state,
        "reason": file.reason,
        "uri": file.location.url,
        "size": file.row["size_bytes"],
        "etag": file.etag,
    }
    modified = {"modified": dg.MetadataValue.timestamp(instant(file.row["mtime"]))}
    partition = file.location.partition_key
    return dg.AssetMaterialization(
        SOURCE_FILE,
        partition=partition,
        metadata=shown_facts(facts, partition) | modified,
        tags={DATA_VERSION_TAG: file.etag or ""},
    )


def _facts(file: FinishedFile, asset: dg.AssetKey) -> Facts:
    product = next(product for product in FILE_PRODUCTS if product.asset == asset.path[-1])
    facts: dict[str, Any] = {}
    if product.table == "files":
        facts |= {name: file.row.get(name) for name in product.columns}
    if product.table == "proxy_outputs" and file.outputs is not None:
        for thing in (one for one in product.objects if not one.only_for):
            if file.outputs[f"{thing.name}_s3_key"] is not None and "jpeg" in product.kinds:
                facts[thing.part or "picture"] = ServedPicture(product.asset, thing.part)
            elif file.outputs[f"{thing.name}_s3_key"] is not None:
                facts["movie"] = ServedLink(product.asset)
        shown = ("thumbnail_s3_key", "thumb_resolution", "proxy_s3_key", "proxy_resolution", "source_colorspace")
        facts |= {name: file.outputs[name] for name in shown}
    return facts | {
        "source": file.location.url,
        "size": file.row["size_bytes"],
        "modified": file.row["mtime"],
        "made by": "another run, or a function",
    }
