"""IO managers: how media reach object storage, rows reach the tables, and both reach a user's own assets.

Belongs here: Dagster's side of reading and writing. Not here: the stores (`storage`, `tables`).
"""

from __future__ import annotations

import typing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from exr_pipeline.extras import require
from exr_pipeline.orchestration.partition_inputs import ROWS_OF, belonging_to
from exr_pipeline.orchestration.partitions import locations_of
from exr_pipeline.storage.outputs import OutputPlace, media_tags
from exr_pipeline.tables.specs import TABLES, TableName

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.tables.store import FileVersion, Mark, Queue


class _TableReader(dg.IOManager):
    """Gives a downstream asset the rows of its partitions, as pandas, or as the parameter says: Polars, Arrow."""

    def __init__(self, pipeline: Pipeline, default_table: TableName) -> None:
        self._pipeline = pipeline
        self._default_table = default_table

    def load_input(self, context: dg.InputContext) -> Any:
        """The current rows of the input's partitions, one or thousands, in one read.

        `AssetIn(metadata={"table": "channels"})` picks another table than the asset's own, and `"columns"` the columns
        that are read. The inputs of `partition_inputs` get the rows that belong to the asset's own partition.
        """
        metadata = context.definition_metadata or {}
        table = metadata.get("table") or self._table_of(context)
        if table not in TABLES:
            raise dg.DagsterInvariantViolationError(
                f"table {table!r} does not exist; the tables are {', '.join(TABLES)}"
            )
        files = None
        if ROWS_OF in metadata:
            files = belonging_to(self._pipeline.tables, table, str(metadata[ROWS_OF]), context.partition_key)
        elif context.has_asset_partitions:
            files = locations_of(list(context.asset_partition_keys))
        rows: pa.Table = self._pipeline.tables.read(table, columns=_columns_of(table, metadata), locations=files)
        return frame_of(rows, context.dagster_type.typing_type)

    def _table_of(self, context: dg.InputContext) -> TableName:
        upstream = context.upstream_output
        metadata = (upstream.definition_metadata if upstream is not None else None) or {}
        return typing.cast("TableName", metadata.get("table") or self._default_table)


def _columns_of(table: TableName, metadata: Mapping[str, Any]) -> list[str] | None:
    columns: list[str] | None = metadata.get("columns")
    known = [column.name for column in TABLES[table].columns]
    if unknown := set(columns or ()) - set(known):
        raise dg.DagsterInvariantViolationError(
            f"table {table} has no column {', '.join(sorted(unknown))}; its columns are {', '.join(known)}"
        )
    return columns


def frame_of(rows: pa.Table, wanted: Any) -> Any:
    """Rows as the type that a parameter is annotated with: of Arrow, of Polars (a LazyFrame too), else of pandas."""
    library = getattr(wanted, "__module__", "").partition(".")[0]
    if library == "pyarrow":
        return rows
    if library == "polars":
        require("polars")
        import polars as pl

        frame = pl.DataFrame(rows)
        return frame.lazy() if wanted is pl.LazyFrame else frame
    require("pandas")
    return rows.to_pandas()


def rows_of(frame: Any) -> pa.Table:
    """Rows as Arrow, given as that, as pandas (without its index) or as Polars."""
    import pyarrow as pa

    library = type(frame).__module__.partition(".")[0]
    if library == "polars":
        return pa.table(frame.lazy().collect())
    return pa.Table.from_pandas(frame, preserve_index=False) if library == "pandas" else frame


class TableIOManager(_TableReader):
    """Rows in the tables."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline, "files")

    def write(self, rows: Mapping[TableName, pa.Table], *, now: datetime) -> None:
        """Write the rows of many files in one transaction."""
        self._pipeline.tables.write(rows, now=now)

    def current_versions(self, locations: Collection[Location]) -> dict[Location, FileVersion]:
        """What the tables know of these files."""
        return self._pipeline.tables.current_versions(locations)

    def read(self, table: TableName, *, columns: Sequence[str], locations: Collection[Location]) -> pa.Table:
        """The current rows of these files."""
        return self._pipeline.tables.read(table, columns=columns, locations=locations)

    def mark(
        self, versions: Mapping[Location, str], mark: Mark, *, now: datetime, queue: Queue | None = None
    ) -> set[Location]:
        """Mark these versions, by file_id; `queue` gives rows that are written along."""
        return self._pipeline.tables.mark(versions, mark, now=now, queue=queue)

    def handle_output(self, context: dg.OutputContext, obj: Mapping[TableName, Any]) -> None:
        """Write what an asset returns: a mapping from table name to rows, as Arrow, pandas or Polars."""
        self.write({table: rows_of(frame) for table, frame in obj.items()}, now=datetime.now(UTC))


class MediaIOManager(_TableReader):
    """Pictures and movies in object storage, beside their source or under the output root."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline, "proxy_outputs")

    async def write_async(
        self, location: Location, data: bytes | Path, *, content_type: str, tags: Mapping[str, str]
    ) -> None:
        """Store one object, these bytes or those of a local file, whole or not at all."""
        await self._pipeline.storage.write_async(location, data, content_type=content_type, tags=tags)

    async def delete_async(self, location: Location) -> None:
        """Remove one object, if it is there."""
        await self._pipeline.storage.delete_async(location)

    def handle_output(self, context: dg.OutputContext, obj: bytes | Mapping[str, bytes]) -> None:
        """Store what a user's own per-file asset returns: bytes, or for many partitions a mapping from key to bytes.

        The object lies beside the other outputs as `<file>_<asset>.<extension>`; the asset's metadata name
        `extension` (default `bin`) and `content_type` (default by extension).
        """
        import mimetypes

        metadata = context.definition_metadata or {}
        extension = str(metadata.get("extension", "bin"))
        content_type = metadata.get("content_type") or mimetypes.types_map.get(
            f".{extension}", "application/octet-stream"
        )
        name, place = context.asset_key.path[-1], OutputPlace.from_settings(self._pipeline.settings)
        blobs = {context.asset_partition_key: obj} if isinstance(obj, bytes) else obj
        for location, data in zip(locations_of(list(blobs)), blobs.values(), strict=True):
            target = place.at(location, f"{name}.{extension}")
            self._pipeline.storage.write(target, data, content_type=content_type, tags=media_tags(name))
