"""What messages name, and what the settings of sources make of themselves."""

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.events.source import Message, has_sources, sources_of
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.events.wire import FORMS, records

ODD = Location("s3", "renders", "shot a+b/beauty #1 100%.1001.exr")


def message(content: bytes, **headers: bytes) -> Message:
    return Message("kafka:topic", "0:1", content, headers)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_names_its_object_and_what_happened_to_it(form: str) -> None:
    for name, action in (("ObjectCreated:Put", "created"), ("ObjectRemoved:Delete", "deleted")):
        content, headers = FORMS[form](ODD, name)
        (named,) = Message("kafka:topic", "0:1", content, headers).objects()
        assert (named.location, named.action) == (ODD, action)


def test_a_structured_event_with_its_data_in_base64_names_its_object() -> None:
    data = base64.b64encode(json.dumps(records(ODD)).encode()).decode()
    event = {"type": "any", "specversion": "1.0", "data_base64": data}
    (named,) = message(json.dumps(event).encode()).objects()
    assert named.location == ODD


def test_attributes_that_break_the_specification_do_no_harm() -> None:
    (named,) = message(b"not JSON", CE_ElementPath=b"renders/a.exr", ce_time=b"yesterday", ce_type=b"\xff").objects()
    assert named.location == Location("s3", "renders", "a.exr")


def test_a_test_event_names_nothing_and_is_not_rejected() -> None:
    assert message(b'{"Event": "s3:TestEvent", "Bucket": "renders"}').objects() == ()


@pytest.mark.parametrize("content", [b"", b"not JSON", b"[1]", b"{}", b'"text"', b"\xff\xfe", b'{"data_base64": 1}'])
def test_a_message_that_names_nothing_is_bad_input(content: bytes) -> None:
    with pytest.raises(BadInputError):
        message(content).objects()


@given(st.binary(), st.dictionaries(st.text(), st.binary()))
def test_no_message_raises_anything_but_bad_input(content: bytes, headers: dict[str, bytes]) -> None:
    with contextlib.suppress(BadInputError):
        Message("kafka:topic", "0:1", content, headers).objects()


def test_without_settings_there_are_no_sources() -> None:
    assert not has_sources(Settings(_env_file=None))
    assert sources_of(Settings(_env_file=None)) == []


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"events_kafka_topics": ("events",)}, "EXR_PIPELINE_EVENTS_KAFKA_BROKERS"),
        ({"events_kafka_brokers": "broker:9092"}, "EXR_PIPELINE_EVENTS_KAFKA_TOPICS"),
        (
            {
                "events_kafka_brokers": "broker:9092",
                "events_kafka_topics": ("events",),
                "kafka_security": "sasl_ssl",
            },
            "EXR_PIPELINE_KAFKA_USERNAME",
        ),
    ],
)
def test_half_a_configuration_names_what_is_missing(values: dict[str, object], setting: str) -> None:
    with pytest.raises(MisconfiguredError) as caught:
        sources_of(Settings(_env_file=None, **values))  # type: ignore[arg-type]
    assert caught.value.setting == setting
