"""Rows of queues: written with those of files, read, and removed once they are dealt with."""

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

import pyarrow as pa
import pytest

from exr_pipeline.tables.specs import TableName, arrow_schema, tables_of
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of
from exr_pipeline_tests.vast_emulator.running import RunningEmulator

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


def events(*seconds: int, sink: str = "kafka") -> pa.Table:
    """Events that were queued so many seconds after noon, named after that, and numbered within each second."""
    moments = [(NOON + timedelta(seconds=second)).isoformat() for second in seconds]
    places: defaultdict[int, Iterator[int]] = defaultdict(count)
    made = [
        {
            "sink": sink,
            "event_id": f"{second:06}-{next(places[second]):06}",
            "type": "t",
            "payload": "{}" * 50,
            "created_at": moment,
        }
        for second, moment in zip(seconds, moments, strict=True)
    ]
    return pa.Table.from_pylist(made, schema=arrow_schema("outbox"))


def names(rows: pa.Table) -> list[str]:
    return [name.partition("-")[0].lstrip("0") for name in rows.column("event_id").to_pylist()]


def test_the_oldest_rows_of_a_queue_come_in_the_order_in_which_they_wait(tables: StoreUnderTest) -> None:
    assert tables.store.oldest("outbox", 3).num_rows == 0
    assert tables.store.count("outbox") == 0
    tables.store.write({"outbox": events(5, 3, 9, 3, 7)}, now=NOON)
    tables.store.write({"outbox": events(1, 8, sink="webhook")}, now=NOON)

    assert tables.store.count("outbox") == 7
    assert names(tables.store.oldest("outbox", 3)) == ["1", "3", "3"]
    assert names(tables.store.oldest("outbox", 3, name="kafka")) == ["3", "3", "5"]
    assert names(tables.store.oldest("outbox", 100, name="webhook")) == ["1", "8"]
    assert tables.store.oldest("outbox", 1, name="nobody").num_rows == 0


def test_of_more_rows_of_one_moment_than_are_asked_for_some_are_left_out(tables: StoreUnderTest) -> None:
    tables.store.write({"outbox": events(*[5] * 1500, 1)}, now=NOON)
    assert names(tables.store.oldest("outbox", 4)) == ["1", "5", "5", "5"]
    assert tables.store.oldest("outbox", 1200).num_rows == 1200


@pytest.mark.parametrize("order", ["as they were queued", "in no order"])
def test_vast_sends_no_more_of_a_long_queue_than_of_a_short_one(
    vast: StoreUnderTest, emulator: RunningEmulator, order: str
) -> None:
    def sent_for(rows: int) -> tuple[list[str], int]:
        """The oldest rows of a queue of so many, and how much the emulator sent for them and the number of all."""
        seconds = list(range(rows))
        if order == "in no order":
            random.Random(7).shuffle(seconds)
        vast.store.put_rows("outbox", events(*seconds), now=NOON)
        emulator.admin("log/reset", {})
        found = vast.store.oldest("outbox", 100, name="kafka")
        assert vast.store.count("outbox") == rows
        return names(found), emulator.admin("log")["sent_bytes"]["query"]

    vast.store.create_tables()
    (short, sent), (long, more) = sent_for(2_000), sent_for(20_000)
    expected = ["", *map(str, range(1, 100))]
    assert (short, long) == (expected[: len(short)], expected[: len(long)])
    assert min(len(short), len(long)) > 0
    if order == "as they were queued":
        assert len(long) == len(expected)
    # Some more looks at a sample of moments, and none at all rows.
    assert more < 3 * sent
