"""DuckDB's SQL over rows of VAST: rows that are fetched while a query runs, and conditions that the server applies.

Belongs here: what DuckDB sees of a table, and conditions in the server's terms. Not here: transactions (`vast`), or
what a query needs (`tables.planned_reads`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.tables.queries import sql_type
from exr_pipeline.tables.specs import TABLES, TableName
from exr_pipeline.tables.stores.vast_long_values import MAX_CELL_BYTES, REFERENCE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    import pyarrow as pa

    from exr_pipeline.tables.planned_reads import Condition

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class LazyRows:
    """Rows that DuckDB can scan any number of times, through Arrow's C interface. Each scan fetches them."""

    def __init__(self, schema: pa.Schema, fetch: Callable[[], Iterator[pa.RecordBatch]]) -> None:
        self._schema = schema
        self._fetch = fetch
        # DuckDB makes an error of its own of what is raised while it scans.
        self.failures: list[Exception] = []

    def __arrow_c_schema__(self) -> object:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self._schema, self._watched()).__arrow_c_stream__(requested_schema)

    def _watched(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._fetch()
        except Exception as error:
            self.failures.append(error)
            raise


def fetched_name(table: TableName) -> str:
    """The name under which DuckDB finds the `LazyRows` of a table."""
    return f"{table}_fetched"


def fetched_table_statements(table: TableName, columns: Collection[str], long_texts: Collection[str]) -> list[str]:
    """DDL that puts the fetched columns of a table, and null for all others, in the place of the table without rows.

    In the columns `long_texts`, references become the texts of the table `long_texts`, which are then looked up only
    for the rows and columns that a query wants, and are in memory once.
    """
    joined = [f"LEFT JOIN long_texts long_{name} ON long_{name}.reference = fetched.{name}" for name in long_texts]
    selected = []
    for column in TABLES[table].columns:
        name = column.name
        if name in long_texts:
            selected.append(f"coalesce(long_{name}.text, fetched.{name}) AS {name}")
        else:
            selected.append(f"fetched.{name}" if name in columns else f"NULL::{sql_type(column.type)} AS {name}")
    rows = f"{fetched_name(table)} fetched {' '.join(joined)}"
    return [f"DROP TABLE {table}", f"CREATE VIEW {table} AS SELECT {', '.join(selected)} FROM {rows}"]  # noqa: S608 - our names


def predicate(rows: Any, table: TableName, conditions: Iterable[Condition]) -> Any:
    """The conditions as the server takes them, for `rows`, the SDK's table; None if it can apply none of them."""
    wanted = [_expression(rows[each.column], each) for each in conditions if _is_of_cells(table, each)]
    return reduce(operator.and_, wanted) if wanted else None


def _is_of_cells(table: TableName, condition: Condition) -> bool:
    """Whether a condition on a text says the same of the cell that holds it, which may hold a reference to it."""
    if isinstance(condition.value, int) or condition.operator in {"is_null", "is_not_null"}:
        return True
    if condition.operator in {"=", "in"}:
        values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
        return not any(_may_be_long(value) for value in values)
    return condition.column in _never_long(table)


def _may_be_long(value: object) -> bool:
    return isinstance(value, str) and (len(value.encode()) > MAX_CELL_BYTES or value.startswith(REFERENCE_PREFIX))


def _never_long(table: TableName) -> set[str]:
    """Columns whose texts always fit into a cell: moments, ids, and paths."""
    spec = TABLES[table]
    paths = {name for columns in spec.paths.values() for name in columns}
    moments = {column.name for column in spec.columns if column.type == "timestamp"}
    return {*spec.version, *spec.file, *paths, *moments}


def _expression(column: Any, condition: Condition) -> Any:
    match condition.operator:
        case "is_null":
            return column.isnull()
        case "is_not_null":
            return ~column.isnull()
        case "in":
            return column.isin(condition.value)
        case "starts_with":
            return column.startswith(condition.value)
        case comparison:
            return _COMPARISONS[comparison](column, condition.value)
