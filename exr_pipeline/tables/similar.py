"""Which files of the tables are like a given one, by the vectors of docs/embeddings.md.

Belongs here: the question and its SQL. Not here: making vectors (`inspection.embedding`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exr_pipeline.tables.selection import FILES_WITH_FIRST_PART
from exr_pipeline.tables.specs import METADATA_EMBEDDING_DIMENSIONS, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from exr_pipeline.storage.locations import Location
    from exr_pipeline.tables.store import TableStore


class StoredEmbedding(NamedTuple):
    """What the tables have of a current file: its vector and the version of it, None if its header was never read."""

    vector: Sequence[float] | None
    version: int | None
    state: State
    reason: str | None


def stored_embedding(store: TableStore, location: Location) -> StoredEmbedding | None:
    """The metadata embedding of a file; None if the tables do not know the file."""
    columns = ("metadata_embedding", "embedding_version", "state", "reason")
    found = store.read("files", columns=columns, locations=[location]).to_pylist()
    return StoredEmbedding(*(found[0][column] for column in columns)) if found else None


def similar_files(
    store: TableStore, vector: Sequence[float], version: int, *, without: str, where: str | None = None, limit: int = 10
) -> pa.Table:
    """The current files nearest to a metadata embedding, nearest first.

    Columns: `uri`, `distance` (1 - cosine, from 0 to 1), `resolution` and `compression` of the first part. The file at
    the URL `without` and vectors of other versions are left out. `where` is a condition in SQL over the columns of
    `files` and, of the first part, of `parts`. Raises `BadQueryError` if that is wrong.
    """
    numbers = ", ".join(f"{number:.9g}" for number in vector)
    given = f"[{numbers}]::FLOAT[{METADATA_EMBEDDING_DIMENSIONS}]"
    itself = without.replace("'", "''")
    # Of vectors of unit length, half the square of their distance is the cosine distance. Neighbours in a sequence
    # differ by less than the last bit of a cosine in float32, which array_cosine_distance would return.
    # A comment at the end of the condition must not hide the bracket.
    condition = f"AND ({where}\n)" if where else ""
    return store.sql(
        f"""
        SELECT uri, array_distance(metadata_embedding, {given}) ** 2 / 2 AS distance,
            width || 'x' || height AS resolution, compression
        FROM {FILES_WITH_FIRST_PART}
        WHERE part_index = 0 AND embedding_version = {version:d} AND uri <> '{itself}' {condition}
        ORDER BY distance, uri
        LIMIT {limit:d}"""  # noqa: S608 - numbers, a quoted URL, and the user's own SQL, which can only read
    )
