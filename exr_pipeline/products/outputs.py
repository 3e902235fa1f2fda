"""The product `outputs`: the table of where thumbnail and proxy lie and how they were made.

Belongs here: what the page shows of that row. Not here: the row (`ingest.store_results`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exr_pipeline.products.product import Facts, FileProduct
from exr_pipeline.products.proxy import PROXY
from exr_pipeline.products.thumbnail import THUMBNAIL

if TYPE_CHECKING:
    from exr_pipeline.products.file_result import FileResult


def _facts(result: FileResult) -> Facts | None:
    thumbnail, proxy = THUMBNAIL.facts(result), PROXY.facts(result)
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
