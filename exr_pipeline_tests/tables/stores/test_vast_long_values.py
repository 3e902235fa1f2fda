"""Long values end to end: from a header through rows and a store, and back, on each store."""

from __future__ import annotations

import base64
import json
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from exr_pipeline.exr import Attribute, Preview
from exr_pipeline.inspection import Inspection, rows
from exr_pipeline.tables.stores.vast_long_values import REFERENCE_PREFIX, put_back, take_out
from exr_pipeline_tests.inspection.files import inspected

if TYPE_CHECKING:
    from exr_pipeline_tests.tables.conftest import StoreUnderTest
    from exr_pipeline_tests.vast_emulator.running import RunningEmulator

NOW = datetime(2026, 5, 1, 8, 0, 0, tzinfo=UTC)
MANIFEST = json.dumps({f"/world/crowd/agent_{index:06}/geo_é": f"{index:08x}" for index in range(43_000)})
PIXELS = random.Random(3).randbytes(4 * 320 * 240)
SHOT_FRAMES = 24


def frame(number: int) -> Inspection:
    return inspected(
        Attribute.of("cryptomatte/28322e4/name", "string", "CryptoObject"),
        Attribute.of("cryptomatte/28322e4/manifest", "string", MANIFEST),
        Attribute.of("preview", "preview", Preview(320, 240, PIXELS)),
        key=f"shot/beauty.{number}.exr",
    )


def test_a_manifest_of_2_mb_and_a_preview_come_back_whole(tables: StoreUnderTest) -> None:
    assert len(MANIFEST.encode()) > 2_000_000
    written = rows([frame(1), frame(2)], inspected_at=NOW)
    tables.store.write(written, now=NOW)
    columns = ["file_id", "attr_index", "value_json", "value_text"]
    order = [("file_id", "ascending"), ("attr_index", "ascending")]
    assert (
        tables.store.read("attributes", columns=columns)
        .sort_by(order)
        .equals(written["attributes"].select(columns).sort_by(order))
    )
    found = tables.store.sql("SELECT value_text FROM attributes WHERE attr_name LIKE 'cryptomatte/%/manifest'")
    assert found.column(0).to_pylist() == [MANIFEST] * 2
    (preview, _) = tables.store.sql("SELECT value_json FROM attributes WHERE attr_name = 'preview'").to_pylist()
    assert base64.b64decode(json.loads(preview["value_json"])["pixels"]["data"]) == PIXELS


def test_the_frames_of_a_shot_keep_their_manifest_once(vast: StoreUnderTest, emulator: RunningEmulator) -> None:
    frames = [frame(number) for number in range(SHOT_FRAMES)]
    vast.store.write(rows(frames[:12], inspected_at=NOW), now=NOW)
    once = emulator.rows("long_values", vast.settings["vast_db_schema"])["count"]
    vast.store.write(rows(frames[12:], inspected_at=NOW), now=NOW)
    assert emulator.rows("long_values", vast.settings["vast_db_schema"])["count"] == once
    query = (
        "SELECT count(*) AS frames, count(DISTINCT value_text) AS texts FROM attributes WHERE length(value_text) > 9999"
    )
    assert vast.store.sql(query).to_pylist() == [{"frames": SHOT_FRAMES, "texts": 1}]


def test_sql_of_vast_takes_a_text_that_looks_like_a_reference_for_a_text(vast: StoreUnderTest) -> None:
    text = REFERENCE_PREFIX + "0" * 64
    vast.store.write(rows([inspected(Attribute.of("note", "string", text))], inspected_at=NOW), now=NOW)
    query = f"SELECT value_text FROM attributes WHERE value_text = '{text}'"
    assert vast.store.sql(query).column(0).to_pylist() == [text]


@pytest.mark.parametrize("long", [0, 1, 2])
def test_only_long_texts_are_taken_out(long: int) -> None:
    texts = ["short", None, "", *["x" * 200_000] * long]
    table = pa.table({"a": pa.array(texts, pa.string()), "b": pa.array(range(len(texts)), pa.int64())})
    found: dict[str, bytes] = {}
    taken = take_out(table, found)
    assert len(found) == min(long, 1)
    assert taken.schema == table.schema
    assert taken.column("a").to_pylist()[:3] == texts[:3]
    pieces = pa.table({"hash": list(found), "piece_index": [0] * len(found), "piece": list(found.values())})
    assert put_back(taken, lambda _: pieces).equals(table)
