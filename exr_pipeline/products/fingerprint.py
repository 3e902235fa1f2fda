"""The product `fingerprint`: a file's channel layout and metadata as vectors.

Belongs here: what the page shows of them. Not here: the vectors (`inspection.embedding`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exr_pipeline.inspection import EMBEDDING_VERSION
from exr_pipeline.products.product import Facts, FileProduct

if TYPE_CHECKING:
    from exr_pipeline.products.file_result import FileResult


def _facts(result: FileResult) -> Facts | None:
    inspection = result.inspection
    if result.media is not None:
        # Nothing to make, so nothing that failed.
        return {"channels": 0, "note": "movies and sounds have no channels, and therefore no vectors"}
    if inspection is None:
        return None
    return {
        "channels": sum(len(part.channels) for part in inspection.parts),
        "header hash": inspection.header_hash,
        "embedding version": EMBEDDING_VERSION,
    }


FINGERPRINT: Final = FileProduct(
    name="fingerprint",
    asset="channel_fingerprint",
    needs="header",
    made_with=("header",),
    description="The file's channel layout and metadata as unit vectors. Similar files have similar vectors.",
    group="metadata",
    kinds=frozenset({"vector", "table"}),
    comes_from=("exr_header",),
    table="channels",
    columns=("file_id", "file_path", "channel_name", "channel_fingerprint"),
    facts=_facts,
)
