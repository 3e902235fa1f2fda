"""The metadata embeddings of assets, as docs/embeddings.md has them.

Belongs here: keeping them. Not here: making them (`exr_pipeline.inspection`), or comparing them (`similar`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import sqlalchemy as sa

from exr_pipeline.catalog.models import AssetVector

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def store_vectors(session: Session, vectors: Mapping[str, tuple[int, bytes] | None]) -> None:
    """Keep the vectors of assets, each with the version of its rules, in place of those before; None for no vector."""
    columns = (AssetVector.asset_id, AssetVector.embedding_version, AssetVector.vector)
    query = sa.select(*columns).where(AssetVector.asset_id.in_(vectors))
    stored = {row[0]: (row[1], bytes(row[2])) for row in session.execute(query)}
    outdated = [asset_id for asset_id, vector in stored.items() if vectors[asset_id] != vector]
    if outdated:
        session.execute(sa.delete(AssetVector).where(AssetVector.asset_id.in_(outdated)))
    new = [
        {"asset_id": asset_id, "embedding_version": vector[0], "vector": vector[1]}
        for asset_id, vector in vectors.items()
        if vector is not None and stored.get(asset_id) != vector
    ]
    if new:
        session.execute(sa.insert(AssetVector), new)
