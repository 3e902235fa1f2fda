"""Runs that commands execute in their own process: every launcher copes with them, and dead ones are failed."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus

from exr_pipeline.orchestration.instance.celery_launcher import HealthCheckedCeleryRunLauncher
from exr_pipeline.orchestration.instance.command_runs import CommandProcess, fail_dead_runs, start_since_boot
from exr_pipeline.orchestration.instance.ecs_launcher import CommandAwareEcsRunLauncher
from exr_pipeline.orchestration.instance.k8s_launcher import CommandAwareK8sRunLauncher
from exr_pipeline.orchestration.instance.local_launcher import HealthCheckedRunLauncher
from exr_pipeline_tests.orchestration.dagster_homes import instance_at

LAUNCHERS = [
    HealthCheckedRunLauncher,
    HealthCheckedCeleryRunLauncher,
    CommandAwareEcsRunLauncher,
    CommandAwareK8sRunLauncher,
]
# A shell's background job, and what it starts, ignores Ctrl-C.
WAIT = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "print('ready', flush=True); sys.stdin.read()"
)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with instance_at(tmp_path_factory.mktemp("home")) as opened:
        yield opened


@pytest.fixture
def command() -> Iterator[subprocess.Popen[str]]:
    """A process that stands for a command at work."""
    with subprocess.Popen(
        [sys.executable, "-c", WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def of(process: subprocess.Popen[str]) -> CommandProcess:
    return replace(CommandProcess.own(), pid=process.pid, start=start_since_boot(process.pid) or 0)


def run_of(process: CommandProcess, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> dg.DagsterRun:
    run_id = str(uuid4())
    return dg.DagsterRun("ingest", run_id=run_id, status=status, tags=process.to_tags(run_id))


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


@pytest.mark.parametrize("kind", LAUNCHERS)
def test_every_launcher_knows_whether_the_command_of_a_run_is_still_there(
    kind: type[Any], command: subprocess.Popen[str]
) -> None:
    launcher: Any = object.__new__(kind)  # Made as usual, some ask for a cluster.
    process = of(command)
    elsewhere = run_of(replace(process, host="another"))
    container = run_of(replace(process, namespace="pid:[1]"))

    assert launcher.check_run_worker_health(run_of(process)).status == WorkerStatus.RUNNING
    end(command)

    health = launcher.check_run_worker_health(run_of(process))
    assert health.status == WorkerStatus.FAILED
    assert health.msg == f"process {command.pid} on {socket.gethostname()} has ended"
    # That is for those hosts to say.
    assert launcher.check_run_worker_health(elsewhere).status == WorkerStatus.RUNNING
    assert launcher.check_run_worker_health(container).status == WorkerStatus.RUNNING


def test_a_younger_process_and_one_before_a_restart_are_not_the_command(command: subprocess.Popen[str]) -> None:
    process = of(command)
    assert process.state() == "alive"
    assert replace(process, start=process.start - 1).state() == "gone"
    assert replace(process, boot="another").state() == "gone"


def test_a_run_that_repeats_the_one_of_a_command_is_none_of_it(command: subprocess.Popen[str]) -> None:
    run = run_of(of(command))
    repeated = dg.DagsterRun("ingest", run_id=str(uuid4()), tags=run.tags)
    assert CommandProcess.of(run) == of(command)
    assert CommandProcess.of(repeated) is None


@pytest.mark.parametrize("kind", LAUNCHERS)
def test_ending_the_run_of_a_command_interrupts_the_command(
    kind: type[Any], command: subprocess.Popen[str], instance: dg.DagsterInstance
) -> None:
    launcher: Any = object.__new__(kind)
    launcher._instance_weakref = lambda: instance
    here, elsewhere = run_of(of(command)), run_of(replace(of(command), host="another"))
    for run in (here, elsewhere):
        instance.add_run(run)

    assert not launcher.terminate(elsewhere.run_id)
    assert command.poll() is None
    assert launcher.terminate(here.run_id)

    assert command.wait(60) == -signal.SIGINT
    canceling = instance.get_run_by_id(here.run_id)
    assert canceling is not None
    assert canceling.status == dg.DagsterRunStatus.CANCELING
    assert launcher.terminate(here.run_id)
    canceled = instance.get_run_by_id(here.run_id)
    assert canceled is not None
    assert canceled.status == dg.DagsterRunStatus.CANCELED
    instance.delete_run(elsewhere.run_id)


def test_a_celery_launcher_leaves_a_run_alone_that_it_did_not_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagster.yaml").write_text(
        "run_launcher:\n"
        "  module: exr_pipeline.orchestration.instance.celery_launcher\n"
        "  class: HealthCheckedCeleryRunLauncher\n"
        "  config: {broker: 'memory://', backend: 'cache+memory://'}\n"
    )
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        run = dg.DagsterRun("ingest", run_id=str(uuid4()), status=dg.DagsterRunStatus.STARTED)
        instance.add_run(run)
        assert instance.run_launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
        assert not instance.run_launcher.terminate(run.run_id)


def test_dead_runs_of_this_host_are_failed_and_no_others(
    instance: dg.DagsterInstance, command: subprocess.Popen[str]
) -> None:
    alive = of(command)
    gone = replace(alive, start=alive.start - 1)
    dead = [run_of(gone, status) for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED)]
    others = [
        run_of(alive),
        run_of(replace(gone, host="another")),
        run_of(gone, dg.DagsterRunStatus.SUCCESS),
    ]
    for run in (*dead, *others):
        instance.add_run(run)

    assert fail_dead_runs(instance) == 2

    def status(run: dg.DagsterRun) -> dg.DagsterRunStatus:
        now = instance.get_run_by_id(run.run_id)
        assert now is not None
        return now.status

    assert {status(run) for run in dead} == {dg.DagsterRunStatus.FAILURE}
    assert [status(run) for run in others] == [run.status for run in others]
    assert fail_dead_runs(instance) == 0
