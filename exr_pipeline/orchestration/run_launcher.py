"""A run launcher whose dead workers the run monitor can find, also after the daemon and code server died with them.

Belongs here: how a run's process is watched. Not here: what a run does.
"""

import os
import time
from pathlib import Path

import dagster as dg
from dagster import DagsterEventType
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus


class HealthCheckedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher plus a health check by process id, for runs on this host."""

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
        if pid is None or _is_running(pid, started_before=entry.timestamp):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"worker process {pid} is gone")


def _is_running(pid: int, *, started_before: float) -> bool:
    try:
        # Field 3 is the state, field 22 the start time in clock ticks since boot (proc(5)); the name may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self/stat").exists() and _answers(pid)
    if fields[0] == "Z":
        return False
    age = uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - age <= started_before + 1.0


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
