"""The application around the commands: help, usage errors, settings, exit statuses."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from exr_pipeline import __version__
from exr_pipeline.cli import app
from exr_pipeline.cli.commands import GROUPS
from exr_pipeline.orchestration.instance.home import workspace_file
from exr_pipeline_tests.cli.conftest import ODD_NAME, Cli, bare_environment, run_process, small_exr

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
SLOW = {"rich.markdown", "rich.progress", "pydantic", "pydantic_settings", "asyncio", "numpy", "exr_pipeline.settings"}


def test_help_is_shown_without_loading_what_the_commands_need(home: Path) -> None:
    assert modules_loaded_by("--help", cwd=home) & SLOW == set()


def test_a_command_loads_neither_the_other_commands_nor_what_it_does_not_need(home: Path) -> None:
    (home / "ramp.exr").write_bytes(small_exr())
    loaded = modules_loaded_by("inspect", "ramp.exr", cwd=home)
    assert loaded & {"numpy", "rich.progress", "rich.markdown", "dagster", "obstore"} == set()
    assert "exr_pipeline.cli.files" in loaded
    assert loaded & {f"exr_pipeline.cli.{name}" for name in ("demo", "doctor", "ingest", "tables", "ui")} == set()


def test_help_shows_the_commands_in_groups(cli: Cli) -> None:
    said = cli("--help").out
    places = [said.index(f"\n{group}:\n") for group in GROUPS]
    assert places == sorted(places)
    for group, following in zip(GROUPS, [*places[1:], len(said)], strict=True):
        for command in GROUPS[group]:
            assert said.index(f"\n{group}:\n") < said.index(f"\n  {command} ") < following


def test_shells_complete_commands_options_and_files(home: Path) -> None:
    program = Path(sys.executable).with_name("exr-pipeline")
    (home / "renders").mkdir()
    script = f"""
        PATH={program.parent}:$PATH
        eval "$(exr-pipeline --show-completion)"
        complete -p exr-pipeline
        complete_words() {{
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _exr_pipeline_completion exr-pipeline; echo "${{COMPREPLY[@]}}"
        }}
        complete_words exr-pipeline ins
        complete_words exr-pipeline contact-sheet --fr
        complete_words exr-pipeline inspect ren
    """
    said = subprocess.run(
        ["bash", "-c", script], cwd=home, env=bare_environment(), capture_output=True, text=True, check=True
    )
    # Where the program has nothing to propose, bash proposes files.
    assert "-o default" in said.stdout.splitlines()[0]
    assert said.stdout.splitlines()[1:] == ["inspect", "--frames", ""]
    assert said.stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_their_script(home: Path, shell: str) -> None:
    said = run_process(cwd=home, env={"_EXR_PIPELINE_COMPLETE": f"source_{shell}"})
    assert (said.status, said.err) == (0, "")
    assert "_EXR_PIPELINE_COMPLETE" in said.out


def without_warning_of_no_tables(lines: list[str]) -> list[str]:
    """What else commands that read the tables have said in a folder without any."""
    return [line for line in lines if not line.startswith("Warning: database ")]


# Commands that print little, much, by rich, by csv, by json and by the help.
PRINTING = {
    "help": "--help",
    "inspect": "inspect *.exr",
    "json": "inspect --json *.exr",
    "csv": "sql \"SELECT range, repeat('x', 1000) AS x FROM range(20000)\" --csv",
    "table": 'sql "FROM range(3000)"',
    "settings": "settings",
}


@pytest.mark.parametrize("reader", ["head -1", "true"])
@pytest.mark.parametrize("arguments", PRINTING.values(), ids=PRINTING)
def test_a_reader_that_goes_away_ends_a_command_without_a_word(home: Path, arguments: str, reader: str) -> None:
    for name in ("a.exr", "b.exr"):
        (home / name).write_bytes(small_exr())
    program = Path(sys.executable).with_name("exr-pipeline")
    script = f"{program} {arguments} | {reader}; echo ${{PIPESTATUS[0]}} >&2"
    said = subprocess.run(
        ["bash", "-c", script], cwd=home, env=bare_environment(), capture_output=True, text=True, check=True
    )
    *said_before, status = said.stderr.splitlines()
    assert status in {"0", "141"}
    assert without_warning_of_no_tables(said_before) == []


@pytest.mark.parametrize("arguments", [["inspect", ODD_NAME], ["--help"], ["status"], ["settings"]])
def test_what_the_terminal_cannot_show_is_spelled_out(home: Path, arguments: list[str]) -> None:
    (home / ODD_NAME).write_bytes(small_exr(comments="Tür, 日本, …"))
    said = run_process(*arguments, cwd=home, env={"LC_ALL": "C", "PYTHONUTF8": "0", "EXR_PIPELINE_STATE_DIR": "zür"})
    assert said.status == 0
    assert without_warning_of_no_tables(said.err.splitlines()) == []
    assert (said.out + said.err).isascii()
    if arguments[0] == "inspect":
        assert r"T\xfcr, \u65e5\u672c, \u2026" in said.out
    elif arguments[0] == "settings":
        assert "z" in said.out


@pytest.mark.parametrize("arguments", [["inspect", "a.exr"], ["sql", "SELECT 1 AS n, '/a/b.exr' AS uri"], ["settings"]])
def test_values_have_no_colors_that_guess_at_them(home: Path, arguments: list[str]) -> None:
    (home / "a.exr").write_bytes(small_exr(owner="http://example.com 127.0.0.1 /a/path None True :warning:"))
    said = run_process(*arguments, cwd=home, env={"FORCE_COLOR": "1", "COLUMNS": "200"})
    styles = set(re.findall(r"\x1b\[([\d;]*)m", said.out))
    # The heads of tables are bold, their titles italic.
    assert styles <= {"1", "0", "3"}
    assert "1" in styles
    if arguments[0] == "inspect":
        assert "http://example.com 127.0.0.1 /a/path None True :warning:" in said.out


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version").out == f"exr-pipeline {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["inspect"], "Missing argument"),
        (["sql", "FROM files", "--xml"], "No such option"),
        (["sql", "FROM files", "--csv", "--json"], "choose one of --csv, --parquet, --json, --ndjson and --output"),
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


def test_the_page_is_not_served_on_a_port_that_is_taken(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = cli("ui", "--port", str(port))
    assert (said.status, said.out) == (1, "")
    assert said.error == f"--port: port {port} is already in use. Fix: choose another port"


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_a_page_for_others_is_warned_of_with_the_way_to_put_a_login_before_it(
    cli: Cli, host: str, *, warned: bool
) -> None:
    with socket.create_server((host, 0)) as taken:
        said = cli("ui", "--host", host, "--port", str(taken.getsockname()[1]))
    assert ("Warning: anyone who can reach 0.0.0.0" in said.err) == warned
    assert ("docs/operations.md" in said.err) == warned


def test_the_page_is_of_this_project_where_no_workspace_is_described(home: Path) -> None:
    assert workspace_file().match("exr_pipeline/orchestration/instance/packaged_home/workspace.yaml")
    (home / "workspace.yaml").write_text("load_from: []")
    assert workspace_file() == Path("workspace.yaml")
