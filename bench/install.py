"""What an install takes: size on disk and time to start, of the base and with each extra.

Belongs here: environments made afresh from the locked versions, and the commands timed in them. Not here: making one
(`environment`).
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tomllib
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from bench.environment import ROOT, build_wheel, make_base, make_with_extra
from bench.report import Report, Table
from bench.size import Size
from exr_pipeline.sample.writers import ExrPart, exr_bytes

_TURNS: Final = 5
BASE: Final = "base"
# What is imported to do what the install is for. What those modules import late, where it is used, is there too.
IMPORTED: Final[dict[str, str]] = {
    BASE: "exr_pipeline.ingest.read_header, exr_pipeline.tables.stores.duckdb, obstore, duckdb, pyarrow",
    "pictures": "exr_pipeline.pictures.render, av, cv2, OpenEXR, OpenImageIO, PyOpenColorIO",
    "dagster": "exr_pipeline.definitions",
    "ui": "exr_pipeline.orchestration.instance.page.front",
    "demo": "exr_pipeline.definitions, exr_pipeline.sample, exr_pipeline.storage.embedded",
    "vast": "exr_pipeline.tables.stores.vast, vastdb",
    "pandas": "pandas",
    "polars": "polars",
    "postgres": "exr_pipeline.orchestration.instance.postgres",
    "celery": "exr_pipeline.orchestration.instance.celery_launcher",
    "aws": "exr_pipeline.definitions, dagster_aws.s3",
    "ecs": "exr_pipeline.orchestration.instance.ecs_launcher",
    "k8s": "exr_pipeline.orchestration.instance.k8s_launcher",
}


def extras() -> list[str]:
    """The extras of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["optional-dependencies"])


def run(size: Size, folder: Path) -> Report:
    """Make the environments one after the other, and time each alone."""
    render = folder / "render.1001.exr"
    render.write_bytes(exr_bytes([ExrPart({name: np.zeros((48, 64), np.float16) for name in ("R", "G", "B")})]))
    turns = size.count(_TURNS, 1)
    wheel = build_wheel(folder)
    ratios = Table(["install", "x the base's size", "x the base's packages", "x the base's time of `inspect`"])
    figures = Table(["install", "MB", "packages", "`--help`, s", "`inspect`, s", "import, s", "of"])
    measured: list[tuple[float, float, float]] = []
    notes: list[str] = []
    for name in [BASE] if size.tiny else [BASE, *extras()]:
        place = folder / name
        environment = make_base(place, wheel) if name == BASE else make_with_extra(place, wheel, name)
        program, python = str(environment.program("exr-pipeline")), str(environment.python)
        imported = f"import {IMPORTED[name]}"
        help_, inspect, imports, alone = _seconds(
            turns, [program, "--help"], [program, "inspect", str(render)], [python, "-c", imported], [python, "-c", ""]
        )
        megabytes, packages = environment.size_bytes() / 1e6, environment.packages()
        measured.append((megabytes, packages, inspect))
        ratios.add(name, *(own / base for own, base in zip(measured[-1], measured[0], strict=True)))
        figures.add(name, megabytes, packages, help_, inspect, imports, f"`{IMPORTED[name]}`")
        if name == BASE:
            notes = [
                f"Python alone takes {alone:.3f} s of each time.",
                f"All modules of the base compiled, as pip does at once: {environment.compile() / 1e6:.1f} MB more.",
            ]
        shutil.rmtree(place)
    return Report(
        "install",
        "The base install from requirements/base.txt, and the base with one extra each in the versions of "
        "requirements/dev.txt, with this project's wheel, in environments of their own. *MB*: millions of bytes of all "
        "files in the environment, without Python itself and without what Python compiles from them. *import*: a "
        "process that imports what the install is for. Times are processor time of whole processes, which other "
        "programs on the machine change little; modules are compiled. "
        f"Medians of {turns} turns, after one that does not count.",
        ratios,
        figures,
        notes,
    )


def _seconds(turns: int, *commands: list[str]) -> list[float]:
    """Median seconds of a processor of each command. They take turns."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EXR_PIPELINE_"))}
    seconds: list[list[float]] = [[] for _ in commands]
    for turn in range(turns + 1):
        for command, taken in zip(commands, seconds, strict=True):
            before = _seconds_of_children()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=inherited)
            if turn:
                taken.append(_seconds_of_children() - before)
    return [median(taken) for taken in seconds]


def _seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
