"""Ticks of the sensor over buckets of very different sizes, as it is by default, beside a bare listing.

Belongs here: the ticks. Not here: the runs that they ask for (`orchestration`), or adding their partitions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.home import BATCHED, make_home
from bench.report import Report, Table
from bench.server import BUCKET, fill, running_server, s3_client, settings_for
from bench.sides import Side, Work, started
from bench.size import Size

if TYPE_CHECKING:
    from exr_pipeline.ingest.discovery.cursor import Cursor
    from exr_pipeline.storage.locations import Location

_AT_ONCE: Final = 20_000
_PER_FOLDER: Final = 100


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


@dataclass(frozen=True)
class Sweep:
    """What came of the ticks that walk once through a bucket, and of one file that arrives thereafter."""

    seconds_of_ticks: list[float]
    asked_for: int
    ticks_until_arrival: int | None


class Ticks(Work):
    """Ticks with the limits that are the default, until every object has been listed: all known, or all new."""

    def __init__(self, prefix: str, folder: Path, known: bool) -> None:
        from exr_pipeline.pipeline import Pipeline

        make_home(folder, BATCHED)
        self.prefix = prefix
        self.known = known
        self.pipeline = Pipeline(settings_for(folder, sources=(f"s3://{BUCKET}/{prefix}",), settle_seconds=0))
        from exr_pipeline.orchestration.instance.home import open_instance

        self.instance = open_instance()
        if known:
            self._know_all()

    def _know_all(self) -> None:
        from exr_pipeline.ingest.read_header import source_file
        from exr_pipeline.inspection import FileState, unread_rows
        from exr_pipeline.orchestration.partitions import FILES
        from exr_pipeline.storage.locations import Location

        infos = self.pipeline.storage.iter_objects(Location("s3", BUCKET, self.prefix))
        now = datetime.now(UTC)
        while some := list(islice(infos, _AT_ONCE)):
            rows = unread_rows([(source_file(info), FileState("ready", None)) for info in some], inspected_at=now)
            self.pipeline.tables.write(rows, now=now)
            self.instance.add_dynamic_partitions(FILES, [info.location.partition_key for info in some])

    def run(self) -> None:
        """One sweep. Where all is new, one tick: it asks for as many runs as may be under way."""
        from exr_pipeline.ingest.discovery.cursor import Cursor

        self.seconds: list[float] = []
        self.asked_for = 0
        self.cursor = Cursor()
        while not self.seconds or (self.known and self.cursor.after):
            self.asked_for += len(self._tick(self.cursor))

    def _tick(self, cursor: Cursor) -> list[str]:
        """The partitions of the runs that a tick asks for."""
        import dagster as dg

        from exr_pipeline.orchestration.sensors.files import tick

        before = time.perf_counter()
        result = tick(self.instance, self.pipeline, cursor, now=datetime.now(UTC))
        self.seconds.append(time.perf_counter() - before)
        assert isinstance(result, dg.SensorResult)
        return [key for request in result.dynamic_partitions_requests or () for key in request.partition_keys]

    def check(self) -> Sweep:
        """All ticks of the sweep; and in how many the second file of a new folder was found."""
        return Sweep(self.seconds[:], self.asked_for, self._arrival() if self.known else None)

    def _arrival(self) -> int:
        from exr_pipeline.storage.locations import Location

        # In the middle of the bucket: a sweep takes half its ticks to get there.
        folder = Location("s3", BUCKET, f"{self.prefix}shot_m/")
        self._until_found(folder.child("arrival.1001.exr"))
        return self._until_found(folder.child("arrival.1002.exr"))

    def _until_found(self, location: Location) -> int:
        self.pipeline.storage.write(location, b"", content_type="image/x-exr", tags={})
        ticks = 1
        while location.partition_key not in self._tick(self.cursor):
            ticks += 1
        return ticks


def run(size: Size, folder: Path) -> Report:
    """All sizes of bucket, or the one asked for."""
    counts = [size.files] if size.files else [20] if size.tiny else [1000, 100_000, 1_000_000]
    ratios = Table(
        [
            "objects",
            "sweep, x a bare listing",
            "longest tick, s",
            "ticks until a file in a folder of recent arrivals is found",
        ]
    )
    figures = Table(
        [
            "objects",
            "ticks of a sweep",
            "median tick, s",
            "sweep, s",
            "sweep, s per 1,000",
            "bare listing, s",
            "all new: the tick, s",
            "all new: files asked for",
            "known, MiB",
            "new, MiB",
        ]
    )
    with running_server(folder):
        for count in counts:
            prefix = f"{count}-objects/"
            for start in range(0, count, _AT_ONCE):
                fill({_key(prefix, index, count): b"" for index in range(start, min(start + _AT_ONCE, count))})
            sides = [
                Side("listing", partial(Listing, prefix)),
                Side("known", partial(Ticks, prefix, folder / f"{count}-known", known=True)),
                Side("new", partial(Ticks, prefix, folder / f"{count}-new", known=False)),
            ]
            # One after the other: to know a million objects takes a while, and would slow the listing down.
            for side in sides:
                with started([side]):
                    side.take_turn()
            listing, known, new = sides
            sweep: Sweep = known.values[0]
            first: Sweep = new.values[0]
            if sweep.asked_for or listing.values != [count]:
                raise RuntimeError(f"{sweep.asked_for} files asked for, {listing.values} listed")
            ratios.add(count, known.median / listing.median, max(sweep.seconds_of_ticks), sweep.ticks_until_arrival)
            figures.add(
                count,
                len(sweep.seconds_of_ticks),
                median(sweep.seconds_of_ticks),
                known.median,
                1000 * known.median / count,
                listing.median,
                first.seconds_of_ticks[0],
                first.asked_for,
                known.peak_mib,
                new.peak_mib,
            )
    return Report(
        "sensor",
        f"Buckets of an embedded S3 server with that many objects, {_PER_FOLDER} to a folder, and the sensor as it is "
        "by default, a tick listing so many objects or so many seconds (EXR_PIPELINE_SENSOR_MAX_LISTED, "
        "EXR_PIPELINE_SENSOR_SECONDS). *Sweep*: ticks until all have been listed, all of them in tables and "
        "partitions, unchanged. Then a file arrives in a folder in the middle, and when it was found, another one "
        "there: that is the one whose ticks are counted. *All new*: one tick where no object is known, which asks for "
        "as many runs as may be under way. A bare listing is boto3 paging through the same prefix.",
        ratios,
        figures,
        ["What a tick takes does not depend on the size of the bucket, only how many ticks a sweep has."],
    )


def _key(prefix: str, index: int, count: int) -> str:
    """Half of the folders sort before `shot_m`, half behind."""
    half = "a" if index < count // 2 else "z"
    return f"{prefix}shot_{half}{index // _PER_FOLDER:05d}/beauty.{1001 + index % _PER_FOLDER}.exr"
