"""Where the time of an ingest with pictures goes: cores at work on pictures, and what a worker does with its time.

Belongs here: shares of time. Not here: comparisons with others (`ingest`, `pictures`).
"""

from __future__ import annotations

import cProfile
import os
import pstats
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.ingest import Ours
from bench.inputs import FOUR_K, TINY, TWO_K, Renders
from bench.report import Report, Table
from bench.server import fill, running_server, settings_for
from bench.sides import Side, Work, started
from bench.size import Size
from exr_pipeline.storage.locations import Location

_REPEATS: Final = 3
# What a worker's time is spent on, by the function of ours in which it is spent.
_STAGES: Final = {
    ("exr.py", "_read_lines"): "decode",
    ("zip_chunks.py", "lines"): "decode",
    ("reduce.py", "add"): "shrink",
    ("config.py", "to_working"): "color",
    ("config.py", "apply"): "color",
    ("held_frame.py", "held_frame"): "encode",
    ("still.py", "jpeg"): "encode",
    ("still.py", "preview"): "encode",
    ("still.py", "icon"): "encode",
}


class Saturated(Ours):
    """An ingest, how long cores had nothing to do, and how much of their time its workers spent on pictures."""

    def run(self, locations: list[Location]) -> None:
        """Ingest."""
        before = _idle_seconds()
        super().run(locations)
        self.idle = _idle_seconds() - before

    def check(self, locations: list[Location]) -> tuple[float, float]:
        """Seconds of pictures, over all workers, and seconds in which a core was idle, over all cores."""
        super().check(locations)
        query = "SELECT sum(processing_time_seconds) AS seconds FROM latest_proxy_outputs"
        return self.tables.sql(query).to_pylist()[0]["seconds"], self.idle


def _idle_seconds() -> float:
    """Since the machine's start, over all cores: proc(5), the fields idle and iowait of /proc/stat."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


class Stages(Work):
    """One worker's work on one file, under the profiler of Python."""

    def __init__(self, path: Path, folder: Path) -> None:
        from exr_pipeline.pictures import PictureSettings

        self.path = str(path)
        self.settings = PictureSettings.from_settings(settings_for(folder))
        self._render()

    def _render(self) -> None:
        from exr_pipeline.pictures.render import render_picture

        render_picture(self.path, self.path, thumbnail=True, proxy=True, settings=self.settings)

    def run(self) -> None:
        """Render."""
        self.profile = cProfile.Profile()
        for _ in range(_REPEATS):
            self.profile.runcall(self._render)

    def check(self) -> dict[str, float]:
        """Shares of the whole."""
        found: Any = pstats.Stats(self.profile)
        shares: dict[str, float] = defaultdict(float)
        for (file, _, function), (_, _, _, seconds, _) in found.stats.items():
            if stage := _STAGES.get((Path(file).name, function)):
                shares[stage] += seconds / found.total_tt
        return dict(shares)


def run(size: Size, folder: Path) -> Report:
    """2K and 4K renders."""
    cores = os.cpu_count() or 1
    ratios = Table(
        [
            "renders",
            "cores' time used",
            "cores' time on pictures",
            "of that: decode and encode",
            "with color and shrinking",
        ]
    )
    figures = Table(
        ["renders", "files", "files/s", "s of a core per file", "decode", "shrink", "color", "encode", "the rest"]
    )
    kinds = [(TINY, "ZIP")] if size.tiny else [(TWO_K, "ZIP"), (TWO_K, "DWAA"), (FOUR_K, "ZIP")]
    with running_server(folder):
        for resolution, encoding in kinds:
            name = f"{resolution.name} {encoding}"
            count = size.count(16 if resolution is FOUR_K else 40, 2)
            path = Renders(resolution).write(encoding, folder / f"{name}.exr")
            locations = fill({f"{name}/beauty.{1001 + index}.exr": path.read_bytes() for index in range(count)})
            ingest = Side("ingest", partial(Saturated, folder / name, pictures=True))
            with started([ingest]):
                if not size.tiny:
                    ingest.ask(locations[:2])
                ingest.take_turn(locations)
            stages = Side("stages", partial(Stages, path, folder))
            with started([stages]):
                stages.take_turn()
            share: dict[str, float] = stages.values[0]
            seconds, idle = ingest.values[0]
            whole = ingest.median * cores
            coded = share["decode"] + share["encode"]
            made = coded + share.get("color", 0.0) + share["shrink"]
            ratios.add(name, 1 - idle / whole, seconds / whole, coded, made)
            rest = 1 - sum(share.values())
            each = [share.get(stage, 0.0) for stage in ("decode", "shrink", "color", "encode")]
            figures.add(name, count, count / ingest.median, seconds / count, *each, rest)
    return Report(
        "profile",
        "Renders of 24 channels from an embedded S3 server through `ChunkIngest` to thumbnails, proxies and rows, all "
        f"of it on {cores} cores: fetching, headers, rows and uploads go on beside the {cores} picture workers. "
        "*Cores' time used*: by whatever runs on the machine, the server too. *On pictures*: the workers' time on "
        "files, in which they may have to wait for a core, over what all cores had. The rest: one worker's time on one "
        f"file, by what it does, under Python's profiler ({_REPEATS} times).",
        ratios,
        figures,
        ["The server takes its part of the same cores."],
    )
