"""The tables in VAST as Arrow schemas: those of every store, and those that only VAST needs.

Belongs here: names and columns. Not here: making tables (`vast_tables`), or what is in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exr_pipeline.tables.specs import TABLES, arrow_schema
from exr_pipeline.tables.stores.vast_long_values import pieces_schema

if TYPE_CHECKING:
    import pyarrow as pa

LOCKS: Final = "write_locks"
WRITES: Final = "writes"
LONG_VALUES: Final = "long_values"


def schemas() -> dict[str, pa.Schema]:
    """The columns of every table, by its name."""
    import pyarrow as pa

    own: dict[str, pa.Schema] = {name: arrow_schema(name) for name in TABLES}
    own[LOCKS] = pa.schema([("slot", pa.int32()), ("holder", pa.string())])
    own[WRITES] = pa.schema([("write_id", pa.string()), ("written_at", pa.string())])
    own[LONG_VALUES] = pieces_schema()
    return own
