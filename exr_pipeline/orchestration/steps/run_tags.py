"""How the files or sequences of a run ended, and what it was asked for, as tags of the run.

Belongs here: these tags, and what they tell of a run. Not here: the status of a run, or of its partitions.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, get_args

from exr_pipeline.tables.specs import READY, REJECTED, RETRYABLE, State
from exr_pipeline.telemetry.trace_context import ids_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import dagster as dg

# Of a run over files that something other than Dagster has finished: it shows them, and repeats nothing.
FINISHED_ELSEWHERE_TAG: Final = "exr_pipeline/finished_elsewhere"

# Of a run whose files all belong to one trace: its identifier, to look it up by.
TRACE_TAG: Final = "exr_pipeline/trace_id"

_STATES = get_args(State)


def only_trace(traceparents: Iterable[str]) -> str | None:
    """The identifier of the trace that all of these belong to, None if there are several or none."""
    found = {ids_of(traceparent)[0] for traceparent in traceparents}
    return found.pop() if len(found) == 1 else None


def tag_unfinished(instance: dg.DagsterInstance, run: dg.DagsterRun, total: int) -> None:
    """Call everything retryable at the start of a run that was given the tags of the one that it does again."""
    if any(state in run.tags for state in _STATES):
        _tag(instance, run, {RETRYABLE: total})


def tag_outcome(instance: dg.DagsterInstance, run: dg.DagsterRun, failed: Iterable[State], total: int) -> None:
    """Tag a run with how many of its `total` files ended in each state; `failed` are the states of those not ready."""
    counts = Counter(failed)
    _tag(instance, run, {**counts, READY: total - counts.total()})


def _tag(instance: dg.DagsterInstance, run: dg.DagsterRun, counts: Mapping[State, int]) -> None:
    instance.add_run_tags(run.run_id, {state: str(counts.get(state, 0)) for state in _STATES})


def only_rejected(run: dg.DagsterRun) -> bool:
    """Whether all that is wrong with a failed run is that some of its files or sequences were rejected.

    False for a run that ended before all of its files had ended, whatever the reason.
    """
    return run.tags.get(RETRYABLE) == "0" and run.tags.get(REJECTED, "0") != "0"
