"""The application around the commands: help, usage errors, settings, exit statuses."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from exr_pipeline import __version__
from exr_pipeline.cli import app
from exr_pipeline.cli.commands import GROUPS
from exr_pipeline.orchestration.instance import page_command
from exr_pipeline_tests.cli.conftest import Cli, bare_environment, run_process, small_exr

COMMANDS = sorted(typer.main.get_group(app).commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_each_of_its_parameters_has_help(command: str, cli: Cli) -> None:
    said = cli(command, "--help")
    assert (said.status, said.err) == (0, "")
    assert f"exr-pipeline {command}" in said.out
    for parameter in typer.main.get_group(app).commands[command].params:
        assert getattr(parameter, "help", None), f"{command} {parameter.name}"


def test_without_arguments_it_lists_the_commands(cli: Cli) -> None:
    said = cli()
    assert said.status == 0
    assert all(f" {command} " in said.out for command in COMMANDS)


def modules_loaded_by(*arguments: str, cwd: Path) -> set[str]:
    """Every module that the command has loaded by its end, in a process of its own."""
    code = "import sys; from exr_pipeline.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, cwd=cwd, env=bare_environment(), capture_output=True, text=True, check=True)
    return set(ended.stderr.split())


# What takes most of the time of a start, wherever it is loaded.
SLOW = {"pydantic", "pydantic_settings", "asyncio", "numpy", "rich.progress", "exr_pipeline.settings"}


def test_help_is_shown_without_loading_what_the_commands_need(home: Path) -> None:
    assert modules_loaded_by("--help", cwd=home) & SLOW == set()


def test_a_command_loads_neither_the_other_commands_nor_what_it_does_not_need(home: Path) -> None:
    (home / "ramp.exr").write_bytes(small_exr())
    loaded = modules_loaded_by("inspect", "ramp.exr", cwd=home)
    assert loaded & {"numpy", "rich.progress", "rich.markdown"} == set()
    assert "exr_pipeline.cli.files" in loaded
    assert loaded & {f"exr_pipeline.cli.{name}" for name in ("demo", "doctor", "ingest", "tables", "ui")} == set()


def test_help_shows_the_commands_in_groups(cli: Cli) -> None:
    said = cli("--help").out
    heading = "\n╭─ {} ─"
    places = [said.index(heading.format(group)) for group in GROUPS]
    assert places == sorted(places)
    for group, following in zip(GROUPS, [*places[1:], len(said)], strict=True):
        for command in GROUPS[group]:
            assert said.index(heading.format(group)) < said.index(f"│ {command} ") < following


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version").out == f"exr-pipeline {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["inspect"], "Missing argument"),
        (["sql", "FROM files", "--xml"], "No such option"),
        (["sql", "FROM files", "--csv", "--json"], "choose one of --csv and --json"),
        (["ui", "--port", "many"], "Invalid value for '--port'"),
    ],
)
def test_a_usage_error_is_one_line_and_status_2(cli: Cli, arguments: list[str], problem: str) -> None:
    said = cli(*arguments)
    assert said.status == 2
    assert problem in said.error
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXR_PIPELINE_CHUNK_SIZE", "0"),
        ("EXR_PIPELINE_SETTLE_SECONDS", "soon"),
        ("EXR_PIPELINE_STILL_VIEW", "pretty"),
    ],
)
@pytest.mark.parametrize("command", ["doctor", "status"])
def test_a_wrong_setting_is_named(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    said = cli(command)
    assert said.status == 1
    assert said.error.startswith(f"{name}: ")
    assert "Fix: see docs/settings.md" in said.error


def test_settings_come_from_an_env_file_too(cli: Cli, home: Path) -> None:
    (home / ".env").write_text("EXR_PIPELINE_CHUNK_SIZE=-1\n")
    assert cli("status").error.startswith("EXR_PIPELINE_CHUNK_SIZE: ")


def test_an_error_of_the_installed_command_is_one_line_without_a_traceback(home: Path) -> None:
    said = run_process("inspect", "nosuch.exr", cwd=home)
    assert (said.status, said.out, said.err) == (1, "", "Error: nosuch.exr: no such file or folder\n")


def test_a_reader_that_goes_away_is_no_reason_for_a_traceback(home: Path) -> None:
    program = Path(sys.executable).with_name("exr-pipeline")
    command = f"{program} sql \"SELECT range, repeat('x', 1000) AS x FROM range(20000)\" --csv | head -1"
    said = subprocess.run(
        ["bash", "-c", command], cwd=home, env=bare_environment(), capture_output=True, text=True, check=True
    )
    assert (said.stdout, said.stderr) == ("range,x\n", "")


def test_the_page_is_not_served_on_a_port_that_is_taken(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = cli("ui", "--port", str(port))
    assert (said.status, said.out) == (1, "")
    assert said.error == f"--port: {port} is taken. Fix: choose another one"


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_a_page_for_others_is_warned_of_with_the_way_to_put_a_login_before_it(
    cli: Cli, host: str, *, warned: bool
) -> None:
    with socket.create_server((host, 0)) as taken:
        said = cli("ui", "--host", host, "--port", str(taken.getsockname()[1]))
    assert ("Warning: whoever reaches 0.0.0.0" in said.err) == warned
    assert ("docs/operations.md" in said.err) == warned


def test_the_page_is_of_this_project_where_no_workspace_is_described(home: Path) -> None:
    assert "--workspace" not in page_command("127.0.0.1", 3000, daemon=True, verbose=False)
    (home / "workspace.yaml").write_text("load_from: []")
    assert "workspace.yaml" in page_command("127.0.0.1", 3000, daemon=True, verbose=False)
