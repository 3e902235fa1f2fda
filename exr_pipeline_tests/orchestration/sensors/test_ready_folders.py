"""A `.ready` object ends the quiet time of the sequences in its folder at once; without it, they wait."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from exr_pipeline.orchestration.assets.sequences import SEQUENCES_JOB
from exr_pipeline.orchestration.partitions import SEQUENCES
from exr_pipeline.orchestration.sensors import sequences
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.orchestration.sensors.conftest import MakeWatch
from exr_pipeline_tests.orchestration.sensors.test_events_in import Inbox, Line, created

FRAMES = ("shot/v001/beauty.1001.exr", "shot/v001/beauty.1002.exr")
READY = "shot/v001/shot_v001.ready"


@pytest.fixture
def inbox(make_watch: MakeWatch) -> Inbox:
    watch = make_watch(events_seconds=0.1, sequence_quiet_seconds=3000)
    for key in watch.instance.get_dynamic_partitions(SEQUENCES):
        watch.instance.delete_dynamic_partition(SEQUENCES, key)
    return Inbox(watch, Line())


def tell(inbox: Inbox, *names: str) -> None:
    inbox.sources[0].add(*created(inbox.watch, *names))


def sequences_asked(result: dg.SensorResult | dg.SkipReason) -> list[str]:
    assert isinstance(result, dg.SensorResult)
    keys = [str(request.partition_key) for request in result.run_requests or [] if request.job_name == SEQUENCES_JOB]
    return [Location.from_partition_key(key).name for key in keys]


def test_the_sequences_of_a_ready_folder_are_asked_for_without_a_quiet_time(inbox: Inbox) -> None:
    watch = inbox.watch
    watch.put(*FRAMES, READY)
    watch.inspect(*FRAMES)
    assert sequences_asked(sequences.tick(watch.instance, watch.pipeline, None, now=watch.now)) == []

    tell(inbox, READY)

    assert sequences_asked(inbox.tick()) == ["beauty.####.exr"]
    assert len(watch.instance.get_dynamic_partitions(SEQUENCES)) == 1
    assert inbox.cursor.ready == {}
    assert sequences_asked(inbox.tick()) == []


def test_a_ready_folder_waits_until_all_of_its_frames_are_in_the_tables(inbox: Inbox) -> None:
    watch = inbox.watch
    watch.put(*FRAMES, READY)
    watch.inspect(FRAMES[0])
    tell(inbox, READY)

    assert sequences_asked(inbox.tick()) == []
    watch.inspect(FRAMES[1], state="retryable")
    assert sequences_asked(inbox.tick()) == []
    watch.inspect(FRAMES[1])
    assert sequences_asked(inbox.tick()) == ["beauty.####.exr"]


def test_an_event_of_a_ready_object_that_is_not_there_ends_no_quiet_time(inbox: Inbox) -> None:
    inbox.watch.put(*FRAMES)
    inbox.watch.inspect(*FRAMES)
    tell(inbox, READY)

    assert sequences_asked(inbox.tick()) == []
    assert inbox.cursor.ready == {}


def test_a_ready_folder_whose_frames_never_come_is_forgotten(inbox: Inbox) -> None:
    inbox.watch.put(*FRAMES, READY)
    tell(inbox, READY)
    inbox.tick()
    assert list(inbox.cursor.ready) == [inbox.watch.root.child("shot/v001/").url]
    inbox.watch.now += timedelta(hours=1)
    inbox.tick()
    assert inbox.cursor.ready == {}


def test_a_sequence_that_a_run_is_at_is_looked_at_again_afterwards(inbox: Inbox) -> None:
    watch = inbox.watch
    watch.put(*FRAMES, READY)
    watch.inspect(*FRAMES)
    tell(inbox, READY)
    result = inbox.look()
    (request,) = result.run_requests or []
    run = watch.run(SEQUENCES_JOB, {**request.tags, "dagster/partition": str(request.partition_key)}, {})

    assert sequences_asked(inbox.tick()) == []
    watch.instance.delete_run(run)
    assert sequences_asked(inbox.tick()) == ["beauty.####.exr"]


def test_ready_objects_outside_the_sources_are_left_alone(inbox: Inbox) -> None:
    elsewhere = Location("s3", "another-bucket", READY)
    inbox.sources[0].add(b'{"s3_bucket": "another-bucket", "s3_key": "%s"}' % elsewhere.key.encode())
    inbox.tick()
    assert inbox.cursor.ready == {}
