"""`similar`, on tables that an ingest has filled, and on none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.cli.conftest import ODD_NAME, REPOSITORY, Cli, Ingested, small_exr

KNOWN = "renders/shot_010/beauty.1001.exr"


def found(cli: Cli, *arguments: str) -> list[dict[str, Any]]:
    said = cli("similar", "--json", *arguments)
    assert (said.status, said.err) == (0, "")
    listed: list[dict[str, Any]] = json.loads(said.out)
    return listed


def names(listed: list[dict[str, Any]]) -> list[str]:
    return [Location.from_url(row["uri"]).name for row in listed]


def test_the_frames_beside_it_are_the_most_similar_and_a_file_is_not_similar_to_itself(in_ingested: Cli) -> None:
    listed = found(in_ingested, KNOWN)
    assert names(listed) == ["beauty.1002.exr", "beauty.1003.exr", ODD_NAME]
    distances = [row["distance"] for row in listed]
    assert 0 <= distances[0] < distances[1] < distances[2] < 1
    assert [(row["resolution"], row["compression"]) for row in listed] == [("64x48", "zip")] * 3


def test_a_url_and_a_partition_key_name_the_same_file(in_ingested: Cli, ingested: Ingested) -> None:
    location = Location.from_url((ingested.folder / "beauty.1001.exr").as_uri())
    by_path = found(in_ingested, KNOWN)
    assert found(in_ingested, location.url) == by_path
    assert found(in_ingested, location.partition_key) == by_path


def test_it_prints_a_table(in_ingested: Cli) -> None:
    said = in_ingested("similar", KNOWN, "--limit", "1")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.out.splitlines() if "│" in line]
    assert len(cells) == 1
    assert cells[0][0].endswith("/beauty.1002.exr")
    assert cells[0][2:] == ["64x48", "zip"]


def test_a_file_that_the_tables_do_not_know_is_read(in_ingested: Cli, tmp_path: Path) -> None:
    file = tmp_path / "it's [new].exr"
    file.write_bytes(small_exr())
    listed = found(in_ingested, str(file))
    assert len(listed) == 4
    deep = tmp_path / "other.exr"
    deep.write_bytes(small_exr(owner="somebody", comments="quite another file"))
    assert found(in_ingested, str(deep))[0]["distance"] > listed[0]["distance"]


def test_where_leaves_out_files_by_their_columns_and_those_of_their_first_part(in_ingested: Cli) -> None:
    assert names(found(in_ingested, KNOWN, "--where", "frame_number > 1002 -- later")) == ["beauty.1003.exr"]
    assert found(in_ingested, KNOWN, "--where", "compression = 'piz'") == []
    assert "no other file" in in_ingested("similar", KNOWN, "--where", "width = 1").out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nosuch.exr"], "nosuch.exr: no such file in the tables or on this machine"),
        (
            ["renders/shot_010/notes.1004.exr"],
            "its header could not be read (rejected: not an OpenEXR",
        ),
        ([KNOWN, "--where", "nosuch = 1"], '"nosuch" not found'),
        ([KNOWN, "--where", "frame_number ="], "syntax error"),
        ([KNOWN, "--where", "true); DROP TABLE files; SELECT (1"], "single SELECT"),
        ([KNOWN, "--limit", "0"], "--limit"),
        (["renders"], "renders"),
        (["s3://"], "s3://"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(in_ingested: Cli, arguments: list[str], problem: str) -> None:
    said = in_ingested("similar", *arguments)
    assert said.status != 0
    assert said.out == ""
    assert problem in said.error


def test_the_query_of_the_document_finds_files_of_the_same_layout(in_ingested: Cli) -> None:
    (query,) = re.findall(r"```sql\n(.*?)```", (REPOSITORY / "docs" / "embeddings.md").read_text(), re.DOTALL)
    listed = json.loads(in_ingested("sql", "--json", query).out)
    assert len(listed) == 4
    assert [row["distance"] for row in listed] == pytest.approx([0] * 4, abs=1e-6)


def test_before_any_ingest_there_is_nothing_to_compare_with(cli: Cli, home: Path) -> None:
    (home / "a.exr").write_bytes(small_exr())
    said = cli("similar", "--json", "a.exr")
    assert json.loads(said.out) == []
    assert said.err.startswith("Warning: database ")
    (home / "b.exr").write_text("this is a text")
    assert "not an OpenEXR, DPX or Cineon file" in cli("similar", "b.exr").error
