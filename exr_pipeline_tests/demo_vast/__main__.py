"""Entry point of `make demo-vast`: shows progress, prints what was measured, and fails if anything differs.

Belongs here: the command and what it prints. Not here: what it does (`play`).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.markup import escape

from exr_pipeline.cli.console import progress_line, stdout, table
from exr_pipeline_tests.demo_vast.comparison import NOT_COMPARED
from exr_pipeline_tests.demo_vast.play import play
from exr_pipeline_tests.demo_vast.show import COMPLETE
from exr_pipeline_tests.demo_vast.stage import set_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline_tests.demo_vast.play import Measured

_DIFFERENCES_SHOWN: Final = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the status of the process."""
    parser = argparse.ArgumentParser(prog="python -m exr_pipeline_tests.demo_vast", description=__doc__)
    parser.add_argument("--broker", choices=("tansu", "librdkafka"), default="tansu", help="which broker is started")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    state = Path(".state").resolve()
    state.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="demo-vast-", dir=state))
    sys.stderr.write("Starting object storage, the emulator of VAST DataBase, a broker and a queue\n")
    with set_stage(folder, chosen.broker) as stage, progress_line() as line:
        measured = play(stage, line.update)
    print_summary(measured, time.monotonic() - started)
    if not measured.is_same:
        sys.stderr.write(f"Error: the two demonstrations differ. What they left is in {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


def print_summary(measured: Measured, seconds: float) -> None:
    """Print what was counted, and each difference."""
    of_files = {who: count for who, count in measured.sent.items() if who != COMPLETE}
    stdout.print(table(list(of_files), [list(of_files.values())], title="Files by who was told of them"))
    events = measured.events_by_type()
    stdout.print(table(list(events), [list(events.values())], title="Events read back from the broker"))
    rows = [(each.table, each.rows, each.values, len(each.differences)) for each in measured.tables]
    stdout.print(table(("table", "rows", "values", "differences"), rows, title="VAST next to DuckDB"))
    for each in [found for compared in measured.tables for found in compared.differences][:_DIFFERENCES_SHOWN]:
        stdout.print(escape(f"{each.table} {each.key} {each.column}: {each.first!r}, in DuckDB {each.second!r}"))
    left_out = ", ".join(sorted({f"{name}.{column}" for name, columns in NOT_COMPARED.items() for column in columns}))
    stdout.print(
        f"Not compared, since they are times and durations: {left_out}\n"
        f"Objects: {len(measured.objects[0])}, {len(measured.objects_that_differ())} differ\n"
        f"Events: {measured.messages}, of which {len(measured.events[0])} different, "
        f"{len(measured.events_that_differ())} are not those of DuckDB\n"
        f"Dagster: {measured.partitions} partitions, {measured.runs} runs\n"
        f"Function: {measured.calls_in_vain} calls in vain\n"
        f"Finished in {seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
