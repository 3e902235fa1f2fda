"""Queries: the SDK's flatbuffers Arrow compute IR evaluated over a table, and the frames of the answer.

Belongs here: filters and projections. Not here: HTTP (`server`) or other commands (`api`).
"""

import collections
import decimal
import functools
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exr_pipeline_tests.vast_emulator.answers import bad, not_implemented
from exr_pipeline_tests.vast_emulator.columns import ROW_ID
from exr_pipeline_tests.vast_emulator.flatbuf import IR, fb_init, literal_names
from exr_pipeline_tests.vast_emulator.storage import Table

Leaf = tuple[str, tuple[int, ...]]  # a column, and the path of child numbers in it
Node = tuple[Any, ...]  # a filter: its kind and arguments
Column = Callable[[str], pa.ChunkedArray]

NO_MORE_ROWS = (1 << 48) - 1
ROW_GROUP = 1 << 16
MAX_QUERY_BYTES = 64 << 20  # per sub-split and request; the SDK asks again for the rest
IPC_EOS = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class Query:
    """A parsed QueryData request: a flatbuffers Arrow compute IR relation with source, filter, projection."""

    def __init__(self, body: bytes) -> None:
        relation = IR("Relation").Relation.GetRootAs(body)
        if relation.ImplType() != IR("RelationImpl").RelationImpl.Source:
            raise bad("the relation must be a Source")
        source = fb_init(IR("Source").Source, relation.Impl())
        # Depth first: (top-level column, path of child numbers, is it a leaf).
        self.nodes: list[tuple[str, tuple[int, ...], bool]] = []
        self.fields = {}
        for i in range(source.Schema().FieldsLength()):
            field = source.Schema().Fields(i)
            self.fields[field.Name().decode()] = field
            self._walk(field, field.Name().decode(), ())
        self.projection = [self._leaf(source.Projection(i).Position()) for i in range(source.ProjectionLength())]
        self.filter = self._expression(source.Filter()) if source.Filter() is not None else ("and", [])

    def _walk(self, field: Any, name: str, path: tuple[int, ...]) -> None:
        self.nodes.append((name, path, not field.ChildrenLength()))
        for i in range(field.ChildrenLength()):
            self._walk(field.Children(i), name, (*path, i))

    def _leaf(self, position: int) -> Leaf:
        name, path, leaf = self.nodes[position]
        if not leaf:
            raise bad(f"column {name} is projected at position {position}, which is not a leaf")
        return name, path

    def _expression(self, expr: Any) -> Node:
        impl = IR("ExpressionImpl").ExpressionImpl
        if expr.ImplType() != impl.Call:
            raise bad("a filter must be made of calls")
        call = fb_init(IR("Call").Call, expr.Impl())
        name = call.Name().decode()
        args = [call.Arguments(i) for i in range(call.ArgumentsLength())]
        if name in ("and", "or"):
            return name, [self._expression(a) for a in args]
        if args[0].ImplType() != impl.FieldRef:
            raise bad(f"the first argument of {name} must be a column")
        ref = fb_init(IR("FieldRef").FieldRef, args[0].Impl())
        column = self._leaf(fb_init(IR("FieldIndex").FieldIndex, ref.Ref()).Position())
        if name in ("is_null", "is_valid"):
            return name, column
        if name not in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "match_substring"):
            raise not_implemented(f"the filter function {name}")
        return name, column, self._literal(fb_init(IR("Literal").Literal, args[1].Impl()))

    def _literal(self, literal: Any) -> Any:
        name = literal_names()[literal.ImplType()]
        value = fb_init(getattr(IR(name), name), literal.Impl())
        if name == "ListLiteral":
            return [self._literal(value.Values(i)) for i in range(value.ValuesLength())]
        if name in ("BinaryLiteral", "DecimalLiteral"):
            data = bytes(value.Value(i) & 0xFF for i in range(value.ValueLength()))
            return data if name == "BinaryLiteral" else int.from_bytes(data, "little", signed=True)
        if name == "Float16Literal":
            return float(np.uint16(value.Value()).view(np.float16))
        return value.Value()  # strings come as bytes, dates and times as integers

    def mask(self, node: Node, column: Column) -> Any:
        """Evaluate a filter node over `column(name) -> ChunkedArray`; None stands for all rows."""
        kind = node[0]
        if kind == "and":
            parts = [m for m in (self.mask(n, column) for n in node[1]) if m is not None]
            return functools.reduce(pc.and_kleene, parts) if parts else None
        if kind == "or":
            parts, equal = [], collections.defaultdict(list)
            for n in node[1]:
                if n[0] == "equal" and not isinstance(n[2], list):
                    equal[n[1]].append(n[2])
                else:
                    parts.append(self.mask(n, column))
            for (name, path), values in equal.items():
                arr, to_scalar = comparable(column(name), path)
                parts.append(pc.is_in(arr, value_set=pa.array([to_scalar(v).as_py() for v in values], arr.type)))
            if any(p is None for p in parts):
                return None
            return functools.reduce(pc.or_kleene, parts)
        name, path = node[1]
        col = column(name)
        if pa.types.is_fixed_size_list(col.type):
            return compare_vectors(kind, col, node[2:])
        if kind in ("is_null", "is_valid"):
            arr = pc.struct_field(col, list(path)) if path else col
            return pc.is_null(arr) if kind == "is_null" else pc.is_valid(arr)
        arr, to_scalar = comparable(col, path)
        if kind == "match_substring":
            return pc.match_substring(arr, node[2])
        return getattr(pc, kind)(arr, to_scalar(node[2]))


