"""The folders of `deploy/` as their READMEs build them: only their requirements and this project, and all their events.

`calls.py` is what runs in those environments.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.environment import Environment, build_wheel, install_wheel, make_locked
from exr_pipeline.functions.answer import Answer
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables import open_table_store
from exr_pipeline_tests.cli.conftest import bare_environment
from exr_pipeline_tests.docs.generated import REPOSITORY
from exr_pipeline_tests.functions.test_events import AMAZON, GOOGLE, NAMED, ODD, PLAIN
from exr_pipeline_tests.long_tests import takes_long
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.services.google_storage import ANYBODY, google_storage
from exr_pipeline_tests.vast_emulator.running import running_emulator

CALLS = Path(__file__).with_name("calls.py")


def copy_as_image(folder: str, target: Path) -> Path:
    """A folder with what the Dockerfile copies of this project."""
    dockerfile = (REPOSITORY / "deploy" / folder / "Dockerfile").read_text(encoding="utf-8")
    target.mkdir()
    for line in re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE):
        source, to = line.replace("${LAMBDA_TASK_ROOT}", ".").split()
        place = target / to
        if (REPOSITORY / source).is_dir():
            shutil.copytree(REPOSITORY / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / source, place)
    return target


def call(
    platform: str,
    environment: Environment,
    task: Path,
    variables: Mapping[str, str],
    secrets: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Answer]:
    """The answers to every event of the platform's folder, those that change nothing first."""
    events = list((REPOSITORY / "deploy" / platform / "events").iterdir())
    events.sort(key=lambda path: ("success" in wanted(path.stem).values(), path))
    inherited = {name: value for name, value in bare_environment().items() if not name.startswith("PYTHON")}
    ended = subprocess.run(
        [environment.python, CALLS, platform, *events],
        cwd=task,
        env={**inherited, **variables},
        input=json.dumps(secrets or {}),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert not Path(told["package"]).is_relative_to(REPOSITORY)
    assert {path.stem for path in events} == set(told["answers"])
    answers: dict[str, Answer] = told["answers"]
    return answers


def wanted(event: str) -> dict[str, str]:
    """What each object that an event names is to be answered with."""
    named = {**NAMED, **GOOGLE}
    objects = AMAZON[event] if event in AMAZON else [named[event]]
    return {url: "success" if action == "created" else "skipped" for url, action in objects}


def check(answers: Mapping[str, Answer], storage: ObjectStorage, bucket: Location, rows: list[dict[str, Any]]) -> None:
    """The answers are as expected; the objects and the rows of all files that were created are there, and no more."""
    made: dict[str, Answer] = {}
    for event, answer in answers.items():
        found = answer.get("results", [answer])
        assert {f"{one['file']['s3_bucket']}/{one['file']['s3_key']}": one["status"] for one in found} == wanted(event)
        for one in found:
            if one["status"] == "success":
                made.setdefault(one["source_key"], one)
                assert one["persistence"]["status"] == "success", one
                assert one["error"] is None, one
    keys = {info.location.key for info in storage.iter_objects(bucket)}
    expected = {f"{one[f'{kind}_key']}" for one in made.values() for kind in ("thumbnail", "proxy")}
    assert len(expected) == 2 * len(made)
    assert {key for key in keys if "/.proxies/" in key} == expected
    assert {(row["file_id"], row["file_path"], row["state"]) for row in rows} == {
        (one["file_id"], key, "ready") for key, one in made.items()
    }
    assert all(one["inserted"] for one in made.values())


def put_renders(storage: ObjectStorage, bucket: Location) -> None:
    for name in (PLAIN, ODD):
        storage.write(bucket.at(name.removeprefix("renders/")), render(), content_type="image/x-exr", tags={})


@takes_long
def test_the_folder_of_vast_dataengine_answers_every_event_with_only_what_it_installs(tmp_path: Path) -> None:
    task = shutil.copytree(REPOSITORY / "deploy" / "dataengine", tmp_path / "task")
    environment = make_locked(tmp_path / "environment", task / "requirements.txt")
    install_wheel(environment, build_wheel(task / "customDeps"))
    with EmbeddedS3(tmp_path / "s3") as server, running_emulator() as emulator:
        server.create_bucket("renders")
        storage, bucket = storage_of(server), Location("s3", "renders", "")
        put_renders(storage, bucket)
        keys = {"endpoint": server.endpoint, "access_key": server.access_key, "secret_key": server.secret_key}
        vast = {"endpoint": emulator.url, "access_key": "test", "secret_key": "a secret"}
        secrets = {"s3": keys, "vast-db": vast}
        answers = call("dataengine", environment, task, {"VAST_DB_BUCKET": "vastdb"}, secrets)
        assert all(answer["other"] == answer["status"] for answer in answers.values())
        check(answers, storage, bucket, emulator.rows("files", "exr_metadata")["rows"])
        assert len(emulator.rows("proxy_outputs", "exr_metadata")["rows"]) == 2


@takes_long
def test_the_image_of_lambda_answers_every_event_with_only_what_it_installs(tmp_path: Path) -> None:
    task = copy_as_image("lambda", tmp_path / "task")
    environment = make_locked(tmp_path / "environment", task / "requirements.txt")
    dockerfile = (REPOSITORY / "deploy/lambda/Dockerfile").read_text(encoding="utf-8")
    (handler,) = re.findall(r'^CMD \["([^"]+)"\]$', dockerfile, re.MULTILINE)
    with EmbeddedS3(tmp_path / "s3") as server:
        server.create_bucket("renders")
        storage, bucket = storage_of(server), Location("s3", "renders", "")
        put_renders(storage, bucket)
        database = tmp_path / "rows.duckdb"
        variables = {"_HANDLER": handler, "EXR_PIPELINE_DATABASE": str(database), **server.environment()}
        answers = call("lambda", environment, task, variables)
        test = answers.pop("sqs_test_event")
        assert (test["results"], test["batchItemFailures"]) == ([], [])
        assert all(answer.get("batchItemFailures", []) == [] for answer in answers.values())
        check(answers, storage, bucket, rows_of(database))


@takes_long
def test_the_image_of_cloud_run_answers_every_event_with_only_what_it_installs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = copy_as_image("cloudrun", tmp_path / "task")
    environment = make_locked(tmp_path / "environment", task / "requirements.txt")
    with (
        EmbeddedS3(tmp_path / "s3", more_identities=(ANYBODY,)) as server,
        google_storage(server.endpoint, tmp_path) as google,
    ):
        server.create_bucket("renders")
        for name, value in google.items():
            monkeypatch.setenv(name, value)
        storage, bucket = ObjectStorage(Settings(_env_file=None)), Location("gs", "renders", "")
        put_renders(storage, bucket)
        database = tmp_path / "rows.duckdb"
        answers = call("cloudrun", environment, task, {"EXR_PIPELINE_DATABASE": str(database), **google})
        assert {name: answer["http"] for name, answer in answers.items()} == dict.fromkeys(GOOGLE, 200)
        check(answers, storage, bucket, rows_of(database))


def storage_of(server: EmbeddedS3) -> ObjectStorage:
    keys: dict[str, Any] = {"s3_access_key": server.access_key, "s3_secret_key": server.secret_key}
    return ObjectStorage(Settings(_env_file=None, s3_endpoint=server.endpoint, **keys))


def rows_of(database: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        open_table_store(Settings(_env_file=None, database=database)).read("files").to_pylist()
    )
    return found
