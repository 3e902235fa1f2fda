"""The sample show in the store, with a notification of each object, as a VAST cluster sends them.

Belongs here: who is told of which object. Not here: the show (`exr_pipeline.sample`), or what an event looks like
(`events.wire`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.sample import write_show
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.demo_vast.stage import RENDERS, SHOW, TRIGGERED, Stage
from exr_pipeline_tests.events.wire import element, notification

if TYPE_CHECKING:
    from exr_pipeline.sample import ShowSummary
    from exr_pipeline.storage.objects import ObjectStorage

_OF_THE_FUNCTION: Final = ("library/", "shot_030/")
_BY_SQS: Final = ("shot_010/",)
_READY: Final = ".ready"
FUNCTION, KAFKA, SQS, COMPLETE = "the function", "Dagster, from Kafka", "Dagster, from SQS", "folders complete"


class Announcer:
    """Tells of each object whom the rules of the bucket name, and counts."""

    def __init__(self, stage: Stage) -> None:
        self.sent: Counter[str] = Counter()
        self._broker = stage.broker
        self._queue: Any = stage.queue
        self._sqs = stage.moto.client("sqs")

    def announce(self, location: Location) -> None:
        """Send the notification that this object was written; returns when it was taken."""
        key = location.key.removeprefix(SHOW.key)
        content, headers = notification(location)
        if key.endswith(_READY):
            self.sent[COMPLETE] += 1
            self._broker.send(RENDERS, content, headers=headers)
        elif key.startswith(_OF_THE_FUNCTION):
            self.sent[FUNCTION] += 1
            self._broker.send(TRIGGERED, element(location))
        elif key.startswith(_BY_SQS):
            self.sent[SQS] += 1
            self._sqs.send_message(QueueUrl=self._queue, MessageBody=content.decode())
        else:
            self.sent[KAFKA] += 1
            self._broker.send(RENDERS, content, headers=headers)


def write_announced_show(
    storage: ObjectStorage, announcer: Announcer, progress: Callable[[int, int, str], None]
) -> ShowSummary:
    """Write the show, and then an object in the folder of each sequence that says that it is complete."""

    def put(key: str, data: bytes) -> None:
        storage.write(SHOW.child(key), data, content_type="application/octet-stream", tags={})
        announcer.announce(SHOW.child(key))

    show = write_show(put, progress=progress)
    for folder in sorted({sequence.prefix.rpartition("/")[0] for sequence in show.sequences}):
        put(f"{folder}/frames{_READY}", b"")
    return show
