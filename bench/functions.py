"""The cold start of a serverless function: seconds of import, first and second event, and peak memory.

Belongs here: one process per cold start. Not here: how fast files are ingested (`ingest`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Final

from bench.inputs import TINY, TWO_K, Renders
from bench.report import Report, Table
from bench.server import BUCKET, fill, running_server
from bench.size import Size

_TURNS: Final = 5
_PRODUCTS: Final = {"header": "header", "header, checksum, thumbnail, proxy": ""}
# Seconds since the process began to run Python, and the most MiB of it and of one of its workers. Not what getrusage
# says: to Linux that includes what the parent had before this program was started.
_FUNCTION: Final = """
import json, os, sys, time
from pathlib import Path
begun = time.perf_counter()
from exr_pipeline.functions import dataengine
imported = time.perf_counter()
class Context:
    secrets = {}
    logger = None
context = Context()
dataengine.init(context)
took = []
for key in sys.argv[2:]:
    before = time.perf_counter()
    answer = dataengine.handler(context, {"data": {"s3_bucket": sys.argv[1], "s3_key": key}})
    assert answer["status"] == "success", answer
    took.append(time.perf_counter() - before)
def peak(process):
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
children = [child for file in Path("/proc/self/task").glob("*/children") for child in file.read_text().split()]
print(json.dumps([imported - begun, *took, peak("self"), max(map(peak, children), default=0.0)]))
context.exr_pipeline_work.close()
"""


def run(size: Size, folder: Path) -> Report:
    """Start a function anew for each turn, with tables in a DuckDB file, and send it two events."""
    turns = size.count(_TURNS, 1)
    render = Renders(TINY if size.tiny else TWO_K).write("ZIP", folder / "render.exr").read_bytes()
    ratios = Table(["products", "first event, x a later one", "cold start, x a later event"])
    figures = Table(
        ["products", "import, s", "first event, s", "a later event, s", "MiB of the function", "MiB of a worker"]
    )
    with running_server(folder):
        fill({"a.1001.exr": render, "b.1001.exr": render})
        for products, names in _PRODUCTS.items():
            measured = [_turn(folder / f"{turn}.duckdb", names) for turn in range(turns + 1)][1:]
            imports, first, later, own, worker = (median(values) for values in zip(*measured, strict=True))
            ratios.add(products, first / later, (imports + first) / later)
            figures.add(products, imports, first, later, own, worker if not names else None)
            for turn in range(turns + 1):
                (folder / f"{turn}.duckdb").unlink()
    return Report(
        "functions",
        "A process that imports the function of VAST DataEngine and gets two events, about 2K renders of 24 channels "
        "in an embedded S3 server, with tables in a DuckDB file. *Cold start*: import and first event. The first event "
        "opens clients, makes tables and, for pictures, starts worker processes and loads the libraries. Memory is the "
        "most that was "
        f"in use. Medians of {turns} turns, after one that does not count.",
        ratios,
        figures,
    )


def _turn(database: Path, products: str) -> list[float]:
    environment = {
        **os.environ,
        "EXR_PIPELINE_DATABASE": str(database),
        "EXR_PIPELINE_FUNCTION_PRODUCTS": products,
    }
    command = [sys.executable, "-c", _FUNCTION, BUCKET, "a.1001.exr", "b.1001.exr"]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    numbers: list[float] = json.loads(ended.stdout)
    return numbers
