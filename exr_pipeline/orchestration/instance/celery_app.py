"""The Celery application that workers run: `celery --app exr_pipeline.orchestration.instance.celery_app worker`.

Belongs here: making it of the run launcher in dagster.yaml, so that workers and daemon have one configuration.
Importing it opens the Dagster instance, so nothing but a worker does.
"""

import multiprocessing
import os
from multiprocessing import process
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.orchestration.instance.celery_launcher import HealthCheckedCeleryRunLauncher
from exr_pipeline.orchestration.instance.home import open_instance


def worker_app() -> Celery:
    """The application of the instance's run launcher, with the tasks that it sends.

    Raises `MisconfiguredError` if dagster.yaml names another launcher.
    """
    with open_instance() as instance:
        launcher = instance.run_launcher
        if not isinstance(launcher, HealthCheckedCeleryRunLauncher):
            raise MisconfiguredError(
                "DAGSTER_HOME",
                f"dagster.yaml configures the run launcher {type(launcher).__name__}",
                "use deploy/celery/dagster.yaml",
            )
        create_execute_job_task(launcher.celery)
        create_resume_job_task(launcher.celery)
        return launcher.celery


@worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _may_start_processes(**_: Any) -> None:
    """Put a process of Python's own making in the place of the one that Celery's variety of multiprocessing puts there.

    A run renders in processes of its own, which that one may not have, and whose key it does not hand on.
    """
    this = multiprocessing.Process()
    this.daemon = False
    this.authkey = os.urandom(32)
    process._current_process = this  # type: ignore[attr-defined]


app = worker_app()
