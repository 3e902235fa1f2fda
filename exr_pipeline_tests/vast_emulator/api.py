"""The commands of the REST protocol, one method each.

Belongs here: what a command answers. Not here: which request is which command, faults, HTTP (`server`).
"""

import functools
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import flatbuffers
import numpy as np
import pyarrow as pa

from exr_pipeline_tests.vast_emulator.answers import bad, missing, not_implemented
from exr_pipeline_tests.vast_emulator.columns import (
    MAX_CELL,
    ROW_ID,
    check_cells,
    check_type,
    row_ids_to_numpy,
    same_field,
)
from exr_pipeline_tests.vast_emulator.flatbuf import build, finish
from exr_pipeline_tests.vast_emulator.queries import NO_MORE_ROWS, ROW_GROUP, Query, empty_batch_frames, run_query
from exr_pipeline_tests.vast_emulator.storage import Columns, Table
from exr_pipeline_tests.vast_emulator.transactions import Engine, Tx

if TYPE_CHECKING:
    from exr_pipeline_tests.vast_emulator.emulator import Request

Answer = tuple[dict[str, str], bytes | list[bytes]] | None  # headers and body
Item = TypeVar("Item", bound=tuple[Any, ...])

STREAM_END = struct.pack("<L", 0xFFFFFFFF - 1)
SPLIT_ESTIMATION = 0xFFFFFFFF - 3
MAX_BODY = 5 << 20  # what the SDK splits its inserts for


