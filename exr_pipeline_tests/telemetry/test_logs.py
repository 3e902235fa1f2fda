"""Log lines: JSON with file, run and trace, one line whatever they hold; as text nothing that a terminal obeys."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.settings import Settings
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.telemetry.logs import JsonFormatter, TextFormatter, about, set_up_logs
from exr_pipeline.telemetry.recording import span
from exr_pipeline_tests.cli.conftest import make_home, run_process
from exr_pipeline_tests.functions.test_dataengine import Open, created, put
from exr_pipeline_tests.functions.test_dataengine import function as function
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.telemetry.test_otlp import PARENT, TRACE

HOSTILE = "\x1b]0;owned\x07\r\n\u202egnp.exe \ud800"


@pytest.fixture
def written() -> tuple[logging.Logger, StringIO]:
    """A logger, and what its handler writes."""
    stream = StringIO()
    logger = logging.Logger("exr_pipeline.made_up")
    logger.addHandler(logging.StreamHandler(stream))
    return logger, stream


def line(stream: StringIO) -> dict[str, Any]:
    (text,) = stream.getvalue().splitlines()
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_says_when_how_bad_who_what_and_what_it_is_about(written: tuple[logging.Logger, StringIO]) -> None:
    logger, stream = written
    logger.handlers[0].setFormatter(JsonFormatter())
    with about(run="a run"), about(file="s3://renders/a.exr"), span("work", parent=PARENT):
        logger.warning("%d files", 3)
    found = line(stream)
    assert found.pop("timestamp").endswith("+00:00")
    assert found == {
        "level": "WARNING",
        "logger": "exr_pipeline.made_up",
        "message": "3 files",
        "file": "s3://renders/a.exr",
        "run": "a run",
        "trace_id": TRACE,
        "span_id": "b7ad6b7169203331",
    }


def test_what_a_line_is_about_ends_with_its_block(written: tuple[logging.Logger, StringIO]) -> None:
    logger, stream = written
    logger.handlers[0].setFormatter(JsonFormatter())
    with about(file="a.exr"):
        pass
    logger.warning("done")
    assert line(stream)["file"] is None


def test_hostile_text_is_escaped_in_json_and_comes_back_as_it_was(written: tuple[logging.Logger, StringIO]) -> None:
    logger, stream = written
    logger.handlers[0].setFormatter(JsonFormatter())
    with about(file=HOSTILE):
        logger.warning(HOSTILE)
    assert stream.getvalue().isascii()
    assert stream.getvalue().rstrip("\n").isprintable()
    found = line(stream)
    assert found["message"] == found["file"] == HOSTILE


def test_as_text_a_terminal_has_nothing_to_obey(written: tuple[logging.Logger, StringIO]) -> None:
    logger, stream = written
    logger.handlers[0].setFormatter(TextFormatter())
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception(HOSTILE)
    text = stream.getvalue()
    assert "\\x1b]0;owned" in text.splitlines()[0]
    assert not set(text) & set("\x1b\x07\r\u202e\ud800")
    assert "ValueError" in text


_PROGRAM = """
import logging, sys
from exr_pipeline.settings import Settings
from exr_pipeline.telemetry.logs import set_up_logs
settings = Settings(_env_file=None, log_format=sys.argv[1])
set_up_logs(settings); set_up_logs(settings)
log = logging.getLogger("exr_pipeline.somewhere")
log.info("quiet\\x1b")
log.warning("loud\\x1b")
logging.getLogger("another.library").info("not ours")
"""


def lines_of(form: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", _PROGRAM, form], capture_output=True, text=True, check=True)
    return ran.stderr.splitlines()


def test_a_process_writes_each_line_once_in_the_form_of_the_setting() -> None:
    assert lines_of("text") == ["loud\\x1b"]
    assert [json.loads(line)["message"] for line in lines_of("json")] == ["quiet\x1b", "loud\x1b"]


def test_handlers_of_a_platform_stay_and_write_json() -> None:
    stream = StringIO()
    platforms = logging.Logger("platform")
    platforms.addHandler(logging.StreamHandler(stream))
    set_up_logs(Settings(_env_file=None, log_format="json"), platforms)
    logging.getLogger("exr_pipeline").setLevel(logging.NOTSET)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(None)
    platforms.warning("away")
    assert line(stream)["message"] == "away"


def test_a_function_logs_each_file_with_its_trace(
    function: Open, storage: ObjectStorage, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exr_pipeline.functions import dataengine

    stream = StringIO()
    logger = logging.Logger("function")
    logger.addHandler(logging.StreamHandler(stream))
    monkeypatch.setenv("EXR_PIPELINE_FUNCTION_PRODUCTS", "header")
    context = function(logger=logger)
    logger.handlers[0].setFormatter(JsonFormatter())
    put(storage, bucket, {"a.exr": render()})
    event = created(bucket, "a.exr")
    event.extensions["traceparent"] = PARENT
    dataengine.handler(context, event)
    found = line(stream)
    assert (found["level"], found["file"], found["trace_id"]) == ("INFO", bucket.child("a.exr").url, TRACE)


def test_a_run_of_the_command_line_logs_its_rejected_file_with_file_and_run(tmp_path: Path) -> None:
    renders = tmp_path / "renders"
    renders.mkdir()
    (renders / "b.1001.exr").write_bytes(b"no picture")
    home = make_home(tmp_path / "home")
    ran = run_process("ingest", str(renders), "--only", "header", cwd=home, env={"EXR_PIPELINE_LOG_FORMAT": "json"})
    found = [json.loads(text) for text in ran.err.splitlines() if text.startswith("{")]
    (rejected,) = [each for each in found if each["logger"] == "exr_pipeline.ingest.chunk"]
    assert rejected["message"].startswith("rejected: not an OpenEXR")
    assert rejected["file"] == (renders / "b.1001.exr").as_uri()
    assert len(rejected["run"]) == 36
