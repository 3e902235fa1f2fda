"""One deployment that grows, file after file, while finished work is archived: what the next file costs, and the page.

Belongs here: growth, looks at the page, sizes. Not here: other designs (`orchestration`), look-ups in the tables.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bench.home import BATCHED, make_home
from bench.no_work import REJECTED_EVERY, WRITTEN, NoWork, Sample, leave_out_the_work, make_products
from bench.report import Report, Table
from bench.server import settings_for
from bench.sides import Side, Work, started
from bench.size import Size

if TYPE_CHECKING:
    import dagster as dg

    from exr_pipeline.storage.object_info import ObjectInfo

_CHUNK: Final = 1000
_FOLDER: Final = 1000
_PER_TURN: Final = 10_000
_STEPS: Final = 20
_BUCKET: Final = "renders"
_QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

# What the page asks when it shows an asset: the bar of its partitions, then their list.
_BAR: Final = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    partitionStats { numMaterialized numMaterializing numPartitions numFailed } } } }"""
_LIST: Final = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    id partitionKeysByDimension { name type partitionKeys }
    assetPartitionStatuses { ... on DefaultPartitionStatuses {
        materializedPartitions materializingPartitions failedPartitions } } } } }"""

PIECES: Final = ("tick", "runs", "rows", "archive", "retention")


@dataclass
class Spent:
    """Seconds by the clock and of the processor, by what they went to."""

    wall: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PIECES, 0.0))
    cpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PIECES, 0.0))

    @contextmanager
    def on(self, what: str, instead_of: str | None = None) -> Iterator[None]:
        """What the block takes; of another piece, within which it is, that is then taken off."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            taken = time.perf_counter() - wall, time.process_time() - cpu
            for spent, seconds in zip((self.wall, self.cpu), taken, strict=True):
                spent[what] += seconds
                if instead_of is not None:
                    spent[instead_of] -= seconds

    def add(self, other: Spent) -> None:
        """Both together."""
        for name in PIECES:
            self.wall[name] += other.wall[name]
            self.cpu[name] += other.cpu[name]


_spent: list[Spent] = [Spent()]


class OnlyRows(NoWork):
    """Stands for `ChunkIngest`: nothing is read or rendered, and the rows are written."""

    def __init__(self, settings: Any, _storage: Any, *, rows: Any, **_options: Any) -> None:
        super().__init__()
        self._settings, self._rows = settings, rows

    def finish(self, made: Any) -> None:
        """Write the rows of a chunk."""
        from exr_pipeline.ingest.store_results import rows_of

        with _spent[-1].on("rows", instead_of="runs"):
            now = datetime.now(UTC)
            self._rows.write(rows_of(made, now=now), now=now)


class Ask(NamedTuple):
    """What a turn does: so many files, retention thereafter, and at last what people do with archived files."""

    files: int
    with_retention: bool = False
    is_last: bool = False


class Look(NamedTuple):
    """Seconds of a look at the page, by the clock and of the processor."""

    wall: float
    cpu: float


class Done(NamedTuple):
    """Something done to so many files."""

    what: str
    seconds: float
    files: int


@dataclass(frozen=True)
class Turn:
    """What came of one turn. Looks and the tick over known files are seconds."""

    spent: Spent
    live: int
    looks: list[Look]
    known_tick: float
    history_bytes: int
    table_bytes: int
    done: list[Done]