def stream_body(schema: pa.Schema, *batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write(batch)
    return sink.getvalue().to_pybytes()


def table_details(b: flatbuffers.Builder, table: Table) -> int:
    return build(
        b,
        "ObjectDetails",
        Name=table.name,
        Properties="",
        Handle=str(table.handle),
        NumRows=len(table.ids),
        SizeInBytes=table.nbytes,
        SortingKeyEnabled=False,
        AcummulativeRowInseritionCount=table.inserted,
    )


def columns_body(fields: list[pa.Field]) -> bytes:
    return stream_body(pa.schema(fields, metadata={"VAST:emulator": "true"}))


def paged(req: "Request", items: list[Item]) -> tuple[dict[str, str], list[Item]]:
    """The part of a listing, [(name, item)], that the client asks for, and the headers that tell about the rest."""
    exact, prefix = req.header("tabular-name-exact-match"), req.header("tabular-name-prefix", "")
    items = [i for i in items if (i[0] == exact if exact is not None else i[0].startswith(prefix))]
    first, size = int(req.header("tabular-next-key", 0)), int(req.header("tabular-max-keys", 1000))
    count_only = req.header("tabular-list-count-only", "").lower() == "true"
    headers = {
        "tabular-next-key": str(first + size),
        "tabular-list-count": str(len(items)),
        "tabular-is-truncated": str(first + size < len(items)).lower(),
    }
    return headers, [] if count_only else items[first : first + size]


def read_batch(req: "Request") -> pa.RecordBatch:
    if len(req.body) > MAX_BODY:
        raise bad(f"the request has {len(req.body)} bytes, the limit is {MAX_BODY}", "TabularRequestTooLarge")
    try:
        batches = list(pa.ipc.open_stream(req.body))
    except (pa.ArrowInvalid, OSError) as e:
        raise bad(f"not an Arrow IPC stream: {e}") from e
    if len(batches) != 1:
        raise bad(f"expected a single record batch, got {len(batches)}")
    return batches[0]


def read_row_ids(batch: pa.RecordBatch) -> np.ndarray:
    if ROW_ID not in batch.schema.names:
        raise bad(f"no {ROW_ID} column")
    ids = row_ids_to_numpy(batch.column(ROW_ID))
    if len(np.unique(ids)) != len(ids):
        raise bad("duplicate row ids")
    return ids


def in_bucket(method: Callable[["Api", "Request", Tx], Answer]) -> Callable[["Api", "Request"], Answer]:
    """A command in a transaction: method(self, req, tx)."""

    @functools.wraps(method)
    def command(self: "Api", req: "Request") -> Answer:
        self.head_bucket(req)
        with self.engine.transaction(req.txid) as tx:
            return method(self, req, tx)

    return command


def in_table(method: Callable[["Api", "Request", Tx, Table], Answer]) -> Callable[["Api", "Request"], Answer]:
    """A command on an existing table: method(self, req, tx, table)."""

    @functools.wraps(method)
    def command(self: "Api", req: "Request", tx: Tx) -> Answer:
        if "sub-table" in req.params:
            raise not_implemented(f"{req.command} of an imports table")
        return method(self, req, tx, tx.cat.table(req.bucket, req.schema, req.table))

    return in_bucket(command)


class Api:
    """One method per command; each returns (headers, body), or None for neither."""

    def __init__(self, engine: Engine, max_cell: int) -> None:
        self.engine, self.max_cell = engine, max_cell

    def version(self, req: "Request") -> None:
        pass

    def get_transaction(self, req: "Request") -> Answer:
        return {"tabular-txid": str(self.engine.get(req.txid).id)}, b""

    def begin(self, req: "Request") -> Answer:
        return {"tabular-txid": str(self.engine.begin().id), "x-vast-rcf-id": "E1:0"}, b""

    def commit(self, req: "Request") -> None:
        self.engine.commit(req.txid)

    def rollback(self, req: "Request") -> None:
        self.engine.rollback(req.txid)

    def head_bucket(self, req: "Request") -> None:
        if req.bucket not in self.engine.buckets:
            raise missing(f"bucket {req.bucket}", "NoSuchBucket")

    # schemas

    @in_bucket
    def list_schemas(self, req: "Request", tx: Tx) -> Answer:
        tx.cat.schema(req.bucket, req.path)
        parent = req.path + "/" if req.path else ""
        headers, page = paged(
            req,
            sorted(
                (path[len(parent) :],)
                for bucket, path in list(tx.cat.schemas)
                if bucket == req.bucket and path.startswith(parent) and "/" not in path[len(parent) :]
            ),
        )
        b = flatbuffers.Builder(1024)
        items = [build(b, "ObjectDetails", Name=name, Properties="", Handle="0") for (name,) in page]
        return headers, finish(b, build(b, "ListSchemasResponse", BucketName=req.bucket, Schemas=items))

    @in_bucket
    def create_schema(self, req: "Request", tx: Tx) -> None:
        self.engine.hold(tx, ("schema", req.bucket, req.path))
        self.engine.write(tx, "create_schema", req.bucket, req.path)

    @in_bucket
    def drop_schema(self, req: "Request", tx: Tx) -> None:
        self.engine.hold(tx, ("schema", req.bucket, req.path))
        self.engine.write(tx, "drop_schema", req.bucket, req.path)

    # tables

    @in_bucket
    def list_tables(self, req: "Request", tx: Tx) -> Answer:
        tx.cat.schema(req.bucket, req.path)
        headers, page = paged(
            req,
            sorted(
                (name, handle)
                for (bucket, schema, name), handle in list(tx.cat.names.items())
                if (bucket, schema) == (req.bucket, req.path)
            ),
        )
        b = flatbuffers.Builder(1024)
        items = [table_details(b, tx.cat.tables[handle]) for _, handle in page]
        return headers, finish(
            b, build(b, "ListTablesResponse", BucketName=req.bucket, SchemaName=req.path, Tables=items)
        )

    def _read_schema(self, req: "Request") -> pa.Schema:
        try:
            schema = pa.ipc.read_schema(pa.py_buffer(req.body))
        except (pa.ArrowInvalid, OSError) as e:
            raise bad(f"not an Arrow schema: {e}") from e
        if len(set(schema.names)) != len(schema.names):
            raise bad("duplicate column names")
        for field in schema:
            check_type(field.name, field.type, self.max_cell or MAX_CELL)
        return schema

    @in_bucket
    def create_table(self, req: "Request", tx: Tx) -> None:
        schema = self._read_schema(req)
        if "sub-table" in req.params:
            raise not_implemented("an imports table")
        if any(key.startswith(b"VAST:table:partition-key") for key in schema.metadata or {}):
            raise not_implemented("a partitioned table")
        cols = tuple((self.engine.new_id(), field) for field in schema)
        self.engine.hold(tx, ("table", req.bucket, req.schema, req.table))
        table = Table(self.engine.new_id(), req.bucket, req.schema, req.table, cols)
        self.engine.write(tx, "create_table", table)

    @in_table
    def drop_table(self, req: "Request", tx: Tx, table: Table) -> None:
        self.engine.hold(tx, ("table", req.bucket, req.schema, req.table))
        self.engine.write(tx, "drop_table", table.handle)

    @in_table
    def table_stats(self, req: "Request", tx: Tx, table: Table) -> Answer:
        b = flatbuffers.Builder(1024)
        vips = [build(b, "VipRange", StartAddress="127.0.0.1", AddressCount=1)]
        response = build(
            b,
            "GetTableStatsResponse",
            NumRows=len(table.ids),
            SizeInBytes=table.nbytes,
            AddressType="ipv4",
            IsExternalRowidAlloc=False,
            Vips=vips,
            SortingKeyEnabled=False,
            AcummulativeRowInseritionCount=table.inserted,
        )
        return {}, finish(b, response)

    # columns

    @in_table
    def list_columns(self, req: "Request", tx: Tx, table: Table) -> Answer:
        headers, page = paged(req, [(field.name, field) for _, field in table.cols])
        # The SDK needs every field to have metadata.
        fields = [field.with_metadata({**(field.metadata or {}), b"VAST:sort_type": b"Unsorted"}) for _, field in page]
        return headers, columns_body(fields)

    @in_table
    def add_columns(self, req: "Request", tx: Tx, table: Table) -> None:
        schema = self._read_schema(req)
        self.engine.hold(tx, *(("column", table.handle, name) for name in schema.names))
        cols = tuple((self.engine.new_id(), field) for field in schema)
        self.engine.write(tx, "add_columns", table.handle, cols)

    # rows

    def _values(self, table: Table, batch: pa.RecordBatch) -> Columns:
        """Column id -> array for the columns of a batch, checked against the table."""
        values = {}
        for field, arr in zip(batch.schema, batch.columns, strict=False):
            if field.name == ROW_ID:
                continue
            cid, expected = table.find(field.name)
            if not same_field(field, expected):
                raise bad(
                    f"column {field.name} is {expected.type}{'' if expected.nullable else ' not null'}, not "
                    f"{field.type}{'' if field.nullable else ' not null'}",
                    "TabularMismatchColumnType",
                )
            if not field.nullable and arr.null_count:
                raise bad(f"null in column {field.name}")
            if cid in values:
                raise bad(f"column {field.name} is given twice")
            if self.max_cell:
                check_cells(field.name, arr, self.max_cell)
            values[cid] = arr if arr.type == expected.type else arr.cast(expected.type)
        return values

    @in_table
    def insert(self, req: "Request", tx: Tx, table: Table) -> Answer:
        batch = read_batch(req)
        values = self._values(table, batch)
        ids = self.engine.new_rows(table.handle, batch.num_rows)
        if len(ids):
            self.engine.write(tx, "insert", table.handle, ids, values)
        answer = pa.record_batch([pa.array(ids, pa.uint64())], names=[ROW_ID])
        return {}, stream_body(answer.schema, answer)

    @in_table
    def update(self, req: "Request", tx: Tx, table: Table) -> None:
        batch = read_batch(req)
        ids, values = read_row_ids(batch), self._values(table, batch)
        if len(absent := ids[~np.isin(ids, table.ids)]):
            raise missing(f"row {absent[0]}", "TabularRowNotFound")
        self.engine.hold_rows(tx, table.handle, ids)
        order = np.argsort(ids)
        values = {cid: arr.take(pa.array(order)) for cid, arr in values.items()}
        self.engine.write(tx, "update", table.handle, ids[order], values)

    @in_table
    def delete(self, req: "Request", tx: Tx, table: Table) -> None:
        ids = read_row_ids(read_batch(req))
        ids = ids[np.isin(ids, table.ids)]  # a row that is not there needs no deleting
        self.engine.hold_rows(tx, table.handle, ids)
        self.engine.write(tx, "delete", table.handle, ids)

    @in_table
    def query(self, req: "Request", tx: Tx, table: Table) -> Answer:
        if int(req.header("tabular-schedule-id", 0)) < 0:
            raise bad("tabular-schedule-id must not be negative")
        try:
            query = Query(req.body)
        except (struct.error, IndexError, KeyError, AttributeError) as e:
            raise bad(f"cannot parse the query: {e!r}") from e
        split, splits, row_groups = map(int, req.header("tabular-split", "0,1,8").split(","))
        if split == SPLIT_ESTIMATION:  # the answer is the number of rows of an empty batch
            groups = -(-len(table.ids) // ROW_GROUP)
            return {}, [*empty_batch_frames(struct.pack("<LQ", 0, NO_MORE_ROWS), groups), STREAM_END]
        starts = {}
        for i in range(int(req.header("tabular-num-of-subsplits", 1))):
            sub_split, row = req.header(f"tabular-start-row-id-{i}", f"{i},0").split(",")
            starts[int(sub_split)] = int(row)
        limit = int(req.header("tabular-limit-rows", 128 * 1024))
        return {}, [*run_query(table, query, split, splits, row_groups, starts, limit), STREAM_END]


COMMANDS = {  # first parameter of the query -> the commands for GET, POST, PUT, DELETE
    "transaction": ("get_transaction", "begin", "commit", "rollback"),
    "schema": ("list_schemas", "create_schema", None, "drop_schema"),
    "table": ("list_tables", "create_table", None, "drop_table"),
    "column": ("list_columns", "add_columns", None, None),
    "stats": ("table_stats", None, None, None),
    "rows": (None, "insert", "update", "delete"),
    "data": ("query", "import_data", None, None),
}
