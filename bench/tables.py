"""What the tables take for status, views, look-ups and a write as they grow: DuckDB, and an emulated VAST DataBase.

Belongs here: the same calls on a small and on a large store. Not here: ingesting (`ingest`), ticks (`sensor`).
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.report import Report, Table
from bench.size import Size
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of
from exr_pipeline_tests.vast_emulator.running import RunningEmulator, running_emulator

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from exr_pipeline.tables import TableStore

_PER_SHOT: Final = 100
_AT_ONCE: Final = 50_000
_LOOKED_UP: Final = 1000
_WRITTEN: Final = 100
_NOW: Final = datetime(2026, 4, 2, 12, tzinfo=UTC)
_VIEWS: Final = ("latest_files", "latest_parts", "failed_files", "files_by_resolution", "sequences")


def run(size: Size, folder: Path) -> Report:
    """Both stores at two sizes. `--files` sets the larger size of DuckDB."""
    large, rounds = size.count(1_000_000, 200), size.rounds(3)
    small = max(large // 100, 100)
    ratios = Table(["call", "DuckDB, x of the small store", "VAST emulated, x of the small store"])
    figures = Table(["call", "DuckDB small, s", "DuckDB large, s", "VAST small, s", "VAST large, s"])
    duckdb = [_measured(lambda place: nullcontext(_duckdb(place)), count, folder, rounds) for count in (small, large)]
    few, many = max(small // 10, 100), max(large // 100, 200)
    vast = [_measured(_Vast, count, folder, rounds) for count in (few, many)]
    for call in duckdb[0]:
        times = [found[call] for found in (*duckdb, *vast)]
        ratios.add(call, times[1] / times[0], times[3] / times[2])
        figures.add(call, *times)
    return Report(
        "tables",
        f"Rows of `files` and `parts`, made in bulk, {_PER_SHOT} frames to a shot: {small:,} and {large:,} files in a "
        f"DuckDB file, {few:,} and {many:,} in an emulator of VAST DataBase over HTTP. Best of {rounds} turns.",
        ratios,
        figures,
        [f"Views with LIMIT 10. Look-ups are of {_LOOKED_UP:,} files, a write is of {_WRITTEN} new ones."],
    )


def _duckdb(folder: Path) -> TableStore:
    from exr_pipeline.tables.stores.duckdb import DuckDBStore

    return DuckDBStore(folder / "tables.duckdb")


class _Vast(AbstractContextManager["TableStore"]):
    """A store in an emulator of its own."""

    def __init__(self, folder: Path) -> None:
        self._running = running_emulator()
        self._schema = folder.name

    def __enter__(self) -> TableStore:
        from exr_pipeline.settings import Settings
        from exr_pipeline.tables import open_table_store

        emulator: RunningEmulator = self._running.__enter__()
        keys: dict[str, Any] = {"vast_db_access_key": "test", "vast_db_secret_key": "secret"}
        place: dict[str, Any] = {
            "vast_db_endpoint": emulator.url,
            "vast_db_bucket": "vastdb",
            "vast_db_schema": self._schema,
        }
        return open_table_store(Settings(_env_file=None, **keys, **place))

    def __exit__(self, *error: object) -> None:
        self._running.__exit__(None, None, None)


def _measured(
    opening: Callable[[Path], AbstractContextManager[TableStore]], count: int, folder: Path, rounds: int
) -> dict[str, float]:
    """Seconds of each call in a store of so many files."""
    place = folder / f"of_{count}_{time.monotonic_ns()}"
    place.mkdir()
    with opening(place) as store:
        _fill(store, count)
        return {name: min(_seconds(call, turn) for turn in range(rounds)) for name, call in _calls(store, count)}


def _seconds(call: Callable[[int], object], turn: int) -> float:
    started = time.perf_counter()
    call(turn)
    return time.perf_counter() - started


def _calls(store: TableStore, count: int) -> list[tuple[str, Callable[[int], object]]]:
    looked_up = [_file(number).location for number in range(0, count, max(count // _LOOKED_UP, 1))]
    one, shot = _file(count // 2).key, _file(count // 2).key.rpartition("/")[0]

    def write(turn: int) -> None:
        new = [SampleFile(key=f"new_{turn}/a.{frame}.exr") for frame in range(_WRITTEN)]
        store.write(rows_of(*new), now=_NOW)

    def query(sql: str) -> Callable[[int], object]:
        return lambda _: store.sql(sql, {"path": one} if "$path" in sql else {"shot": shot} if "$shot" in sql else {})

    return [
        ("status", lambda _: store.counts_by_state()),
        *((view, query(f"FROM {view} LIMIT 10")) for view in _VIEWS),
        ("latest_files of one file", query("FROM latest_files WHERE file_path = $path")),
        ("latest_parts of one file", query("FROM latest_parts WHERE file_path = $path")),
        ("latest_files of one shot", query("FROM latest_files WHERE starts_with(file_path, $shot)")),
        ("current_versions", lambda _: store.current_versions(looked_up)),
        ("write", write),
    ]


def _file(number: int) -> SampleFile:
    return SampleFile(key=f"show/shot_{number // _PER_SHOT:06}/beauty.{1001 + number % _PER_SHOT}.exr")


def _fill(store: TableStore, count: int) -> None:
    store.create_tables()
    for start in range(0, count, _AT_ONCE):
        files = _files(start, min(start + _AT_ONCE, count))
        store.put_rows("files", files, now=_NOW)
        store.put_rows("parts", _parts(files), now=_NOW)


def _files(start: int, stop: int) -> pa.Table:
    """Rows of `files`, with keys as `_file` makes them and without vectors."""
    import duckdb

    numbers = {"start": start, "stop": stop, "per_shot": _PER_SHOT, "now": _NOW.isoformat()}
    with duckdb.connect() as connection:
        return connection.sql(
            """SELECT sha256(file_path)[:16] AS file_id, 'renders' AS bucket, file_path,
                file_path AS file_path_normalized, 's3://renders/' || file_path AS uri, 1000 AS size_bytes,
                sha256(file_path) AS header_hash, md5(file_path) AS etag, 'exr' AS format, 'ready' AS state,
                $now AS mtime, $now AS inspection_timestamp, $now AS last_inspected, 1 AS inspection_count
            FROM (SELECT printf('show/shot_%06d/beauty.%d.exr', number // $per_shot, 1001 + number % $per_shot)
                AS file_path FROM range($start, $stop) numbers(number))""",
            params=numbers,
        ).to_arrow_table()


def _parts(files: pa.Table) -> pa.Table:
    import duckdb

    with duckdb.connect() as connection:
        connection.register("files", files)
        return connection.sql(
            """SELECT file_id, bucket, file_path, 0 AS part_index, 1920 AS width, 1080 AS height,
                1920 AS display_width, 1080 AS display_height, 1.0 AS pixel_aspect_ratio,
                'zip' AS compression, 'ACEScg' AS color_space FROM files"""
        ).to_arrow_table()
