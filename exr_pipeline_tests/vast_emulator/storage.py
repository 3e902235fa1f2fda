"""Tables as immutable Arrow segments, and the catalog of schemas and tables at one moment.

Belongs here: data and the operations on it. Not here: who sees which version (`transactions`).
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from exr_pipeline_tests.vast_emulator.answers import conflict, missing

Columns = dict[int, pa.Array]  # column id -> values

MERGE_BYTES = 128 << 20  # segments are not merged beyond this
MAX_SEGS = 256


@dataclasses.dataclass(frozen=True)
class Seg:
    """Some rows of a table: ascending row ids, and column id -> array (a column not there is all null)."""

    ids: np.ndarray
    cols: Columns

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + sum(a.nbytes for a in self.cols.values())

    def col(self, cid: int, arrow_type: pa.DataType) -> pa.Array:
        arr = self.cols.get(cid)
        return pa.nulls(len(self.ids), arrow_type) if arr is None else arr

    def slice(self, first: int, last: int) -> "Seg":
        return Seg(self.ids[first:last], {cid: arr.slice(first, last - first) for cid, arr in self.cols.items()})


def merge_segs(a: Seg, b: Seg) -> "Seg":
    types = {cid: arr.type for seg in (a, b) for cid, arr in seg.cols.items()}
    ids = np.concatenate([a.ids, b.ids])
    cols = {cid: pa.concat_arrays([a.col(cid, t), b.col(cid, t)]) for cid, t in types.items()}
    if a.ids[-1] > b.ids[0]:
        order = np.argsort(ids, kind="stable")
        ids, cols = ids[order], {cid: arr.take(pa.array(order)) for cid, arr in cols.items()}
    return Seg(ids, cols)


def tidy(segs: Iterable[Seg]) -> tuple[Seg, ...]:
    """The segments in row id order, without overlaps, the small ones merged so that their number is logarithmic."""
    result: list[Seg] = []
    for seg in sorted(segs, key=lambda s: s.ids[0]):
        while result and (
            result[-1].ids[-1] > seg.ids[0]
            or (len(result[-1].ids) <= 2 * len(seg.ids) and result[-1].nbytes + seg.nbytes < MERGE_BYTES)
        ):
            seg = merge_segs(result.pop(), seg)
        result.append(seg)
    return tuple(result)


@dataclasses.dataclass(frozen=True)
class Table:
    """One immutable version of a table; columns are tracked by id, so that a rename touches no data."""

    handle: int
    bucket: str
    schema: str
    name: str
    cols: tuple[tuple[int, pa.Field], ...]  # of (column id, pa.Field)
    segs: tuple[Seg, ...] = ()
    inserted: int = 0

    @functools.cached_property
    def by_name(self) -> dict[str, tuple[int, pa.Field]]:
        return {field.name: (cid, field) for cid, field in self.cols}

    @functools.cached_property
    def ids(self) -> np.ndarray:
        return np.concatenate([s.ids for s in self.segs]) if self.segs else np.empty(0, np.uint64)

    @functools.cached_property
    def nbytes(self) -> int:
        return sum(s.nbytes for s in self.segs)

    def find(self, name: str) -> tuple[int, pa.Field]:
        """Id and field of a column."""
        if name not in self.by_name:
            raise missing(f"column {name}", "TabularColumnNotFound")
        return self.by_name[name]

    def column(self, name: str) -> pa.ChunkedArray:
        cid, field = self.find(name)
        return pa.chunked_array([s.col(cid, field.type) for s in self.segs], type=field.type)

    def _with_segs(self, segs: Iterable[Seg]) -> "Table":
        segs = [s for s in segs if len(s.ids)]
        return dataclasses.replace(self, segs=tuple(segs) if len(segs) <= MAX_SEGS else tidy(segs))

    def with_values(self, ids: np.ndarray, values: Columns) -> "Table":
        """A version where the rows `ids` (ascending) have new values; only the range around them is copied."""
        segs = []
        for seg in self.segs:
            source = np.arange(np.searchsorted(ids, seg.ids[0]), np.searchsorted(ids, seg.ids[-1], "right"))
            pos = np.searchsorted(seg.ids, ids[source])
            found = seg.ids[pos] == ids[source]
            pos, source = pos[found], source[found]
            if not len(pos):
                segs.append(seg)
                continue
            first, last = int(pos[0]), int(pos[-1]) + 1
            middle = seg.slice(first, last)
            take = np.arange(last - first)
            take[pos - first] = last - first + source
            for cid, arr in values.items():
                both = pa.concat_arrays([middle.col(cid, arr.type), arr])
                middle.cols[cid] = both.take(pa.array(take))
            segs += [seg.slice(0, first), middle, seg.slice(last, len(seg.ids))]
        return self._with_segs(segs)

    def without(self, ids: np.ndarray) -> "Table":
        segs = []
        for seg in self.segs:
            gone = np.isin(seg.ids, ids)
            if not gone.any():
                segs.append(seg)
                continue
            first, last = np.nonzero(gone)[0][[0, -1]].tolist()
            keep = pa.array(first + np.nonzero(~gone[first : last + 1])[0])
            middle = Seg(seg.ids[keep.to_numpy()], {cid: arr.take(keep) for cid, arr in seg.cols.items()})
            segs += [seg.slice(0, first), middle, seg.slice(last + 1, len(seg.ids))]
        return self._with_segs(segs)


class Catalog:
    """Buckets' schemas and tables at one moment. apply() is the only thing that changes it."""

    def __init__(
        self,
        schemas: dict[tuple[str, str], dict[str, str]] | None = None,
        tables: dict[int, Table] | None = None,
        names: dict[tuple[str, str, str], int] | None = None,
    ) -> None:
        self.schemas = dict(schemas or {})  # (bucket, path) -> properties
        self.tables = dict(tables or {})  # handle -> Table
        self.names = dict(names or {})  # (bucket, schema, table) -> handle

    def copy(self) -> "Catalog":
        return Catalog(self.schemas, self.tables, self.names)

    def table(self, bucket: str, schema: str, name: str) -> "Table":
        self.schema(bucket, schema)
        handle = self.names.get((bucket, schema, name))
        if handle is None:
            raise missing(f"table {bucket}/{schema}/{name}", "NoSuchTable")
        return self.tables[handle]

    def schema(self, bucket: str, path: str) -> None:
        if path and (bucket, path) not in self.schemas:
            raise missing(f"schema {bucket}/{path}", "NoSuchSchema")

    def apply(self, op: str, *args: Any) -> None:
        getattr(self, "_" + op)(*args)

    def _handle(self, handle: int) -> "Table":
        if handle not in self.tables:
            raise conflict("the table was dropped by another transaction")
        return self.tables[handle]

    def _set(self, handle: int, **changes: Any) -> None:
        self.tables[handle] = dataclasses.replace(self._handle(handle), **changes)

    def _create_schema(self, bucket: str, path: str) -> None:
        if (bucket, path) in self.schemas:
            raise conflict(f"schema {bucket}/{path} already exists")
        self.schema(bucket, path.rpartition("/")[0])
        self.schemas[bucket, path] = {}

    def _drop_schema(self, bucket: str, path: str) -> None:
        self.schema(bucket, path)
        if any(b == bucket and s == path for b, s, _ in self.names):
            raise conflict(f"schema {bucket}/{path} is not empty: it has tables")
        if any(b == bucket and s.startswith(path + "/") for b, s in self.schemas):
            raise conflict(f"schema {bucket}/{path} is not empty: it has schemas")
        del self.schemas[bucket, path]

    def _create_table(self, table: Table) -> None:
        self.schema(table.bucket, table.schema)
        if (table.bucket, table.schema, table.name) in self.names:
            raise conflict(f"table {table.bucket}/{table.schema}/{table.name} already exists")
        self.names[table.bucket, table.schema, table.name] = table.handle
        self.tables[table.handle] = table

    def _drop_table(self, handle: int) -> None:
        table = self._handle(handle)
        del self.names[table.bucket, table.schema, table.name], self.tables[handle]

    def _add_columns(self, handle: int, cols: tuple[tuple[int, pa.Field], ...]) -> None:
        table = self._handle(handle)
        for _, field in cols:
            if field.name in table.by_name:
                raise conflict(f"column {field.name} already exists")
        self._set(handle, cols=table.cols + cols)

    def _insert(self, handle: int, ids: np.ndarray, cols: Columns) -> None:
        table = self._handle(handle)
        self._set(handle, segs=tidy([*table.segs, Seg(ids, cols)]), inserted=table.inserted + len(ids))

    def _update(self, handle: int, ids: np.ndarray, cols: Columns) -> None:
        self.tables[handle] = self._handle(handle).with_values(ids, cols)

    def _delete(self, handle: int, ids: np.ndarray) -> None:
        self.tables[handle] = self._handle(handle).without(ids)
