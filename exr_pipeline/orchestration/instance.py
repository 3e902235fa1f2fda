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

    from exr_pipeline.settings import Settings


def dagster_home(settings: Settings) -> Path:
    """The folder that DAGSTER_HOME names; if unset, `dagster` in the state folder, configured by ./dagster.yaml.

    Sets DAGSTER_HOME for this process and its children. Raises `MisconfiguredError` if there is no dagster.yaml to use.
    """
    if home := os.environ.get("DAGSTER_HOME"):
        return Path(home)
    config = Path("dagster.yaml").resolve()
    if not config.exists():
        raise MisconfiguredError(
            "DAGSTER_HOME",
            "is not set and there is no dagster.yaml in this folder",
            "set it to a folder that holds a dagster.yaml, or run in a clone of the project",
        )
    path = settings.state_dir.resolve() / "dagster"
    path.mkdir(parents=True, exist_ok=True)
    link = path / "dagster.yaml"
    if not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(config)
    os.environ["DAGSTER_HOME"] = str(path)
    return path


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The instance of this process; a context manager."""
    import dagster as dg

    dagster_home(settings)
    return dg.DagsterInstance.get()


def prepare_instance(settings: Settings) -> None:
    """Create the instance's database now: two processes that open a fresh one at once can damage it."""
    with open_instance(settings) as instance:
        instance.get_runs_count()


def instance_summary(settings: Settings) -> str:
    """One line about the instance."""
    with open_instance(settings) as instance:
        return (
            f"{dagster_home(settings)}: {type(instance.event_log_storage).__name__}, {instance.get_runs_count()} runs"
        )


def dev_command(host: str, port: int) -> list[str]:
    """Arguments of Python that serve the page with daemon and sensor, in a folder with a workspace.yaml."""
    return ["-m", "dagster", "dev", "--workspace", "workspace.yaml", "--host", host, "--port", str(port)]
