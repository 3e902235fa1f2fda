"""What the UI learns of a file: materializations with metadata that people look at, or the reason for a failure.

Belongs here: from `FileProducts` to Dagster events. Not here: when they are logged (`files`).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from rich.filesize import decimal

from exr_pipeline import __version__
from exr_pipeline.ingest.store_results import NEVER_SEEN, FileProducts
from exr_pipeline.inspection import EMBEDDING_VERSION
from exr_pipeline.orchestration.assets.specs import (
    CHANNEL_FINGERPRINT,
    EXR_HEADER,
    PROXY_MP4,
    PROXY_OUTPUTS,
    SOURCE_FILE,
    THUMBNAIL,
)
from exr_pipeline.orchestration.instance.event_storage import AssetEvent, materialization
from exr_pipeline.orchestration.instance.names import DATA_VERSION_TAG

if TYPE_CHECKING:
    from exr_pipeline.inspection import SourceFile
    from exr_pipeline.pictures import RenderedPictures
    from exr_pipeline.storage.locations import OutputLocations

Metadata = dict[str, Any]

CHANNELS_SHOWN: Final = 64


def file_events(batch: Iterable[FileProducts], assets: Collection[dg.AssetKey]) -> Iterator[AssetEvent]:
    """The events of files whose media and rows are in place: one per file and selected asset, one for its source.

    An asset that could not be made yields an observation with the reason; the failed status itself comes from the run.
    """
    for products in batch:
        partition = products.location.partition_key
        url = products.location.url
        etag = (products.source.etag if products.source else None) or ""
        if products.source is not None and products.source.mtime != NEVER_SEEN:
            reason = {} if products.reason is None else {"reason": products.reason}
            yield materialization(
                SOURCE_FILE,
                partition=partition,
                metadata={"state": products.state, **reason, "uri": url, **_source(products.source)},
                tags={DATA_VERSION_TAG: etag},
            )
        elif products.reason is not None:
            yield _failure(SOURCE_FILE, products)
        for asset in assets:
            metadata = _METADATA[asset](products)
            if metadata is not None:
                yield materialization(
                    asset,
                    partition=partition,
                    metadata=without_empty(metadata) | {"source": url},
                    tags={DATA_VERSION_TAG: f"{etag}-{__version__}"},
                )
            else:
                yield _failure(asset, products)


def _failure(asset: dg.AssetKey, products: FileProducts) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset,
        partition=products.location.partition_key,
        description=f"{products.state}: {products.reason}",
        metadata={
            "state": products.state,
            "reason": products.reason or "",
            "source": products.location.url,
        },
    )


def _source(source: SourceFile) -> Metadata:
    return {
        "size": decimal(source.size_bytes),
        "modified": dg.MetadataValue.timestamp(source.mtime),
        "etag": source.etag or "",
    }


def _header(products: FileProducts) -> Metadata | None:
    inspection = products.inspection
    if products.media is not None and products.source is not None:
        return {**_spaced(products.media.summary()), "size": decimal(products.source.size_bytes)}
    if inspection is None:
        return None
    return {
        **_spaced(inspection.summary()),
        "color space": _color_space(products),
        "size": decimal(inspection.source.size_bytes),
        "channel names": ", ".join(inspection.channel_names()[:CHANNELS_SHOWN]),
        "warnings": inspection.warning_texts(),
    }


def _fingerprint(products: FileProducts) -> Metadata | None:
    inspection = products.inspection
    if products.media is not None:
        # Nothing to make, so nothing that failed.
        return {"channels": 0, "note": "a movie or sound has no channels, and so no vectors"}
    if inspection is None:
        return None
    return {
        "channels": sum(len(part.channels) for part in inspection.parts),
        "header hash": inspection.header_hash,
        "embedding version": EMBEDDING_VERSION,
    }


def _thumbnail(products: FileProducts) -> Metadata | None:
    if products.outputs is None or products.pictures is None or products.pictures.thumbnail is None:
        return None
    thumbnail = products.pictures.thumbnail
    partition = products.location.partition_key
    return {
        "picture": served_picture(THUMBNAIL, partition),
        "icon": picture("webp", products.pictures.icon_webp),
        "uri": products.outputs.thumbnail.url,
        "resolution": f"{thumbnail.width}x{thumbnail.height}",
        "size": decimal(len(thumbnail.data)),
        "view": thumbnail.view,
        **_filmstrip(products.outputs, products.pictures, partition),
        **_color(products, products.pictures),
    }


def _filmstrip(outputs: OutputLocations, pictures: RenderedPictures, partition: str) -> Metadata:
    strip = pictures.filmstrip
    if strip is None:
        return {}
    return {
        "filmstrip": served_picture(THUMBNAIL, partition, "filmstrip"),
        "filmstrip uri": outputs.filmstrip.url,
        "filmstrip frames": strip.frames,
    }


def _proxy(products: FileProducts) -> Metadata | None:
    if products.outputs is None or products.pictures is None or products.pictures.proxy is None:
        return None
    proxy = products.pictures.proxy
    return {
        "movie": media_link(PROXY_MP4, products.location.partition_key),
        "icon": picture("webp", products.pictures.icon_webp),
        "uri": products.outputs.proxy.url,
        "resolution": f"{proxy.width}x{proxy.height}" if proxy.width else "sound only",
        "duration": round(proxy.duration, 3),
        "frame rate": str(proxy.rate),
        "size": decimal(proxy.size_bytes),
        "view": proxy.view,
        "encoder": proxy.encoder,
        **_color(products, products.pictures),
    }


def _outputs(products: FileProducts) -> Metadata | None:
    thumbnail, proxy = _thumbnail(products), _proxy(products)
    if thumbnail is None or proxy is None:
        return None
    return {
        "picture": thumbnail["picture"],
        "movie": proxy["movie"],
        "thumbnail": thumbnail["uri"],
        "proxy": proxy["uri"],
        "thumbnail resolution": thumbnail["resolution"],
        "proxy resolution": proxy["resolution"],
    }


def _color(products: FileProducts, pictures: RenderedPictures) -> Metadata:
    return {
        "color space": _color_space(products),
        "decided by": pictures.color_rule,
        "layer": pictures.layer,
        "seconds": round(pictures.seconds, 3),
        "NaN pixels": pictures.nan_pixels,
        "infinite pixels": pictures.inf_pixels,
        "black": pictures.is_black,
        "warnings": list(pictures.warnings),
    }


def _color_space(products: FileProducts) -> str:
    """The space that the pixels were read as and how the file spells it, the same on all assets of the file."""
    parts = products.inspection.parts if products.inspection is not None else ()
    statement = next((part.color_space.name for part in parts if part.color_space is not None), "")
    read_as = products.pictures.source_color_space if products.pictures is not None else ""
    if read_as and statement and read_as != statement:
        return f"{read_as}, which the file calls {statement}"
    return read_as or statement or "not stated"


def without_empty(metadata: Metadata) -> Metadata:
    """Metadata without the rows that would say nothing on the page."""
    return {name: value for name, value in metadata.items() if value is not None and value != "" and value != []}


def _spaced(facts: Metadata) -> Metadata:
    return {name.replace("_", " "): value for name, value in facts.items()}


def media_link(asset: dg.AssetKey, partition: str, part: str = "") -> dg.UrlMetadataValue:
    """A link to what was made, as `exr-pipeline ui` serves it (`page.media`) wherever it is."""
    return dg.MetadataValue.url(_media_path(asset, partition, part))


def served_picture(asset: dg.AssetKey, partition: str, part: str = "") -> dg.MarkdownMetadataValue:
    """What was made, shown at its own size where `exr-pipeline ui` serves it; a click shows it alone."""
    path = _media_path(asset, partition, part)
    return dg.MetadataValue.md(f"[![shown by exr-pipeline ui]({path})]({path})")


def _media_path(asset: dg.AssetKey, partition: str, part: str) -> str:
    return "/".join(("/media", *asset.path, partition, *([part] if part else [])))


def picture(kind: str, data: bytes) -> dg.MarkdownMetadataValue:
    """A picture that Dagster's page shows: in line if it is below 700 bytes, else on a click."""
    # Markdown of less than 1000 characters is shown in line, longer one on a click.
    return dg.MetadataValue.md(f"![](data:image/{kind};base64,{base64.b64encode(data).decode()})")


_METADATA: Final[Mapping[dg.AssetKey, Callable[[FileProducts], Metadata | None]]] = {
    EXR_HEADER: _header,
    CHANNEL_FINGERPRINT: _fingerprint,
    THUMBNAIL: _thumbnail,
    PROXY_MP4: _proxy,
    PROXY_OUTPUTS: _outputs,
}
