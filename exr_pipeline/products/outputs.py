"""The product `outputs`: the table of where thumbnail and proxy lie and how they were made.

Belongs here: what the page shows of that row. Not here: the row (`ingest.store_results`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exr_pipeline.products.product import Facts, FileProduct, ServedLink, ServedPicture
from exr_pipeline.products.proxy import PROXY, proxy_size
from exr_pipeline.products.thumbnail import THUMBNAIL, thumbnail_size

if TYPE_CHECKING:
    from exr_pipeline.products.file_result import FileResult


def _facts(result: FileResult) -> Facts | None:
    pictures, thumbnail_at, proxy_at = result.pictures, result.stored.get("thumbnail"), result.stored.get("proxy")
    if pictures is None or thumbnail_at is None or proxy_at is None:
        return None
    assert pictures.thumbnail is not None
    assert pictures.proxy is not None
    return {
        "picture": ServedPicture(THUMBNAIL.asset),
        "movie": ServedLink(PROXY.asset),
        "thumbnail": thumbnail_at.url,
        "proxy": proxy_at.url,
        "thumbnail resolution": thumbnail_size(pictures.thumbnail),
        "proxy resolution": proxy_size(pictures.proxy),
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
    facts=_facts,
)