def comparable(col: pa.ChunkedArray, path: tuple[int, ...]) -> tuple[Any, Callable[[Any], pa.Scalar]]:
    """The column (or its struct member) in a type that Arrow compares, and how literals become scalars of it."""
    arr = pc.struct_field(col, list(path)) if path else col
    t = arr.type
    if pa.types.is_string(t):  # UTF-8 in byte order; the upper end of a prefix range may not be valid UTF-8
        return arr.cast(pa.binary()), lambda v: pa.scalar(v, pa.binary())
    if pa.types.is_float16(t):
        return arr.cast(pa.float32()), lambda v: pa.scalar(v, pa.float32())
    return arr, functools.partial(literal_scalar, t)


def literal_scalar(t: pa.DataType, value: Any) -> pa.Scalar:
    try:
        if pa.types.is_decimal(t):
            digits = tuple(map(int, str(abs(value))))
            return pa.scalar(decimal.Decimal((int(value < 0), digits, -t.scale)), t)
        if pa.types.is_date32(t) or pa.types.is_time32(t):
            return pa.scalar(value, pa.int32()).cast(t)
        if pa.types.is_timestamp(t) or pa.types.is_time64(t):
            return pa.scalar(value, pa.int64()).cast(t)
        return pa.scalar(value, t)
    except (pa.ArrowInvalid, OverflowError, TypeError) as e:
        raise bad(f"literal {value!r} is not a {t}: {e}") from e


def compare_vectors(kind: str, col: pa.ChunkedArray, literal: Any) -> pa.ChunkedArray:
    if kind in ("is_null", "is_valid"):
        return pc.is_null(col) if kind == "is_null" else pc.is_valid(col)
    compare = {
        "equal": "__eq__",
        "not_equal": "__ne__",
        "less": "__lt__",
        "less_equal": "__le__",
        "greater": "__gt__",
        "greater_equal": "__ge__",
    }[kind]
    wanted = [literal_scalar(col.type.value_type, v).as_py() for v in literal[0]]
    return pa.chunked_array(
        [[None if v is None else getattr(v, compare)(wanted) for v in col.to_pylist()]], type=pa.bool_()
    )


def run_query(
    table: Table, query: Query, split: int, splits: int, row_groups: int, starts: dict[int, int], limit: int
) -> Iterator[bytes]:
    """Yield the frames of a QueryData response.

    Rows are dealt to the sub-splits in stripes of `row_groups` row groups by row id. Each sub-split returns up to
    `limit` rows from its start row id on, and the row id to go on from.
    """
    ids, names = table.ids, {name for name, _ in query.projection}

    @functools.cache
    def column(name: str) -> pa.ChunkedArray:
        return pa.chunked_array([pa.array(ids, pa.uint64())]) if name == ROW_ID else table.column(name)

    row_bytes = sum(column(n).nbytes for n in names) / max(1, len(ids))
    limit = max(1, min(limit, int(MAX_QUERY_BYTES / max(1, row_bytes))))
    for sub_split, start in starts.items():
        if start >= NO_MORE_ROWS:
            continue
        number = split * len(starts) + sub_split
        found, next_row = _matching_rows(ids, query, column, (number, splits * len(starts)), row_groups, start, limit)
        rows = pa.array(found)
        head = struct.pack("<LQ", sub_split, next_row)
        taken = {name: column(name).take(rows).combine_chunks() for name in names}
        for name, _ in query.projection:
            arr = taken[name]
            if isinstance(arr, pa.ChunkedArray):
                arr = pa.concat_arrays(arr.chunks) if arr.num_chunks else pa.array([], arr.type)
            batch = pa.RecordBatch.from_arrays([arr], names=[name])
            yield from (head, batch.schema.serialize(), head, batch.serialize(), head, IPC_EOS)
        if not query.projection:
            yield from empty_batch_frames(head, len(rows))


def _matching_rows(
    ids: np.ndarray,
    query: Query,
    column: Column,
    first_and_step: tuple[int, int],
    row_groups: int,
    start: int,
    limit: int,
) -> tuple[np.ndarray, int]:
    """Positions of the matching rows in the stripes first, first + step, …, and the row id to go on from."""
    stripe = row_groups * ROW_GROUP
    stripes = int(ids[-1]) // stripe + 1 if len(ids) else 0
    found, count = [np.empty(0, np.int64)], 0
    for k in range(first_and_step[0], stripes, first_and_step[1]):
        lo, hi = np.searchsorted(ids, [max(k * stripe, start), (k + 1) * stripe]).tolist()
        if lo >= hi:
            continue
        mask = query.mask(query.filter, functools.partial(_column_slice, column, lo, hi - lo))
        rows = np.arange(lo, hi)
        if mask is not None:
            rows = rows[pc.fill_null(mask, fill_value=False).to_numpy()]
        if count + len(rows) > limit:
            found.append(rows[: limit - count])
            return np.concatenate(found), int(ids[rows[limit - count]])
        found.append(rows)
        count += len(rows)
    return np.concatenate(found), NO_MORE_ROWS


def _column_slice(column: Column, first: int, count: int, name: str) -> pa.ChunkedArray:
    return column(name).slice(first, count)


def empty_batch_frames(head: bytes, num_rows: int) -> Iterator[bytes]:
    batch = pa.RecordBatch.from_arrays([pa.nulls(num_rows)], names=["x"]).select([])
    yield from (head, batch.schema.serialize(), head, batch.serialize(), head, IPC_EOS)
