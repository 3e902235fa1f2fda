"""The command: which benchmarks, how large, where the results go.

Belongs here: arguments and printing. Not here: any benchmark.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench import (
    catalog,
    events,
    functions,
    headers,
    ingest,
    install,
    orchestration,
    pictures,
    profile,
    publishing,
    sensor,
    sequence,
    tables,
    transfers,
)
from bench.machine import describe_machine
from bench.report import Report
from bench.size import Size

BENCHMARKS: Final[dict[str, Callable[[Size, Path], Report]]] = {
    "headers": headers.run,
    "pictures": pictures.run,
    "sequence": sequence.run,
    "ingest": ingest.run,
    "profile": profile.run,
    "orchestration": orchestration.run,
    "sensor": sensor.run,
    "install": install.run,
    "functions": functions.run,
    "publishing": publishing.run,
    "events": events.run,
    "tables": tables.run,
    "catalog": catalog.run,
    "transfers": transfers.run,
}


def main() -> None:
    """Run the benchmarks one after another, each in a temporary folder of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure exr_pipeline beside what it replaces."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; all if none is given")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and end")
    parser.add_argument("--files", type=int, metavar="N", help="files or objects per turn, instead of the usual number")
    parser.add_argument(
        "--live",
        type=int,
        metavar="N",
        help="orchestration: let one deployment grow, and archive what is beyond N files",
    )
    parser.add_argument("--tiny", action="store_true", help="only show that everything runs; the figures mean nothing")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results to a file as well")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if arguments.files is not None and arguments.files < 1:
        parser.error("--files must be at least 1")
    if arguments.live is not None and arguments.live < 1:
        parser.error("--live must be at least 1")
    if arguments.list:
        for name, benchmark in BENCHMARKS.items():
            summary = (sys.modules[benchmark.__module__].__doc__ or "").partition("\n")[0]
            print(f"{name:14} {summary}")
        return
    machine = describe_machine()
    reports = []
    for name in arguments.names or BENCHMARKS:
        started = time.monotonic()
        print(f"running {name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="exr_pipeline_bench_") as folder:
            report = BENCHMARKS[name](Size(arguments.files, arguments.tiny, arguments.live), Path(folder))
        reports.append(report)
        print(report.markdown(), flush=True)
        print(f"{name} took {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(f"Machine: {machine}")
    if arguments.json is not None:
        result = {"machine": machine, "reports": [asdict(report) for report in reports]}
        arguments.json.write_text(json.dumps(result, indent=2, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
