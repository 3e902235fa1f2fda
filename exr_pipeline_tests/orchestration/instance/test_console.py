"""What runs print: from the level that is set on, and reasons of their own without stack traces."""

from collections.abc import Callable

import dagster as dg
import pytest

from exr_pipeline.orchestration.instance.console import print_reasons_without_stack_traces, tidy_console
from exr_pipeline.settings import Settings

Context = dg.OpExecutionContext


@dg.op
def away_at_first(context: Context) -> None:
    if context.retry_number == 0:
        raise dg.RetryRequested(max_retries=1) from OSError("the store is away")


@dg.job(executor_def=dg.in_process_executor)
def job_of_two_tries() -> None:
    away_at_first()


def printed(capsys: pytest.CaptureFixture[str], body: Callable[[Context], None], level: str = "INFO") -> str:
    """What the run of a job with one step prints."""

    @dg.op
    def step(context: Context) -> None:
        tidy_console(context, Settings(_env_file=None, console_level=level))
        body(context)

    @dg.job(executor_def=dg.in_process_executor)
    def job() -> None:
        step()

    print_reasons_without_stack_traces()
    job.execute_in_process(raise_on_error=False)
    return capsys.readouterr().err


def test_a_failure_that_a_step_decides_on_is_its_reason_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def reject(_: Context) -> None:
        raise dg.Failure("1 of 3 files rejected: a.exr", allow_retries=False)

    said = printed(capsys, reject)
    assert "1 of 3 files rejected: a.exr" in said
    assert "Stack Trace" not in said
    assert "File " not in said


def test_another_try_is_announced_without_a_stack_trace(capsys: pytest.CaptureFixture[str]) -> None:
    print_reasons_without_stack_traces()
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.execute_job(dg.reconstructable(job_of_two_tries), instance=instance).success
    said = capsys.readouterr().err
    assert "STEP_UP_FOR_RETRY" in said
    assert "Stack Trace" not in said


def test_a_crash_keeps_its_stack_trace(capsys: pytest.CaptureFixture[str]) -> None:
    def crash(_: Context) -> None:
        raise KeyError("nobody expected this")

    said = printed(capsys, crash)
    assert "nobody expected this" in said
    assert "Stack Trace" in said


def test_only_what_is_of_the_level_or_above_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def talk(context: Context) -> None:
        context.log.info("how far it is")
        context.log.warning("what is wrong")

    assert "how far it is" in printed(capsys, talk)
    said = printed(capsys, talk, level="WARNING")
    assert "what is wrong" in said
    assert "how far it is" not in said
