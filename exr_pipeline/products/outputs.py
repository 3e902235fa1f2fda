"""The product `outputs`: the table of where thumbnail and proxy lie and how they were made.

Belongs here: what the page shows of that row, and the header as JSON next to the pictures. Not here: the row
(`ingest.store_results`), or what the JSON has (`sidecar`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.products.product import Facts, FileProduct, OutputObject, ServedLink, ServedPicture
from exr_pipeline.products.proxy import PROXY, proxy_size
from exr_pipeline.products.sidecar import sidecar
from exr_pipeline.products.thumbnail import THUMBNAIL, thumbnail_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exr_pipeline.products.file_result import FileResult


def _metadata(result: FileResult) -> tuple[bytes, str] | None:
    # With pictures only: runs over headers fetch the first bytes and store nothing.
    data = None if result.pictures is None else sidecar(result)
    return None if data is None else (data, "application/json")


def _row(result: FileResult) -> Mapping[str, Any]:
    made = _metadata(result) if "metadata" in result.stored else None
    return {} if made is None else {"metadata_size_bytes": len(made[0])}


def _facts(result: FileResult) -> Facts | None:
    pictures, thumbnail_at, proxy_at = result.pictures, result.stored.get("thumbnail"), result.stored.get("proxy")
    if pictures is None or thumbnail_at is None or proxy_at is None:
        return None
    assert pictures.thumbnail is not None
    assert pictures.proxy is not None
    metadata = result.stored.get("metadata")
    return {
        "picture": ServedPicture(THUMBNAIL.asset),
        "movie": ServedLink(PROXY.asset),
        "thumbnail": thumbnail_at.url,
        "proxy": proxy_at.url,
        "thumbnail resolution": thumbnail_size(pictures.thumbnail),
        "proxy resolution": proxy_size(pictures.proxy),
        **({} if metadata is None else {"metadata uri": metadata.url}),
    }


OUTPUTS: Final = FileProduct(
    name="outputs",
    asset="proxy_outputs",
    needs="picture",
    made_with=("thumbnail", "proxy"),
    description="The table of outputs: location, size, source and target color space, and encoder of each.",
    group="pictures",
    kinds=frozenset({"table"}),
    comes_from=("thumbnail", "proxy_mp4"),
    table="proxy_outputs",
    objects=(OutputObject("metadata", "metadata.json", _metadata, part="metadata", only_for="spaceharbor"),),
    row=_row,
    facts=_facts,
)
