"""Every block of docs/twelve-questions.md runs on both stores, on rows for which each question has an answer."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from exr_pipeline.tables.specs import TableName, arrow_schema
from exr_pipeline_tests.docs.generated import REPOSITORY
from exr_pipeline_tests.tables.conftest import StoreUnderTest, duckdb_file, emulator, tables, vast
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

if TYPE_CHECKING:
    from exr_pipeline.tables import TableStore

__all__ = ["duckdb_file", "emulator", "tables", "vast"]

INTRODUCTION, *QUESTIONS = re.split(
    r"^## \d+\. ", (REPOSITORY / "docs/twelve-questions.md").read_text(encoding="utf-8"), flags=re.MULTILINE
)
NOW = datetime.now(UTC).replace(microsecond=0)
FRAMES = [
    SampleFile(key=f"atlas/sh010/beauty.{frame}.exr", frame_number=frame, mtime=NOW) for frame in (1001, 1002, 1004)
]
REJECTED = SampleFile(
    key="atlas/sh010/beauty.1005.exr",
    state="rejected",
    reason="it is a text",
    header=False,
    frame_number=1005,
    mtime=NOW,
)


def block(section: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return str(found)


def changed(rows: dict[TableName, pa.Table], table: TableName, **values: Any) -> None:
    """Set columns of a table to one value each."""
    new = [row | values for row in rows[table].to_pylist()]
    rows[table] = pa.Table.from_pylist(new, schema=arrow_schema(table))


def fill(store: TableStore) -> None:
    """Frames with a gap and a rejected file, one of them twice, in another size; and a sequence that is not ready."""
    rows = rows_of(*FRAMES, REJECTED, replace(FRAMES[0], key="borealis/a.exr", frame_number=None, color_space="sRGB"))
    changed(rows, "files", xxh3_128="0" * 32)
    changed(rows, "parts", render_software="Arnold 7.3.2")
    store.write(rows, now=NOW)
    again = rows_of(FRAMES[1].later(60))
    changed(again, "parts", width=3840, height=2160)
    store.write(again, now=NOW + timedelta(minutes=1))
    sequence = {"bucket": "renders", "sequence_path": "atlas/sh010/beauty.####.exr", "state": "retryable"}
    sequence |= {"reason": "the store did not answer", "retryable_since": NOW.isoformat()}
    store.write({"sequence_outputs": pa.Table.from_pylist([sequence])}, now=NOW)


def test_every_question_is_answered_by_its_sql_and_its_python(
    tables: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tables.store)
    for name, value in tables.settings.items():
        monkeypatch.setenv("EXR_PIPELINE_DATABASE" if name == "database" else name.upper(), str(value))
    names: dict[str, Any] = {}
    exec(compile(block(INTRODUCTION, "python"), "introduction", "exec", dont_inherit=True), names)
    assert type(names["tables"]) is type(tables.store)
    for question in QUESTIONS:
        title = question.splitlines()[0]
        names["query"] = block(question, "sql")
        exec(compile(block(question, "python"), title, "exec", dont_inherit=True), names)
        assert len(names.pop("answer")) > 0, title


def test_there_are_twelve_and_they_show_pandas_polars_and_arrow() -> None:
    assert len(QUESTIONS) == 12
    code = "".join(block(question, "python") for question in QUESTIONS)
    for reading in ("to_pandas()", "pl.from_arrow(", "to_pylist()", "stream_sql("):
        assert reading in code
