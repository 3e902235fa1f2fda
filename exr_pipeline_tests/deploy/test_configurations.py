"""What `deploy` says is what Dagster, AWS and the files beside it understand, as far as shows without a cluster."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.model
import botocore.validate
import dagster as dg
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClassData

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage

DEPLOY = Path(__file__).parents[2] / "deploy"
ENGINES = ("celery", "ecs", "kubernetes")
LAUNCHERS = {
    "celery": "HealthCheckedCeleryRunLauncher",
    "ecs": "CommandAwareEcsRunLauncher",
    "kubernetes": "CommandAwareK8sRunLauncher",
}


@pytest.fixture(autouse=True)
def addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXR_PIPELINE_POSTGRES_URL", "postgresql+psycopg2://dagster:secret@postgres/dagster")
    monkeypatch.setenv("EXR_PIPELINE_REDIS_URL", "redis://redis/0")
    monkeypatch.setenv("EXR_PIPELINE_REDIS_PASSWORD_FILE", "")
    monkeypatch.setenv("EXR_PIPELINE_LOG_BUCKET", "logs")
    monkeypatch.setenv("S3_ENDPOINT", "https://s3.example.com")
    monkeypatch.setenv("S3_REGION", "eu-central-1")


def instance_ref(engine: str, folder: Path, change: Any = None) -> InstanceRef:
    """What Dagster makes of a dagster.yaml; raises if a block of it is not what Dagster's schema says."""
    config = loaded(f"{engine}/dagster.yaml")
    if change is not None:
        change(config)
    (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
    return InstanceRef.from_dir(str(folder))


def loaded(path: str) -> Any:
    text = (DEPLOY / path).read_text()
    return json.loads(text) if path.endswith(".json") else yaml.safe_load(text)


def errors_of(data: ConfigurableClassData) -> list[str]:
    """What the class that a block names has against the block's configuration. It is not made: ECS would be asked."""
    kind = getattr(import_module(data.module_name), data.class_name)
    result = process_config(resolve_to_config_type(kind.config_type()), yaml.safe_load(data.config_yaml))
    return [error.message for error in result.errors or []]


@pytest.mark.parametrize("engine", ENGINES)
def test_dagster_understands_every_block(engine: str, tmp_path: Path) -> None:
    ref = instance_ref(engine, tmp_path)

    blocks = [ref.run_launcher_data, ref.run_coordinator_data, ref.storage_data, ref.compute_logs_data]
    for block in blocks:
        assert block is not None
        assert errors_of(block) == [], block.class_name
    assert ref.run_launcher_data is not None
    assert ref.run_launcher_data.class_name == LAUNCHERS[engine]
    settings: Mapping[str, Any] = ref.settings
    assert settings["run_monitoring"]["enabled"]
    assert settings["run_retries"] == {"enabled": True, "max_retries": 5, "retry_on_asset_or_op_failure": False}
    # Dagster itself forgets only ticks that did nothing.
    assert set(settings["retention"]["sensor"]["purge_after_days"]) == {"skipped", "success", "failure"}
    (limit,) = settings["concurrency"]["runs"]["tag_concurrency_limits"]
    assert limit["key"] == "exr_pipeline/show"
    assert limit["limit"] < settings["concurrency"]["runs"]["max_concurrent_runs"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_word_that_dagster_does_not_know_is_noticed(engine: str, tmp_path: Path) -> None:
    def misspell(config: dict[str, Any]) -> None:
        config["run_launcher"]["config"]["silense_seconds"] = 1

    data = instance_ref(engine, tmp_path, misspell).run_launcher_data
    assert data is not None
    assert "silense_seconds" in str(errors_of(data))


def aws_errors(operation: str, parameters: dict[str, Any]) -> str:
    """What AWS's own description of ECS has against the parameters of a call."""
    description = botocore.loaders.Loader().load_service_model("ecs", "service-2")
    shape = botocore.model.ServiceModel(description, "ecs").operation_model(operation).input_shape
    return str(botocore.validate.ParamValidator().validate(parameters, shape).generate_report())


@pytest.mark.parametrize("name", ["services-task", "run-task"])
def test_aws_understands_the_task_definitions(name: str) -> None:
    definition = loaded(f"ecs/{name}.json")
    assert aws_errors("RegisterTaskDefinition", definition) == ""
    definition["containerDefinitions"][0]["commands"] = ["true"]
    assert "commands" in aws_errors("RegisterTaskDefinition", definition)


def test_aws_understands_how_a_run_is_started() -> None:
    launcher = loaded("ecs/dagster.yaml")["run_launcher"]["config"]
    run = loaded("ecs/run-task.json")
    assert launcher["task_definition"] == run["family"]
    assert [container["name"] for container in run["containerDefinitions"]] == [launcher["container_name"]]
    assert aws_errors("RunTask", {"taskDefinition": run["family"], **launcher["run_task_kwargs"]}) == ""


def test_the_services_on_ecs_may_start_runs_with_their_roles() -> None:
    run, services = loaded("ecs/run-task.json"), loaded("ecs/services-task.json")
    statements = {statement["Sid"]: statement for statement in loaded("ecs/services-policy.json")["Statement"]}
    assert set(statements["HandRolesToRuns"]["Resource"]) == {run["executionRoleArn"], run["taskRoleArn"]}
    allowed = {action for statement in statements.values() for action in statement["Action"]}
    assert {"ecs:RunTask", "ecs:StopTask", "ecs:DescribeTasks", "ecs:DescribeTaskDefinition"} <= allowed
    assert {"iam:PassRole", "logs:GetLogEvents", "s3:ListBucket"} <= allowed
    assert services["taskRoleArn"] != run["taskRoleArn"]
    (code,) = loaded("ecs/workspace.yaml")["load_from"]
    command = next(c["command"] for c in services["containerDefinitions"] if c["name"] == "code")
    assert str(code["grpc_server"]["port"]) in command


def read_by_dagster(engine: str) -> set[str]:
    """The variables that a dagster.yaml reads."""
    return set(re.findall(r"env: (\w+)", (DEPLOY / engine / "dagster.yaml").read_text()))


def test_every_container_on_ecs_gets_the_variables_that_dagster_reads() -> None:
    wanted = read_by_dagster("ecs")
    assert wanted == {"EXR_PIPELINE_POSTGRES_URL", "EXR_PIPELINE_LOG_BUCKET", "S3_REGION"}
    for name in ("services-task", "run-task"):
        for container in loaded(f"ecs/{name}.json")["containerDefinitions"]:
            given = {entry["name"] for entry in [*container["environment"], *container["secrets"]]}
            assert wanted <= given, container["name"]


def test_every_pod_on_kubernetes_gets_the_variables_that_dagster_reads() -> None:
    given = set(loaded("kubernetes/settings.yaml")["data"])
    (secrets,) = re.findall(r"`secrets.env` holds (.*?)\.", (DEPLOY / "kubernetes/README.md").read_text())
    given |= set(re.findall(r"`(\w+)`", secrets))
    assert read_by_dagster("kubernetes") <= given
    # What the log manager signs with: it knows no others.
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= given


def test_the_roles_on_ecs_may_write_and_read_what_runs_print() -> None:
    def allowed(policy: str) -> set[str]:
        statements = loaded(f"ecs/{policy}.json")["Statement"]
        return {action for s in statements if "LOG_BUCKET" in str(s["Resource"]) for action in s["Action"]}

    assert allowed("run-policy") == {"s3:PutObject"}
    assert allowed("services-policy") == {"s3:PutObject", "s3:GetObject"}


@pytest.mark.parametrize("engine", ["ecs", "kubernetes"])
def test_what_a_run_prints_is_in_the_bucket_and_is_shown_from_there(
    engine: str,
    tmp_path: Path,
    s3_server: EmbeddedS3,
    bucket: Location,
    storage: ObjectStorage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EXR_PIPELINE_LOG_BUCKET", bucket.bucket)
    monkeypatch.setenv("S3_ENDPOINT", s3_server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    # On AWS there is no other endpoint than AWS's; boto3 reads this variable.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint)
    home = tmp_path / "home"
    home.mkdir()
    config = {name: loaded(f"{engine}/dagster.yaml")[name] for name in ("compute_logs", "telemetry")}
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "exr_pipeline_tests.deploy.talkative"]
    # A folder for temporary files that only the run has: the page is on another machine.
    (tmp_path / "machine").mkdir()
    environment = os.environ | {"DAGSTER_HOME": str(home), "TMPDIR": str(tmp_path / "machine")}
    subprocess.run([*command, "-j", "talkative"], env=environment, capture_output=True, timeout=600, check=True)

    with dg.DagsterInstance.from_config(str(home)) as instance:
        (run,) = instance.get_runs()
        (written,) = [info.location for info in storage.iter_objects(bucket) if info.location.name.endswith(".out")]
        assert written.folder.key == f"exr-pipeline/storage/{run.run_id}/compute_logs/"
        assert storage.read(written)[1] == b"frame 1001 is done\n"
        key = [run.run_id, "compute_logs", written.name.removesuffix(".out")]
        assert instance.compute_log_manager.get_log_data(key).stdout == b"frame 1001 is done\n"


def settings_names() -> set[str]:
    """The environment variables that the project reads."""
    return {
        str(field.validation_alias or f"EXR_PIPELINE_{name.upper()}") for name, field in Settings.model_fields.items()
    }


def test_compose_and_its_template_name_the_same_variables_and_only_real_settings() -> None:
    compose = (DEPLOY / "celery/docker-compose.yaml").read_text()
    template = set(re.findall(r"^(\w+)=", (DEPLOY / "celery/env.template").read_text(), re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+)", compose)) == template
    services = yaml.safe_load(compose)["services"]
    ours = {name: service for name, service in services.items() if "build" in service}
    assert set(ours) == {"webserver", "daemon", "code", "worker"}
    addresses = {"EXR_PIPELINE_POSTGRES_URL", "EXR_PIPELINE_REDIS_URL", "EXR_PIPELINE_REDIS_PASSWORD_FILE"}
    for service in ours.values():
        assert set(service["environment"]) <= settings_names() | addresses
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / "celery" / source).exists()
    (code,) = loaded("celery/workspace.yaml")["load_from"]
    assert code["grpc_server"]["host"] in services
    assert str(code["grpc_server"]["port"]) in services["code"]["command"]
    assert find_spec(services["worker"]["command"][2].rpartition(".")[0]) is not None


def test_kubernetes_files_name_the_same_things() -> None:
    values, config = loaded("kubernetes/values.yaml"), loaded("kubernetes/dagster.yaml")
    launcher, settings = config["run_launcher"]["config"], loaded("kubernetes/settings.yaml")
    assert values["global"]["dagsterInstanceConfigMap"] == launcher["instance_config_map"]
    assert values["global"]["dagsterHome"] == launcher["dagster_home"]
    assert values["global"]["serviceAccountName"] == launcher["service_account_name"]
    assert [settings["metadata"]["name"]] == launcher["env_config_maps"]
    assert set(settings["data"]) <= settings_names() | read_by_dagster("kubernetes")
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    for component in (values["dagsterWebserver"], values["dagsterDaemon"], deployment):
        assert [entry["name"] for entry in component["envConfigMaps"]] == launcher["env_config_maps"]
        assert [entry["name"] for entry in component["envSecrets"]] == launcher["env_secrets"]
        assert component["image"]["repository"] == values["dagsterWebserver"]["image"]["repository"]


def test_the_image_holds_what_the_files_of_the_engines_run() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    pinned = (DEPLOY.parent / "requirements/distributed.txt").read_text()
    assert "--require-hashes" in dockerfile
    for package in ("dagster-postgres", "dagster-celery", "dagster-aws", "dagster-k8s", "redis", "vastdb", "celery"):
        assert re.search(rf"^{package}(\[.*\])?==\S+ ", pinned, re.MULTILINE), package
    runtime = dict(
        re.findall(r"^([a-z0-9-]+)==(\S+)", (DEPLOY.parent / "requirements/runtime.txt").read_text(), re.MULTILINE)
    )
    distributed = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", pinned, re.MULTILINE))
    assert {name: distributed.get(name) for name in runtime} == runtime


def test_the_image_gets_every_file_that_it_copies_and_the_texts_of_the_license() -> None:
    copied = re.findall(r"^COPY (.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    names = {name.partition("/")[0] for line in copied for name in line.split()}
    kept = re.findall(r"^!(.*)$", (DEPLOY.parent / ".dockerignore").read_text(), re.MULTILINE)
    assert names == set(kept)
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    assert {"pyproject.toml", project["readme"], *project["license-files"]} <= names


def test_the_queues_password_comes_from_a_file_and_is_in_no_environment_or_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose = loaded("celery/docker-compose.yaml")
    assert "REDIS_PASSWORD}" not in (DEPLOY / "celery/docker-compose.yaml").read_text()
    assert all("redis_password" in compose["services"][name]["secrets"] for name in ("redis", "webserver", "worker"))
    (tmp_path / "password").write_text("hu/sh@\n")
    monkeypatch.setenv("EXR_PIPELINE_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    ref = instance_ref("celery", tmp_path)
    assert ref.run_launcher.broker == "redis://:hu%2Fsh%40@redis/0"
    # What other processes are handed.
    assert "hu" not in str(ref.run_launcher_data.config_yaml)
    monkeypatch.setenv("EXR_PIPELINE_REDIS_PASSWORD_FILE", str(tmp_path / "missing"))
    with pytest.raises(MisconfiguredError, match="EXR_PIPELINE_REDIS_PASSWORD_FILE"):
        _ = instance_ref("celery", tmp_path).run_launcher
