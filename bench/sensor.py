"""One tick of the sensor over a bucket, when every object is known and when every one is new, beside a bare listing.

Belongs here: the tick. Not here: the runs that it asks for (`orchestration`), or adding their partitions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.home import BATCHED, make_home
from bench.report import Report, Table
from bench.server import BUCKET, fill, running_server, s3_client, settings_for
from bench.sides import Side, Work, interleaved, started
from bench.size import Size

_RUN_SIZE = 500


class Listing(Work):
    """boto3 pages through the prefix, a thousand at a time."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.pages = s3_client().get_paginator("list_objects_v2")

    def run(self) -> None:
        """List."""
        self.found = sum(len(page["Contents"]) for page in self.pages.paginate(Bucket=BUCKET, Prefix=self.prefix))

    def check(self) -> int:
        """How many there were."""
        return self.found


class Tick(Work):
    """The sensor's tick from an empty cursor: keys, unfinished runs, listing, tables, comparison, requests."""

    def __init__(self, prefix: str, count: int, folder: Path, known: bool) -> None:
        from exr_pipeline.orchestration.resources import Pipeline

        make_home(folder, BATCHED)
        settings = settings_for(
            folder,
            sources=(f"s3://{BUCKET}/{prefix}",),
            settle_seconds=0,
            sensor_max_listed=max(count, 1),
            sensor_seconds=3600,
            sensor_max_runs=count // _RUN_SIZE + 1,
            chunk_size=_RUN_SIZE,
        )
        from exr_pipeline.orchestration.instance import open_instance

        self.pipeline = Pipeline(settings)
        self.instance = open_instance()
        self.expected = 0 if known else -(-count // _RUN_SIZE)
        if known:
            self._know_all(settings.sources[0])

    def _know_all(self, source: str) -> None:
        from exr_pipeline.ingest.read_header import source_file
        from exr_pipeline.inspection import FileState, unread_rows
        from exr_pipeline.orchestration.partitions import FILES
        from exr_pipeline.storage.locations import Location

        infos = list(self.pipeline.storage.iter_objects(Location.from_url(source)))
        now = datetime.now(UTC)
        for start in range(0, len(infos), 1000):
            rows = [(source_file(info), FileState("ready", None)) for info in infos[start : start + 1000]]
            self.pipeline.tables.write(unread_rows(rows, inspected_at=now), now=now)
        self.instance.add_dynamic_partitions(FILES, [info.location.partition_key for info in infos])

    def run(self) -> None:
        """Tick."""
        from exr_pipeline.orchestration.sensor import Cursor, tick

        self.result = tick(self.instance, self.pipeline, Cursor(), now=datetime.now(UTC))

    def check(self) -> int:
        """As many runs as there are chunks of new files, none if all are known."""
        requests = len(getattr(self.result, "run_requests", None) or ())
        if requests != self.expected:
            raise RuntimeError(f"{requests} runs asked for, not {self.expected}: {self.result}")
        return requests


def run(size: Size, folder: Path) -> Report:
    """Both sizes of bucket, or the one asked for."""
    counts = [size.files] if size.files else [20] if size.tiny else [1000, 20_000]
    rounds = size.rounds(5)
    ratios = Table(["objects", "x a bare listing, all known", "x a bare listing, all new"])
    figures = Table(
        [
            "objects",
            "known, s per tick",
            "known, s per 1,000",
            "new, s per tick",
            "new, s per 1,000",
            "listing, s",
            "known, MiB",
            "new, MiB",
        ]
    )
    with running_server(folder):
        for count in counts:
            prefix = f"{count}-objects/"
            fill({f"{prefix}shot_{index // 100:04d}/beauty.{1001 + index % 100}.exr": b"" for index in range(count)})
            sides = [
                Side("listing", partial(Listing, prefix)),
                Side("known", partial(Tick, prefix, count, folder / f"{count}-known", known=True)),
                Side("new", partial(Tick, prefix, count, folder / f"{count}-new", known=False)),
            ]
            with started(sides):
                for side in sides:
                    side.ask()
                interleaved(sides, rounds)
            listing, known, new = sides
            ratios.add(count, known.median / listing.median, new.median / listing.median)
            per_thousand = 1000 / count
            figures.add(
                count,
                known.median,
                known.median * per_thousand,
                new.median,
                new.median * per_thousand,
                listing.median,
                known.peak_mib,
                new.peak_mib,
            )
    return Report(
        "sensor",
        "One tick from an empty cursor over a bucket of an embedded S3 server with that many objects, 100 to a folder. "
        "Known: all in the tables and partitions, unchanged. New: none is; the tick asks for runs of "
        f"{_RUN_SIZE} over all of them. A bare listing is boto3 paging through the same prefix. "
        f"Medians of {rounds} turns.",
        ratios,
        figures,
        ["By default a tick lists at most 20,000 objects; the next one goes on from there."],
    )
