"""`sql --csv` and `--parquet` write rows as they are computed: millions of them in a few hundred megabytes."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from exr_pipeline_tests.cli.conftest import bare_environment
from exr_pipeline_tests.long_tests import takes_long

if TYPE_CHECKING:
    from exr_pipeline_tests.cli.conftest import Cli

ROWS = 10_000_000
MAX_RESIDENT_BYTES = 500_000_000
# Sorted by something else than they come, so that the query itself needs more than that too.
QUERY = f"SELECT range, 's3://renders/show/shot_' || range AS uri FROM range({ROWS}) ORDER BY hash(range)"
MEASURED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, file=sys.stderr)
sys.exit(status)
"""


def resident_bytes(home: Path, *arguments: str) -> int:
    """The most memory that the installed command had, with what it prints thrown away."""
    command = [str(Path(sys.executable).with_name("exr-pipeline")), "sql", QUERY, *arguments]
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        cwd=home,
        env=bare_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(ended.stderr.splitlines()[-1])


@takes_long
def test_ten_million_sorted_rows_are_written_in_less_than_500_mb(home: Path) -> None:
    assert resident_bytes(home, "--csv", "rows.csv") < MAX_RESIDENT_BYTES
    with (home / "rows.csv").open() as file:
        assert sum(1 for _ in file) == ROWS + 1
    assert resident_bytes(home, "--parquet", "rows.parquet") < MAX_RESIDENT_BYTES
    assert pq.ParquetFile(home / "rows.parquet").metadata.num_rows == ROWS
    assert resident_bytes(home, "--csv", "-") < MAX_RESIDENT_BYTES


def test_csv_and_parquet_name_their_file(in_ingested: Cli, tmp_path: Path) -> None:
    query = "SELECT frame_number, state, metadata_embedding FROM latest_files ORDER BY frame_number"
    assert in_ingested("sql", "--csv", str(tmp_path / "a.csv"), query).out == f"{tmp_path}/a.csv: 5 rows\n"
    assert in_ingested("sql", query, "--parquet", str(tmp_path / "a")).out == f"{tmp_path}/a: 5 rows\n"
    with (tmp_path / "a.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["ready", "ready", "ready", "rejected", "ready"]
    vectors = pq.read_table(tmp_path / "a").column("metadata_embedding").to_pylist()
    assert [vector and len(vector) for vector in vectors] == [384, 384, 384, None, 384]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--csv", "-", "SELECT 1 AS n"),
        ("--csv", "SELECT 1 AS n"),
        ("SELECT 1 AS n", "--csv"),
        ("SELECT 1 AS n", "--csv", "-"),
    ],
)
def test_csv_is_printed_if_no_file_is_named(in_ingested: Cli, arguments: tuple[str, ...]) -> None:
    assert in_ingested("sql", *arguments).out == "n\r\n1\r\n"


def test_a_query_that_fails_on_its_last_row_leaves_no_file_and_prints_nothing(in_ingested: Cli, tmp_path: Path) -> None:
    query = "SELECT CASE WHEN range = 99999 THEN 'a' ELSE '1' END::INT AS n FROM range(100000)"
    for arguments in (("--csv", str(tmp_path / "a.csv")), ("--parquet", str(tmp_path / "a")), ("--csv", "-")):
        said = in_ingested("sql", query, *arguments)
        assert (said.status, said.out) == (1, "")
        assert said.error == "SQL: Conversion Error: Could not convert string 'a' to INT32"
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


def test_parquet_is_not_printed(in_ingested: Cli) -> None:
    said = in_ingested("sql", "--parquet", "-", "SELECT 1")
    assert said.status == 2
    assert "--parquet takes a file" in said.error
