"""A user's SQL on a DuckDB connection: one SELECT over the tables, which reaches no file, network or Python variable.

Belongs here: what both stores do with a user's SQL, and the DDL of tables and views in DuckDB. Not here: the database
file and its lock (`tables.stores.duckdb`), or where VAST's rows come from (`tables.stores.vast`).
"""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from functools import cache
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, cast

from exr_pipeline.errors import RetryableError
from exr_pipeline.tables.specs import TABLES, TableName
from exr_pipeline.tables.store import BadQueryError
from exr_pipeline.tables.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import duckdb
    import pyarrow as pa

Configuration = dict[str, str | bool]

# The configuration of a connection that a user's SQL runs on. It is given on connecting, so that it holds before
# anything of the SQL is parsed: even an error of the planner can quote a file.
LOCKED: Final[Configuration] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "lock_configuration": True,
    # Set once connected: DuckDB knows no time zones before.
    "allowed_configs": "['TimeZone']",
}
# What follows connecting, so that times read the same on every machine.
USE_UTC: Final = "SET TimeZone = 'UTC'"

# What a connection may have in memory that streams its result. What needs more, such as sorting, goes to disk.
BOUNDED: Final[Configuration] = {"memory_limit": "200MB"}
ROWS_PER_BATCH: Final = 10_000
_NOT_THE_QUERYS_FAULT: Final = ("Out of Memory Error", "INTERNAL Error", "FATAL Error", "IO Error")

# External access or not, DuckDB lets a query read and write the files of its own database and COPY inside a SELECT.
# So a query may consist only of these nodes, call only these table functions (they make rows of the query's own values,
# or describe the tables), and name only tables.
_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLE_FUNCTIONS: Final = frozenset(
    {
        *("generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"),
        *("duckdb_columns", "duckdb_functions", "duckdb_tables", "duckdb_types", "duckdb_views", "pragma_table_info"),
        *(view.name for view in VIEWS if view.parameters),
    }
)
_SCHEMAS: Final = frozenset({"", "main", "information_schema", "pg_catalog"})
_NOT_OF_TABLES: Final = re.compile(r"[./\\:*?\[]")

_SQL_TYPES: Final = {
    "string": "VARCHAR",
    "timestamp": "VARCHAR",
    "json": "VARCHAR",
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
    """SQL that makes the tables, or adds the columns that older ones lack and brings their rows up to date."""
    added = [f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column}" for table in TABLES for column in _columns(table)]
    return [*_create_statements(), *added, *_rooting_statements()]


def _rooting_statements() -> list[str]:
    """SQL that makes paths of local files absolute, which earlier versions wrote without their first slash."""
    return [
        f"UPDATE {table} SET {column} = '/' || {column} WHERE {bucket} = '' AND NOT starts_with({column}, '/')"  # noqa: S608 - our names
        for table, spec in TABLES.items()
        for bucket, columns in spec.paths.items()
        for column in columns
    ]


def _create_statements() -> list[str]:
    return [f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(_columns(table))})" for table in TABLES]


def _columns(table: TableName) -> list[str]:
    return [f'"{c.name}" {sql_type(c.type)}' for c in TABLES[table].columns]


def view_statements() -> list[str]:
    """DDL that makes the views."""
    return [view.statement for view in VIEWS]


