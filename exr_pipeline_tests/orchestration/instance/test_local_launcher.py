"""Runs whose process is gone are failed by run monitoring, the others are left alone."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from exr_pipeline.orchestration.instance import local_launcher
from exr_pipeline.orchestration.instance.local_launcher import HealthCheckedRunLauncher
from exr_pipeline_tests.orchestration.dagster_homes import instance_at


@dg.op
def until_told(context: dg.OpExecutionContext) -> None:
    """Goes on until a file named by the run appears in the working folder."""
    deadline = time.monotonic() + 900
    while not Path(context.run.tags["until"]).exists() and time.monotonic() < deadline:
        time.sleep(0.05)


@dg.job(executor_def=dg.in_process_executor)
def long_job() -> None:
    until_told()


defs = dg.Definitions(jobs=[long_job])


def wait_until(condition: Callable[[], Any], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with instance_at(tmp_path_factory.mktemp("home")) as opened:
        yield opened


@contextmanager
def code_server(instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    """A code server in its own process, as `dagster dev` starts it."""
    target = PythonFileTarget(
        python_file=__file__, attribute="defs", working_directory=str(Path.cwd()), location_name="location"
    )
    with WorkspaceProcessContext(instance, target) as context:
        yield context
    # Dagster only tells it to end. Nobody's child any more, it would be a warning in whichever test comes next.
    context._grpc_server_registry.wait_for_processes()


@pytest.fixture(scope="module")
def workspace(instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    with code_server(instance) as context:
        yield context


def launched(instance: dg.DagsterInstance, workspace: WorkspaceProcessContext, until: str) -> str:
    """A run in a process of its own, in the midst of its step; its id."""
    request = workspace.create_request_context()
    location = request.get_code_location("location")
    (repository,) = location.get_repositories().values()
    job = repository.get_full_job("long_job")
    run = instance.create_run(
        job_name="long_job",
        run_id=None,
        run_config={},
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={"until": until},
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=None,
        execution_plan_snapshot=None,
        job_snapshot=job.job_snapshot,
        parent_job_snapshot=job.parent_job_snapshot,
        asset_selection=None,
        asset_check_selection=None,
        resolved_op_selection=None,
        op_selection=None,
        remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(),
        asset_graph=repository.asset_graph,
    )
    instance.launch_run(run.run_id, request)
    wait_until(lambda: instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_START).records)
    return run.run_id


def worker_of(instance: dg.DagsterInstance, run_id: str) -> int:
    (started,) = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_START).records
    pid = started.event_log_entry.get_dagster_event().pid
    assert pid is not None
    return pid


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def monitor(workspace: WorkspaceProcessContext) -> None:
    """What the daemon does every ten seconds."""
    assert workspace.instance.run_monitoring_enabled
    errors = [error for error in execute_run_monitoring_iteration(workspace, logging.getLogger("monitor")) if error]
    assert not errors


def facts_of(pid: int) -> list[str]:
    """State, parent and so on of a process (proc(5)); nothing if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_gone(pid: int) -> bool:
    return not facts_of(pid) or facts_of(pid)[0] == "Z"


def test_the_launcher_is_the_one_of_dagster_yaml(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.run_launcher, HealthCheckedRunLauncher)


def test_a_living_run_is_left_alone_and_ends_by_itself(
    instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
) -> None:
    run_id = launched(instance, workspace, "told")

    monitor(workspace)

    assert status(instance, run_id) == dg.DagsterRunStatus.STARTED
    Path("told").touch()
    wait_until(lambda: status(instance, run_id) == dg.DagsterRunStatus.SUCCESS)
    monitor(workspace)
    assert status(instance, run_id) == dg.DagsterRunStatus.SUCCESS


def test_a_run_whose_worker_and_code_server_were_killed_is_failed(instance: dg.DagsterInstance) -> None:
    with code_server(instance) as workspace:
        run_id = launched(instance, workspace, "never")
        worker = worker_of(instance, run_id)
        server = int(facts_of(worker)[1])
        assert server not in {1, os.getpid()}
        # First the server, so that it can't report the worker's end.
        os.kill(server, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: is_gone(worker))
        assert status(instance, run_id) == dg.DagsterRunStatus.STARTED

        monitor(workspace)

    assert status(instance, run_id) == dg.DagsterRunStatus.FAILURE
    messages = [entry.message for entry in instance.all_logs(run_id)]
    assert any(f"worker process {worker} has ended" in (message or "") for message in messages)