class Growth(Work):
    """A deployment with all that a turn of files needs of it."""

    def __init__(self, folder: Path, most_live: int, sample: Sample, per_turn: int) -> None:
        from dagster._core.remote_origin import InProcessCodeLocationOrigin
        from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
        from dagster._core.workspace.context import WorkspaceProcessContext
        from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
        from dagster_graphql.schema import create_schema

        from exr_pipeline.orchestration.build import build_defs
        from exr_pipeline.orchestration.instance.home import open_instance
        from exr_pipeline.pipeline import Pipeline

        # It is for the process that asks for turns.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        leave_out_the_work(OnlyRows)
        make_home(folder / "home", BATCHED)
        # Runs with rejected files fail; what has just failed is not archived, and here an hour takes a second.
        self.settings = settings_for(
            folder,
            sources=(f"s3://{_BUCKET}/",),
            output_root=(folder / "outputs").as_uri(),
            chunk_size=_CHUNK,
            settle_seconds=0,
            retry_after_seconds=0,
            sensor_max_runs=-(-per_turn // _CHUNK),
            archive_most_live=most_live,
        )
        self.pipeline = Pipeline(self.settings)
        self.defs = build_defs(settings=self.settings, resource_overrides={"pipeline": self.pipeline})
        self.sample, self.most_live = sample, most_live
        self.open = ExitStack()
        self.instance = self.open.enter_context(open_instance())
        origin = LoadableTargetOrigin(module_name="exr_pipeline.definitions", attribute="defs")
        target = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(origin))
        self.workspace = self.open.enter_context(WorkspaceProcessContext(self.instance, target))
        self.schema = create_schema()
        self.files = self.turns = self.archived = 0
        # What is made once per process is no file's.
        first = Ask(2, with_retention=True)
        self.prepare(first)
        self.run(first)
        self.check(first)

    def prepare(self, ask: Ask) -> None:
        """The listing, and what a run makes of it."""
        _spent.append(Spent())
        self.looks: list[Look] = []
        self.new = [_listed(index) for index in range(self.files, self.files + ask.files)]
        make_products([info.location.partition_key for info in self.new], self.sample, first=self.files)

    def run(self, ask: Ask) -> None:
        """A tick, its runs, a look at the page; then, if too many are live, the schedule, and another look."""
        from exr_pipeline.orchestration.maintenance.retention import RETENTION_JOB

        spent = _spent[-1]
        with spent.on("tick"):
            requests = self._tick(self.new)
        with spent.on("runs"):
            for request in requests:
                self._execute(request.job_name, tags=request.tags)
        self.files += ask.files
        self.turns += 1
        self.looks.append(self._look())
        if self._live() > self.most_live:
            with spent.on("archive"):
                self._archive()
            self.looks.append(self._look())
        if ask.with_retention:
            with spent.on("retention"):
                self._execute(RETENTION_JOB, run_config={"ops": {"purge_history": {"config": {"days": 0}}}})
            self.looks.append(self._look())

    def check(self, ask: Ask) -> Turn:
        """Sizes, and a tick over files that are known, which must ask for nothing."""
        some = Random(self.files).sample(range(self.files), min(self.files, 2 * ask.files))
        before = time.perf_counter()
        requests = self._tick([_listed(index) for index in sorted(some)])
        known_tick = time.perf_counter() - before
        if requests:
            raise RuntimeError(f"a tick over known files asked for {len(requests)} runs")
        return Turn(
            _spent[-1],
            self._live(),
            self.looks,
            known_tick,
            _bytes_below(self.settings.state_dir / "home"),
            _bytes_below(self.settings.database_path),
            self._find_and_bring_back() if ask.is_last and self.archived else [],
        )

    def close(self) -> None:
        """Close the instance."""
        self.open.close()

    def _find_and_bring_back(self) -> list[Done]:
        """What people do with files that were archived long ago: the first ones."""
        file, folder = _key(0), f"{_key(0).rpartition('/')[0]}/"
        archived = "SELECT uri, state, archived_at FROM latest_files WHERE archived_at IS NOT NULL AND "
        name = file.rpartition("/")[2]
        return [
            self._found("found by name", f"{archived} ends_with(uri, '/{name}')"),
            self._found("found by prefix", f"{archived} starts_with(file_path, '{folder}')"),
            self._found("found by SQL, all that were rejected", f"{archived} state = 'rejected'"),
            self._brought_back("one brought back by name", file),
            self._brought_back("a folder brought back by prefix", folder),
            Done("a look at the page after that", self._look().wall, self._live()),
        ]

    def _found(self, what: str, query: str) -> Done:
        before = time.perf_counter()
        rows = self.pipeline.tables.sql(query).num_rows
        return Done(what, time.perf_counter() - before, rows)

    def _brought_back(self, what: str, key: str) -> Done:
        from exr_pipeline.orchestration.maintenance.archive import scope_of, unarchive

        before = time.perf_counter()
        scope = scope_of(f"s3://{_BUCKET}/{key}", "", self.pipeline)
        report = unarchive(self.instance, self.pipeline, scope)
        return Done(what, time.perf_counter() - before, report.unarchived)

    def _tick(self, listed: list[ObjectInfo]) -> list[Any]:
        from exr_pipeline.ingest.discovery.cursor import Cursor
        from exr_pipeline.ingest.discovery.sweep import Listed
        from exr_pipeline.orchestration.partitions import FILES
        from exr_pipeline.orchestration.sensors import files as files_sensor

        setattr(files_sensor, "list_sources", lambda *_, **__: Listed(listed))  # noqa: B010 - nothing is listed
        result: Any = files_sensor.tick(self.instance, self.pipeline, Cursor(), now=datetime.now(UTC))
        for request in result.dynamic_partitions_requests:
            self.instance.add_dynamic_partitions(FILES, request.partition_keys)
        return list(result.run_requests)

    def _execute(self, job: str, run_config: Any = None, tags: Any = None) -> dg.ExecuteInProcessResult:
        return self.defs.resolve_job_def(job).execute_in_process(
            run_config={**(run_config or {}), **_QUIET}, instance=self.instance, tags=tags, raise_on_error=False
        )

    def _archive(self) -> None:
        """As the daemon does it: the schedule's request, then the run."""
        import dagster as dg

        from exr_pipeline.orchestration.maintenance.archive import ARCHIVE_JOB

        with dg.build_schedule_context(instance=self.instance) as context:
            (request,) = self.defs.resolve_schedule_def(ARCHIVE_JOB).evaluate_tick(context).run_requests or []
        before = self._live()
        if not self._execute(ARCHIVE_JOB, run_config=dict(request.run_config)).success:
            raise RuntimeError("the archive failed")
        self.archived += before - self._live()

    def _live(self) -> int:
        from exr_pipeline.orchestration.partitions import FILES

        return len(self.instance.get_dynamic_partitions(FILES))

    def _look(self) -> Look:
        """What it takes until the page has what it shows of an asset's partitions, of another asset each turn."""
        from exr_pipeline.orchestration.assets.specs import FILE_ASSETS

        asset = list(FILE_ASSETS)[self.turns % len(FILE_ASSETS)]
        wall, cpu = time.perf_counter(), time.process_time()
        for query in (_BAR, _LIST):
            answer = asyncio.run(
                self.schema.execute_async(
                    query,
                    context_value=self.workspace.create_request_context(),
                    variables={"key": {"path": asset.path}},
                )
            )
            if answer.errors:
                raise RuntimeError(str(answer.errors))
            json.dumps(answer.data)
        taken = Look(time.perf_counter() - wall, time.process_time() - cpu)
        found = answer.data["assetNodeOrError"]["assetPartitionStatuses"]
        counted = {name: len(keys) for name, keys in found.items()}
        if sum(counted.values()) != self._live() or counted["materializingPartitions"]:
            raise RuntimeError(f"the page counts {counted} of {self._live()} live partitions")
        return taken


