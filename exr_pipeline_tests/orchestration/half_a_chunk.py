"""A worker that makes the first half of a chunk, says so, and then does nothing until it is killed: `-m … KEY…`."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import dagster as dg

from exr_pipeline_tests.orchestration.batched_steps import make_all, run_over


def half(context: Any, keys: Sequence[str]) -> None:
    make_all(context, keys[: len(keys) // 2])
    sys.stdout.write(f"{context.run.run_id}\n")
    sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        run_over(instance, sys.argv[1:], half)
