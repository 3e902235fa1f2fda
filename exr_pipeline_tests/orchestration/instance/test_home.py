"""Where Dagster's home is, and what is found in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.orchestration.instance.event_storage import BatchingSqliteEventLogStorage
from exr_pipeline.orchestration.instance.home import (
    dagster_home,
    instance_summary,
    open_instance,
    page_command,
    prepare_instance,
    repository_origin,
)
from exr_pipeline_tests.orchestration.dagster_homes import DAGSTER_YAML


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the repository's dagster.yaml; another one without is the working folder."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(DAGSTER_YAML, folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    return folder


def test_the_variable_names_the_home(home: Path) -> None:
    assert dagster_home() == home


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_variable_the_working_folder_is_the_home_also_for_processes_started_later(
    home: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.chdir(home)
    if value is None:
        monkeypatch.delenv("DAGSTER_HOME")
    else:
        monkeypatch.setenv("DAGSTER_HOME", value)

    assert dagster_home() == home
    assert os.environ["DAGSTER_HOME"] == str(home)


def test_a_home_without_configuration_is_refused_by_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", ".")

    with pytest.raises(MisconfiguredError, match="elsewhere has no dagster") as caught:
        dagster_home()

    assert caught.value.setting == "DAGSTER_HOME"


def test_a_configuration_of_an_earlier_version_is_refused_by_the_name_that_it_has_and_this_one_lacks(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "dagster.yaml"
    text = file.read_text("utf-8")
    file.unlink()
    file.write_text(text.replace("orchestration.instance.event_storage", "orchestration.event_batching"), "utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with pytest.raises(MisconfiguredError, match=r"names exr_pipeline\.orchestration\.event_batching.*init"):
        open_instance()


def test_a_prepared_home_can_be_opened_by_several_processes_at_once(home: Path) -> None:
    prepare_instance()
    code = "from exr_pipeline.orchestration.instance.home import instance_summary; print(instance_summary())"

    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate() for process in processes]

    expected = f"{home}: BatchingSqliteEventLogStorage, 0 runs\n"
    assert [answer for answer, _ in answers] == [expected] * 2, answers
    assert instance_summary() == expected.strip()


def test_the_history_lies_in_the_home_whatever_the_working_folder(home: Path) -> None:
    with open_instance() as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, BatchingSqliteEventLogStorage)
        assert Path(storage.path_for_shard("index")).is_relative_to(home / ".state" / "dagster")
        assert instance.run_monitoring_enabled


def test_the_page_is_served_where_and_as_it_is_asked_to_be() -> None:
    command = page_command("127.0.0.1", 3456, daemon=True, verbose=False)
    assert command[:2] == ["-m", "exr_pipeline.orchestration.instance.page"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "3456"
    assert not {"--no-daemon", "--verbose"} & set(command)
    assert {"--no-daemon", "--verbose"} <= set(page_command("127.0.0.1", 3456, daemon=False, verbose=True))


def test_runs_are_of_the_code_location_that_the_page_loads(home: Path) -> None:
    assert repository_origin().get_label() == "__repository__@exr_pipeline"
    workspace = home / "workspace.yaml"
    workspace.write_text("load_from: []")
    assert repository_origin().get_label() == "__repository__@exr_pipeline"
    other = "{python_module: {module_name: theirs, location_name: exr_pipeline}}"
    workspace.write_text(f"load_from: [{other}, {{python_module: exr_pipeline.definitions}}]")
    assert repository_origin().get_label() == "__repository__@exr_pipeline.definitions"
    server = "{grpc_server: {host: code, port: 4000, location_name: exr_pipeline}}"
    workspace.write_text(f"load_from: [{{python_module: theirs}}, {server}]")
    assert repository_origin().get_label() == "__repository__@exr_pipeline"
    workspace.write_text("load_from: [{python_module: theirs}]")
    assert repository_origin().get_label() == "__repository__@theirs"
