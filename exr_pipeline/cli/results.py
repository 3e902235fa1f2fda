"""The result of a query as people and programs read it: a table at the terminal, CSV, JSON, NDJSON, Parquet.

Belongs here: writing rows to the terminal or to a file. Not here: the queries (`sql`, `tables`).
"""

from __future__ import annotations

import csv
import json
import sys
from datetime import date, datetime, time
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from rich.markup import escape

from exr_pipeline.cli.console import show, stdout
from exr_pipeline.errors import BadInputError
from exr_pipeline.storage.private_files import share_like_folder
from exr_pipeline.untrusted_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

TextFormat = Literal["csv", "json", "ndjson"]
_BY_SUFFIX: Final[dict[str, TextFormat | Literal["parquet"]]] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
}
_ROWS_AT_ONCE: Final = 1000


def show_result(result: pa.Table) -> None:
    """Print the rows as a table."""
    rows: list[list[Any]] = [[escape(_cell(cell)) for cell in row.values()] for row in result.to_pylist()]
    show(result.column_names, rows)
    if result.num_rows > 20:
        stdout.print(f"{result.num_rows} rows")


def print_result(result: pa.Table, form: TextFormat) -> None:
    """Print the rows for a program. On a terminal, control characters in CSV are escaped: it would obey them."""
    _write_text(result, form, sys.stdout, spell_out=sys.stdout.isatty())


def save_result(result: pa.Table, path: Path) -> None:
    """Write the rows to a file, whole or not at all. Raises `BadInputError` if the suffix is not that of a format."""
    form = result_format(path)
    # Not in place: readers see the old file until the new one is complete.
    with NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent, delete=False) as staged:
        try:
            if form == "parquet":
                import pyarrow.parquet as pq

                pq.write_table(_without_fixed_nulls(result), staged)
            else:
                with Path(staged.name).open("w", encoding="utf-8", newline="") as text:
                    _write_text(result, form, text)
            # A temporary file is private. The result gets the permissions of its folder, as media do.
            share_like_folder(staged.fileno(), path.parent)
            Path(staged.name).replace(path)
        except BaseException:
            Path(staged.name).unlink(missing_ok=True)
            raise


def _without_fixed_nulls(result: pa.Table) -> pa.Table:
    """The rows with vectors that may be null as lists of any length.

    PyArrow's writer of Parquet accepts a null in a list of fixed size only if nothing stands in its place, and DuckDB
    leaves something there.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for index, field in enumerate(result.schema):
        column = result.column(index)
        if pa.types.is_fixed_size_list(field.type) and column.null_count:
            is_there = column.is_valid()
            values = pc.list_flatten(column.filter(is_there))
            lengths = pc.multiply(is_there.cast(pa.int32()), field.type.list_size)
            ends = pc.cumulative_sum(lengths).cast(pa.int32())
            offsets = pa.concat_arrays([pa.array([0], pa.int32()), *ends.chunks])
            lists = pa.ListArray.from_arrays(
                offsets, values.combine_chunks(), mask=pc.invert(is_there).combine_chunks()
            )
            result = result.set_column(index, field.name, lists)
    return result


def result_format(path: Path) -> TextFormat | Literal["parquet"]:
    """The format that a file's suffix names. Raises `BadInputError` if the suffix is unknown."""
    form = _BY_SUFFIX.get(path.suffix.lower())
    if form is None:
        raise BadInputError(str(path), f"its suffix is not that of a known format: use one of {', '.join(_BY_SUFFIX)}")
    return form


def _write_text(result: pa.Table, form: TextFormat, out: TextIO, *, spell_out: bool = False) -> None:
    rows = _rows(result)
    if form == "csv":
        writer = csv.writer(out)
        writer.writerow(result.column_names)
        for row in rows:
            cells = (_json(v) if isinstance(v, (list, dict)) else _plain(v) for v in row.values())
            writer.writerow([visible(cell) if spell_out and isinstance(cell, str) else cell for cell in cells])
    elif form == "ndjson":
        for row in rows:
            out.write(_json(row) + "\n")
    else:
        json.dump(list(rows), out, indent=1, default=_plain)
        out.write("\n")


def _rows(result: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in result.to_batches(max_chunksize=_ROWS_AT_ONCE):
        yield from batch.to_pylist()


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
