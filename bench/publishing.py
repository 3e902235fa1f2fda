"""What publishing events costs an ingest of headers: with a broker that answers, and with one that is away.

Belongs here: the same chunks with and without an outbox. Not here: how fast events come in.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.ingest import Ours
from bench.inputs import TINY, Renders
from bench.report import Report, Table
from bench.server import fill, running_server
from bench.sides import Side, interleaved, started
from bench.size import Size
from exr_pipeline_tests.services.kafka import running_tansu
from exr_pipeline_tests.services.processes import free_port

if TYPE_CHECKING:
    from exr_pipeline.storage.locations import Location

_CHUNK: Final = 200
_TOPICS: Final = ("exr-pipeline.events", "spaceharbor.proxy")


class Publishing(Ours):
    """Chunks of headers, and after each what a run does about its events."""

    def __init__(self, folder: Path, brokers: str) -> None:
        super().__init__(folder, pictures=False)
        self.settings = self.settings.model_copy(update={"publish_brokers": brokers})

    def run(self, locations: list[Location]) -> None:
        """Ingest, and publish."""
        from exr_pipeline.events.outbox import publish_after_work

        for start in range(0, len(locations), _CHUNK):
            began = datetime.now(UTC)
            super().run(locations[start : start + _CHUNK])
            publish_after_work(self.tables, self.settings, logging.getLogger("bench"), began=began)

    def check(self, locations: list[Location]) -> object:
        """Everything is in the tables; how many events wait."""
        super().check(locations)
        return self.tables.read("outbox", columns=["event_id"]).num_rows


def run(size: Size, folder: Path) -> Report:
    """The same files in turns: nothing is published, a broker takes all, no broker answers."""
    count, rounds = size.count(4000, 4), size.rounds(3)
    render = Renders(TINY).write("ZIP", folder / "render.exr").read_bytes()
    ratios = Table(["broker", "x the speed without events"])
    figures = Table(["broker", "files", "files/s", "events that wait in the end"])
    with running_server(folder), running_tansu(folder, *_TOPICS) as broker:
        files = fill({f"headers/file.{index:06d}.exr": render for index in range(count)})
        sides = [
            Side("nothing is published", partial(Publishing, folder / "none", "")),
            Side("answers", partial(Publishing, folder / "there", broker.address)),
            Side("is away", partial(Publishing, folder / "away", f"127.0.0.1:{free_port()}")),
        ]
        with started(sides):
            for side in () if size.tiny else sides:
                side.ask(files[:10])
            interleaved(sides, rounds, files)
    without = sides[0].median
    for side in sides:
        ratios.add(side.name, without / side.median)
        figures.add(side.name, count, count / side.median, side.values[-1])
    return Report(
        "publishing",
        f"Headers of {count:,} small files from an embedded S3 server into a DuckDB file, in chunks of {_CHUNK}, each "
        "followed by what a run does about its events: two seconds of publishing at most. The broker is Tansu on the "
        f"same machine. Medians of {rounds} turns.",
        ratios,
        figures,
        [
            "Without a broker the chunks of the first 30 s wait for two seconds each; then nothing waits, and the "
            "sensor `events_out` goes on trying.",
        ],
    )
