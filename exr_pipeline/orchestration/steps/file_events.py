"""What the UI learns of a file: materializations with metadata that people look at, or the reason for a failure.

Belongs here: from `FileResult` to Dagster events. Not here: when they are logged (`files`).
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from rich.filesize import decimal

from exr_pipeline import __version__
from exr_pipeline.orchestration.assets.specs import SOURCE_FILE
from exr_pipeline.orchestration.instance.names import DATA_VERSION_TAG
from exr_pipeline.orchestration.instance.step_events import AssetEvent, materialization
from exr_pipeline.products.product import InlinePicture, ServedLink, ServedPicture
from exr_pipeline.products.registry import FILE_PRODUCTS

if TYPE_CHECKING:
    from exr_pipeline.inspection import SourceFile, UnseenFile
    from exr_pipeline.products.file_result import FileResult
    from exr_pipeline.products.product import Facts

Metadata = dict[str, Any]


def file_events(batch: Iterable[FileResult], assets: Collection[dg.AssetKey]) -> Iterator[AssetEvent]:
    """The events of files whose media and rows are in place: one per file and selected asset, one for its source.

    An asset that could not be made yields an observation with the reason; the failed status itself comes from the run.
    """
    of_asset = {product.asset: product for product in FILE_PRODUCTS}
    for result in batch:
        partition = result.location.partition_key
        url = result.location.url
        etag = (result.source.etag if result.source else None) or ""
        if result.source is not None and result.source.mtime is not None:
            reason = {} if result.reason is None else {"reason": result.reason}
            yield materialization(
                SOURCE_FILE,
                partition=partition,
                metadata={"state": result.state, **reason, "uri": url, **_source(result.source)},
                tags={DATA_VERSION_TAG: etag},
            )
        elif result.reason is not None:
            yield _failure(SOURCE_FILE, result)
        for asset in assets:
            facts = of_asset[asset.path[-1]].facts(result)
            if facts is not None:
                yield materialization(
                    asset,
                    partition=partition,
                    metadata=shown_facts(facts, partition) | {"source": url},
                    tags={DATA_VERSION_TAG: f"{etag}-{__version__}"},
                )
            else:
                yield _failure(asset, result)


def _failure(asset: dg.AssetKey, result: FileResult) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset,
        partition=result.location.partition_key,
        description=f"{result.state}: {result.reason}",
        metadata={
            "state": result.state,
            "reason": result.reason or "",
            "source": result.location.url,
        },
    )


def _source(source: SourceFile | UnseenFile) -> Metadata:
    return {
        "size": "" if source.size_bytes is None else decimal(source.size_bytes),
        "modified": dg.MetadataValue.timestamp(source.mtime),
        "etag": source.etag or "",
    }


def shown_facts(facts: Facts, partition: str) -> Metadata:
    """Facts as Dagster's page shows them, without those that would say nothing."""
    return {
        label: _shown(fact, partition)
        for label, fact in facts.items()
        if fact is not None and fact != "" and fact != []
    }


def _shown(fact: Any, partition: str) -> Any:
    match fact:
        case ServedPicture(asset, part):
            return _served_picture(asset, partition, part)
        case ServedLink(asset):
            return dg.MetadataValue.url(_media_path(asset, partition, ""))
        case InlinePicture(kind, data):
            return _picture(kind, data)
        case _:
            return fact


def _served_picture(asset: str, partition: str, part: str) -> dg.MarkdownMetadataValue:
    """What was made, shown at its own size where `exr-pipeline ui` serves it (`page.media`); a click shows it alone."""
    path = _media_path(asset, partition, part)
    return dg.MetadataValue.md(f"[![shown by exr-pipeline ui]({path})]({path})")


def _media_path(asset: str, partition: str, part: str) -> str:
    return "/".join(("/media", asset, partition, *([part] if part else [])))


def _picture(kind: str, data: bytes) -> dg.MarkdownMetadataValue:
    """A picture that Dagster's page shows: in line if it is below 700 bytes, else on a click."""
    # Markdown of less than 1000 characters is shown in line, longer one on a click.
    return dg.MetadataValue.md(f"![](data:image/{kind};base64,{base64.b64encode(data).decode()})")
