"""The result of a query as people and programs read it: a table at the terminal, CSV, JSON, NDJSON, Parquet.

Belongs here: writing rows to the terminal or to a file. Not here: the queries (`sql`, `tables`).
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from datetime import date, datetime, time
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from textwrap import indent
from typing import IO, TYPE_CHECKING, Any, Final, Literal, TextIO

from rich.markup import escape

from exr_pipeline.cli.console import show, stdout
from exr_pipeline.errors import BadInputError
from exr_pipeline.storage.private_files import share_like_folder
from exr_pipeline.untrusted_text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from exr_pipeline.tables.queries import RowStream

Format = Literal["csv", "json", "ndjson", "parquet"]
# Stands for standard output where a file is named.
STDOUT: Final = "-"

_BY_SUFFIX: Final[dict[str, Format]] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
}
# A row group of Parquet.
_GROUP_ROWS: Final = 100_000
_GROUP_BYTES: Final = 32 << 20


def show_result(result: pa.Table) -> None:
    """Print the rows as a table."""
    rows: list[list[Any]] = [[escape(_cell(cell)) for cell in row.values()] for row in result.to_pylist()]
    show(result.column_names, rows)
    if result.num_rows > 20:
        stdout.print(f"{result.num_rows} rows")


def print_result(result: AbstractContextManager[RowStream], form: Format) -> None:
    """Print the rows for a program. On a terminal, control characters in CSV are escaped: it would obey them.

    The rows go to a temporary file first: who reads them slowly must not keep writers from the database.
    """
    with TemporaryFile("w+", encoding="utf-8", newline="") as spool:
        with result as rows:
            _write_text(rows, form, spool, spell_out=sys.stdout.isatty())
        spool.seek(0)
        shutil.copyfileobj(spool, sys.stdout)


def save_result(result: AbstractContextManager[RowStream], path: Path, form: Format) -> int:
    """Write the rows to a file, whole or not at all. Returns how many there are."""
    # Not in place: readers see the old file until the new one is complete.
    with result as rows, NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent, delete=False) as staged:
        try:
            if form == "parquet":
                count = _write_parquet(rows, staged)
            else:
                with Path(staged.name).open("w", encoding="utf-8", newline="") as text:
                    count = _write_text(rows, form, text)
            # A temporary file is private. The result gets the permissions of its folder, as media do.
            share_like_folder(staged.fileno(), path.parent)
            Path(staged.name).replace(path)
        except BaseException:
            Path(staged.name).unlink(missing_ok=True)
            raise
    return count


def _write_parquet(rows: RowStream, out: IO[bytes]) -> int:
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(out, _schema_for_parquet(rows.schema)) as writer:
        for group in _row_groups(rows):
            writer.write_table(_without_fixed_lists(group))
            count += group.num_rows
    return count


def _row_groups(rows: RowStream) -> Iterator[pa.Table]:
    """The rows in tables that are worth a row group of Parquet each, and fit into memory well."""
    import pyarrow as pa

    batches: list[pa.RecordBatch] = []
    for batch in rows:
        batches.append(batch)
        if _is_row_group(batches):
            yield pa.Table.from_batches(batches)
            batches = []
    yield pa.Table.from_batches(batches, schema=rows.schema)


def _is_row_group(batches: list[pa.RecordBatch]) -> bool:
    rows, size = sum(batch.num_rows for batch in batches), sum(batch.nbytes for batch in batches)
    return bool(rows >= _GROUP_ROWS or size >= _GROUP_BYTES)


def _schema_for_parquet(schema: pa.Schema) -> pa.Schema:
    return _without_fixed_lists(schema.empty_table()).schema


def _without_fixed_lists(rows: pa.Table) -> pa.Table:
    """The rows with vectors as lists of any length.

    PyArrow's writer of Parquet accepts a null in a list of fixed size only if nothing stands in its place, and DuckDB
    leaves something there. The types must not depend on whether there is a null, which the last row may have.
    """
    import pyarrow as pa

    for index, field in enumerate(rows.schema):
        if pa.types.is_fixed_size_list(field.type):
            chunks = [_as_lists(chunk) for chunk in rows.column(index).chunks]
            lists = pa.chunked_array(chunks, pa.list_(field.type.value_type))
            rows = rows.set_column(index, field.name, lists)
    return rows


def _as_lists(vectors: pa.FixedSizeListArray) -> pa.ListArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_there = vectors.is_valid()
    ends = pc.cumulative_sum(pc.if_else(is_there, pa.scalar(vectors.type.list_size, pa.int32()), 0).cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(offsets, vectors.drop_null().flatten(), mask=pc.invert(is_there))


def result_format(path: Path) -> Format:
    """The format that a file's suffix names. Raises `BadInputError` if the suffix is unknown."""
    form = _BY_SUFFIX.get(path.suffix.lower())
    if form is None:
        raise BadInputError(str(path), f"its suffix is not that of a known format: use one of {', '.join(_BY_SUFFIX)}")
    return form


def _write_text(rows: RowStream, form: Format, out: TextIO, *, spell_out: bool = False) -> int:
    """Write the rows one after the other. Returns how many there are."""
    if form == "csv":
        return _write_csv(rows, out, spell_out=spell_out)
    if form == "ndjson":
        return _write_each(rows, out, _line)
    count = _write_each(rows, out, _item_of_array)
    out.write("\n]\n" if count else "[]\n")
    return count


def _write_csv(rows: RowStream, out: TextIO, *, spell_out: bool) -> int:
    writer = csv.writer(out)
    writer.writerow(rows.schema.names)
    count = 0
    for batch in rows:
        columns = [[_csv_cell(value) for value in column.to_pylist()] for column in batch.columns]
        for row in zip(*columns, strict=True):
            writer.writerow([visible(cell) if spell_out and isinstance(cell, str) else cell for cell in row])
        count += batch.num_rows
    return count


def _csv_cell(value: object) -> object:
    return _json(value) if isinstance(value, (list, dict)) else _plain(value)


def _write_each(rows: RowStream, out: TextIO, text_of: Callable[[dict[str, Any], int], str]) -> int:
    count = 0
    for batch in rows:
        for row in batch.to_pylist():
            out.write(text_of(row, count))
            count += 1
    return count


def _line(row: dict[str, Any], _: int) -> str:
    return _json(row) + "\n"


def _item_of_array(row: dict[str, Any], number: int) -> str:
    """A row as an element of a JSON array, with what stands before it."""
    return ("[\n" if number == 0 else ",\n") + indent(json.dumps(row, indent=1, default=_plain), " ")


def _json(value: object) -> str:
    return json.dumps(value, default=_plain)


def _plain(value: object) -> object:
    """Values of types that CSV and JSON lack, as text. Times are in ISO 8601, as in the tables."""
    if isinstance(value, (date, time, datetime)):
        return value.isoformat()
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _cell(value: object) -> str:
    if isinstance(value, list) and len(value) > 6 and isinstance(value[0], float):
        return f"[{value[0]:.4g}, {value[1]:.4g}, … {len(value)} numbers]"
    return "" if value is None else str(_plain(value))
