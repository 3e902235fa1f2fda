"""`sql`, `status`, `tables` and `schema`, on tables that an ingest has filled, and on none."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import TABLES
from exr_pipeline.tables.views import VIEWS
from exr_pipeline_tests.cli.conftest import ODD_NAME, Cli, Ingested, small_exr

REASON = "not an OpenEXR, DPX or Cineon file: it begins with 74 68 69 73"


def test_sql_prints_a_table(in_ingested: Cli) -> None:
    said = in_ingested("sql", "SELECT compression, files FROM files_by_compression")
    assert (said.status, said.err) == (0, "")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.out.splitlines() if "│" in line]
    assert cells == [["zip", "4"]]


def test_sql_prints_csv_that_reads_back(in_ingested: Cli) -> None:
    said = in_ingested("sql", "--csv", "SELECT uri, frame_number, reason FROM latest_files ORDER BY frame_number, uri")
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [row["frame_number"] for row in rows] == ["1001", "1002", "1003", "1004", ""]
    assert Location.from_url(rows[4]["uri"]).name == ODD_NAME
    assert rows[3]["reason"] == REASON


def test_sql_prints_json_with_types(in_ingested: Cli) -> None:
    query = "SELECT frame_number, is_deep, reason, metadata_embedding FROM latest_files WHERE frame_number = 1001"
    (row,) = json.loads(in_ingested("sql", "--json", query).out)
    assert (row["frame_number"], row["is_deep"], row["reason"]) == (1001, False, None)
    assert len(row["metadata_embedding"]) == 384


def test_sql_prints_an_object_per_line_with_times_in_iso_8601(in_ingested: Cli) -> None:
    said = in_ingested("sql", "--ndjson", "SELECT uri, mtime, [1, 2] AS list FROM latest_files")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert len(rows) == 5
    assert rows[0]["list"] == [1, 2]
    assert datetime.fromisoformat(rows[0]["mtime"]).tzinfo == UTC


def test_sql_takes_parameters_by_name_and_a_value_is_never_sql(in_ingested: Cli) -> None:
    query = "SELECT frame_number, $text AS text FROM latest_files WHERE frame_number >= $first ORDER BY 1"
    said = in_ingested("sql", "--json", "-p", "first", "1003", "--parameter", "text", "a'b; -- =", query)
    assert json.loads(said.out) == [{"frame_number": number, "text": "a'b; -- ="} for number in (1003, 1004)]
    assert "provided" in in_ingested("sql", query).error
    assert "name and a value" in in_ingested("sql", "-p", "first").error


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json", "ndjson"])
def test_sql_writes_a_file_by_its_suffix_whole(in_ingested: Cli, tmp_path: Path, suffix: str) -> None:
    tmp_path.chmod(0o755)
    target = tmp_path / f"files.{suffix}"
    target.write_text("what was there")
    query = "SELECT frame_number, mtime, state FROM latest_files ORDER BY frame_number"
    assert in_ingested("sql", "--output", str(target), "SELECT nosuch").status == 1
    assert target.read_text() == "what was there"
    said = in_ingested("sql", "--output", str(target), query)
    assert (said.status, said.out) == (0, f"{target}: 5 rows\n")
    with duckdb.connect() as connection:
        read = connection.execute(f"SELECT frame_number::INT, mtime::TIMESTAMPTZ, state FROM '{target}'").fetchall()
    assert [row[0] for row in read] == [1001, 1002, 1003, 1004, None]
    assert {row[1].tzinfo is not None for row in read} == {True}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".files")] == []
    assert target.stat().st_mode & 0o777 == 0o644, "as open as its folder"


def test_vectors_of_which_some_are_null_are_written_to_parquet(in_ingested: Cli, tmp_path: Path) -> None:
    target = tmp_path / "vectors.parquet"
    query = "FROM (VALUES (1, [1, 2]::FLOAT[2]), (2, NULL), (3, [3, 4]::FLOAT[2]), (4, NULL)) AS rows(n, vector)"
    said = in_ingested("sql", "--output", str(target), query)
    assert (said.status, said.err) == (0, "")
    with duckdb.connect() as connection:
        read = connection.execute(f"SELECT n, vector FROM '{target}' ORDER BY n").fetchall()
    assert read == [(1, [1.0, 2.0]), (2, None), (3, [3.0, 4.0]), (4, None)]


def test_sql_refuses_a_suffix_that_it_does_not_know_before_asking(in_ingested: Cli, tmp_path: Path) -> None:
    said = in_ingested("sql", "--output", str(tmp_path / "files.xlsx"), "SELECT nosuch")
    assert (said.status, said.out) == (1, "")
    assert ".parquet, .csv, .json, .ndjson" in said.error
    assert in_ingested("sql", "--csv", "--output", str(tmp_path / "files.csv"), "SELECT 1").status == 2


def test_tables_and_schema_list_what_can_be_asked(cli: Cli, home: Path) -> None:
    listed = json.loads(cli("tables", "--json").out)
    assert [row["name"] for row in listed] == [*TABLES, *(view.usage for view in VIEWS)]
    columns = {row["column"]: row for row in json.loads(cli("schema", "latest_files", "--json").out)}
    meaning = "Last modification; null if the file could never be looked up"
    assert columns["mtime"] == {"column": "mtime", "type": "TIMESTAMP WITH TIME ZONE", "meaning": meaning}
    assert columns["warnings"]["type"] == "JSON"
    assert "VARCHAR" in cli("schema", "files").out
    assert json.loads(cli("schema", "files_as_of(moment)", "--json").out) == list(columns.values())
    assert "no such table" in cli("schema", "files; DROP TABLE files").error
    assert not (home / ".state" / "tables.duckdb").exists()


def test_long_vectors_do_not_flood_the_terminal(in_ingested: Cli) -> None:
    out = in_ingested("sql", "SELECT metadata_embedding FROM latest_files WHERE state = 'ready' LIMIT 1").out
    assert "… 384 numbers]" in out


@pytest.mark.parametrize("view", [view.usage.replace("moment", "now()") for view in VIEWS])
def test_every_view_can_be_asked_for(in_ingested: Cli, view: str) -> None:
    assert in_ingested("sql", f"FROM {view}").status == 0


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("SELECT nosuch FROM files", '"nosuch" not found'),
        ("SELECT FROM WHERE", "syntax error"),
        ("", "single SELECT"),
        ("DELETE FROM files", "single SELECT"),
        ("CREATE TABLE t AS SELECT 1", "single SELECT"),
        ("SELECT 1; DROP TABLE files", "single SELECT"),
        ("COPY files TO 'stolen.csv'", "single SELECT"),
        ("FROM read_text('/etc/hostname')", "read_text() is not allowed"),
    ],
)
def test_wrong_or_writing_sql_is_refused_in_one_line(in_ingested: Cli, query: str, problem: str) -> None:
    said = in_ingested("sql", query)
    assert (said.status, said.out) == (1, "")
    assert said.error.startswith("SQL: ")
    assert problem in said.error
    assert json.loads(in_ingested("sql", "--json", "SELECT count(*) AS n FROM latest_files").out) == [{"n": 5}]


def test_status_counts_files_and_gives_reasons(in_ingested: Cli, ingested: Ingested) -> None:
    said = in_ingested("status", "--json")
    assert (said.status, said.err) == (0, "")
    bad = (ingested.folder / "notes.1004.exr").as_uri()
    assert json.loads(said.out) == {
        "states": {"ready": 4, "rejected": 1},
        "files": [{"uri": bad, "state": "rejected", "reason": REASON}],
        "outbox": {"waiting": 0, "oldest": None},
    }
    table = in_ingested("status").out
    assert bad in table
    assert REASON in table


@pytest.mark.parametrize("form", ["path", "URL", "partition key"])
def test_status_of_one_file_takes_a_path_a_url_or_a_partition_key(
    in_ingested: Cli, ingested: Ingested, form: str
) -> None:
    path = ingested.folder / ODD_NAME
    location = Location("file", "", str(path).lstrip("/"))
    key = {"path": str(path), "URL": f"file://{path}", "partition key": location.partition_key}[form]
    answer = json.loads(in_ingested("status", "--json", key).out)
    assert answer == {"states": {"ready": 1}, "files": [{"uri": location.url, "state": "ready", "reason": None}]}


def test_status_of_a_folder_counts_only_its_files(in_ingested: Cli) -> None:
    assert json.loads(in_ingested("status", "--json", "renders/shot_010").out)["states"] == {"ready": 4, "rejected": 1}
    assert in_ingested("status", "--json", ".state").status == 1


@pytest.mark.parametrize("key", ["nosuch", "renders/shot_010/nosuch.exr", "s3://renders/nosuch.exr", "it's~a.exr"])
def test_status_of_an_unknown_file_says_so(in_ingested: Cli, key: str) -> None:
    said = in_ingested("status", key)
    assert (said.status, said.out) == (1, "")
    assert said.error == f"{key}: no such file in the tables"


def test_before_any_ingest_status_says_what_to_do_and_sql_finds_nothing(cli: Cli, home: Path) -> None:
    said = cli("status")
    assert (said.status, said.out) == (0, "No files yet. To ingest some: exr-pipeline ingest SOURCE\n")
    assert said.err.startswith(f"Warning: database {home}/.state/tables.duckdb does not exist: ")
    assert json.loads(cli("sql", "--json", "FROM files").out) == []


@pytest.mark.parametrize(
    "arguments",
    [
        *(("status",), ("status", "renders"), ("status", "--json"), ("sql", "FROM latest_files")),
        *(("similar", "renders/a.exr"), ("inspect", "renders/a.exr"), ("probe", "renders/a.exr")),
        *(("ingest", "renders", "--dry-run"), ("ingest", "renders", "--again", "--outdated", "--dry-run", "--json")),
        *(("settings",), ("reconcile", "renders"), ("archive", "renders", "--dry-run"), ("sequences", "renders")),
    ],
    ids=" ".join,
)
def test_commands_that_only_read_leave_nothing_behind(cli: Cli, home: Path, arguments: tuple[str, ...]) -> None:
    (home / "renders").mkdir()
    (home / "renders/a.exr").write_bytes(small_exr())
    before = sorted(home.rglob("*"))
    cli(*arguments)
    assert sorted(home.rglob("*")) == before


def test_a_table_too_wide_for_the_terminal_is_a_line_per_field_with_whole_values(
    in_ingested: Cli, ingested: Ingested, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exr_pipeline.cli.console.stdout.width", 60)
    folder = (ingested.home / "renders/shot_010").as_uri()
    lines = in_ingested("sql", "SELECT uri, state, reason FROM latest_files ORDER BY uri LIMIT 2").out.splitlines()
    assert lines[:4] == [f"uri: {folder}/beauty.1001.exr", "state: ready", "reason: ", ""]
    assert lines[4] == f"uri: {folder}/beauty.1002.exr"
    assert f"uri: {folder}/notes.1004.exr\n" in in_ingested("status").out
    assert f"uri: {folder}/beauty.1002.exr\n" in in_ingested("similar", "renders/shot_010/beauty.1001.exr").out
    assert "┃" in in_ingested("sql", "SELECT state FROM latest_files LIMIT 1").out
