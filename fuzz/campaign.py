"""Damage in bulk, in a process of limited memory: `python -m fuzz.campaign [--mutations N] [--cuts N] [--corpus DIR]`.

Belongs here: which damaged files are judged, and the limits on memory and time. Not here: the judgement (`oracle`).
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import json
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exr_pipeline.exr import MAX_HEADER_BYTES, HeaderError, parse_header
from fuzz.floods import FLOODS
from fuzz.mutations import mutated
from fuzz.oracle import examine
from fuzz.seeds import seeds

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_BYTES: Final = 200_000_000
HANG_SECONDS: Final = 30
SMALL_FILE_BYTES: Final = 1 << 16
_M_ARENA_MAX: Final = -8  # of malloc.h


def mutations(files: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Damaged copies of the small files among these."""
    generator = random.Random(seed)  # noqa: S311 - repeatable, not secret
    small = [(name, data) for name, data in sorted(files.items()) if len(data) <= SMALL_FILE_BYTES]
    for index in range(count):
        name, data = generator.choice(small)
        yield f"{name}, mutation {index} of seed {seed}", mutated(data, generator)


def cuts(files: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Beginnings of each file of random lengths, half of them in the header."""
    generator = random.Random(seed)  # noqa: S311 - repeatable, not secret
    for name, data in sorted(files.items()):
        try:
            header = parse_header(data).size
        except HeaderError:
            header = min(len(data), 2048)
        for index in range(count):
            length = generator.randrange(header if index % 2 else len(data))
            yield f"{name} cut to {length} bytes", data[:length]


def judged(cases: Iterator[tuple[str, bytes]]) -> Counter[str]:
    """How many were taken in each way. A case that hangs for half a minute ends the process with a traceback."""
    outcomes: Counter[str] = Counter()
    for name, data in cases:
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        try:
            outcomes[examine(data)] += 1
        except BaseException:
            sys.stderr.write(f"{name}:\n")
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()
    return outcomes


def limit_memory() -> None:
    """Let this process grow by `MEMORY_BYTES` and not more."""
    # Each case has a watchdog, a thread, for which glibc may set aside 128 MiB of addresses: most of what there is.
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Judge what the command asks for; print how many were taken how, the seconds and the peak memory."""
    parser = argparse.ArgumentParser(description="Judge damaged headers.")
    parser.add_argument("--mutations", type=int, default=2000, help="how many damaged copies of small files")
    parser.add_argument("--cuts", type=int, default=20, help="how many beginnings of each file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="a folder of files to damage beside the generated ones")
    arguments = parser.parse_args()
    files = seeds()
    paths = sorted(path for path in arguments.corpus.rglob("*") if path.is_file()) if arguments.corpus else []
    files |= {str(path.relative_to(arguments.corpus)): path.read_bytes() for path in paths}
    floods = {name: flood(MAX_HEADER_BYTES) for name, flood in FLOODS.items()}
    limit_memory()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report: dict[str, object] = {}
    for name, cases in (
        ("floods", iter(floods.items())),
        ("whole", iter(files.items())),
        ("mutations", mutations(files, arguments.mutations, arguments.seed)),
        ("cuts", cuts(files, arguments.cuts, arguments.seed)),
    ):
        started = time.perf_counter()
        outcomes = judged(cases)
        report[name] = {**dict(sorted(outcomes.items())), "seconds": round(time.perf_counter() - started, 1)}
    report["megabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) // 1000
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
