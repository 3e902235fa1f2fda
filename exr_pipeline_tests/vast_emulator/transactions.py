"""Transactions: snapshots, locks on rows and names, conflicts, commits.

Belongs here: who sees and may change which version. Not here: the data (`storage`) or requests (`api`).
"""

import collections
import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from exr_pipeline_tests.vast_emulator.answers import ApiError, conflict, missing
from exr_pipeline_tests.vast_emulator.storage import Catalog

Key = tuple[str | int, ...]  # what kind of thing is held, and which


class Tx:
    def __init__(self, txid: int, seq: int, base: Catalog) -> None:
        self.id, self.seq, self.base, self.cat = txid, seq, base, base
        self.ops: list[tuple[Any, ...]] = []
        self.keys: set[Key] = set()  # names, columns, ... this transaction holds against others
        self.rows = collections.defaultdict[int, set[int]](set)  # handle -> locked row ids
        self.began = self.used = time.monotonic()


class Engine:
    """Transactions over the catalog: snapshot isolation, first writer wins."""

    def __init__(self, buckets: Iterable[str]) -> None:
        self.lock = threading.RLock()
        self.committed, self.seq = Catalog(), 0
        self.buckets = set(buckets)
        self.open: dict[int, Tx] = {}  # txid -> Tx
        self.next_tx = int(time.time() * 1000) << 10
        self.next_id = 1  # handles and column ids
        self.next_row = collections.defaultdict[int, int](int)
        self.held: dict[Key, int] = {}  # key -> txid
        self.held_rows = collections.defaultdict[int, dict[int, int]](dict)  # handle -> {row: txid}
        self.changed: dict[Key, int] = {}  # key -> commit number
        self.changed_rows = collections.defaultdict[int, dict[int, int]](dict)  # handle -> {row: commit number}
        self.stats = collections.Counter[str]()
        self.max_open = 0

    # transactions

    def begin(self) -> Tx:
        with self.lock:
            self.next_tx += 1
            tx = self.open[self.next_tx] = Tx(self.next_tx, self.seq, self.committed)
            self.max_open = max(self.max_open, len(self.open))
            self.stats["begun"] += 1
            return tx

    def get(self, txid: int) -> Tx:
        with self.lock:
            tx = self.open.get(txid)
            if tx is None:
                raise missing(f"transaction {txid}", "TabularTransactionNotFound")
            tx.used = time.monotonic()
            return tx

    @contextlib.contextmanager
    def transaction(self, txid: int) -> Iterator[Tx]:
        """The open transaction, or, for txid 0, one that is committed at the end of the request."""
        if txid:
            yield self.get(txid)
            return
        tx = self.begin()
        try:
            yield tx
        except BaseException:
            self.rollback(tx.id)
            raise
        self.commit(tx.id)

    def commit(self, txid: int) -> None:
        with self.lock:
            tx = self.get(txid)
            if tx.ops:
                new = tx.cat
                if self.committed is not tx.base:
                    new = self.committed.copy()
                    try:
                        for op in tx.ops:
                            new.apply(*op)
                    except ApiError as e:
                        self.rollback(txid, "conflicts")
                        raise conflict(f"commit failed, the transaction was rolled back: {e.message}") from e
                self.committed, self.seq = new, self.seq + 1
                self.changed.update(dict.fromkeys(tx.keys, self.seq))
                for handle, rows in tx.rows.items():
                    self.changed_rows[handle].update(dict.fromkeys(rows, self.seq))
                self.stats["committed_with_writes"] += 1
                for op in tx.ops:
                    if op[0] in ("insert", "update", "delete"):
                        self.stats[f"rows_{op[0]}"] += len(op[2])
            self._close(tx, "committed")

    def rollback(self, txid: int, reason: str = "rolled_back") -> None:
        with self.lock:
            self._close(self.get(txid), reason)

    def _close(self, tx: Tx, reason: str) -> None:
        del self.open[tx.id]
        for key in tx.keys:
            self.held.pop(key, None)
        for handle, rows in tx.rows.items():
            for row in rows:
                self.held_rows[handle].pop(row, None)
        if not self.open:  # nobody is left whose snapshot could be too old
            self.changed.clear()
            self.changed_rows.clear()
        self.stats[reason] += 1

    def expire(self, idle: float) -> list[int]:
        with self.lock:
            now = time.monotonic()
            old = [tx.id for tx in self.open.values() if now - tx.used >= idle]
            for txid in old:
                self.rollback(txid, "expired")
            return old

    def forget(self) -> None:
        """Roll back what is open and drop every schema and table."""
        with self.lock:
            self.expire(0)
            self.committed = Catalog()

    def hold(self, tx: Tx, *keys: Key) -> None:
        """Reserve names or columns for this transaction; a conflict if another one has, or changed them."""
        with self.lock:
            self.get(tx.id)
            for key in keys:
                if self.held.get(key, tx.id) != tx.id or self.changed.get(key, 0) > tx.seq:
                    self.stats["conflicts"] += 1
                    raise conflict(f"{key[0]} {'/'.join(map(str, key[1:]))} is being changed by another transaction")
            for key in keys:
                self.held[key] = tx.id
                tx.keys.add(key)

    def hold_rows(self, tx: Tx, handle: int, ids: np.ndarray) -> None:
        base = tx.base.tables.get(handle)
        if base is None:
            return
        with self.lock:
            self.get(tx.id)
            held, changed = self.held_rows[handle], self.changed_rows[handle]
            rows = ids[np.isin(ids, base.ids)].tolist()  # those inserted by this transaction are its own
            for row in rows:
                if held.get(row, tx.id) != tx.id or changed.get(row, 0) > tx.seq:
                    self.stats["conflicts"] += 1
                    raise conflict(f"row {row} is being changed by another transaction")
            held.update(dict.fromkeys(rows, tx.id))
            tx.rows[handle].update(rows)

    def write(self, tx: Tx, *op: Any) -> None:
        with self.lock:
            self.get(tx.id)
            if tx.cat is tx.base:
                tx.cat = tx.base.copy()
            tx.cat.apply(*op)
            tx.ops.append(op)

    def new_id(self) -> int:
        with self.lock:
            self.next_id += 1
            return self.next_id

    def new_rows(self, handle: int, count: int) -> np.ndarray:
        with self.lock:
            first = self.next_row[handle]
            self.next_row[handle] += count
            return np.arange(first, first + count, dtype=np.uint64)
