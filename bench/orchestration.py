"""Dagster's own time per file, the work replaced by nothing: our batches beside stock storage and a run per file.

Belongs here: run creation, planned events, materializations with metadata, statuses. Not here: pixels or headers.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

from bench import growth
from bench.home import BATCHED, STOCK, batched_postgres, make_home, stock_postgres
from bench.no_work import REJECTED_EVERY, WRITTEN, Sample, is_rejected, leave_out_the_work, make_products
from bench.report import Report, Table
from bench.server import settings_for
from bench.sides import Side, Work, started
from bench.size import Size
from exr_pipeline_tests.services.postgres import PostgresServer, postgres_binaries

if TYPE_CHECKING:
    from exr_pipeline.storage.object_info import ObjectInfo

CHUNK: Final = 1000
_MOST_FILES: Final = 100_000
_BUCKET: Final = "renders"
_QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Runs(Work):
    """Our definitions; each ingest is of new files on a fresh instance, in so many parts, of which a turn is one."""

    def __init__(self, folder: Path, storages: Sequence[dict[str, Any]], sample: Sample, parts: int) -> None:
        from exr_pipeline.ingest.discovery.sweep import Listed
        from exr_pipeline.orchestration.build import build_defs
        from exr_pipeline.orchestration.sensors import files as files_sensor
        from exr_pipeline.pipeline import Pipeline

        leave_out_the_work()
        self.folder, self.storages, self.sample, self.parts = folder, list(storages), sample, 1
        outputs = (folder / "outputs").as_uri()
        settings = settings_for(
            folder, sources=(f"s3://{_BUCKET}/",), output_root=outputs, chunk_size=CHUNK, settle_seconds=0
        )
        self.pipeline = Pipeline(settings.model_copy(update={"sensor_max_runs": _MOST_FILES // CHUNK}))
        setattr(files_sensor, "list_sources", lambda *_, **__: Listed(self.listed))  # noqa: B010 - nothing is listed
        self.instance: Any = None
        self.listed: list[ObjectInfo] = []
        self.ingests = self.turns = 0
        # As a code server has it once.
        self.job = build_defs(settings=settings).resolve_job_def("ingest")
        # What is made once per process is none of the ingests'.
        self.prepare(1)
        self.run(1)
        self.parts, self.turns = parts, 0

    def prepare(self, count: int) -> None:
        """The files of this turn; a fresh instance if it is the first of an ingest."""
        from exr_pipeline.orchestration.instance.home import open_instance
        from exr_pipeline.storage.locations import Location
        from exr_pipeline.storage.object_info import ObjectInfo

        if self.turns % self.parts == 0:
            self.close()
            self.home = self.folder / str(self.ingests)
            make_home(self.home, self.storages[self.ingests])
            self.instance = open_instance()
            self.ingests += 1
        first = count * (self.turns % self.parts)
        self.turns += 1
        every = range(first, first + count)
        locations = [Location("s3", _BUCKET, f"ingest_{self.ingests}/beauty.{index:06d}.exr") for index in every]
        size = len(self.sample.data)
        self.listed = [
            ObjectInfo(location, size, f"etag-{index}", WRITTEN)
            for index, location in zip(every, locations, strict=True)
        ]
        self.keys = [location.partition_key for location in locations]
        self.rejected = {key for index, key in zip(every, self.keys, strict=True) if is_rejected(index)}
        make_products(self.keys, self.sample, first=first)
        # What another side has written is not to be waited for in this one's turn.
        os.sync()

    def run(self, count: int) -> None:
        """A tick of the sensor, and the runs that it asks for, over a chunk of the files each."""
        from exr_pipeline.ingest.discovery.cursor import Cursor
        from exr_pipeline.orchestration.partitions import FILES
        from exr_pipeline.orchestration.sensors.files import tick

        result: Any = tick(self.instance, self.pipeline, Cursor(), now=datetime.now(UTC))
        for request in result.dynamic_partitions_requests:
            self.instance.add_dynamic_partitions(FILES, request.partition_keys)
        for request in result.run_requests:
            self.job.execute_in_process(
                run_config=_QUIET, instance=self.instance, tags=request.tags, raise_on_error=False
            )

    def check(self, count: int) -> int:
        """Every status of every asset, which must be exact; returns how many there are."""
        from dagster._core.storage.partition_status_cache import AssetPartitionStatus

        from exr_pipeline.orchestration.assets.specs import FILE_ASSETS
        from exr_pipeline.orchestration.partitions import files_partitions

        wrong: Counter[str] = Counter()
        for asset in FILE_ASSETS:
            statuses = self.instance.get_status_by_partition(asset, self.keys, files_partitions) or {}
            for key in self.keys:
                right = AssetPartitionStatus.FAILED if key in self.rejected else AssetPartitionStatus.MATERIALIZED
                if statuses.get(key) != right:
                    wrong[f"{asset.to_user_string()} is {statuses.get(key)}, not {right}"] += 1
        if wrong:
            raise RuntimeError(f"statuses are not exact: {wrong}")
        return len(self.keys) * len(FILE_ASSETS)

    def close(self) -> None:
        """Close the instance."""
        if self.instance is not None:
            self.instance.dispose()


class RunPerFile(Runs):
    """A run for each partition, all in one process."""

    def run(self, count: int) -> None:
        """Partitions, then run after run."""
        from exr_pipeline.orchestration.partitions import FILES

        self.instance.add_dynamic_partitions(FILES, self.keys)
        for key in self.keys:
            self.job.execute_in_process(
                run_config=_QUIET, instance=self.instance, partition_key=key, raise_on_error=False
            )


class ProcessPerRun(Runs):
    """A run for each partition, each in a process of its own, as Dagster's default launcher starts them."""

    def run(self, count: int) -> None:
        """Partitions, then process after process."""
        from exr_pipeline.orchestration.partitions import FILES

        self.instance.add_dynamic_partitions(FILES, self.keys)
        context = multiprocessing.get_context("spawn")
        for index, key in enumerate(self.keys):
            process = context.Process(target=_run_one, args=(self.home, key, index, self.sample))
            process.start()
            process.join()


