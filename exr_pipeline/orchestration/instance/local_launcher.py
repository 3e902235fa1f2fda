"""A run launcher whose dead workers the run monitor can find, also after the daemon and code server died with them.

Belongs here: how a run's process is watched. Not here: what a run does.
"""

import os
import time
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterEventType
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

from exr_pipeline.orchestration.instance.command_runs import LooksAfterCommandRuns, answers, start_since_boot


class HostRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher plus a health check by process id, for runs on this host."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The workers that were found alive: process id and start since boot, which no step of the clock changes.
        self._workers: dict[str, tuple[int, int]] = {}

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks us."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED once the process that wrote the run's start event is gone, or its id belongs to a younger process."""
        started = self._instance.get_records_for_run(run.run_id, of_type=DagsterEventType.RUN_START, limit=1).records
        if not started:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        entry = started[0].event_log_entry
        pid = entry.get_dagster_event().pid
        if pid is None or self._is_running(run.run_id, pid, started_before=entry.timestamp):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"worker process {pid} has ended")

    def _is_running(self, run_id: str, pid: int, *, started_before: float) -> bool:
        if not Path("/proc/self/stat").exists():
            return answers(pid)
        start = start_since_boot(pid)
        if start is None:
            return False
        known = self._workers.get(run_id)
        if known is not None and known[0] == pid:
            return known[1] == start
        if not _is_older(start, started_before):
            return False
        living = {run: worker for run, worker in self._workers.items() if start_since_boot(worker[0]) == worker[1]}
        self._workers = living | {run_id: (pid, start)}
        return True


def _is_older(start: int, moment: float) -> bool:
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    age = uptime - start / os.sysconf("SC_CLK_TCK")
    return time.time() - age <= moment + 1.0


class HealthCheckedRunLauncher(LooksAfterCommandRuns, HostRunLauncher):
    """The launcher of dagster.yaml: for runs that it launches on this host, and those of commands."""
