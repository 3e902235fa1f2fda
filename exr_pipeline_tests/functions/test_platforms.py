"""The functions of AWS Lambda and Google Cloud Run, over a real S3 server, and what each folder of `deploy/` builds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from exr_pipeline.functions import aws_lambda, cloud_run
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.docs.generated import REPOSITORY
from exr_pipeline_tests.renders import render

DEPLOY = REPOSITORY / "deploy"
PLAIN, ODD = "shot/beauty.1001.exr", "shot a+b/beauty #1.1002.exr"


@pytest.fixture
def function(
    s3_settings: Settings, storage: ObjectStorage, bucket: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Location]:
    """A bucket with the objects that the events name, and functions that begin anew."""
    monkeypatch.setenv("EXR_PIPELINE_DATABASE", str(tmp_path / "function.duckdb"))
    monkeypatch.setenv("EXR_PIPELINE_REQUEST_RETRIES", "0")
    monkeypatch.chdir(tmp_path)
    for key in (PLAIN, ODD):
        storage.write(bucket.child(key), render(), content_type="image/x-exr", tags={})
    aws_lambda._work.cache_clear()
    cloud_run._work.cache_clear()
    yield bucket
    for module in (aws_lambda, cloud_run):
        if module._work.cache_info().currsize:
            module._work().close()
        module._work.cache_clear()


def event(name: str, bucket: Location) -> dict[str, Any]:
    """An event of `deploy/lambda`, about another bucket; in those within others names are written `\\"renders\\"`."""
    text = (DEPLOY / "lambda/events" / f"{name}.json").read_text(encoding="utf-8")
    for depth in range(3):
        quote = "\\" * (2**depth - 1) + '"'
        text = text.replace(f"{quote}renders{quote}", f"{quote}{bucket.bucket}{quote}")
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("s3", ["success"]),
        ("s3_encoded_key", ["success"]),
        ("s3_deleted", ["skipped"]),
        ("sqs", ["success", "success"]),
        ("sns_in_sqs", ["success"]),
        ("eventbridge", ["success"]),
        ("eventbridge_in_sqs", ["success"]),
        ("eventbridge_tagged", ["skipped"]),
    ],
)
def test_every_event_of_amazon_is_answered(function: Location, name: str, statuses: list[str]) -> None:
    answer = aws_lambda.handler(event(name, function), None)
    json.dumps(answer, allow_nan=False)
    assert [one["status"] for one in answer.get("results", [answer])] == statuses
    assert answer.get("batchItemFailures", []) == []


def test_a_test_event_is_no_error(function: Location) -> None:
    assert aws_lambda.handler(event("sqs_test_event", function), None)["batchItemFailures"] == []


def test_messages_that_are_to_be_received_again_are_named(function: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT", "http://127.0.0.1:9")
    answer = aws_lambda.handler(event("sqs", function), None)
    assert answer["status"] == "error"
    assert answer["batchItemFailures"] == [{"itemIdentifier": "m-1"}, {"itemIdentifier": "m-2"}]


@pytest.mark.parametrize(("name", "status"), [("deleted", "skipped"), ("metadata_updated", "skipped")])
def test_events_of_google_are_answered(function: Location, name: str, status: str) -> None:
    found = json.loads((DEPLOY / "cloudrun/events" / f"{name}.json").read_text(encoding="utf-8"))
    cloud_event = CloudEvent(found)
    assert cloud_run.handler(cloud_event)["status"] == status


class CloudEvent(SimpleNamespace):
    """An event as functions-framework hands it over: attributes by name, and data."""

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__(data=found["data"], attributes=found)

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]


@pytest.mark.parametrize("folder", ["dataengine", "lambda", "cloudrun"])
def test_requirements_are_wheels_without_dagster_and_the_versions_of_the_tests(folder: str) -> None:
    def pinned(path: Path) -> dict[str, str]:
        lines = path.read_text(encoding="utf-8").splitlines()
        return dict(line.split(" ")[0].split("==") for line in lines if "==" in line and not line.startswith(" "))

    ours, tested = pinned(DEPLOY / folder / "requirements.txt"), pinned(REPOSITORY / "requirements" / "dev.txt")
    assert not [name for name in ours if name.startswith("dagster")]
    assert {"obstore", "duckdb", "vastdb", "openimageio", "av"} <= set(ours)
    different = {name for name in ours if name in tested and ours[name] != tested[name]}
    # functions-framework keeps an older one for itself; see docs/functions.md.
    assert different == ({"cloudevents"} if folder == "cloudrun" else set())


def test_the_files_of_vast_dataengine_name_the_same_things() -> None:
    assert (DEPLOY / "dataengine/Aptfile").read_text(encoding="utf-8") == ""
    pipeline = yaml.safe_load((DEPLOY / "dataengine/pipeline.yaml").read_text(encoding="utf-8"))
    config = yaml.safe_load((DEPLOY / "dataengine/config.example.yaml").read_text(encoding="utf-8"))
    secret = yaml.safe_load((DEPLOY / "dataengine/secrets.example.yaml").read_text(encoding="utf-8"))
    assert set(pipeline["manifest"]["config"]["secrets"]) == set(config["secrets"])
    assert {entry["key"] for entry in secret["entries"]} == set(config["secrets"]["vast-db"])
    (link,) = pipeline["manifest"]["links"]
    assert link["source"] == pipeline["manifest"]["triggers"][0]["name"]
    assert link["destination"] == pipeline["manifest"]["function_deployments"][0]["name"]
    assert link["config"]["retries"] > 0


@pytest.mark.parametrize(("folder", "names"), [("dataengine", "handler, init"), ("cloudrun", "handler")])
def test_the_main_module_of_a_folder_starts_without_dagster(folder: str, names: str) -> None:
    script = f"import sys; sys.modules['dagster'] = None; from main import {names}; print('ready')"
    inherited = {**os.environ, "PYTHONPATH": f"{DEPLOY / folder}:{REPOSITORY}"}
    command = [sys.executable, "-B", "-c", script]
    ended = subprocess.run(command, env=inherited, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("ready\n", "")
