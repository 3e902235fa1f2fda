"""Runs that commands execute in their own process: which process that is, and whether it is still there.

Belongs here: the tags that name it, and what every launcher does with such a run, which it has not launched. Not here:
runs that a launcher started (`local_launcher`, `celery_launcher`, `ecs_launcher`, `k8s_launcher`), or what a run does.
"""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import MAX_RETRIES_TAG

HOST_TAG: Final = "exr_pipeline/host"
PROCESS_TAG: Final = "exr_pipeline/process"

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_UNDER_WAY: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class CommandProcess:
    """A process of a host: its id, when it was started since boot (0 if unknown), and where that id holds.

    A container has ids of its own on the host that it shares with others; after a restart ids mean other processes.
    """

    host: str
    pid: int
    start: int
    namespace: str
    boot: str

    @classmethod
    def own(cls) -> Self:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), start_since_boot(os.getpid()) or 0, _namespace(), _boot())

    @classmethod
    def of(cls, run: dg.DagsterRun) -> Self | None:
        """The process that a run says executes it, None for runs that launchers started."""
        try:
            run_id, pid, start, namespace, boot = run.tags[PROCESS_TAG].split()
            return cls(run.tags[HOST_TAG], int(pid), int(start), namespace, boot) if run_id == run.run_id else None
        except (KeyError, ValueError):
            return None

    def to_tags(self, run_id: str) -> dict[str, str]:
        """Tags for a run of its own. If it is killed, its command is what is repeated: Dagster does not start it again.

        The page copies tags to a run that repeats another, so they name the one that they are true of.
        """
        process = f"{run_id} {self.pid} {self.start} {self.namespace} {self.boot}"
        return {HOST_TAG: self.host, PROCESS_TAG: process, MAX_RETRIES_TAG: "0"}

    def state(self) -> Literal["alive", "gone", "unknown"]:
        """Whether it is still there; unknown from another host or container."""
        if self.host != socket.gethostname():
            return "unknown"
        if self.boot != _boot():
            return "gone"
        if self.namespace != _namespace():
            return "unknown"
        if self.start:
            return "alive" if start_since_boot(self.pid) == self.start else "gone"
        return "alive" if answers(self.pid) else "gone"


class LooksAfterCommandRuns:
    """What a launcher needs, before its own kind, to cope with runs of commands."""

    _instance: dg.DagsterInstance

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED once the process of the command is gone; a process of another host is left to that host."""
        process = CommandProcess.of(run)
        if process is None:
            launched: Any = super()
            health: CheckRunHealthResult = launched.check_run_worker_health(run)
            return health
        if process.state() == "gone":
            return CheckRunHealthResult(WorkerStatus.FAILED, f"process {process.pid} on {process.host} has ended")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def terminate(self, run_id: str) -> bool:
        """Interrupt the command, as Ctrl-C does, if it runs on this host."""
        run = self._instance.get_run_by_id(run_id)
        process = CommandProcess.of(run) if run is not None else None
        if run is None or process is None:
            launched: Any = super()
            return bool(launched.terminate(run_id))
        if process.state() == "unknown":
            text = f"This run belongs to a command on {process.host}. To stop it, end process {process.pid} there."
            self._instance.report_engine_event(text, run, cls=type(self))
            return False
        self._instance.report_run_canceling(run)
        try:
            os.kill(process.pid, signal.SIGINT)
        except ProcessLookupError:
            self._instance.report_run_canceled(run)
        return True


def fail_dead_runs(instance: dg.DagsterInstance) -> int:
    """Fail the runs whose process on this host is gone, so that their files do not show as in progress for ever.

    Where a daemon runs, its run monitoring does so. Returns how many there were.
    """
    from exr_pipeline.orchestration.instance.local_launcher import HealthCheckedRunLauncher

    failed = 0
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNDER_WAY)):
        run = record.dagster_run
        process = CommandProcess.of(run)
        if process is not None:
            reason = f"Process {process.pid} on this host has ended." if process.state() == "gone" else None
        elif isinstance(instance.run_launcher, HealthCheckedRunLauncher) and run.status == dg.DagsterRunStatus.STARTED:
            # Runs of an instance with this launcher are all on this host, those of earlier versions too.
            health = instance.run_launcher.check_run_worker_health(run)
            reason = health.msg if health.status == WorkerStatus.FAILED else None
        else:
            reason = None
        if reason is not None:
            instance.report_run_failed(run, f"{reason} The run was killed.")
            failed += 1
    return failed


def start_since_boot(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None if it is gone, or the system does not tell."""
    try:
        # Field 3 is the state, field 22 the start time (proc(5)); the name may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def answers(pid: int) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _namespace() -> str:
    try:
        return Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return "-"


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return "-"
