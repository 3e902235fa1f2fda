"""Queues of SQS over HTTP: messages stay until what they name is dealt with, and come again until they are deleted."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.events.source import Message, Positions, has_sources, sources_of
from exr_pipeline.events.sqs_source import RECEIPTS_KEPT, SqsSource
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.events.wire import records
from exr_pipeline_tests.services.moto import Moto
from exr_pipeline_tests.services.processes import free_port

ODD = "show a/beauty+x #1.1001.exr"


@pytest.fixture
def queue(moto: Moto) -> str:
    return moto.new_queue()


def source(*queues: str) -> SqsSource:
    return SqsSource(queues, Settings(_env_file=None))


def read(opened: SqsSource, positions: Positions, count: int) -> tuple[list[Message], Positions]:
    messages: list[Message] = []
    while len(messages) < count:
        batch = opened.read(positions, limit=count - len(messages), seconds=5)
        assert batch.messages, f"only {len(messages)} of {count}"
        messages += batch.messages
        positions = batch.positions
    return messages, positions


def counts(moto: Moto, queue: str) -> tuple[int, int]:
    """How many messages of a queue anybody may receive, and how many only those who have received them see."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = moto.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


def test_messages_are_deleted_when_they_are_acknowledged_and_not_before(moto: Moto, queue: str) -> None:
    for number in range(25):
        moto.client("sqs").send_message(QueueUrl=queue, MessageBody=str(number))

    with source(queue) as opened:
        messages, positions = read(opened, {}, 25)
        assert sorted(int(message.content) for message in messages) == list(range(25))
        assert len({message.position for message in messages}) == 25
        assert counts(moto, queue) == (0, 25)
    # Another process, with the positions as JSON has them.
    with source(queue) as opened:
        assert opened.acknowledge(json.loads(json.dumps(positions))) == {}
        assert counts(moto, queue) == (0, 0)
        assert opened.acknowledge(positions) == {}


def test_a_message_whose_cursor_was_lost_comes_again(moto: Moto, queue: str) -> None:
    moto.client("sqs").send_message(QueueUrl=queue, MessageBody="again")
    with source(queue) as opened:
        _, positions = read(opened, {}, 1)
    (receipt,) = positions[queue]
    # The time until others see it is over.
    moto.client("sqs").change_message_visibility(QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=0)
    with source(queue) as opened:
        ((message,), _) = read(opened, {}, 1)
    assert message.content == b"again"


def test_no_more_is_received_than_the_cursor_can_hold(queue: str, moto: Moto) -> None:
    moto.client("sqs").send_message(QueueUrl=queue, MessageBody="one more")
    full: Positions = {queue: ["receipt"] * RECEIPTS_KEPT}
    with source(queue) as opened:
        assert opened.read(full, limit=10, seconds=0.1).messages == []
        full[queue].pop()
        assert len(opened.read(full, limit=10, seconds=0.1).messages) == 1


def test_a_notification_of_s3_names_its_object(moto: Moto, queue: str) -> None:
    bucket = uuid4().hex
    s3, sqs = moto.client("s3"), moto.client("sqs")
    s3.create_bucket(Bucket=bucket)
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    configuration = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    s3.put_object(Bucket=bucket, Key=ODD, Body=b"x")

    with source(queue) as opened:
        messages, _ = read(opened, {}, 2)

    # The first one is what S3 sends when notifications are set up.
    (named,) = [named for message in messages for named in message.objects()]
    assert (named.location, named.action) == (Location("s3", bucket, ODD), "created")
    assert {message.source for message in messages} == {f"sqs:{queue.rpartition('/')[2]}"}


def test_a_notification_through_sns_names_its_object(moto: Moto, queue: str) -> None:
    sns, sqs = moto.client("sns"), moto.client("sqs")
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name=uuid4().hex)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    sns.publish(TopicArn=topic, Message=json.dumps(records(Location("s3", "renders", ODD), "ObjectRemoved:Delete")))

    with source(queue) as opened:
        ((message,), _) = read(opened, {}, 1)

    (named,) = message.objects()
    assert (named.location, named.action) == (Location("s3", "renders", ODD), "deleted")


def test_an_event_of_eventbridge_names_its_object(moto: Moto, queue: str) -> None:
    bucket = uuid4().hex
    s3, sqs, bridge = moto.client("s3"), moto.client("sqs"), moto.client("events")
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}})
    pattern: dict[str, Any] = {"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}}}
    bridge.put_rule(Name=bucket, EventPattern=json.dumps(pattern), State="ENABLED")
    bridge.put_targets(Rule=bucket, Targets=[{"Id": "1", "Arn": arn}])
    s3.put_object(Bucket=bucket, Key=ODD, Body=b"x")

    with source(queue) as opened:
        messages, _ = read(opened, {}, 1)

    named = [named.location for message in messages for named in message.objects() if named.action == "created"]
    assert named == [Location("s3", bucket, ODD)]


def test_settings_name_queues_of_several_servers(queue: str) -> None:
    settings = Settings(_env_file=None, events_sqs_queues=(queue, "https://sqs.eu-west-1.amazonaws.com/1/other"))
    assert has_sources(settings)
    (found,) = sources_of(settings)
    with found:
        assert found.name == "sqs"


@pytest.mark.parametrize("url", ["renders", "sqs://host/queue", "https://sqs.eu-west-1.amazonaws.com/"])
def test_what_is_not_the_url_of_a_queue_is_named(url: str) -> None:
    with pytest.raises(MisconfiguredError, match="is not the URL of a queue"):
        source(url)


def test_a_queue_that_is_not_there_is_named(moto: Moto) -> None:
    missing = f"{moto.url}/123456789012/missing"
    with source(missing) as opened, pytest.raises(MisconfiguredError, match="there is no queue"):
        opened.read({}, limit=1, seconds=0.1)


@pytest.mark.usefixtures("moto")
def test_a_server_that_does_not_answer_is_worth_another_try() -> None:
    url = f"http://127.0.0.1:{free_port()}/123456789012/events"
    with source(url) as opened, pytest.raises(RetryableError, match="cannot read events"):
        opened.read({}, limit=1, seconds=0.1)


def test_a_check_receives_nothing_and_names_a_queue_that_is_missing(moto: Moto, queue: str) -> None:
    moto.client("sqs").send_message(QueueUrl=queue, MessageBody="waits")
    with source(queue) as opened:
        assert opened.check() == f"{queue}: about 1 messages wait"
    assert counts(moto, queue) == (1, 0)
    with source(f"{queue}-missing") as opened, pytest.raises(MisconfiguredError, match="there is no queue"):
        opened.check()