@contextmanager
def in_memory(**configuration: str | bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """A locked connection to empty tables and the views in memory. What outgrows memory spills to a private folder."""
    import duckdb

    with (
        TemporaryDirectory(prefix="exr-pipeline-sql-") as folder,
        duckdb.connect(config={**LOCKED, "temp_directory": folder, **configuration}) as connection,
    ):
        connection.execute(";".join([USE_UTC, *_create_statements(), *view_statements()]))
        yield connection


def described_columns(name: str) -> list[tuple[str, str, str]] | None:
    """Name, type and meaning of the columns of a table or view, in order; None if there is none of that name.

    A column of a view means what that of the same name does in the first table that has one; others say nothing.
    """
    parameters = {view.name: view.parameters for view in VIEWS}
    if name not in {*TABLES, *parameters}:
        return None
    tables = [name, *(table for table in TABLES if table != name)]
    known = [TABLES[cast("TableName", table)] for table in reversed(tables) if table in TABLES]
    meanings = {column.name: column.meaning for spec in known for column in spec.columns}
    call = f"{name}({', '.join('now()' for _ in parameters.get(name, ()))})" if parameters.get(name) else name
    with in_memory() as connection:
        described = connection.execute(f"DESCRIBE FROM {call}").fetchall()
    return [(column, type_, meanings.get(column, "")) for column, type_, *_ in described]


def run_select(
    connection: duckdb.DuckDBPyConnection, select: str, parameters: Mapping[str, object] | None = None
) -> pa.Table:
    """The result of one SELECT, as `one_select` gives it, on a connection that is `LOCKED`.

    Raises `BadQueryError`, also for parameters that the query does not name or that it lacks.
    """
    import duckdb

    try:
        return connection.sql(select, params=dict(parameters or {})).to_arrow_table()
    except (duckdb.OutOfMemoryException, duckdb.InternalException, duckdb.FatalException):
        raise
    except duckdb.Error as error:
        raise sql_error(error) from error


class RowStream:
    """The rows of a result, in batches of bounded size, each of which is computed when it is asked for.

    Iterating may raise `BadQueryError`, for a value that the query cannot convert for example, and `RetryableError`.
    """

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self._reader = reader
        self.schema: pa.Schema = reader.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._reader
        except OSError as error:
            # What DuckDB raises comes through Arrow's interface with nothing left of its type but the words.
            if str(error).startswith(_NOT_THE_QUERYS_FAULT):
                raise RetryableError(f"the query failed: {str(error).splitlines()[0]}") from error
            raise sql_error(error) from error


def stream_select(
    connection: duckdb.DuckDBPyConnection, select: str, parameters: Mapping[str, object] | None = None
) -> RowStream:
    """The result of one SELECT as `run_select` gives it, but little by little."""
    import duckdb

    try:
        return RowStream(connection.sql(select, params=dict(parameters or {})).to_arrow_reader(ROWS_PER_BATCH))
    except (duckdb.OutOfMemoryException, duckdb.InternalException, duckdb.FatalException):
        raise
    except duckdb.Error as error:
        raise sql_error(error) from error


def one_select(query: str) -> str:
    """The query, if it is one SELECT that reads nothing but the tables. It is parsed here, and nothing is looked up.

    Raises `BadQueryError`.
    """
    import duckdb

    with parser() as connection:
        try:
            statements = connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise BadQueryError("SQL", "a query must be a single SELECT statement")
            select = str(statements[0].query)
            row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [select]).fetchone()
        except duckdb.Error as error:
            raise sql_error(error) from error
    assert row is not None
    try:
        _check_nodes(json.loads(row[0]))
    except RecursionError:
        raise BadQueryError("SQL", "the query is nested too deeply") from None
    return select


@contextmanager
def parser() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to nothing, which is there to parse SQL."""
    with _parser(os.getpid()).cursor() as connection:
        yield connection


@cache
def _parser(pid: int) -> duckdb.DuckDBPyConnection:
    """A connection to nothing, of this process: it must not be used in a fork, hence the argument."""
    import duckdb

    return duckdb.connect(config={**LOCKED, "threads": "1", "temp_directory": ""})


def _check_nodes(tree: dict[str, Any]) -> None:
    """Raises `BadQueryError` for anything in a syntax tree of DuckDB that is not known to read the tables only."""
    if tree["error"]:
        raise BadQueryError("SQL", str(tree["error_message"]))
    pending: list[Any] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        if not isinstance(node, dict):
            continue
        pending += node.values()
        kind = node.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _NODES:
            raise BadQueryError("SQL", f"a query may only read: {kind.partition('_')[0]} is not allowed")
        if kind == "TABLE_FUNCTION":
            name = node["function"]["function_name"]
            if name.lower() not in _TABLE_FUNCTIONS:
                raise BadQueryError("SQL", f"a query may only read the tables: {name}() is not allowed")
        if kind == "BASE_TABLE":
            path = [name for name in (node["catalog_name"], node["schema_name"], node["table_name"]) if name]
            if node["catalog_name"] or node["schema_name"] not in _SCHEMAS or _NOT_OF_TABLES.search(node["table_name"]):
                raise BadQueryError("SQL", f"a query may only read the tables: {'.'.join(path)!r} is not one of them")


def sql_error(error: Exception) -> BadQueryError:
    """DuckDB's error as one line, without the picture of the query that follows its message."""
    return BadQueryError("SQL", " ".join(str(error).partition("\nLINE ")[0].split()))
