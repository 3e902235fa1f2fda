"""What is stored, compared with the specs: tables and columns that are missing, other types, rows that break a rule.

Belongs here: the findings, their remedies, and bringing tables up to date. Not here: reading what is stored (`stores`).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from exr_pipeline.tables.conform import cast_columns
from exr_pipeline.tables.queries import BOUNDED, in_memory
from exr_pipeline.tables.specs import TABLES, TableName, TableSpec, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import duckdb
    import pyarrow as pa

    from exr_pipeline.tables.store import TableStore

Kind = Literal[
    "missing table", "missing column", "other type", "relative paths", "null", "duplicates", "several current"
]

_CREATE: Final = "run exr-pipeline tables create"
_MIGRATE: Final = "run exr-pipeline tables migrate"
_DONE: Final[Mapping[Kind, str]] = {
    "missing table": "created table {table}",
    "missing column": "added column {column} to table {table}",
    "relative paths": "made the local paths in column {column} of table {table} absolute",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a table that is not as the specs have it, and what to do."""

    kind: Kind
    table: TableName
    column: str
    problem: str
    remedy: str


def check_tables(store: TableStore) -> Iterator[Finding]:
    """What is not as it should be. Nothing is made or changed, and rows are read in bounded memory."""
    stored = store.stored_schemas()
    for name in TABLES:
        findings = list(_schema_findings(name, stored.get(name)))
        yield from findings
        unusable = {finding.column for finding in findings}
        if name in stored:
            yield from _row_findings(store, name, [column for column in _checked(name) if column not in unusable])


def bring_up_to_date(store: TableStore) -> list[str]:
    """Make the tables and columns that are missing, and what else opening them does. Returns what was done.

    Raises `MisconfiguredError` if a column has another type. Safe to repeat and to race, as `create_tables` is.
    """
    before = list(_to_migrate(store))
    store.create_tables()
    return [_DONE[each.kind].format(table=each.table, column=each.column) for each in before]


def _to_migrate(store: TableStore) -> Iterator[Finding]:
    stored = store.stored_schemas()
    for name, spec in TABLES.items():
        schema = stored.get(name)
        yield from (finding for finding in _schema_findings(name, schema) if finding.kind in _DONE)
        if schema is not None:
            paths = [column for column in _paths(spec) if column in schema.names]
            with _loaded(store, name, paths) as connection:
                yield from _relative_paths(connection, spec, paths)


def _schema_findings(name: TableName, stored: pa.Schema | None) -> Iterator[Finding]:
    if stored is None:
        yield Finding("missing table", name, "", "the table is missing", _CREATE)
        return
    for field in arrow_schema(name):
        if field.name not in stored.names:
            yield Finding("missing column", name, field.name, f"column {field.name} is missing", _MIGRATE)
        elif not _is_same(stored.field(field.name).type, field.type):
            problem = f"column {field.name} has the type {stored.field(field.name).type} instead of {field.type}"
            remedy = f"another program made it: rename the column, then {_MIGRATE} and copy the values over"
            yield Finding("other type", name, field.name, problem, remedy)


def _is_same(stored: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether the types are the same, whichever elements of a vector may be null: DuckDB does not say."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(stored) and pa.types.is_fixed_size_list(wanted):
        return bool(stored.list_size == wanted.list_size and stored.value_type == wanted.value_type)
    return bool(stored == wanted)


def _paths(spec: TableSpec) -> list[str]:
    """The columns that say whether a path of a local file is absolute."""
    return list(dict.fromkeys(name for bucket, columns in spec.paths.items() for name in (bucket, *columns)))


def _checked(name: TableName) -> list[str]:
    spec = TABLES[name]
    superseded = ("superseded_at",) if spec.has_versions else ()
    return list(dict.fromkeys([*spec.required, *spec.row_key, *spec.file, *superseded, *_paths(spec)]))


def _row_findings(store: TableStore, name: TableName, columns: Sequence[str]) -> Iterator[Finding]:
    spec = TABLES[name]
    with _loaded(store, name, columns) as connection:
        yield from _nulls(connection, spec, columns)
        yield from _duplicates(connection, spec, columns)
        yield from _relative_paths(connection, spec, columns)


@contextmanager
def _loaded(store: TableStore, name: TableName, columns: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    """These columns of a table in a DuckDB of its own, which goes to disk with what memory does not hold."""
    import pyarrow as pa

    schema = pa.schema([arrow_schema(name).field(column) for column in columns])
    with in_memory(**BOUNDED) as connection:
        for batch in store.stored_rows(name, columns) if columns else ():
            connection.register("batch", cast_columns(pa.Table.from_batches([batch]), schema))
            connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM batch")  # noqa: S608 - our names
            connection.unregister("batch")
        yield connection


def _nulls(connection: duckdb.DuckDBPyConnection, spec: TableSpec, columns: Sequence[str]) -> Iterator[Finding]:
    for column in spec.required:
        if column in columns and (count := _count(connection, f"FROM {spec.name} WHERE {column} IS NULL")):
            problem = f"column {column} must not be null and is in {_rows(count)}"
            listed = f'exr-pipeline sql "FROM {spec.name} WHERE {column} IS NULL"'
            yield Finding("null", spec.name, column, problem, f"list them with {listed}, fill or delete them")


def _duplicates(connection: duckdb.DuckDBPyConnection, spec: TableSpec, columns: Sequence[str]) -> Iterator[Finding]:
    """Keys that several rows have (in rows of earlier versions some are null), and files with several current rows."""
    remedy = "ingest the file again (exr-pipeline ingest URL --again), which leaves one"
    if set(spec.row_key) <= set(columns):
        whole = " AND ".join(f"{key} IS NOT NULL" for key in spec.row_key)
        if found := _repeated(connection, spec, spec.row_key, whole):
            yield Finding("duplicates", spec.name, "", f"several rows have the same {found}", remedy)
    has_current = spec.has_versions and {*spec.file, "superseded_at"} <= set(columns)
    if has_current and (found := _repeated(connection, spec, spec.file, "superseded_at IS NULL")):
        yield Finding("several current", spec.name, "", f"several rows are current of the same {found}", remedy)


def _repeated(
    connection: duckdb.DuckDBPyConnection, spec: TableSpec, columns: Sequence[str], condition: str
) -> str | None:
    """Which columns have the same values in several rows, how often, and the first such values."""
    names = ", ".join(columns)
    groups = f"SELECT {names} FROM {spec.name} WHERE {condition} GROUP BY ALL HAVING count(*) > 1"  # noqa: S608 - our names
    first = connection.execute(f"SELECT *, count(*) OVER () FROM ({groups}) ORDER BY ALL LIMIT 1").fetchone()  # noqa: S608 - our names
    if first is None:
        return None
    *values, count = first
    return f"{', '.join(columns)} ({count} such keys, the first is {', '.join(map(str, values))})"


def _relative_paths(
    connection: duckdb.DuckDBPyConnection, spec: TableSpec, columns: Sequence[str]
) -> Iterator[Finding]:
    for bucket, paths in spec.paths.items():
        for path in paths:
            relative = f"FROM {spec.name} WHERE {bucket} = '' AND NOT starts_with({path}, '/')"
            if {bucket, path} <= set(columns) and (count := _count(connection, relative)):
                problem = f"column {path} has local paths without their first slash in {_rows(count)}"
                yield Finding("relative paths", spec.name, path, problem, _MIGRATE)


def _count(connection: duckdb.DuckDBPyConnection, rows: str) -> int:
    found = connection.execute(f"SELECT count(*) {rows}").fetchone()
    assert found is not None
    return int(found[0])


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
