"""The rights that docs/permissions.md asks for are enough, and the account of the test has no others."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from exr_pipeline.errors import ExrPipelineError
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.cli.conftest import Cli, small_exr
from exr_pipeline_tests.conftest import INGESTER
from exr_pipeline_tests.docs.generated import REPOSITORY
from exr_pipeline_tests.docs.test_documents import blocks


def test_an_account_that_may_only_read_sources_and_write_outputs_can_ingest(
    cli: Cli, home: Path, s3_server: EmbeddedS3, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    renders = Location("s3", f"renders-{uuid4().hex}", "")
    media = Location("s3", f"media-{uuid4().hex}", "")
    for place in (renders, media):
        s3_server.create_bucket(place.bucket)
    frames = [renders.child(f"shot/a.{number}.exr") for number in (1001, 1002)]
    for frame in frames:
        storage.write(frame, small_exr(), content_type="image/x-exr", tags={})
    environment = s3_server.environment() | {
        "S3_ACCESS_KEY": INGESTER["access_key"],
        "S3_SECRET_KEY": INGESTER["secret_key"],
        "EXR_PIPELINE_SOURCES": renders.url,
        "EXR_PIPELINE_OUTPUT_ROOT": media.url,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert cli("ingest", renders.url).out.startswith("2 of 2 files: 2 ready")
    assert cli("sequences", renders.url).status == 0
    for frame in frames:
        storage.delete(frame)
    monkeypatch.setenv("EXR_PIPELINE_DELETED_MEDIA_DAYS", "0")
    assert cli("reconcile", "--apply", "--force").status == 0
    assert list(storage.iter_objects(media)) == []
    with pytest.raises(ExrPipelineError):
        ObjectStorage(Settings()).write(frames[0], b"x", content_type="image/x-exr", tags={})


def test_the_policy_of_the_document_is_that_of_the_deployment() -> None:
    (documented,) = blocks("docs/permissions.md", "json")
    deployed = (REPOSITORY / "deploy/ecs/run-policy.json").read_text(encoding="utf-8")

    def rights(policy: str) -> list[tuple[list[str], object]]:
        return [(statement["Action"], statement["Resource"]) for statement in json.loads(policy)["Statement"]]

    assert rights(documented) == rights(deployed)
