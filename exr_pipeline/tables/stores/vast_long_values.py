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


def references(table: pa.Table) -> dict[str, list[str]]:
    """The hashes of the texts that a table refers to, by column; only columns that have any."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = {}
    for name, type_ in zip(table.schema.names, table.schema.types, strict=True):
        if pa.types.is_string(type_):
            cells = table.column(name)
            hashes = pc.unique(cells.filter(pc.starts_with(cells, REFERENCE_PREFIX))).to_pylist()
            if hashes:
                found[name] = [text.removeprefix(REFERENCE_PREFIX) for text in hashes]
    return found


def put_back(table: pa.Table, fetch: Callable[[list[str]], pa.Table]) -> pa.Table:
    """The table with the texts that its references stand for. `fetch` gives the pieces of some hashes."""
    import pyarrow as pa

    for name, hashes in references(table).items():
        index = table.column_names.index(name)
        texts = {REFERENCE_PREFIX + digest: text for digest, text in _join(fetch(hashes)).items()}
        restored = [
            texts[text] if text is not None and text.startswith(REFERENCE_PREFIX) else text
            for text in table.column(index).to_pylist()
        ]
        table = table.set_column(index, table.schema.field(index), pa.array(restored, table.schema.field(index).type))
    return table


def texts_by_reference(pieces: pa.Table) -> pa.Table:
    """The texts of these pieces, each once: columns `reference`, as in cells, and `text`."""
    import pyarrow as pa

    texts = _join(pieces)
    references = [REFERENCE_PREFIX + digest for digest in texts]
    return pa.table([pa.array(references, pa.string()), pa.array(texts.values(), pa.string())], ["reference", "text"])


def _join(pieces: pa.Table) -> dict[str, str]:
    # Two writers may have put in the same text at once: equal rows count once.
    values: dict[str, dict[int, bytes]] = {}
    for row in pieces.to_pylist():
        values.setdefault(row["hash"], {})[row["piece_index"]] = row["piece"]
    return {digest: b"".join(parts[i] for i in sorted(parts)).decode() for digest, parts in values.items()}
