"""Arrow tables brought to the schema's columns and types.

Belongs here: types and columns. Not here: what rows mean (`merge`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exr_pipeline.tables.specs import TableName, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa


def conform(name: TableName, table: pa.Table) -> pa.Table:
    """The rows with exactly the columns and types of the schema, in one chunk; columns that lack become null.

    Raises `ValueError` for unknown columns.
    """
    import pyarrow as pa

    schema = arrow_schema(name)
    if unknown := set(table.column_names) - set(schema.names):
        raise ValueError(f"table {name} has no column {', '.join(sorted(unknown))}")
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field.name, pa.nulls(table.num_rows))
    return cast_columns(table, schema)


def cast_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of a schema, picked by name and cast, in one chunk."""
    import pyarrow as pa

    return pa.table([cast_column(table.column(field.name), field.type) for field in schema], schema=schema)


def cast_column(column: pa.ChunkedArray, to: pa.DataType) -> pa.Array:
    """The column as one array of a type. Vectors become vectors of non-nullable items, as VAST wants them.

    Raises `ValueError` (Arrow's errors are such) for values that the type cannot hold.
    """
    import pyarrow as pa

    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return _vectors(array, to) if pa.types.is_fixed_size_list(to) else array.cast(to)


def _vectors(array: pa.Array, to: pa.DataType) -> pa.Array:
    """Arrow refuses to cast a null vector to one of non-nullable items, for the nulls that it hides: they become 0."""
    import pyarrow as pa

    if pa.types.is_null(array.type):
        array = pa.array([None] * len(array), pa.list_(pa.float32(), to.list_size))
    if not pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(pa.float32(), to.list_size))
    if array.type.list_size != to.list_size:
        raise ValueError(f"vectors have {array.type.list_size} numbers instead of {to.list_size}")
    if array.flatten().null_count:
        raise ValueError("a vector contains a null")
    values = array.values.slice(array.offset * to.list_size, len(array) * to.list_size)
    filled = values.cast(to.value_type).fill_null(0.0)
    return pa.FixedSizeListArray.from_arrays(filled, type=to, mask=array.is_null())
