"""Events of every form in `deploy/`, and hostile ones, as the objects that they name."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exr_pipeline.errors import BadInputError
from exr_pipeline.functions.events import Toggles, read_event
from exr_pipeline_tests.docs.generated import REPOSITORY
from exr_pipeline_tests.functions.runtimes import EVENTS, RuntimeEvent, wire

PLAIN, ODD = "renders/shot/beauty.1001.exr", "renders/shot a+b/beauty #1.1002.exr"
NAMED = {
    "element_created": (PLAIN, "created"),
    "element_created_encoded_key": (ODD, "created"),
    "element_created_by_command_line": (PLAIN, "created"),
    "element_deleted": (PLAIN, "deleted"),
    "element_tagged": (PLAIN, "tagged"),
    "named_by_key": (PLAIN, "created"),
    "named_by_key_with_toggles": (PLAIN, "created"),
    "named_by_path": (PLAIN, "created"),
}
AMAZON = {
    "s3": [(PLAIN, "created")],
    "s3_encoded_key": [(ODD, "created")],
    "s3_deleted": [(PLAIN, "deleted")],
    "sqs": [(PLAIN, "created"), (ODD, "created")],
    "sqs_test_event": [],
    "sns_in_sqs": [(PLAIN, "created")],
    "eventbridge": [(ODD, "created")],
    "eventbridge_in_sqs": [(ODD, "created")],
    "eventbridge_tagged": [(ODD, "tagged")],
}
GOOGLE = {"finalized": (ODD, "created"), "deleted": (PLAIN, "deleted"), "metadata_updated": (PLAIN, "tagged")}


def named(event: Any) -> list[tuple[str, str]]:
    return [(f"{one.location.bucket}/{one.location.key}", one.action) for one in read_event(event).objects]


def test_every_event_of_the_deployments_is_tried_here() -> None:
    for folder, names in (("dataengine", NAMED), ("lambda", AMAZON), ("cloudrun", GOOGLE)):
        files = {path.stem for path in (REPOSITORY / "deploy" / folder / "events").iterdir()}
        assert files == set(names)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", NAMED)
def test_events_of_both_runtimes_name_their_object(name: str, whole: bool) -> None:
    assert named(RuntimeEvent(wire(EVENTS / f"{name}.json"), whole=whole)) == [NAMED[name]]


@pytest.mark.parametrize("name", NAMED)
def test_events_as_they_come_from_the_broker_name_their_object(name: str) -> None:
    assert named(wire(EVENTS / f"{name}.json")) == [NAMED[name]]


@pytest.mark.parametrize("name", AMAZON)
def test_events_of_amazon_name_their_objects(name: str) -> None:
    event = json.loads((REPOSITORY / "deploy/lambda/events" / f"{name}.json").read_text(encoding="utf-8"))
    assert named(event) == AMAZON[name]


@pytest.mark.parametrize("name", GOOGLE)
def test_events_of_google_name_their_object(name: str) -> None:
    event = json.loads((REPOSITORY / "deploy/cloudrun/events" / f"{name}.json").read_text(encoding="utf-8"))
    assert named({"type": event["type"], "data": event["data"]}) == [GOOGLE[name]]
    (one,) = read_event({"type": event["type"], "data": event["data"]}).objects
    assert one.location.scheme == "gs"


def test_a_key_that_may_be_plain_or_encoded_is_kept_in_both_forms() -> None:
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "a+b/100%25.exr"}}}
    (one,) = read_event({"Records": [record]}).objects
    assert one.location.key == "a b/100%.exr"
    assert one.as_written is not None
    assert one.as_written.key == "a+b/100%25.exr"


def test_what_is_asked_for_and_not_there_yet_is_known() -> None:
    event = wire(EVENTS / "named_by_key_with_toggles.json")
    assert read_event(event).toggles == Toggles(meta=True, not_available=("stats", "validate", "policy_path"))
    assert read_event({**event, "data": {**event["data"], "meta": False}}).toggles.meta is False


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"Records": []},
        {"Records": [{"s3": {"bucket": {"name": "b"}}}]},
        {"Records": [{"body": "no JSON"}]},
        {"Records": [{"body": "[1]"}]},
        {"Records": [{"s3": {"bucket": {"name": ""}, "object": {"key": "a.exr"}}}]},
        {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": 5}}}]},
        {"Records": {"s3": 1}},
        {"s3_bucket": "b", "s3_key": ""},
        {"s3_bucket": "b", "s3_key": "x" * 1025},
        {"path": "file:///etc/passwd"},
        {"path": "ftp://host/a.exr"},
        {"elementpath": "bucket-alone"},
        {"data": "text"},
        {"detail-type": "Object Created", "detail": {"bucket": "b"}},
        {"s3_bucket": "b", "s3_key": "\ud800.exr"},
        {"s3_bucket": "\ud800", "s3_key": "a.exr"},
        RuntimeEvent({"type": "vastdata.com:Function", "id": "1", "data": None}),
        "a text",
        None,
    ],
)
def test_an_event_that_names_no_object_is_bad_input(event: Any) -> None:
    with pytest.raises(BadInputError):
        read_event(event)


def test_envelopes_in_each_other_without_end_are_refused() -> None:
    event: dict[str, Any] = {"s3_bucket": "b", "s3_key": "a.exr"}
    for _ in range(50):
        event = {"data": event}
    with pytest.raises(BadInputError, match="envelopes"):
        read_event(event)
    text = "{}"
    for _ in range(12):
        text = json.dumps({"Type": "Notification", "Message": text})
    with pytest.raises(BadInputError, match="envelopes"):
        read_event(json.loads(text))


def test_a_deeply_nested_message_is_no_trouble() -> None:
    with pytest.raises(BadInputError):
        read_event({"Records": [{"body": "[" * 100_000}]})


WORDS = st.sampled_from(
    [
        *("Records", "s3", "bucket", "name", "object", "key", "body", "Sns", "Message", "Type", "data", "path"),
        *("elementpath", "element", "detail", "detail-type", "type", "eventName", "s3_bucket", "s3_key", "meta"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["Notification", "b", "a.exr", "b/a.exr"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS, inner, max_size=4)
        | st.dictionaries(WORDS, inner, max_size=4).map(json.dumps)
    ),
    max_leaves=25,
)


@given(event=VALUES)
@settings(deadline=None)
def test_no_event_raises_anything_but_bad_input(event: Any) -> None:
    with contextlib.suppress(BadInputError):
        for one in read_event(event).objects:
            assert one.location.bucket
            assert one.location.key
            assert one.location.scheme != "file"


def test_local_files_are_not_read_for_an_event(tmp_path: Path) -> None:
    (tmp_path / "a.exr").write_bytes(b"")
    with pytest.raises(BadInputError, match="only objects in a store"):
        read_event({"path": (tmp_path / "a.exr").as_uri()})
