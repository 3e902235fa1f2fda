"""The emulator through the real SDK."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import requests
import vastdb
from vastdb import errors
from vastdb.config import QueryConfig
from vastdb.session import Session

from exr_pipeline_tests.vast_emulator.running import RunningEmulator, running_emulator

COLUMNS = pa.schema([("w", pa.int64()), ("i", pa.int64()), ("s", pa.utf8())])


@pytest.fixture(scope="module")
def running() -> Iterator[RunningEmulator]:
    with running_emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(running: RunningEmulator) -> RunningEmulator:
    """The emulator as it was when started."""
    running.admin("expire", {"idle": 0})
    running.admin("fault", method="DELETE")
    with connect(running).transaction() as tx:
        schema = tx.bucket("vastdb").create_schema("s", fail_if_exists=False)
        for table in schema.tables():
            table.drop()
        schema.drop()
    running.admin("log/reset", {})
    return running


@pytest.fixture
def session(emulator: RunningEmulator) -> Session:
    session = connect(emulator)
    with session.transaction() as tx:
        tx.bucket("vastdb").create_schema("s").create_table("t", COLUMNS)
    return session


def connect(emulator: RunningEmulator, **options: Any) -> Session:
    return vastdb.connect(**{"endpoint": emulator.url, "access": "test", "secret": "test", **options})


def table(tx: vastdb.transaction.Transaction, name: str = "t") -> vastdb.table.Table:
    return tx.bucket("vastdb").schema("s").table(name)


def batch(w: int, n: int, start: int = 0) -> pa.Table:
    numbers = range(start, start + n)
    return pa.table([[w] * n, list(numbers), [f"{w}-{i}" for i in numbers]], schema=COLUMNS)


def row_ids(ids: list[int], **columns: Any) -> pa.Table:
    return pa.table({"$row_id": pa.array(ids, pa.uint64()), **columns})


def count(emulator: RunningEmulator) -> int:
    return emulator.rows("t", "s")["count"]


def test_only_the_known_access_key_is_let_in(emulator: RunningEmulator) -> None:
    for access in ("other", ""):
        with pytest.raises(errors.Forbidden):
            connect(emulator, access=access)
    assert requests.get(emulator.url + "/?transaction", timeout=10).status_code == 403


def test_what_it_cannot_do_is_refused_by_name(session: Session) -> None:
    with pytest.raises(errors.NotImplemented, match="import_data"), session.transaction() as tx:
        table(tx).import_files(["/vastdb/x.parquet"])


def test_a_transaction_sees_its_snapshot_and_its_own_writes(emulator: RunningEmulator, session: Session) -> None:
    with session.transaction() as writer:
        table(writer).insert(batch(1, 5))
        assert table(writer).select().read_all().num_rows == 5
        with session.transaction() as other:
            assert table(other).select().read_all().num_rows == 0
    with session.transaction() as old:
        with session.transaction() as writer:
            table(writer).insert(batch(2, 5))
        assert table(old).select().read_all().num_rows == 5
    assert count(emulator) == 10


def test_an_exception_rolls_everything_back(emulator: RunningEmulator, session: Session) -> None:
    def insert_and_fail() -> None:
        with session.transaction() as tx:
            table(tx).insert(batch(3, 5))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        insert_and_fail()
    assert count(emulator) == 0
    assert emulator.admin("log")["transactions"]["rolled_back"] == 1


def test_two_writers_of_one_row_conflict_and_two_inserters_of_one_key_do_not(
    emulator: RunningEmulator, session: Session
) -> None:
    with session.transaction() as tx:
        table(tx).insert(batch(1, 10))
    with session.transaction() as first:
        table(first).update(row_ids([3], s=["first"]))
        with pytest.raises(errors.Conflict), session.transaction() as second:
            table(second).update(row_ids([3], s=["second"]))
        with session.transaction() as third:
            table(third).update(row_ids([4], s=["third"]))
    rows = {row["$row_id"]: row["s"] for row in emulator.rows("t", "s")["rows"]}
    assert (rows[3], rows[4]) == ("first", "third")

    def change_what_changed_since_the_snapshot() -> None:
        with session.transaction() as old:
            with session.transaction() as tx:
                table(tx).delete(row_ids([5]))
            table(old).update(row_ids([5], s=["late"]))

    with pytest.raises(errors.Conflict):
        change_what_changed_since_the_snapshot()
    with session.transaction() as one, session.transaction() as two:
        table(one).insert(batch(7, 1))
        table(two).insert(batch(7, 1))
    assert count(emulator) == 11


def test_two_makers_of_one_table_conflict(session: Session) -> None:
    def make_twice() -> None:
        with session.transaction() as one, session.transaction() as two:
            for tx in (one, two):
                tx.bucket("vastdb").schema("s").create_table("new", COLUMNS)

    with pytest.raises(errors.Conflict):
        make_twice()


def test_an_added_column_is_null_until_updated(session: Session) -> None:
    with session.transaction() as tx:
        table(tx).insert(batch(1, 3))
        table(tx).add_column(pa.schema([("extra", pa.float32())]))
        t = table(tx)
        t.update(row_ids([1], extra=pa.array([1.5], pa.float32())))
        found = t.select(["extra"], predicate=~t["extra"].isnull(), internal_row_id=True).read_all().to_pylist()
    assert found == [{"extra": 1.5, "$row_id": 1}]


def test_large_inserts_and_paged_selects_keep_every_row(session: Session) -> None:
    n = 100_000
    columns = pa.schema([("a", pa.int64()), ("v", pa.list_(pa.field("item", pa.float32(), nullable=False), 8))])
    with session.transaction() as tx:
        tx.bucket("vastdb").schema("s").create_table("large", columns)
    values = np.random.default_rng(0).random(n * 8, dtype=np.float32)
    data = pa.table(
        [pa.array(range(n)), pa.FixedSizeListArray.from_arrays(values, type=columns.field("v").type)], columns
    )
    with session.transaction() as tx:
        table(tx, "large").insert(data)
    with session.transaction() as tx:
        t = table(tx, "large")
        found = t.select(config=QueryConfig(limit_rows_per_sub_split=5000, num_splits=3)).read_all()
        assert found.sort_by("a").combine_chunks() == data
        assert t.select(["a"], predicate=t["a"].isin([n - 1, n])).read_all()["a"].to_pylist() == [n - 1]


def test_predicates_select_what_they_say(session: Session) -> None:
    with session.transaction() as tx:
        t = table(tx)
        t.insert(pa.table([[1, 2, None, 4], [1, 2, 3, 4], ["a", "ÿb", "c%", None]], schema=COLUMNS))

        def found(predicate: Any) -> list[int]:
            return t.select(["i"], predicate=predicate).read_all()["i"].to_pylist()

        assert found(t["w"].isin([1, 4])) == [1, 4]
        assert found(t["w"] != 1) == [2, 4]
        assert found(t["w"].isnull()) == [3]
        assert found(~t["w"].isnull()) == [1, 2, 4]
        assert found(t["w"].between(2, 4) & ~t["s"].isnull()) == [2]
        assert found(t["s"].startswith("ÿ")) == [2]
        assert found((t["w"] < 2) | (t["w"] > 3)) == [1, 4]


def test_wrong_values_are_refused(session: Session) -> None:
    cases = [
        ({"w": pa.array([1], pa.int32())}, errors.BadRequest),
        ({"nope": [1]}, errors.NotFound),
        ({"s": ["x" * 130_000]}, errors.BadRequest),
    ]
    for columns, error in cases:
        with pytest.raises(error), session.transaction() as tx:
            table(tx).insert(pa.table(columns))
    for wrong in (pa.large_string(), pa.list_(pa.float32(), 3)):
        with pytest.raises(errors.NotSupportedSchema), session.transaction() as tx:
            tx.bucket("vastdb").schema("s").create_table("t2", pa.schema([("x", wrong)]))
    with pytest.raises(errors.NotFound), session.transaction() as tx:
        table(tx).update(row_ids([99], s=["x"]))


def test_faults_happen_as_often_as_asked_for(emulator: RunningEmulator, session: Session) -> None:
    def insert() -> None:
        with session.transaction() as tx:
            table(tx).insert(batch(0, 1))

    emulator.fault(status=503, count=2, match="insert")
    insert()  # the SDK repeats SlowDown
    faults: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"status": 503, "code": "ServiceUnavailable"}, errors.ServiceUnavailable),
        ({"status": 500}, errors.InternalServerError),
        ({"drop": "before"}, errors.ConnectionError),
        ({"drop": "after"}, errors.ConnectionError),
    ]
    for fault, error in faults:
        emulator.fault(match="^insert", **fault)
        with pytest.raises(error):
            insert()
    assert count(emulator) == 1
    emulator.fault(match="commit", drop="after")
    with pytest.raises(errors.ConnectionError):
        insert()
    assert count(emulator) == 2, "the commit happened although its answer was lost"
    emulator.fault(match="commit", status=500)
    with pytest.raises(errors.InternalServerError):
        insert()
    assert len(emulator.admin("expire", {"idle": 0})["expired"]) == 1
    emulator.fault(match="begin", delay=1)
    with pytest.raises(requests.exceptions.ReadTimeout), connect(emulator, timeout=0.3).transaction():
        pass
    emulator.fault(match="insert", status=500, count=9)
    assert len(emulator.admin("fault")) == 1
    assert emulator.admin("fault", method="DELETE") == []
    insert()
    log = emulator.admin("log")
    assert log["answers"]["insert 503"] == 3
    assert log["tables"]["insert /vastdb/s/t"] > 0


def test_a_transaction_that_nobody_ends_holds_its_rows_until_it_expires(
    emulator: RunningEmulator, session: Session
) -> None:
    with session.transaction() as tx:
        table(tx).insert(batch(1, 3))
    abandoned = session.transaction().__enter__()
    table(abandoned).update(row_ids([0], s=["changed"]))
    with pytest.raises(errors.Conflict), session.transaction() as tx:
        table(tx).update(row_ids([0], s=["x"]))
    emulator.admin("expire", {"idle": 0})
    with session.transaction() as tx:
        table(tx).update(row_ids([0], s=["x"]))
    assert emulator.rows("t", "s")["rows"][0]["s"] == "x"


def test_threads_can_share_a_session_and_a_transaction(emulator: RunningEmulator, session: Session) -> None:
    def insert(w: int) -> None:
        with session.transaction() as tx:
            table(tx).insert(batch(w, 10))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(insert, range(40)))
    with session.transaction() as tx, ThreadPoolExecutor(8) as pool:
        t = table(tx)
        list(pool.map(lambda w: t.insert(batch(w, 10)), range(20)))
    assert count(emulator) == 600
    assert emulator.admin("log")["transactions"]["max_concurrent"] > 1


def test_readers_see_whole_transactions_while_others_commit(emulator: RunningEmulator, session: Session) -> None:
    stop, seen = threading.Event(), []

    def read() -> None:
        reading = connect(emulator)
        while not stop.is_set():
            with reading.transaction() as tx:
                seen.append(table(tx).select(["i"]).read_all().num_rows)

    reader = threading.Thread(target=read)
    reader.start()
    for w in range(10):
        with session.transaction() as tx:
            t = table(tx)
            for _ in range(5):
                t.insert(batch(w, 20))
    stop.set()
    reader.join()
    assert seen
    assert all(n % 100 == 0 for n in seen)
