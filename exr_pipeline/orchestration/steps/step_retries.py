"""How a run's step is run again by Dagster: when, and what is left of its keys by then.

Belongs here: what steps of files and of sequences have in common when something fails. Not here: the numbers
(`exr_pipeline.retries`), or the steps (`steps.files`, `assets.sequences`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import dagster as dg

from exr_pipeline.orchestration.instance.event_storage import is_outage
from exr_pipeline.orchestration.instance.step_events import log_asset_events, materializations_of_run
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.telemetry.instruments import TRIED_AGAIN
from exr_pipeline.telemetry.recording import record

if TYPE_CHECKING:
    from exr_pipeline.errors import ExrPipelineError

RESUMED_TAG = "dagster/is_resume_retry"
PARENT_TAG = "dagster/parent_run_id"
# In the metadata of a failure: nothing could be read or written, so that there is no use in another run now.
OUTAGE = "outage"

Context = dg.AssetExecutionContext | dg.OpExecutionContext
_Rest = ParamSpec("_Rest")
_Step = Callable[Concatenate[Context, Sequence[str], Collection[dg.AssetKey], Pipeline, _Rest], None]


def again_after_an_outage(step: _Step[_Rest]) -> _Step[_Rest]:
    """Have a step run again if Dagster's database is away for longer than each single statement waits for it.

    Else it would fail, for good, with rows in the tables whose events are missing: what they are of would show as
    failed.
    """

    @wraps(step)
    def guarded(
        context: Context,
        partition_keys: Sequence[str],
        assets: Collection[dg.AssetKey],
        pipeline: Pipeline,
        /,
        *rest: _Rest.args,
        **options: _Rest.kwargs,
    ) -> None:
        try:
            step(context, partition_keys, assets, pipeline, *rest, **options)
        except Exception as error:
            if is_outage(error) and pipeline.retries.may_repeat_step(context.retry_number):
                raise run_again(pipeline) from error
            raise

    return guarded


def run_again(pipeline: Pipeline) -> dg.RetryRequested:
    """What a step raises to be run again."""
    policy = pipeline.retries
    record(TRIED_AGAIN, "step")
    return dg.RetryRequested(max_retries=policy.step_attempts - 1, seconds_to_wait=policy.step_pause_seconds)


def after_outage(context: Context, pipeline: Pipeline, error: ExrPipelineError) -> dg.RetryRequested | dg.Failure:
    """What a step raises when neither the store nor the tables answer: to be run again, or to fail for good."""
    if pipeline.retries.may_repeat_step(context.retry_number):
        return run_again(pipeline)
    # Another run would have no better luck.
    return dg.Failure(f"The run cannot continue: {error}", metadata={OUTAGE: True}, allow_retries=False)


def without_finished(
    context: Context,
    partition_keys: Sequence[str],
    assets: Collection[dg.AssetKey],
) -> list[str]:
    """The keys whose assets were not all made by an earlier attempt of this run, or by the run that it resumes."""
    parent_run_id = context.run.tags.get(PARENT_TAG) if context.run.tags.get(RESUMED_TAG) == "true" else None
    if context.retry_number == 0 and parent_run_id is None:
        return list(partition_keys)
    own = materializations_of_run(context.instance, context.run.run_id)
    inherited = materializations_of_run(context.instance, parent_run_id) if parent_run_id else []
    made: dict[str, set[dg.AssetKey]] = defaultdict(set)
    for materialization in (*own, *inherited):
        if materialization.partition is not None:
            made[materialization.partition].add(materialization.asset_key)
    finished = {key for key in partition_keys if made[key].issuperset(assets)}
    # This run has announced these keys again: without an event of its own they would show as failed with it.
    log_asset_events(
        context,
        [
            materialization
            for materialization in inherited
            if materialization.partition in finished and materialization.asset_key in assets
        ],
    )
    context.log.info(f"an earlier attempt has finished {len(finished)} of {len(partition_keys)}")
    return [key for key in partition_keys if key not in finished]
