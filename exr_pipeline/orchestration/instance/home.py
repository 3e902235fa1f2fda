"""The Dagster instance: where its home is, how it is opened, the command that serves its page, and what that loads.

Belongs here: DAGSTER_HOME and what depends on it. Not here: definitions or runs.
"""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.settings import Settings
from exr_pipeline.storage.private_files import make_private_folder

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import dagster as dg
    from dagster._core.remote_origin import RemoteRepositoryOrigin

# What comes with the package for a home of Dagster.
_WORKSPACE: Final = "workspace.yaml"
HOME_FILES: Final = ("dagster.yaml", _WORKSPACE)
_HISTORY: Final = ".state/dagster"
_MODULE_OF_OURS_MISSING: Final = re.compile(r"Couldn't import module (exr_pipeline\.[\w.]+)")
_HEADER: Final = """\
# Written by exr-pipeline, which writes it again when its defaults change. To have your own: exr-pipeline init
"""


def write_home(folder: Path) -> list[str]:
    """Give a folder the `HOME_FILES` that it lacks, and return their names."""
    missing = [name for name in HOME_FILES if not (folder / name).exists()]
    for name in missing:
        (folder / name).write_text(_shipped(name).read_text("utf-8"), encoding="utf-8")
    return missing


def _shipped(name: str) -> Traversable:
    return resources.files("exr_pipeline.orchestration.instance").joinpath("packaged_home", name)


def dagster_home() -> Path:
    """The folder that holds the dagster.yaml to use. DAGSTER_HOME names it afterwards, for child processes too.

    It is the folder that DAGSTER_HOME names, else the working folder. If that holds no dagster.yaml, it is a folder in
    the state folder, with the package's own one. With the default state folder, history lies where it does with the one
    that `write_home` writes, so that nothing is lost by writing one later.

    Raises `MisconfiguredError` if the folder that DAGSTER_HOME names holds no dagster.yaml, or if none can be written.
    """
    named = os.environ.get("DAGSTER_HOME")
    home = Path(named or ".").resolve()
    if not (home / "dagster.yaml").exists():
        if named:
            raise MisconfiguredError(
                "DAGSTER_HOME",
                f"{home} has no dagster.yaml",
                f"unset it, or create the file with exr-pipeline init {home}",
            )
        home = _default_home()
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def _default_home() -> Path:
    import yaml

    home = Settings().state_dir.resolve() / "dagster"
    config = yaml.safe_load(_shipped("dagster.yaml").read_text("utf-8"))
    for block in (config["storage"]["custom"], config["local_artifact_storage"], config["compute_logs"]):
        block["config"]["base_dir"] = block["config"]["base_dir"].replace(_HISTORY, str(home), 1)
    text = _HEADER + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    path, temporary = home / "dagster.yaml", home / f".dagster.yaml.{os.getpid()}"
    try:
        if not path.exists() or path.read_text("utf-8") != text:
            make_private_folder(home)
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
    except OSError as error:
        problem = f"cannot write to {home}: {error.strerror}"
        raise MisconfiguredError("EXR_PIPELINE_STATE_DIR", problem, "set it to a writable folder") from error
    return home


def open_instance() -> dg.DagsterInstance:
    """The instance of this process; a context manager.

    Raises `RetryableError` if its database does not answer, `MisconfiguredError` if its dagster.yaml names a class of
    ours that is not there, as one of an earlier version does.
    """
    import dagster as dg

    from exr_pipeline.orchestration.instance.event_storage import is_outage

    dagster_home()
    try:
        return dg.DagsterInstance.get()
    except Exception as error:
        if is_outage(error):
            raise _no_answer(error) from error
        if missing := _MODULE_OF_OURS_MISSING.search(str(error)):
            raise MisconfiguredError(
                "DAGSTER_HOME",
                f"dagster.yaml in {os.environ['DAGSTER_HOME']} names {missing[1]}, which this version does not have",
                "compare it with what `exr-pipeline init` writes into an empty folder",
            ) from None
        raise


def prepare_instance() -> None:
    """Create the instance's database now, or bring what an earlier version wrote there to today's form.

    Two processes that open a fresh database at once can damage it.
    """
    from exr_pipeline.orchestration.instance.key_migration import instance_for_work

    with instance_for_work() as instance:
        instance.get_runs_count()


def instance_summary() -> str:
    """One line about the instance."""
    from exr_pipeline.orchestration.instance.event_storage import is_outage

    try:
        return _summary()
    except Exception as error:
        if is_outage(error):
            raise _no_answer(error) from error
        raise


def _no_answer(error: Exception) -> RetryableError:
    cause = str(getattr(error.__cause__ or error, "orig", error)).strip().partition("\n")[0]
    return RetryableError(
        f"Dagster's database does not answer: {cause}. Fix: start it, or correct `storage` in dagster.yaml"
    )


def _summary() -> str:
    with open_instance() as instance:
        return f"{dagster_home()}: {type(instance.event_log_storage).__name__}, {instance.get_runs_count()} runs"


def page_command(host: str, port: int, *, daemon: bool, verbose: bool, catalog: Path | None = None) -> list[str]:
    """Arguments of Python that serve the page of `workspace_file`, with the catalog's service that has this socket."""
    switches = [*([] if daemon else ["--no-daemon"]), *(["--verbose"] if verbose else [])]
    switches += [] if catalog is None else ["--catalog", str(catalog)]
    return ["-m", "exr_pipeline.orchestration.instance.page", "--host", host, "--port", str(port), *switches]


def repository_origin() -> RemoteRepositoryOrigin:
    """The repository of this project as the page knows it, for runs that no daemon launches.

    Timeline and job pages show a run only if it says which repository of which code location it is of.
    """
    from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
    from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
    from dagster._core.workspace.load_target import WorkspaceFileTarget

    origins = WorkspaceFileTarget([str(workspace_file())]).create_origins()
    if not origins:
        origins = WorkspaceFileTarget([str(_shipped(_WORKSPACE))]).create_origins()
    ours = [
        origin
        for origin in origins
        if isinstance(origin, ManagedGrpcPythonEnvCodeLocationOrigin)
        and origin.loadable_target_origin.module_name == "exr_pipeline.definitions"
    ]
    named = [origin for origin in origins if origin.location_name == "exr_pipeline"]
    # Another location may use these definitions under any name; with one location there is no choice.
    return RemoteRepositoryOrigin([*ours, *named, *origins][0], SINGLETON_REPOSITORY_NAME)


def workspace_file() -> Path:
    """The workspace.yaml here, or beside dagster.yaml, or the package's own."""
    mine = [Path(_WORKSPACE), dagster_home() / _WORKSPACE]
    return next((path for path in mine if path.exists()), Path(str(_shipped(_WORKSPACE))))