@contextmanager
def daemon() -> Iterator[subprocess.Popen[bytes]]:
    """Dagster's daemon as a process of its own, on the home of the test."""
    command = [sys.executable, "-W", "ignore", "-m", "dagster._daemon", "run", "--empty-workspace"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_run_whose_worker_code_server_and_daemon_were_killed_is_failed_by_the_next_daemon(
    instance: dg.DagsterInstance,
) -> None:
    def heard_of() -> float:
        heartbeat = instance.get_daemon_heartbeats().get("MONITORING")
        return heartbeat.timestamp if heartbeat else 0.0

    with code_server(instance) as workspace, daemon() as first:
        run_id = launched(instance, workspace, "never")
        wait_until(heard_of)
        worker = worker_of(instance, run_id)
        for pid in (first.pid, int(facts_of(worker)[1]), worker):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(worker))
    assert status(instance, run_id) == dg.DagsterRunStatus.STARTED

    with daemon():
        wait_until(lambda: status(instance, run_id) == dg.DagsterRunStatus.FAILURE, 120)


def test_a_run_whose_worker_alone_was_killed_is_failed(
    instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
) -> None:
    run_id = launched(instance, workspace, "never")
    worker = worker_of(instance, run_id)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert instance.run_launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: is_gone(worker))

    # The code server may say so too, and first.
    assert instance.run_launcher.check_run_worker_health(run).status == WorkerStatus.FAILED
    monitor(workspace)
    assert status(instance, run_id) == dg.DagsterRunStatus.FAILURE


def started_run(instance: dg.DagsterInstance, pid: int | None, when: float) -> dg.DagsterRun:
    """A run in whose log a process with this id says that it began at this time."""
    run = dg.DagsterRun(job_name="long_job", status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    if pid is not None:
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "long_job", pid=pid)
        entry = dg.EventLogEntry(  # type: ignore[no-untyped-call]
            error_info=None,
            level=10,
            user_message="",
            run_id=run.run_id,
            timestamp=when,
            dagster_event=event,
        )
        instance.event_log_storage.store_event(entry)
    return run


def health(instance: dg.DagsterInstance, pid: int | None, when: float) -> WorkerStatus:
    run = started_run(instance, pid, when)
    try:
        return instance.run_launcher.check_run_worker_health(run).status
    finally:
        instance.delete_run(run.run_id)


def test_a_younger_process_with_the_same_id_is_not_the_worker(instance: dg.DagsterInstance) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        now = time.time()
        assert health(instance, process.pid, now) == WorkerStatus.RUNNING
        assert health(instance, process.pid, now + 3600) == WorkerStatus.RUNNING
        assert health(instance, process.pid, now - 60) == WorkerStatus.FAILED
        process.communicate(b"\n")
    assert health(instance, process.pid, now) == WorkerStatus.FAILED


def test_a_step_of_the_clock_does_not_make_a_known_worker_another_process(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = instance.run_launcher.check_run_worker_health
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        run = started_run(instance, process.pid, time.time())
        assert check(run).status == WorkerStatus.RUNNING
        # The clock of the machine is not ours to set.
        monkeypatch.setattr(local_launcher, "time", SimpleNamespace(time=lambda: time.time() + 3600))
        assert check(run).status == WorkerStatus.RUNNING
        process.communicate(b"\n")
    assert check(run).status == WorkerStatus.FAILED
    instance.delete_run(run.run_id)


def test_a_process_that_ended_and_that_nobody_has_waited_for_is_gone(instance: dg.DagsterInstance) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        wait_until(lambda: facts_of(process.pid)[0] == "Z")
        assert health(instance, process.pid, time.time()) == WorkerStatus.FAILED


def test_a_run_that_has_not_said_where_it_runs_is_given_time(instance: dg.DagsterInstance) -> None:
    assert health(instance, None, time.time()) == WorkerStatus.RUNNING
