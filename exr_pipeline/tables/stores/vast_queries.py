"""A DuckDB whose tables are those of VAST, for one SELECT: rows are fetched while it runs, long texts before.

Belongs here: which rows and texts of the server a query gets. Not here: DuckDB's side of it (`vast_sql`), or what a
query needs (`tables.planned_reads`).
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from exr_pipeline.tables.conform import cast_columns
from exr_pipeline.tables.queries import in_memory
from exr_pipeline.tables.specs import TABLES, TableName, arrow_schema
from exr_pipeline.tables.stores.vast_long_values import REFERENCE_PREFIX, references, texts_by_reference
from exr_pipeline.tables.stores.vast_rows import in_pieces
from exr_pipeline.tables.stores.vast_schemas import LONG_VALUES
from exr_pipeline.tables.stores.vast_sql import LazyRows, fetched_name, fetched_table_statements, predicate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import duckdb
    import pyarrow as pa

    from exr_pipeline.tables.planned_reads import Condition, Read
    from exr_pipeline.tables.stores.vast_rows import VastRows
    from exr_pipeline.tables.stores.vast_tables import VastTables

# Each may have megabytes.
LONG_TEXTS_PER_SELECT: Final = 20


@contextmanager
def rows_for(
    tables: VastTables, reads: Mapping[TableName, Read], **configuration: str | bool
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB whose tables are these of the server. Rows are fetched while a query runs, and are never kept.

    Long texts are fetched once each and put in by DuckDB, only where the query wants them.
    """
    fetched: list[LazyRows] = []
    with ExitStack() as stack:
        if reads:
            tables.make()
            rows = stack.enter_context(tables.transaction())
        connection = stack.enter_context(in_memory(**configuration))
        for name, read in reads.items():
            # Even a query that only counts rows needs a column to count.
            columns = read.columns or (TABLES[name].version[1],)
            fetched.append(_lazy_rows(rows, name, columns, read.conditions))
            connection.register(fetched_name(name), fetched[-1])
            long_texts = _fetch_long_texts(rows, connection, name, columns)
            for statement in fetched_table_statements(name, columns, long_texts):
                connection.execute(statement)
        try:
            yield connection
        except Exception as error:
            if failures := [failure for some in fetched for failure in some.failures]:
                raise failures[0] from error
            raise


def _lazy_rows(rows: VastRows, name: TableName, columns: Sequence[str], conditions: Iterable[Condition]) -> LazyRows:
    import pyarrow as pa

    schema = pa.schema([arrow_schema(name).field(column) for column in columns])
    meant = predicate(rows.table(name), name, conditions)

    def fetch() -> Iterator[pa.RecordBatch]:
        for batch in rows.reader(name, columns, meant):
            yield from cast_columns(pa.Table.from_batches([batch]), schema).to_batches()

    return LazyRows(schema, fetch)


def _fetch_long_texts(
    rows: VastRows, connection: duckdb.DuckDBPyConnection, name: TableName, columns: Sequence[str]
) -> list[str]:
    """Fetch the texts that cells of these columns refer to. Returns the columns that have any."""
    referred = _references(rows, name, columns)
    connection.execute("CREATE TABLE IF NOT EXISTS long_texts (reference VARCHAR PRIMARY KEY, text VARCHAR)")
    for hashes in referred.values():
        for some in in_pieces(sorted(hashes), LONG_TEXTS_PER_SELECT):
            connection.register("pieces", texts_by_reference(rows.pieces(some)))
            connection.execute("INSERT OR IGNORE INTO long_texts SELECT reference, text FROM pieces")
            connection.unregister("pieces")
    return list(referred)


def _references(rows: VastRows, name: TableName, columns: Sequence[str]) -> dict[str, list[str]]:
    """The hashes of the long texts in each of these columns that has any."""
    table = rows.table(name)
    found: dict[str, list[str]] = {}
    for column in _columns_with_texts(rows, name, columns):
        cells = rows.select(name, [column], table[column].startswith(REFERENCE_PREFIX))
        found |= references(cells)
    return found


def _columns_with_texts(rows: VastRows, name: TableName, columns: Sequence[str]) -> list[str]:
    """Those of the columns that hold text, if there is any long text at all."""
    import pyarrow as pa

    pieces = rows.reader(LONG_VALUES, ["hash"], None, limit_rows=1).read_all()
    schema = arrow_schema(name)
    return [column for column in columns if pa.types.is_string(schema.field(column).type) and pieces.num_rows]
