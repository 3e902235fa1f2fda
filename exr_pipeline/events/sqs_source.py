"""Events from queues of Amazon SQS, or of what speaks its protocol.

Belongs here: receiving and deleting. A message stays in its queue until the sensor's cursor, which by then is kept,
says that its partitions exist. Not here: what messages mean (`source`, `notifications`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.events.source import Batch, Message, Positions
from exr_pipeline.storage.objects import aws_session

if TYPE_CHECKING:
    from types import TracebackType

    from exr_pipeline.settings import Settings

# A request takes no more, neither to receive nor to delete.
_PER_REQUEST: Final = 10
# Receipts are in the sensor's cursor, each some hundred characters.
RECEIPTS_KEPT: Final = 1000
# Longer than some ticks: a message is deleted by the next one, or comes again.
_INVISIBLE_SECONDS: Final = 120
_WAIT_SECONDS: Final = 1
_WAITING: Final = "ApproximateNumberOfMessages"
_NO_QUEUE: Final = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "InvalidAddress"})
_REGION: Final = re.compile(r"sqs\.([a-z0-9-]+)\.amazonaws\.com")


class SqsSource:
    """Some queues. Positions are `{queue: receipts of messages that are dealt with and not deleted yet}`."""

    name = "sqs"

    def __init__(self, queues: Sequence[str], settings: Settings) -> None:
        for url in queues:
            if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).path.strip("/"):
                raise MisconfiguredError(
                    "EXR_PIPELINE_EVENTS_SQS_QUEUES",
                    f"{url!r} is not the URL of a queue",
                    "write https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE",
                )
        self._queues, self._settings = queues, settings
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for url in self._queues:
            with _typed_errors(url):
                self._clients[url] = _client(url, self._settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            client.close()

    def check(self) -> str:
        """See `EventSource`. Needs the permission sqs:GetQueueAttributes, which reading does not."""
        found = []
        for url in self._queues:
            with _typed_errors(url):
                answer = self._clients[url].get_queue_attributes(QueueUrl=url, AttributeNames=[_WAITING])
            found.append(f"{url}: about {answer['Attributes'][_WAITING]} messages wait")
        return "; ".join(found)

    def acknowledge(self, positions: Positions) -> Positions:
        """Delete these messages. One that is not deleted comes again, which does no harm."""
        for url, receipts in positions.items():
            if url not in self._clients:
                continue
            for start in range(0, len(receipts), _PER_REQUEST):
                entries = [
                    {"Id": str(index), "ReceiptHandle": receipt}
                    for index, receipt in enumerate(receipts[start : start + _PER_REQUEST])
                ]
                with _typed_errors(url):
                    self._clients[url].delete_message_batch(QueueUrl=url, Entries=entries)
        return {}

    def read(self, positions: Positions, *, limit: int, seconds: float) -> Batch:
        """Messages of all queues; waits for one of them a second at most. Others do not see them for two minutes."""
        messages: list[Message] = []
        after = {url: list(positions.get(url, ())) for url in self._queues}
        limit = min(limit, RECEIPTS_KEPT - sum(map(len, after.values())))
        deadline = time.monotonic() + seconds
        for url in self._queues:
            wait = _WAIT_SECONDS
            while (room := limit - len(messages)) > 0:
                received = self._receive(url, min(room, _PER_REQUEST), wait)
                source = f"sqs:{urlsplit(url).path.rpartition('/')[2]}"
                messages += [Message(source, each["MessageId"], each["Body"].encode()) for each in received]
                after[url] += [each["ReceiptHandle"] for each in received]
                wait = 0
                if not received or time.monotonic() >= deadline:
                    break
        return Batch(messages, after)

    def _receive(self, url: str, count: int, wait: int) -> list[dict[str, Any]]:
        with _typed_errors(url):
            answer = self._clients[url].receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=count,
                WaitTimeSeconds=wait,
                VisibilityTimeout=_INVISIBLE_SECONDS,
            )
        return list(answer.get("Messages", ()))


def _client(url: str, settings: Settings) -> Any:
    """A client of the server that a queue is on: the URL names it, and the region of Amazon's."""
    import boto3
    from botocore.config import Config

    place = urlsplit(url)
    region = _REGION.fullmatch(place.hostname or "")
    # With another store, its keys are not those of the queue.
    session = aws_session(settings) if settings.s3_endpoint is None else boto3.Session()
    return session.client(
        "sqs",
        endpoint_url=f"{place.scheme}://{place.netloc}",
        region_name=region[1] if region else settings.s3_region,
        config=Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2}),
    )


@contextmanager
def _typed_errors(url: str) -> Iterator[None]:
    """Replaces what boto3 raises inside by one of this project's errors. The original may hold a request."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError):
        raise MisconfiguredError(
            "AWS_ACCESS_KEY_ID", f"no credentials found for {url}", "set it and AWS_SECRET_ACCESS_KEY, or a profile"
        ) from None
    except ClientError as error:
        raise _refused(url, error.response) from None
    except BotoCoreError as error:
        raise RetryableError(
            f"{url}: cannot read events: {type(error).__name__}. Fix: check that the queue can be reached, or correct "
            "EXR_PIPELINE_EVENTS_SQS_QUEUES"
        ) from None


def _refused(url: str, response: Any) -> MisconfiguredError | RetryableError:
    code, status = response["Error"].get("Code", ""), response["ResponseMetadata"]["HTTPStatusCode"]
    if code in _NO_QUEUE:
        return MisconfiguredError(
            "EXR_PIPELINE_EVENTS_SQS_QUEUES", f"there is no queue {url}", "create it, or correct the URL"
        )
    if status in {401, 403}:
        return MisconfiguredError(
            "AWS_ACCESS_KEY_ID",
            f"{url} refuses the credentials ({code})",
            "allow sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes, or correct the credentials",
        )
    return RetryableError(f"{url}: cannot read events: HTTP {status} {code}")
