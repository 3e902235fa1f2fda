"""Two table stores compared row by row, and two buckets object by object.

Belongs here: what differs, by row and column. Not here: what the stores are, or printing.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.tables.specs import TABLES, TableName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.tables.store import TableStore

# When a row was made, and how long that took: nothing else may differ.
NOT_COMPARED: Final[dict[TableName, frozenset[str]]] = {
    "files": frozenset({"inspection_timestamp", "last_inspected", "seen_at"}),
    "proxy_outputs": frozenset({"generated_timestamp", "processing_time_seconds"}),
    "sequence_outputs": frozenset({"generated_timestamp", "processing_time_seconds"}),
}

Row = dict[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that is not the same; `column` is `rows` where the number of rows with that key is not."""

    table: TableName
    key: Key
    column: str
    first: object
    second: object


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many rows and values of a table were compared, and what differs."""

    table: TableName
    rows: int
    values: int
    differences: tuple[Difference, ...]


def compare_stores(first: TableStore, second: TableStore) -> list[Comparison]:
    """Compare all rows of all tables, history included."""
    return [compare_rows(table, _rows(first, table), _rows(second, table)) for table in TABLES]


def compare_rows(table: TableName, first: Iterable[Row], second: Iterable[Row]) -> Comparison:
    """Compare the rows of a table by its key. Rows with the same key are compared in the order of their values."""
    ones, others = _by_key(table, first), _by_key(table, second)
    found: list[Difference] = []
    for key in sorted(ones.keys() | others.keys(), key=repr):
        mine, theirs = ones[key], others[key]
        if len(mine) != len(theirs):
            found.append(Difference(table, key, "rows", len(mine), len(theirs)))
            continue
        for one, other in zip(mine, theirs, strict=True):
            found += [
                Difference(table, key, column, value, other[column])
                for column, value in one.items()
                if not _is_same(value, other[column])
            ]
    rows = sum(map(len, ones.values()))
    compared = len(TABLES[table].columns) - len(NOT_COMPARED.get(table, ()))
    return Comparison(table, rows, rows * compared, tuple(found))


def object_hashes(storage: ObjectStorage, folder: Location) -> dict[str, str]:
    """SHA-256 of everything below a folder that the pipeline has made, by key."""
    made = [info.location for info in storage.iter_objects(folder) if "/.proxies/" in info.location.key]
    return {location.key: hashlib.sha256(storage.read(location)[1]).hexdigest() for location in made}


def _rows(store: TableStore, table: TableName) -> list[Row]:
    rows = store.read(table, current_only=False)
    return rows.drop_columns(sorted(NOT_COMPARED.get(table, ()))).to_pylist()


def _by_key(table: TableName, rows: Iterable[Row]) -> defaultdict[Key, list[Row]]:
    found: defaultdict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[column] for column in TABLES[table].row_key)].append(row)
    for same in found.values():
        same.sort(key=repr)
    return found


def _is_same(one: object, other: object) -> bool:
    # NaN, which attributes may hold, is not equal to itself.
    return one == other or (one != one and other != other)
