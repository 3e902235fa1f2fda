"""A database that an earlier version wrote opens, loses nothing, and says of local files what this version says.

`former_database` is what that version made of /tmp/studio (as `EXPORT DATABASE` writes it): four pictures, a file that
is none, and a sequence with its movie, with paths that lack their first slash.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import TABLES, arrow_schema
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of

if TYPE_CHECKING:
    from exr_pipeline_tests.tables.conftest import StoreUnderTest

FORMER = Path(__file__).with_name("former_database")
FOLDER = "/tmp/studio/renders/shot_010"
OLD_TABLES = [table for table in TABLES if (FORMER / f"{table}.csv").exists()]
FRAME = Location("file", "", f"{FOLDER}/beauty.1002.exr"[1:])


def _rooted(rows: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    columns = [name for names in TABLES[table].paths.values() for name in names]  # type: ignore[index]
    return [row | {name: f"/{row[name]}" for name in columns if row.get(name)} for row in rows]


def load_former_database(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Make the former database at a path. Returns its rows."""
    former: dict[str, list[dict[str, Any]]] = {}
    with duckdb.connect(path) as connection:
        connection.execute((FORMER / "schema.sql").read_text(encoding="utf-8"))
        for table in (*OLD_TABLES, "tables_signature"):
            connection.execute(
                f"COPY {table} FROM '{FORMER / table}.csv' (FORMAT csv, HEADER, allow_quoted_nulls false)"
            )
        for table in OLD_TABLES:
            former[table] = connection.sql(f"FROM {table}").to_arrow_table().to_pylist()
    return former


def test_a_database_of_an_earlier_version_opens_with_all_its_rows_and_absolute_paths(tmp_path: Path) -> None:
    path = tmp_path / "tables.duckdb"
    former = load_former_database(path)
    assert former["files"][0]["file_path"].startswith("tmp/")

    store = DuckDBStore(path)
    for table in OLD_TABLES:
        rows = store.sql(f"FROM {table}").to_pylist()
        before = _rooted(former[table], table)
        assert [{name: row[name] for name in old} for row, old in zip(rows, before, strict=True)] == before
        assert {row[name] for row in rows for name in set(row) - set(former[table][0] if former[table] else row)} <= {
            None
        }
    versions = store.current_versions([FRAME])
    assert versions[FRAME].state == "ready"
    assert store.read("proxy_outputs", locations=[FRAME]).column("thumbnail_s3_key").to_pylist() == [
        f"{FOLDER}/.proxies/beauty.1002_thumb.jpg"
    ]
    joined = "SELECT sequence_path, frames FROM sequences JOIN sequence_outputs USING (bucket, sequence_path)"
    assert store.sql(joined).to_pylist() == [{"sequence_path": f"{FOLDER}/beauty.####.exr", "frames": 3}]

    # What this version writes meets the rows of the former one.
    row = {"file_id": "another", "file_path": FRAME.path, "bucket": "", "mtime": NOON.isoformat(), "uri": FRAME.url}
    row |= {"state": "ready", "seen_at": (NOON + timedelta(days=3650)).isoformat()}
    store.write({"files": pa.Table.from_pylist([row], schema=arrow_schema("files"))}, now=NOON + timedelta(days=3650))
    assert store.current_versions([FRAME])[FRAME].file_id == "another"
    assert store.sql("SELECT count(*) AS n FROM latest_files").to_pylist() == [{"n": 5}]
    assert store.sql("SELECT count(*) AS n FROM latest_proxy_outputs").to_pylist() == [{"n": 3}]


def test_local_paths_in_vast_become_absolute_and_others_stay(vast: StoreUnderTest) -> None:
    local, remote = SampleFile(key="srv/a.1001.exr", bucket=""), SampleFile(key="/odd/b.exr")
    written = rows_of(local, remote)
    sequence = {"bucket": "", "sequence_path": "srv/a.####.exr", "state": "ready", "output_bucket": ""}
    for table, buckets in ((name, spec.paths) for name, spec in TABLES.items()):
        if table in written:
            former = [
                row
                | {name: row[name].removeprefix("/") for b, names in buckets.items() for name in names if row[b] == ""}
                for row in written[table].to_pylist()
            ]
            written[table] = pa.Table.from_pylist(former, schema=arrow_schema(table))
    vast.store.write(written, now=NOON)
    vast.store.write(
        {"sequence_outputs": pa.Table.from_pylist([sequence | {"movie_s3_key": "srv/movie.mp4"}])}, now=NOON
    )
    assert vast.store.sql("SELECT count(*) AS n FROM files WHERE starts_with(file_path, 'srv/')").to_pylist() == [
        {"n": 1}
    ]

    store = vast.open()
    for table in ("files", "parts", "channels", "attributes", "media_streams"):
        paths = set(store.sql(f"SELECT file_path FROM {table}").column(0).to_pylist())
        assert paths == {"/srv/a.1001.exr", "/odd/b.exr"}, table
    assert set(store.sql("SELECT s3_key FROM proxy_outputs").column(0).to_pylist()) == {
        local.location.path,
        "/odd/b.exr",
    }
    assert store.sql("SELECT sequence_path, movie_s3_key FROM sequence_outputs").to_pylist() == [
        {"sequence_path": "/srv/a.####.exr", "movie_s3_key": "/srv/movie.mp4"}
    ]
    assert set(store.current_versions([local.location, remote.location])) == {local.location, remote.location}
