"""Reading SQL on a DuckDB connection: one SELECT, nothing else, with errors that say what is wrong with it.

Belongs here: what both stores do with a user's SQL, and the DDL of tables and views in DuckDB. Not here: connections.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.tables.schema import COLUMNS, TABLE_NAMES, TableName
from exr_pipeline.tables.store import BadQueryError
from exr_pipeline.tables.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb
    import pyarrow as pa

_SQL_TYPES: Final = {
    "string": "VARCHAR",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
}


def sql_type(notation: str) -> str:
    """DuckDB's type for the notation of `schema.arrow_type`."""
    return notation.replace("vector", "FLOAT") if notation.startswith("vector") else _SQL_TYPES[notation]


def table_statements() -> list[str]:
    """DDL that makes the tables, or adds the columns that older ones lack."""
    statements = []
    for table in TABLE_NAMES:
        columns = [f'"{c.name}" {sql_type(c.type)}' for c in COLUMNS[table]]
        statements.append(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)})")
        statements += [f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column}" for column in columns]
    return statements


def view_statements() -> list[str]:
    """DDL that makes the views."""
    return [f"CREATE OR REPLACE VIEW {view.name} AS {view.query}" for view in VIEWS]


def run_select(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    """The result of one SELECT. The connection is left unable to reach files or the network.

    Raises `BadQueryError`.
    """
    import duckdb

    try:
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise BadQueryError("SQL", "only one SELECT statement at a time may be run")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET lock_configuration = true")
        return connection.sql(statements[0].query).to_arrow_table()
    except (duckdb.OutOfMemoryException, duckdb.InternalException, duckdb.FatalException):
        raise
    except duckdb.Error as error:
        raise BadQueryError("SQL", _first_lines(error)) from error


def _first_lines(error: Exception) -> str:
    """DuckDB's message as one line, without the picture of the query that follows it."""
    return " ".join(str(error).partition("\nLINE ")[0].split())


def needed_columns(connection: duckdb.DuckDBPyConnection, query: str) -> dict[TableName, list[str]]:
    """The columns of each table that a SELECT reads, views included, found by DuckDB's own planner.

    `connection` has the tables and views, and may be empty of rows. Raises `BadQueryError`.
    """
    import duckdb

    names = [name for (name,) in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()]
    # Any other optimizer might drop what cannot matter to tables without rows.
    others = ",".join(name for name in names if name != "unused_columns")
    connection.execute(f"SET disabled_optimizers = '{others}'")
    try:
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise BadQueryError("SQL", "only one SELECT statement at a time may be run")
        row = connection.execute(f"EXPLAIN (FORMAT json) {statements[0].query}").fetchone()
    except duckdb.Error as error:
        raise BadQueryError("SQL", _first_lines(error)) from error
    finally:
        connection.execute("RESET disabled_optimizers")
    assert row is not None
    needed: dict[TableName, list[str]] = {}
    for scan in _scans(json.loads(row[1])):
        name = scan["Table"].rpartition(".")[2]
        projections = scan["Projections"]
        columns = [projections] if isinstance(projections, str) else projections
        needed[name] = list(dict.fromkeys([*needed.get(name, []), *filter(None, columns)]))
    return needed


def _scans(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        if "Table" in node["extra_info"]:
            yield node["extra_info"]
        yield from _scans(node["children"])