def _run_one(folder: Path, key: str, index: int, sample: Sample) -> None:
    from exr_pipeline.orchestration.build import build_defs
    from exr_pipeline.orchestration.instance.home import open_instance

    leave_out_the_work()
    make_products([key], sample, first=index)
    job = build_defs(settings=settings_for(folder)).resolve_job_def("ingest")
    with open_instance() as instance:
        job.execute_in_process(run_config=_QUIET, instance=instance, partition_key=key, raise_on_error=False)


@dataclass(frozen=True)
class _Case:
    """A design and a number of files. Each turn is an ingest of them, or one of the `parts` of the only ingest."""

    name: str
    make: type[Runs]
    new_storage: Callable[[], dict[str, Any]]
    files: int
    turns: int
    parts: int = 1
    design: str = ""

    @property
    def per_turn(self) -> int:
        """Files of a turn."""
        return self.files // self.parts

    def side(self, folder: Path, sample: Sample) -> Side:
        """What takes the turns; one storage more, to warm up."""
        storages = [self.new_storage() for _ in range(1 + self.turns // self.parts)]
        return Side(self.name, partial(self.make, folder, storages, sample, self.parts))


def run(size: Size, folder: Path) -> Report:
    """Ours on both storages and ever more files, stock storage, and a run per file on as many as one can wait for.

    With a number of live files: ours alone, in one deployment that grows (`growth`).
    """
    if size.live is not None:
        return growth.run(size, folder)
    many, few, single = min(size.count(1000, 2), 1000), min(size.count(100, 2), 100), min(size.count(3, 1), 3)
    most = size.files or (4 if size.tiny else _MOST_FILES)
    more = [count for count in ((4,) if size.tiny else (10_000, _MOST_FILES)) if many < count <= most]
    turns, slow_turns = 2 if size.tiny else 10, size.rounds(3)
    notes = [
        "The slow designs are measured on fewer files; their cost per file does not fall with more. "
        f"They have {slow_turns} turns."
    ]
    with ExitStack() as stack:

        def embedded() -> dict[str, Any]:
            return BATCHED

        def stock() -> dict[str, Any]:
            return STOCK

        ours = [_Case("ours: a run per chunk, batched SQLite", Runs, embedded, many, turns)]
        slow = [
            _Case("a run per chunk, stock SQLite", Runs, stock, few, slow_turns),
            _Case("a run per file, one process, stock SQLite", RunPerFile, stock, single, slow_turns),
            _Case("a run per file, a process per run, stock SQLite", ProcessPerRun, stock, single, slow_turns),
        ]
        if binaries := postgres_binaries():
            server = stack.enter_context(PostgresServer(binaries, durable=True))

            def postgres() -> dict[str, Any]:
                return batched_postgres(server.new_database())

            def postgres_stock() -> dict[str, Any]:
                return stock_postgres(server.new_database())

            ours.append(_Case("ours: a run per chunk, batched PostgreSQL", Runs, postgres, many, turns))
            slow += [
                replace(case, name=case.name.replace("SQLite", "PostgreSQL"), new_storage=postgres_stock)
                for case in slow
            ]
            notes.append("PostgreSQL runs on the same machine, with its default settings; its memory is not counted.")
        else:
            notes.append("There is no PostgreSQL on this machine: not measured.")
        grown = [
            replace(case, name=f"{case.name}, {count:,} files", files=count, parts=turns, design=case.name)
            for case in ours
            for count in more
        ]
        return _compared(folder, [*ours, *grown, *slow], notes)


def _compared(folder: Path, cases: list[_Case], notes: list[str]) -> Report:
    sample = Sample.made(folder)
    sides = {case.name: case.side(folder / str(index), sample) for index, case in enumerate(cases)}
    turns = max(case.turns for case in cases)
    with started(list(sides.values())):
        for turn in range(turns):
            for case in cases:
                if turn < case.turns:
                    sides[case.name].take_turn(case.per_turn)
    per_file = {case.name: 1000 * mean(sides[case.name].seconds) / case.per_turn for case in cases}
    ratios = Table(["design", "x slower per file than ours on SQLite", "x its cheapest number of files"])
    figures = Table(
        [
            "design",
            "ms per file",
            "ms of processor per file",
            "files of an ingest",
            "statuses checked, all exact",
            "MiB",
        ]
    )
    for case in cases:
        side, milliseconds = sides[case.name], per_file[case.name]
        sizes = [per_file[other.name] for other in cases if (other.design or other.name) == (case.design or case.name)]
        growth = milliseconds / min(sizes) if len(sizes) > 1 else None
        ratios.add(case.name, milliseconds / per_file[cases[0].name], growth)
        cpu = 1000 * mean(side.cpu_seconds) / case.per_turn
        figures.add(case.name, milliseconds, cpu, case.files, sum(side.values), side.peak_mib)
    return Report(
        "orchestration",
        "From a listing of new files: a tick of the sensor, adding partitions, creating runs, planned events, five "
        "materializations per file with the metadata that the page shows (with pictures), and an event for the source, "
        f"in Dagster's in-process executor, {CHUNK} files to a run. Real sensor, definitions and step; only the work "
        "is left out, listing the store, and starting a process for each run. "
        f"One file in {REJECTED_EVERY} is rejected. Means of {turns} turns, in which the designs alternate. Each "
        f"ingest is on a fresh instance; one of more than {CHUNK:,} files is spread over all turns.",
        ratios,
        figures,
        notes,
    )
