"""What a run prints where it runs: as much as the settings say, and no stack trace of what is an answer, not a crash.

Belongs here: the console's own copy of the log. Not here: the log itself, of which the page shows all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
from dagster._core import log_manager
from dagster._core.utils import coerce_valid_log_level

from exr_pipeline.telemetry.logs import JsonFormatter

if TYPE_CHECKING:
    from dagster._core.events import DagsterEvent

    from exr_pipeline.settings import Settings

_error_text = log_manager._error_str_for_event


def tidy_console(context: dg.AssetExecutionContext | dg.OpExecutionContext, settings: Settings) -> None:
    """Have this run print only what is of `console_level` or above, in the form that the settings name."""
    level = coerce_valid_log_level(settings.console_level)
    for console in context.log._dagster_handler._loggers:
        for handler in console.handlers:
            handler.setLevel(max(handler.level, level))
            if settings.log_format == "json":
                handler.setFormatter(JsonFormatter())


def print_reasons_without_stack_traces() -> None:
    """Have runs of this process print of a failure that a step decided on its reason alone, as of a rejected file.

    Dagster makes its console loggers itself, several for each run, and takes others only from a run's configuration.
    """
    log_manager._error_str_for_event = _reason_or_error


def _reason_or_error(event: DagsterEvent) -> str | None:
    if event.is_step_failure and (decided := event.step_failure_data.user_failure_data) is not None:
        return f" {decided.description}"
    if event.is_step_up_for_retry:
        return None
    if event.is_run_failure:
        first = event.job_failure_data.first_step_failure_event
        if first is not None and first.step_failure_data.user_failure_data is not None:
            return None
    return _error_text(event)
