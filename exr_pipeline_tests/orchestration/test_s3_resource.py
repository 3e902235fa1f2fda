"""`S3Resource` of dagster-aws as the source of endpoint and credentials, against the real S3 server."""

import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.partitions import FILES
from exr_pipeline.orchestration.s3_resource import with_s3_resource
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.docs.test_documents import blocks
from exr_pipeline_tests.orchestration.conftest import RANGE_END, RANGE_START
from exr_pipeline_tests.orchestration.dagster_homes import instance_at
from exr_pipeline_tests.renders import render


@pytest.fixture(autouse=True)
def no_s3_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither settings of S3 nor an AWS configuration."""
    for name in [name for name in os.environ if name.startswith(("S3_", "AWS_"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def resource(s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> S3Resource:
    """As people write it: the secret in the environment, under a name of their own."""
    monkeypatch.setenv("STUDIO_S3_SECRET", s3_server.secret_key)
    return S3Resource(
        endpoint_url=s3_server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=dg.EnvVar("STUDIO_S3_SECRET"),
    )


def put_frames(resource: S3Resource, bucket: Location) -> list[Location]:
    frames = [bucket.child(f"shot/a.{number}.exr") for number in (1001, 1002)]
    for frame in frames:
        resource.process_config_and_initialize().get_client().put_object(
            Bucket=bucket.bucket, Key=frame.key, Body=render()
        )
    return frames


@pytest.mark.usefixtures("lasting_workers")
def test_files_are_ingested_with_the_credentials_of_the_resource_alone(
    resource: S3Resource, bucket: Location, tmp_path: Path
) -> None:
    frames = put_frames(resource, bucket)
    settings = Settings(_env_file=None, database=tmp_path / "tables.duckdb", sources=(bucket.url,))
    assert settings.s3_endpoint is None
    defs = build_defs(settings=settings, s3=resource)
    first, last = (frame.partition_key for frame in frames)
    with instance_at(tmp_path / "home") as instance:
        instance.add_dynamic_partitions(FILES, [first, last])
        ran = defs.resolve_job_def("ingest").execute_in_process(
            instance=instance, tags={RANGE_START: first, RANGE_END: last}
        )

    assert ran.success
    rows = Pipeline(settings).tables.read("files", columns=["uri", "state"]).to_pylist()
    assert {row["uri"]: row["state"] for row in rows} == {frame.url: "ready" for frame in frames}
    storage = ObjectStorage(with_s3_resource(settings, resource))
    made = {info.location.name for info in storage.iter_objects(bucket.child("shot/.proxies/"))}
    assert {"a.1001_thumb.jpg", "a.1002_proxy.mp4"} <= made


def test_the_example_of_the_document_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_S3_KEY", "a-key")
    monkeypatch.setenv("STUDIO_S3_SECRET", "a-secret")
    (code,) = (code for code in blocks("docs/operations.md", "python") if "S3Resource" in code)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "docs/operations.md", "exec", dont_inherit=True), names)
    assert isinstance(names["defs"], dg.Definitions)


def test_the_page_is_told_none_of_its_keys(resource: S3Resource, s3_server: EmbeddedS3, tmp_path: Path) -> None:
    defs = build_defs(settings=Settings(_env_file=None, database=tmp_path / "tables.duckdb"), s3=resource)
    shown = defs.get_repository_def().get_top_level_resources()
    assert not any(s3_server.secret_key in f"{each.description} {each}" for each in shown.values())


def test_a_profile_and_temporary_keys_are_used(s3_server: EmbeddedS3, bucket: Location, tmp_path: Path) -> None:
    keys = f"aws_access_key_id = {s3_server.access_key}\naws_secret_access_key = {s3_server.secret_key}\n"
    (tmp_path / "aws").write_text(f"[studio]\n{keys}")
    settings = Settings(_env_file=None)
    of_profile = S3Resource(endpoint_url=s3_server.endpoint, profile_name="studio")
    (frame, _) = put_frames(of_profile, bucket)
    assert ObjectStorage(with_s3_resource(settings, of_profile)).read(frame)[1] == render()

    temporary = S3Resource(aws_access_key_id="a", aws_secret_access_key="b", aws_session_token="the+token")
    url = ObjectStorage(with_s3_resource(settings, temporary)).sign_get(
        frame, seconds=60, content_type="image/x-exr", content_disposition="inline"
    )
    assert "X-Amz-Security-Token=the%2Btoken&" in url

    missing = ObjectStorage(with_s3_resource(settings, S3Resource(profile_name="elsewhere")))
    with pytest.raises(MisconfiguredError, match="S3_PROFILE: the AWS configuration has no profile 'elsewhere'"):
        missing.read(frame)


def test_what_it_leaves_open_comes_from_the_aws_chain_but_region_and_retries_from_the_settings() -> None:
    settings = Settings(
        _env_file=None,
        s3_endpoint="https://s3.example.com",
        s3_access_key="a-key",
        s3_secret_key="a-secret",
        s3_region="eu-central-1",
        request_retries=1,
    )
    changed = with_s3_resource(settings, S3Resource())
    assert (changed.s3_endpoint, changed.s3_access_key, changed.s3_secret_key) == (None, None, None)
    assert (changed.s3_region, changed.request_retries) == ("eu-central-1", 1)
    changed = with_s3_resource(settings, S3Resource(region_name="us-west-2", max_attempts=9))
    assert (changed.s3_region, changed.request_retries) == ("us-west-2", 8)


@pytest.mark.parametrize(("field", "value"), [("use_unsigned_session", True), ("verify", False), ("use_ssl", False)])
def test_a_field_that_would_be_ignored_is_an_error(field: str, value: Any) -> None:
    with pytest.raises(MisconfiguredError, match=f"S3Resource.{field}: not supported"):
        build_defs(settings=Settings(_env_file=None), s3=S3Resource(**{field: value}))
