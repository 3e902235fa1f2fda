"""Column types and cells that VAST takes, and row ids.

Belongs here: checks of Arrow types and values. Not here: where they are kept (`storage`).
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exr_pipeline_tests.vast_emulator.answers import bad

MAX_CELL = 126 << 10  # the largest string / binary value a VAST cell takes
ROW_ID = "$row_id"

_SCALARS = {
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint16(),
    pa.uint32(),
    pa.uint64(),
    pa.float16(),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
    pa.string(),
    pa.binary(),
    pa.date32(),
    pa.time32("s"),
    pa.time32("ms"),
    pa.time64("us"),
    pa.time64("ns"),
}
_NOT_IN_VECTORS = {pa.string(), pa.binary(), pa.bool_()}


def check_type(name: str, t: pa.DataType, max_cell: int) -> None:
    """Raise unless a table of this emulator can have a column of this type: scalars and vectors."""
    unsupported = bad(f"unsupported column type {t} of column {name}", "TabularUnsupportedColumnType")
    if t in _SCALARS or pa.types.is_timestamp(t) or pa.types.is_decimal128(t):
        return
    if not pa.types.is_fixed_size_list(t):
        raise unsupported
    if t.list_size == 0:
        raise bad(f"fixed size list {name} of 0 elements", "TabularInvalidColumnTypeParam")
    if t.value_field.nullable or t.value_type in _NOT_IN_VECTORS or pa.types.is_nested(t.value_type):
        raise unsupported
    if t.list_size * t.value_type.bit_width // 8 > max_cell:
        raise unsupported
    check_type(name, t.value_type, max_cell)


def same_type(a: pa.DataType, b: pa.DataType) -> bool:
    """Type equality, disregarding the names of list items."""
    if pa.types.is_fixed_size_list(a) and pa.types.is_fixed_size_list(b):
        return a.list_size == b.list_size and same_field(a.value_field, b.value_field)
    return a.equals(b)


def same_field(a: pa.Field, b: pa.Field) -> bool:
    return a.nullable == b.nullable and same_type(a.type, b.type)


def check_cells(name: str, arr: pa.Array, max_cell: int) -> None:
    """Raise if a string or binary value in the column is larger than a cell may be."""
    if not (pa.types.is_string(arr.type) or pa.types.is_binary(arr.type)):
        return
    longest = pc.max(pc.binary_length(arr)).as_py()
    if longest is not None and longest > max_cell:
        raise bad(
            f"a value of {longest} bytes in column {name} is over the {max_cell} bytes a cell can hold",
            "TabularCellTooLarge",
        )


def row_ids_to_numpy(arr: pa.Array) -> np.ndarray:
    if arr.null_count:
        raise bad("null row id")
    if not pa.types.is_integer(arr.type):
        raise bad(f"row ids of type {arr.type}", "TabularMismatchColumnType")
    return arr.to_numpy(zero_copy_only=False).astype(np.uint64)
