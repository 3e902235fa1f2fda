"""Broker, function and drainer are killed while files are announced; what comes of it is what comes of it undisturbed.

EXR_PIPELINE_TEST_KILLS says how often, an eighth of it: with 160, twenty kills while 500 files are announced.
EXR_PIPELINE_TEST_SEED chooses other moments and victims.
"""

import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from exr_pipeline.errors import RetryableError
from exr_pipeline.events.outbox import waiting
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables import open_table_store
from exr_pipeline_tests.events.wire import element
from exr_pipeline_tests.faults.deployment import Restarted
from exr_pipeline_tests.faults.files import files
from exr_pipeline_tests.services.dataengine import FunctionProcess, Trigger, secrets_of
from exr_pipeline_tests.services.environments import environment_without_services, of_emulator, settings_in
from exr_pipeline_tests.services.kafka import Broker, Tansu, all_messages, make_topics
from exr_pipeline_tests.services.outcome import Outcome
from exr_pipeline_tests.services.processes import Service, wait_until
from exr_pipeline_tests.vast_emulator.running import RunningEmulator, running_emulator

# Each takes as long as some kills of a run.
KILLS = max(int(os.environ.get("EXR_PIPELINE_TEST_KILLS", "3")) // 8, 1)
SEED = int(os.environ.get("EXR_PIPELINE_TEST_SEED", "20261130"))
FILES_PER_KILL = 25
# At most: a few files are done in that time.
PAUSE_SECONDS = 3.0
GONE_SECONDS = 10
BATCH = 5
TRIGGERED = "dataengine.renders"
PUBLISHED = ("exr-pipeline.events", "spaceharbor.proxy")


@dataclass(frozen=True)
class Ended:
    """What is left when everything that was announced is done."""

    outcome: Outcome
    event_ids: set[tuple[str, str]]
    messages: int


class World:
    """Tables, a broker, a function and a drainer of their own; each process that ends is started again."""

    def __init__(self, folder: Path, name: str, bucket: Location, s3: EmbeddedS3, emulator: RunningEmulator) -> None:
        folder.mkdir()
        s3.create_bucket(f"{bucket.bucket}-{name}")
        self.bucket = bucket
        self._emulator = emulator
        self.tansu = Tansu(folder, bucket=f"{bucket.bucket}-{name}", server=s3)
        environment = {
            **environment_without_services(),
            **s3.environment(),
            **of_emulator(emulator.url, name),
            "EXR_PIPELINE_PUBLISH_BROKERS": self.tansu.address,
            "EXR_PIPELINE_SOURCES": bucket.url,
            "EXR_PIPELINE_WORKERS": "1",
        }
        self.settings = settings_in(environment)
        self.function = FunctionProcess(folder, environment, secrets_of(s3, emulator.url))
        drainer = [sys.executable, "-m", "exr_pipeline_tests.events.drainer"]
        self._drainer = Service("drainer", drainer, folder / "drainer.log", environment=environment)

    @contextmanager
    def working(self) -> Iterator[dict[str, Restarted]]:
        """Run it all; what can be killed, by name."""
        with ExitStack() as stack:
            broker = stack.enter_context(Restarted("broker", self.tansu))
            self.tansu.wait()
            make_topics(self.tansu.address, [TRIGGERED, *PUBLISHED])
            function = stack.enter_context(Restarted("function", self.function))
            drainer = stack.enter_context(Restarted("drainer", self._drainer))
            self.trigger = stack.enter_context(Trigger(self.tansu.address, TRIGGERED, self.function.url, batch=BATCH))
            yield {each.name: each for each in (broker, function, drainer)}

    def has_answered(self, count: int) -> bool:
        """Whether so many events are done. A cluster ends the transactions of clients that are gone, so does this."""
        self._emulator.admin("expire", {"idle": GONE_SECONDS})
        return self.trigger.answered >= count

    def is_done(self, count: int) -> bool:
        """Whether all that was announced is in the tables, and nothing waits to be published."""
        if not self.has_answered(count):
            return False
        try:
            tables = open_table_store(self.settings)
            known = sum(tables.counts_by_state().values())
            return known == count and waiting(tables)[0] == 0
        except RetryableError:
            return False

    def ended(self) -> Ended:
        """What there is now."""
        found = all_messages(self.tansu.address, PUBLISHED)
        events = {(str(message.topic()), dict(message.headers() or [])["ce_id"].decode()) for message in found}
        return Ended(Outcome.of(self.settings, self.bucket), events, len(found))


def announced(world: World, keys: list[str], kills: int, seed: int) -> Ended:
    """Announce files in as many parts as there are kills, and kill something after each, once the one before is done.

    The producer goes on until the broker has the whole part, as a store's notifications do.
    """
    dice = random.Random(seed)
    began = time.monotonic()
    with world.working() as killable:
        # Each as often as any other, give or take one, in any order.
        victims = [sorted(killable)[index % len(killable)] for index in range(kills)]
        dice.shuffle(victims)
        broker = Broker(world.tansu.address, can_create=True)
        parts = max(kills, 1)
        for index in range(parts):
            start, end = index * len(keys) // parts, (index + 1) * len(keys) // parts
            broker.send(TRIGGERED, *(element(world.bucket.child(key)) for key in keys[start:end]))
            wait_until(lambda: world.has_answered(start), world.function.log_tail(), pause=0.5)  # noqa: B023
            if victims:
                time.sleep(dice.uniform(0, PAUSE_SECONDS))
                victim = victims.pop()
                killable[victim].kill()
                sys.stdout.write(f"{time.monotonic() - began:6.1f} s  {victim}, {world.trigger.answered} answered\n")
        wait_until(lambda: world.is_done(len(keys)), world.function.log_tail(), pause=0.5)
        starts = {name: each.starts for name, each in killable.items()}
        calls = f"{world.trigger.answered} events, {world.trigger.failed} calls in vain"
        sys.stdout.write(f"{time.monotonic() - began:6.1f} s  done: {calls}, starts: {starts}\n")
        return world.ended()


def test_whatever_is_killed_while_files_are_announced_tables_objects_and_events_end_as_if_nothing_had_been(
    tmp_path: Path, s3_server: EmbeddedS3, bucket: Location, storage: ObjectStorage
) -> None:
    keys = []
    for key, data, _ in files(KILLS * FILES_PER_KILL):
        storage.write(bucket.child(key), data, content_type="image/x-exr", tags={})
        keys.append(key)
    with running_emulator() as emulator:
        undisturbed = announced(World(tmp_path / "one", "undisturbed", bucket, s3_server, emulator), keys, 0, SEED)
        for key in undisturbed.outcome.objects:
            if "/.proxies/" in key:
                storage.delete(bucket.child(key))
        sys.stdout.write(f"seed {SEED}:\n")
        disturbed = announced(World(tmp_path / "two", "disturbed", bucket, s3_server, emulator), keys, KILLS, SEED)

    sys.stdout.write(f"{len(disturbed.event_ids)} events in {disturbed.messages} messages\n")
    assert disturbed.outcome.differences(undisturbed.outcome) == []
    assert disturbed.event_ids == undisturbed.event_ids
    made = [key for key in undisturbed.outcome.objects if key.endswith("_proxy.mp4")]
    assert len(undisturbed.event_ids) == len(keys) + len(made)
