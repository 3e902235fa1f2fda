"""What is published of rows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from exr_pipeline.events.outgoing import EVENT_TYPES, OutgoingEvent, events_of
from exr_pipeline.tables.specs import REJECTED, RETRYABLE, TableName, arrow_schema
from exr_pipeline_tests.events.schemas import assert_described, described
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

NOON = datetime(2026, 4, 2, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
RENDER = "projects/ALPHA/SQ01/SH010/render/v001/beauty.1001.exr"


def made(rows: dict[TableName, pa.Table], now: datetime = NOON, **options: Any) -> dict[str, OutgoingEvent]:
    whole = {name: table_of(name, table.to_pylist()) for name, table in rows.items()}
    events = events_of(whole, now=now, **options)
    assert len({event.event_id for event in events}) == len(events)
    for event in events:
        assert_described(event.type, event.payload)
    return {event.type: event for event in events}


def table_of(name: TableName, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=arrow_schema(name))


def test_a_ready_file_with_pictures_is_told_of_twice() -> None:
    events = made(rows_of(SampleFile(key="shot/beauty.1001.exr", bucket="renders")))

    assert set(events) == {"header.inspected", "proxy.generated"}
    proxy = events["proxy.generated"]
    assert proxy.subject == proxy.payload["uri"] == "s3://renders/shot/beauty.1001.exr"
    assert proxy.key == proxy.payload["asset_id"] == events["header.inspected"].key
    assert proxy.payload["timestamp"] == NOON.isoformat()


def test_the_same_fact_has_the_same_identifier_whenever_it_is_written_and_another_fact_another() -> None:
    file = SampleFile()
    first, again = made(rows_of(file)), made(rows_of(file), LATER)
    assert {kind: event.event_id for kind, event in first.items()} == {
        kind: event.event_id for kind, event in again.items()
    }
    changed = made(rows_of(file.later(60)))
    assert all(changed[kind].event_id != event.event_id for kind, event in first.items())
    rows = rows_of(file)
    other = [row | {"encoder": "another encoder"} for row in rows["proxy_outputs"].to_pylist()]
    remade = made(rows | {"proxy_outputs": table_of("proxy_outputs", other)})
    assert remade["proxy.generated"].event_id != first["proxy.generated"].event_id
    assert remade["header.inspected"].event_id == first["header.inspected"].event_id


def test_a_thumbnail_alone_is_no_proxy() -> None:
    rows = rows_of(SampleFile())
    thumbnail = [row | {"proxy_s3_key": None} for row in rows["proxy_outputs"].to_pylist()]
    assert set(made(rows | {"proxy_outputs": table_of("proxy_outputs", thumbnail)})) == {"header.inspected"}


def test_a_rejected_file_is_told_of_with_its_reason_and_a_retryable_one_is_not() -> None:
    rejected = made(rows_of(SampleFile(state=REJECTED, reason="truncated", header=False), outputs=False))
    assert rejected["file.rejected"].payload["reason"] == "truncated"
    assert set(rejected) == {"file.rejected"}
    assert made(rows_of(SampleFile(state=RETRYABLE, reason="no answer", header=False), outputs=False)) == {}


def test_a_sequence_is_told_of_once_it_is_ready() -> None:
    row = {"bucket": "renders", "sequence_path": "shot/a.####.exr", "uri": "s3://renders/shot/a.####.exr"}
    row |= {"state": "ready", "frames_hash": "x", "first_frame": "1001", "last_frame": "1010", "output_bucket": "out"}
    whole: dict[str, Any] = {**row, "movie_s3_key": "shot/.proxies/a.@@@@_movie.mp4", "frame_count": 10}

    event = made({"sequence_outputs": table_of("sequence_outputs", [whole])})["sequence.ready"]

    assert event.payload["movie_uri"] == "s3://out/shot/.proxies/a.@@@@_movie.mp4"
    assert event.payload["uri"] == "s3://renders/shot/a.%23%23%23%23.exr"
    assert made({"sequence_outputs": table_of("sequence_outputs", [whole | {"state": "rejected"}])}) == {}


@pytest.mark.parametrize(
    ("root", "uri"), [(None, "s3://media/"), ("gs://media/proxies", "gs://media/"), ("file:///mnt/proxies", "file:///")]
)
def test_outputs_are_named_where_they_lie(root: str | None, uri: str) -> None:
    rows = rows_of(SampleFile())
    bucket = "" if root is not None and root.startswith("file") else "media"
    outputs = [row | {"output_bucket": bucket} for row in rows["proxy_outputs"].to_pylist()]
    event = made(rows | {"proxy_outputs": table_of("proxy_outputs", outputs)}, output_root=root)["proxy.generated"]
    assert event.payload["thumbnail_uri"].startswith(uri)


@pytest.mark.parametrize(
    ("key", "compatibility", "shot"),
    [
        (
            "projects/ALPHA/SQ01/SH010/render/v001/beauty.1001.exr",
            "spaceharbor",
            {"project_id": "ALPHA", "shot_id": "SH010"},
        ),
        ("projects/ALPHA/SQ01/SH010/render/v001/beauty.1001.exr", "", {}),
        ("shot/beauty.1001.exr", "spaceharbor", {}),
    ],
)
def test_project_and_shot_are_named_where_spaceharbor_finds_them_in_the_key(
    key: str, compatibility: str, shot: dict[str, str]
) -> None:
    payload = made(rows_of(SampleFile(key=key)), compatibility=compatibility)["proxy.generated"].payload
    assert {name: payload[name] for name in ("project_id", "shot_id") if name in payload} == shot


def test_every_type_of_event_is_described() -> None:
    assert set(EVENT_TYPES) == described()
