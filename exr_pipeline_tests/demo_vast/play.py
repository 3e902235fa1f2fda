"""The demonstration itself: what happens one after the other, and what is measured of it.

Belongs here: the order of things. Not here: services (`stage`), events (`show`), comparing (`comparison`), or printing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.events.outbox import drain, waiting
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables import open_table_store
from exr_pipeline_tests.demo_vast.comparison import Comparison, compare_stores, object_hashes
from exr_pipeline_tests.demo_vast.show import Announcer, write_announced_show
from exr_pipeline_tests.demo_vast.stage import PUBLISHED, REFERENCE, SHOW, TRIGGERED, Stage
from exr_pipeline_tests.services.dataengine import Trigger
from exr_pipeline_tests.services.environments import settings_in
from exr_pipeline_tests.services.kafka import all_messages
from exr_pipeline_tests.services.processes import wait_until

if TYPE_CHECKING:
    from confluent_kafka import Message

    from exr_pipeline.sample import ShowSummary
    from exr_pipeline.tables.store import TableStore

# What is being done, and how much of how much is done.
Progress = Callable[[str, int, int], None]

_PATIENCE_SECONDS: Final = 600


@dataclass(frozen=True)
class Measured:
    """What was counted. `events` are identifiers by type, of the tables in VAST and of those in DuckDB."""

    sent: Mapping[str, int]
    calls_in_vain: int
    partitions: int
    runs: int
    messages: int
    events: tuple[set[tuple[str, str]], set[tuple[str, str]]]
    objects: tuple[dict[str, str], dict[str, str]]
    tables: list[Comparison]

    @property
    def is_same(self) -> bool:
        """Whether both ways have made the same."""
        rows_differ = any(compared.differences for compared in self.tables)
        return not (rows_differ or self.events_that_differ() or self.objects_that_differ())

    def events_that_differ(self) -> set[tuple[str, str]]:
        """The events that only one of them has published."""
        return self.events[0] ^ self.events[1]

    def objects_that_differ(self) -> list[str]:
        """The keys of objects that only one of them has made, or with other bytes."""
        ones, others = self.objects
        return sorted(key for key in ones.keys() | others.keys() if ones.get(key) != others.get(key))

    def events_by_type(self) -> Counter[str]:
        """How many events there were of each type, duplicates left out."""
        return Counter(kind for kind, _ in self.events[0])


def play(stage: Stage, progress: Progress) -> Measured:
    """Ingest the show by events into the emulated VAST DataBase, then by commands into DuckDB, and compare.

    Raises `AssertionError` with the end of a log if a process does not do its part in time.
    """
    vast, reference = settings_in(stage.environment), settings_in(stage.reference())
    storage, announcer = ObjectStorage(vast), Announcer(stage)
    show = write_announced_show(storage, announcer, lambda done, total, _: progress("writing files", done, total))
    calls_in_vain = _take_events(stage, open_table_store(vast), show, progress)
    objects = object_hashes(storage, SHOW)
    for key in objects:
        storage.delete(SHOW.child(key.removeprefix(SHOW.key)))
    partitions, runs = _history(stage)

    _ingest_into_duckdb(stage)
    published = all_messages(stage.broker.address, PUBLISHED), all_messages(stage.broker.address, REFERENCE)
    progress("comparing rows", 0, 1)
    compared = compare_stores(open_table_store(vast), open_table_store(reference))
    return Measured(
        announcer.sent,
        calls_in_vain,
        partitions,
        runs,
        len(published[0]),
        (set(map(_event, published[0])), set(map(_event, published[1]))),
        (objects, object_hashes(storage, SHOW)),
        compared,
    )


def _take_events(stage: Stage, tables: TableStore, show: ShowSummary, progress: Progress) -> int:
    """Have the function and Dagster do their parts; returns how many calls of the function were in vain."""
    with (
        stage.function() as function,
        stage.dagster() as dagster,
        Trigger(stage.broker.address, TRIGGERED, function.url) as trigger,
    ):

        def reached(what: str, total: int, count: Callable[[], int]) -> None:
            def is_reached() -> bool:
                assert dagster.is_running, dagster.log_tail()
                done = count()
                progress(what, done, total)
                return done >= total

            wait_until(is_reached, f"{what}: see {stage.folder}", seconds=_PATIENCE_SECONDS, pause=1)

        reached("files in the tables", len(show.files), lambda: sum(tables.counts_by_state().values()))
        reached("movies of sequences", len(show.sequences), lambda: tables.read("sequence_outputs").num_rows)
        reached("outbox empty", 1, lambda: int(waiting(tables)[0] == 0))
    return trigger.failed


def _history(stage: Stage) -> tuple[int, int]:
    """How many files became partitions, and how many runs Dagster made."""
    from exr_pipeline.orchestration.instance.home import open_instance
    from exr_pipeline.orchestration.partitions import FILES

    os.environ["DAGSTER_HOME"] = str(stage.dagster_home)
    with open_instance() as instance:
        return len(instance.get_dynamic_partitions(FILES)), instance.get_runs_count()


def _ingest_into_duckdb(stage: Stage) -> None:
    """What `exr-pipeline demo` does with a show that is written already; both commands show their progress."""
    environment = stage.reference()
    for command in ("ingest", "sequences"):
        program = [sys.executable, "-m", "exr_pipeline.cli", command, SHOW.url]
        subprocess.run(
            program, env=environment, cwd=environment["EXR_PIPELINE_STATE_DIR"], stdout=sys.stderr, check=True
        )
    # A run of more than half a minute leaves its events to the sensor `events_out`, which commands have not.
    settings = settings_in(environment)
    drain(open_table_store(settings), settings, seconds=60)


def _event(message: Message) -> tuple[str, str]:
    """Type and identifier of an event in the binary mode of CloudEvents."""
    headers: Any = dict(message.headers() or [])
    return headers["ce_type"].decode(), headers["ce_id"].decode()
