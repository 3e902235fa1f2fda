"""The Dagster instance: where its home is, how it is opened, and the command that serves its page.

Belongs here: DAGSTER_HOME and what depends on it. Not here: definitions or runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from exr_pipeline.errors import MisconfiguredError

if TYPE_CHECKING:
    import dagster as dg


def dagster_home() -> Path:
    """The folder that DAGSTER_HOME names; if unset, the working folder, which then is set for this process.

    Raises `MisconfiguredError` if there is no dagster.yaml in it.
    """
    home = Path(os.environ.get("DAGSTER_HOME") or ".").resolve()
    if not (home / "dagster.yaml").exists():
        raise MisconfiguredError(
            "DAGSTER_HOME",
            f"{home} holds no dagster.yaml",
            "set it to a folder that does, or run in a clone of the project",
        )
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def open_instance() -> dg.DagsterInstance:
    """The instance of this process; a context manager."""
    import dagster as dg

    dagster_home()
    return dg.DagsterInstance.get()


def prepare_instance() -> None:
    """Create the instance's database now: two processes that open a fresh one at once can damage it."""
    with open_instance() as instance:
        instance.get_runs_count()


def instance_summary() -> str:
    """One line about the instance."""
    with open_instance() as instance:
        return f"{dagster_home()}: {type(instance.event_log_storage).__name__}, {instance.get_runs_count()} runs"


def dev_command(host: str, port: int) -> list[str]:
    """Arguments of Python that serve the page with daemon and sensor, by the workspace.yaml here if there is one."""
    quiet = ["-W", "ignore:Function `dev_command` is superseded"]  # its successor comes with a development tool
    here = Path("workspace.yaml").exists()
    code = ["--workspace", "workspace.yaml"] if here else ["--module-name", "exr_pipeline.definitions"]
    return [*quiet, "-m", "dagster", "dev", *code, "--host", host, "--port", str(port)]
