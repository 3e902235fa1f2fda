"""The sums of all processes of a machine, in a file of the state folder: a run lasts seconds, a counter does not.

Belongs here: adding to them and reading them. Not here: the form in which they are shown (`exposition`). Why a file of
SQLite: docs/decisions/0013-metrics.md.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from exr_pipeline.storage.private_files import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.settings import Settings

_LOCK_SECONDS: Final = 10.0
_CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS sums (name TEXT, labels TEXT, value REAL, PRIMARY KEY (name, labels)) WITHOUT ROWID"
)
_ADD: Final = "INSERT INTO sums VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value"
_SET: Final = "INSERT INTO sums VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


class Sample(NamedTuple):
    """One line of Prometheus: a name, which of a histogram has a suffix, labels, and a value."""

    name: str
    labels: dict[str, str]
    value: float


class Sums:
    """The sums in one file. Thread-safe, and safe for several processes at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, settings: Settings) -> Sums:
        """Those of the state folder."""
        return cls(settings.state_dir / "metrics.sqlite")

    def add(self, deltas: Sequence[Sample], values: Sequence[Sample]) -> None:
        """Add `deltas` to the sums, and set `values`, in one transaction. Raises `sqlite3.Error` if that fails."""
        make_private_folder(self._path.parent)
        with closing(self._connection()) as connection, connection:
            connection.execute(_CREATE)
            connection.executemany(_ADD, map(_row, deltas))
            connection.executemany(_SET, map(_row, values))

    def read(self) -> list[Sample]:
        """All of them, by name and labels; none if nothing was counted yet. Raises `sqlite3.Error`."""
        if not self._path.exists():
            return []
        with closing(self._connection()) as connection:
            rows = connection.execute("SELECT name, labels, value FROM sums ORDER BY name, labels").fetchall()
        return [Sample(name, json.loads(labels), value) for name, labels, value in rows]

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_LOCK_SECONDS)


def _row(sample: Sample) -> tuple[str, str, float]:
    return sample.name, _text(sample.labels), sample.value


class SumsWriter:
    """Adds to the sums what a process has counted since it did so the last time."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self._added: dict[tuple[str, str], float] = {}

    def write(self, counted: Sequence[Sample], values: Sequence[Sample]) -> None:
        """Add this process's own totals, set values. Raises `sqlite3.Error`; then the next call catches up."""
        totals = {(sample.name, _text(sample.labels)): sample for sample in counted}
        deltas = [
            sample._replace(value=sample.value - self._added.get(key, 0))
            for key, sample in totals.items()
            if sample.value != self._added.get(key)
        ]
        if deltas or values:
            self._sums.add(deltas, values)
        self._added = {key: sample.value for key, sample in totals.items()}


def _text(labels: dict[str, str]) -> str:
    return json.dumps(labels, sort_keys=True)
