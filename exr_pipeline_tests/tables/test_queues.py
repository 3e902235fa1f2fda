"""Rows of queues: written with those of files, read, and removed once they are dealt with."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from exr_pipeline.tables.specs import TableName, arrow_schema, tables_of
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

NOON = datetime(2026, 4, 2, 12, tzinfo=UTC)


def queued(table: TableName, *names: str) -> pa.Table:
    values = {"source": "kafka", "sink": "kafka", "reason": "why", "type": "proxy.generated", "payload": "{}"}
    times = {"created_at": NOON.isoformat(), "rejected_at": NOON.isoformat()}
    made = [values | times | {"event_id": name, "position": name} for name in names]
    return pa.Table.from_pylist(
        [{field: row.get(field) for field in arrow_schema(table).names} for row in made], schema=arrow_schema(table)
    )


def test_what_waits_is_written_with_the_rows_that_it_tells_of_or_not_at_all(tables: StoreUnderTest) -> None:
    both = rows_of(SampleFile()) | {"outbox": queued("outbox", "one", "two")}
    with pytest.raises(ValueError, match="several rows"):
        tables.store.write(both | {"outbox": queued("outbox", "one", "one")}, now=NOON)
    assert [tables.store.read(name).num_rows for name in ("files", "outbox")] == [0, 0]

    tables.store.write(both, now=NOON)

    assert tables.store.read("files").num_rows == 1
    assert sorted(tables.store.read("outbox").column("event_id").to_pylist()) == ["one", "two"]


@pytest.mark.parametrize("table", tables_of("queue"))
def test_the_same_row_waits_once_until_it_is_removed(tables: StoreUnderTest, table: TableName) -> None:
    tables.store.write({table: queued(table, "one", "two", "three")}, now=NOON)
    tables.store.write({table: queued(table, "two")}, now=NOON)
    assert tables.store.read(table).num_rows == 3

    tables.store.remove(table, [("kafka", "one"), ("kafka", "two"), ("kafka", "unknown"), ("other", "three")], now=NOON)

    (left,) = tables.store.read(table).to_pylist()
    assert "three" in left.values()
    tables.store.remove(table, [], now=NOON)
    tables.store.remove(table, [("kafka", "one")], now=NOON)
    assert tables.store.read(table).num_rows == 1


def test_only_rows_that_wait_are_ever_removed(tables: StoreUnderTest) -> None:
    written = SampleFile()
    tables.store.write(rows_of(written), now=NOON)
    with pytest.raises(ValueError, match="never removed"):
        tables.store.remove("files", [(written.bucket, written.file_id)], now=NOON)
    assert tables.store.read("files").num_rows == 1