def _listed(index: int) -> ObjectInfo:
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.object_info import ObjectInfo

    return ObjectInfo(Location("s3", _BUCKET, _key(index)), 1000, f"etag-{index}", WRITTEN)


def _key(index: int) -> str:
    return f"show/shot_{index // _FOLDER:05d}/beauty.{index:07d}.exr"


def _bytes_below(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.name}*")
    return sum(file.stat().st_size for file in files if file.is_file())


@dataclass
class _Step:
    """Turns that are reported together."""

    files: int = 0
    spent: Spent = field(default_factory=Spent)
    turns: list[Turn] = field(default_factory=list)

    def add(self, files: int, turn: Turn) -> None:
        self.files += files
        self.spent.add(turn.spent)
        self.turns.append(turn)

    @property
    def cpu(self) -> float:
        return 1000 * sum(self.spent.cpu.values()) / self.files

    @property
    def wall(self) -> float:
        return 1000 * sum(self.spent.wall.values()) / self.files

    @property
    def longest_look(self) -> Look:
        looks = [look for turn in self.turns for look in turn.looks]
        return Look(max(look.wall for look in looks), max(look.cpu for look in looks))


def run(size: Size, folder: Path) -> Report:
    """So many files in one deployment, of which `size.live` keep their partitions."""
    assert size.live is not None
    files = size.count(1_000_000, 8)
    per_turn = min(_PER_TURN, max(files // 4, 1))
    sample = Sample.of(_plain_render(folder), folder)
    side = Side("growth", partial(Growth, folder / "deployment", size.live, sample, per_turn))
    steps: list[_Step] = []
    before = time.monotonic()
    with started([side]), _interrupts() as interrupts:
        for turns in _turns_of_steps(files, per_turn):
            steps.append(_Step())
            for index, count in enumerate(turns, 1):
                grown = sum(step.files for step in steps) + count
                is_last = bool(interrupts) or grown == files
                side.take_turn(Ask(count, is_last or index == len(turns), is_last))
                steps[-1].add(count, side.values[-1])
                _tell(steps, grown, files, time.monotonic() - before)
                if is_last:
                    return _report(steps, size.live, per_turn, side.peak_mib)
    raise AssertionError("the last turn ends it")


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Notes Ctrl-C instead of ending: what takes hours reports how far it came."""
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _turns_of_steps(files: int, per_turn: int) -> list[list[int]]:
    """The files of each turn, by step: the first turn alone, which the others are compared with, then alike steps."""
    turns = [min(per_turn, files - start) for start in range(0, files, per_turn)]
    per_step = max(len(turns) // _STEPS, 1)
    return [turns[:1], *(turns[start : start + per_step] for start in range(1, len(turns), per_step))]


def _tell(steps: list[_Step], grown: int, files: int, seconds: float) -> None:
    step, turn = steps[-1], steps[-1].turns[-1]
    left = seconds / grown * (files - grown)
    looks = ", ".join(f"{look.wall:.2f} ({look.cpu:.2f})" for look in turn.looks)
    pieces = ", ".join(f"{name} {1000 * step.spent.cpu[name] / step.files:.2f}" for name in PIECES)
    print(
        f"{grown:,} of {files:,} files, {turn.live:,} live; processor ms per file {step.cpu:.2f} ({pieces}), "
        f"by the clock {step.wall:.2f}; x the first {step.cpu / steps[0].cpu:.2f}; looks {looks} s; known files "
        f"{turn.known_tick:.2f} s; history {turn.history_bytes / grown / 1000:.1f}, tables "
        f"{turn.table_bytes / grown / 1000:.1f} kB per file; about {left / 60:.0f} min left",
        file=sys.stderr,
        flush=True,
    )


def _report(steps: list[_Step], most_live: int, per_turn: int, peak_mib: float) -> Report:
    ratios = Table(
        [
            "files",
            "processor time per file, x the first",
            "by the clock, x the first",
            "longest look, s",
            "longest look, s of processor",
        ]
    )
    figures = Table(
        [
            "files",
            "live",
            "ms of processor per file",
            *PIECES,
            "ms per file",
            "tick over known files, s",
            "history, kB per file",
            "tables, kB per file",
        ]
    )
    grown = 0
    for step in steps:
        grown += step.files
        last = step.turns[-1]
        ratios.add(grown, step.cpu / steps[0].cpu, step.wall / steps[0].wall, *step.longest_look)
        pieces = [1000 * step.spent.cpu[name] / step.files or None for name in PIECES]
        sizes = [size / grown / 1000 for size in (last.history_bytes, last.table_bytes)]
        known = max(turn.known_tick for turn in step.turns)
        figures.add(grown, last.live, step.cpu, *pieces, step.wall, known, *sizes)
    notes = [f"{done.what}: {done.seconds:.2f} s, {done.files:,} files." for done in steps[-1].turns[-1].done]
    return Report(
        "orchestration",
        f"One deployment on SQLite and DuckDB that grows, {per_turn:,} files to a tick and {_CHUNK} to a run, while "
        f"the schedule `archive` keeps {most_live:,} of them live (EXR_PIPELINE_ARCHIVE_MOST_LIVE): it runs after each "
        "tick that finds more. The work is left out, and so are listing the store and starting processes; the "
        "comparison with the tables, partitions, runs, events and the rows of renders of 4 channels are real. One file "
        f"in {REJECTED_EVERY} is rejected. Each line is one step; *retention* removes at its end all that it may. A "
        "look is what the page asks for to show one asset's partitions, their bar and their list, through the schema "
        "of the webserver: after the runs, after the archive and after retention, of another asset each tick. *Tick "
        f"over known files*: {2 * per_turn:,} of them, from all over the show. The first step is the measure.",
        ratios,
        figures,
        [*notes, f"Most memory, with the page in the same process: {peak_mib:,.0f} MiB."],
    )


def _plain_render(folder: Path) -> Path:
    """A render of 4 channels: what a file adds to the tables is not what this is about."""
    import numpy as np

    from exr_pipeline.sample.writers import ExrPart, exr_bytes

    ramp = np.broadcast_to(np.linspace(0, 1, 256, dtype=np.float16), (144, 256))
    path = folder / "plain.exr"
    path.write_bytes(exr_bytes([ExrPart({name: ramp.copy() for name in "RGBA"}, "zip")]))
    return path
