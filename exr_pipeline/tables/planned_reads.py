"""What a SELECT reads of each table, found by DuckDB's own planner: columns, and conditions that all of its rows meet.

Belongs here: plans, as data. Not here: checking or running the SELECT (`queries`), or fetching the rows (`stores`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from exr_pipeline.tables.queries import in_memory, parser, sql_error
from exr_pipeline.tables.specs import TABLES, TableName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Operator = Literal["=", "<", "<=", ">", ">=", "in", "starts_with", "is_null", "is_not_null"]
Value = str | int | tuple[str, ...] | tuple[int, ...] | None

_COMPARISONS: Final[Mapping[str, Operator]] = {
    "COMPARE_EQUAL": "=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}
_NULL_TESTS: Final[Mapping[str, Operator]] = {
    "OPERATOR_IS_NULL": "is_null",
    "OPERATOR_IS_NOT_NULL": "is_not_null",
}
_INTEGERS: Final = {"int32": 1 << 31, "int64": 1 << 63}
_TEXTS: Final = frozenset({"string", "timestamp", "json"})


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of one column with constants of its type. Text is compared byte by byte."""

    column: str
    operator: Operator
    value: Value = None


@dataclass(frozen=True, slots=True)
class Read:
    """The columns of a table that a SELECT needs, and conditions that every row of the table that matters to it meets.

    The conditions spare fetching rows. The SELECT itself applies all of its own again.
    """

    columns: tuple[str, ...]
    conditions: frozenset[Condition]


def planned_reads(select: str, parameters: Mapping[str, object] | None = None) -> dict[TableName, Read]:
    """What a SELECT of `one_select` reads of each table, views included.

    Raises `BadQueryError`.
    """
    reads: dict[TableName, Read] = {}
    # Where a plan has its conditions in its scans, these leave out the columns of the conditions.
    with_columns = _scans_of(select, parameters, optimizers={"unused_columns"})
    with_conditions = _scans_of(select, parameters, optimizers={"unused_columns", "filter_pushdown"})
    for name, scans in with_columns.items():
        columns = [column for scan in scans for column in _listed(scan["Projections"]) if column]
        conditions = [_conditions(name, _listed(scan.get("Filters", []))) for scan in with_conditions.get(name, [])]
        shared = frozenset.intersection(*conditions) if conditions else frozenset()
        reads[name] = Read(tuple(dict.fromkeys(columns)), shared)
    return reads


def _scans_of(
    select: str, parameters: Mapping[str, object] | None, *, optimizers: set[str]
) -> dict[TableName, list[dict[str, Any]]]:
    """The scans in the plan of a SELECT, by table. Other optimizers might drop what cannot matter to empty tables."""
    import duckdb

    with in_memory(disabled_optimizers=",".join(_every_optimizer() - optimizers)) as connection:
        try:
            row = connection.execute(f"EXPLAIN (FORMAT json) {select}", dict(parameters or {})).fetchone()
        except duckdb.Error as error:
            raise sql_error(error) from error
    assert row is not None
    found: dict[TableName, list[dict[str, Any]]] = {}
    for scan in _scans(json.loads(row[1])):
        found.setdefault(cast("TableName", scan["Table"].rpartition(".")[2]), []).append(scan)
    return found


def _every_optimizer() -> set[str]:
    with parser() as connection:
        return {name for (name,) in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()}


def _scans(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        if "Table" in node["extra_info"]:
            yield node["extra_info"]
        yield from _scans(node["children"])


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _conditions(table: TableName, filters: list[str]) -> frozenset[Condition]:
    """The conditions that the filters of a scan, which are expressions in SQL, consist of; only those understood."""
    types = {column.name: column.type for column in TABLES[table].columns}
    found = [_condition(node, types) for text in filters for node in _parsed(text)]
    return frozenset(condition for condition in found if condition is not None)


def _parsed(expression: str) -> Iterator[dict[str, Any]]:
    """The parts, joined by AND, of an expression in SQL. None if it is more than SQL can say."""
    with parser() as connection:
        row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [f"SELECT {expression}"]).fetchone()
    assert row is not None
    tree = json.loads(row[0])
    if not tree["error"]:
        yield from _conjuncts(tree["statements"][0]["node"]["select_list"][0])


def _conjuncts(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if node["type"] == "CONJUNCTION_AND":
        for child in node["children"]:
            yield from _conjuncts(child)
    else:
        yield node


def _condition(node: Mapping[str, Any], types: Mapping[str, str]) -> Condition | None:
    kind = node["type"]
    if kind in _NULL_TESTS:
        column = _column(node["children"][0], types)
        return None if column is None else Condition(column, _NULL_TESTS[kind])
    if kind == "OPERATOR_NOT":
        inner = _condition(node["children"][0], types)
        return Condition(inner.column, "is_not_null") if inner and inner.operator == "is_null" else None
    if kind in _COMPARISONS:
        return _compared(_COMPARISONS[kind], node["left"], [node["right"]], types)
    if kind == "COMPARE_IN":
        return _compared("in", node["children"][0], node["children"][1:], types)
    if kind == "FUNCTION" and node["function_name"] == "starts_with":
        first, second = (argument["expression"] for argument in node["arguments"])
        return _compared("starts_with", first, [second], types)
    return None


def _compared(
    operator: Operator, left: Mapping[str, Any], constants: list[Mapping[str, Any]], types: Mapping[str, str]
) -> Condition | None:
    column = _column(left, types)
    if column is None:
        return None
    values = [_constant(constant, types[column]) for constant in constants]
    if any(value is None for value in values):
        return None
    return Condition(column, operator, cast("Value", tuple(values) if operator == "in" else values[0]))


def _column(node: Mapping[str, Any], types: Mapping[str, str]) -> str | None:
    names = node["column_names"] if node["type"] == "COLUMN_REF" else []
    return names[0] if len(names) == 1 and names[0] in types else None


def _constant(node: Mapping[str, Any], type_: str) -> str | int | None:
    """The constant, if it is one of the column's own type. A plan may cast text to text."""
    if node["type"] == "OPERATOR_CAST" and node["type_expr"].get("type_name") == "VARCHAR" and type_ in _TEXTS:
        node = node["child"]
    if node["type"] != "VALUE_CONSTANT" or not isinstance(literal := node.get("literal"), dict):
        return None
    if literal["kind"] == "STRING" and type_ in _TEXTS:
        return str(literal["text"])
    if literal["kind"] == "INTEGER" and type_ in _INTEGERS:
        number = int(literal["text"])
        return number if -_INTEGERS[type_] <= number < _INTEGERS[type_] else None
    return None
