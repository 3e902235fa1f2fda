"""Texts longer than a VAST cell: cut into pieces under the hash of the text, which the cell holds instead.

Belongs here: cutting and restoring columns. Not here: writing or reading the pieces' table.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

MAX_CELL_BYTES: Final = 126 << 10
PIECE_BYTES: Final = 120 << 10

# A cell that holds a reference. Texts that begin like this are cut whatever their length, so that none is mistaken.
REFERENCE_PREFIX: Final = "exr-pipeline:long-value:"


def pieces_schema() -> pa.Schema:
    """Columns of the pieces' table."""
    import pyarrow as pa

    return pa.schema([("hash", pa.string()), ("piece_index", pa.int32()), ("piece", pa.binary())])


def take_out(table: pa.Table, found: dict[str, bytes]) -> pa.Table:
    """The table with references in place of long texts, which are added to `found` by their hash."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for index, column in enumerate(table.schema):
        if not pa.types.is_string(column.type):
            continue
        cells = table.column(index)
        is_long = pc.or_(pc.greater(pc.binary_length(cells), MAX_CELL_BYTES), pc.starts_with(cells, REFERENCE_PREFIX))
        if not pc.any(is_long).as_py():
            continue
        # One text at a time, for those of a sequence's frames are mostly the same.
        references: list[str | None] = [None] * len(cells)
        for row in pc.indices_nonzero(is_long).to_pylist():
            value = cells[row].as_py().encode()
            digest = hashlib.sha256(value).hexdigest()
            found.setdefault(digest, value)
            references[row] = REFERENCE_PREFIX + digest
        replaced = pc.if_else(is_long, pa.array(references, column.type), cells)
        table = table.set_column(index, column, replaced)
    return table


def cut(values: Mapping[str, bytes]) -> pa.Table:
    """The pieces of texts, as rows."""
    import pyarrow as pa

    rows = [
        {"hash": digest, "piece_index": index, "piece": value[start : start + PIECE_BYTES]}
        for digest, value in values.items()
        for index, start in enumerate(range(0, len(value), PIECE_BYTES))
    ]
    return pa.Table.from_pylist(rows, schema=pieces_schema())


def put_back(table: pa.Table, fetch: Callable[[list[str]], pa.Table]) -> pa.Table:
    """The table with the texts that its references stand for. `fetch` gives the pieces of some hashes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for index, column in enumerate(table.schema):
        if not pa.types.is_string(column.type):
            continue
        cells = table.column(index)
        is_reference = pc.starts_with(cells, REFERENCE_PREFIX)
        if not pc.any(is_reference).as_py():
            continue
        hashes = [text.removeprefix(REFERENCE_PREFIX) for text in pc.unique(cells.filter(is_reference)).to_pylist()]
        texts = _join(fetch(hashes))
        restored = [
            texts[text.removeprefix(REFERENCE_PREFIX)] if reference else text
            for text, reference in zip(cells.to_pylist(), is_reference.to_pylist(), strict=True)
        ]
        table = table.set_column(index, column, pa.array(restored, column.type))
    return table


def _join(pieces: pa.Table) -> dict[str, str]:
    # Two writers may have put in the same text at once: equal rows count once.
    values: dict[str, dict[int, bytes]] = {}
    for row in pieces.to_pylist():
        values.setdefault(row["hash"], {})[row["piece_index"]] = row["piece"]
    return {digest: b"".join(parts[i] for i in sorted(parts)).decode() for digest, parts in values.items()}
