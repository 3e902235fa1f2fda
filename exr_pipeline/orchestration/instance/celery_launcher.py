"""Runs as tasks of Celery workers on any number of machines, where a worker that died is noticed.

Belongs here: starting runs on workers, and finding out whether a worker still has its run. Not here: what a run does.
Why Dagster's own launcher is not enough: docs/decisions/0008-celery-workers.md.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

import dagster as dg
from celery import Task
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._serdes import ConfigurableClassData
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.orchestration.instance.command_runs import LooksAfterCommandRuns

_RUNNING = CheckRunHealthResult(WorkerStatus.RUNNING)


class TaskRunLauncher(CeleryRunLauncher):
    """Dagster's launcher over Celery, plus workers that are asked whether they still have the run.

    Celery leaves the task of a worker that was killed as STARTED for ever, and Dagster's launcher believes it. A run is
    failed at once if its worker answers that it does not have it, which is what a restarted worker says, and once
    nobody has had it for `silence_seconds`, which is what a machine that is gone sounds like.
    """

    def __init__(
        self,
        *,
        broker: str | None = None,
        backend: str | None = None,
        password_file: str | None = None,
        silence_seconds: int = 60,
        answer_seconds: float = 2.0,
        inst_data: Any = None,
        **options: Any,
    ) -> None:
        password = _password_of(password_file)
        super().__init__(
            broker=_with_password(broker, password),
            backend=_with_password(backend, password),
            inst_data=inst_data,
            **options,
        )
        self._silence_seconds = silence_seconds
        self._answer_seconds = answer_seconds
        self._silent_since: dict[str, float] = {}

    @classmethod
    def config_type(cls) -> Any:
        """What dagster.yaml may say."""
        inherited: Any = super().config_type()
        return {
            **inherited,
            "password_file": dg.Field(
                dg.Noneable(dg.StringSource),
                is_required=False,
                description="A file with the password of broker and backend. Their URLs then need no password.",
            ),
            "silence_seconds": dg.Field(
                int, default_value=60, description="Seconds after which a run fails if no worker reports on it."
            ),
            "answer_seconds": dg.Field(
                float, default_value=2.0, description="Seconds to wait for workers to answer a request."
            ),
        }

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Build the launcher from dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    def _launch_celery_task_run(self, run: dg.DagsterRun, task_signature: Task, routing_key: str) -> None:
        # Written down before it is sent: a daemon that dies in between leaves no run that nobody can look after.
        task_id = str(uuid.uuid4())
        self._instance.add_run_tags(run.run_id, {DAGSTER_CELERY_TASK_ID_TAG: task_id})
        task_signature.set(task_id=task_id)
        super()._launch_celery_task_run(run, task_signature, routing_key)

    def terminate(self, run_id: str) -> bool:
        """End the task of a run; a run that is no task can't be ended from here."""
        run = self._instance.get_run_by_id(run_id)
        return run is not None and DAGSTER_CELERY_TASK_ID_TAG in run.tags and super().terminate(run_id)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED once the task failed, its worker does not have it any more, or nobody has answered for it long."""
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task_id is None:
            # Somebody else has started it, and nothing tells where.
            return _RUNNING
        before = self.celery.AsyncResult(task_id)
        state, worker = before.state, _worker_of(before.result)
        if state in {"SUCCESS", "FAILURE", "REVOKED"}:
            self._silent_since.pop(run.run_id, None)
            return super().check_run_worker_health(run)
        answers = self.celery.control.inspect(timeout=self._answer_seconds).query_task(task_id) or {}
        if any(task_id in tasks for tasks in answers.values()):
            self._silent_since.pop(run.run_id, None)
            return _RUNNING
        # It may have ended between the two questions.
        if self.celery.AsyncResult(task_id).state != state:
            return _RUNNING
        if worker in answers:
            self._silent_since.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.FAILED, f"worker {worker} was restarted and lost the run")
        silent = time.monotonic() - self._silent_since.setdefault(run.run_id, time.monotonic())
        if silent < self._silence_seconds:
            return _RUNNING
        del self._silent_since[run.run_id]
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"worker {worker or 'unknown'} has not answered for {silent:.0f} s"
        )


class HealthCheckedCeleryRunLauncher(LooksAfterCommandRuns, TaskRunLauncher):
    """The launcher of deploy/celery: for the tasks that it sends, and runs of commands."""


def _worker_of(result: Any) -> str | None:
    """The worker that says it started a task."""
    return result.get("hostname") if isinstance(result, Mapping) else None


def _password_of(path: str | None) -> str | None:
    """What the file holds, without the line's end; None if none is named."""
    if not path:
        return None
    try:
        return Path(path).read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise MisconfiguredError(
            "EXR_PIPELINE_REDIS_PASSWORD_FILE",
            f"{path}: {error.strerror}",
            "set it to a file that the services can read",
        ) from None


def _with_password(url: str | None, password: str | None) -> str | None:
    if url is None or not password:
        return url
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{quote(password, safe='')}@{address}"))
