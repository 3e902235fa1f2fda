"""Names that other programs look for, in runs, functions, on Dagster's page and after a function did the work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from exr_pipeline.functions import dataengine
from exr_pipeline.functions.work import FunctionWork
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.instance.page.media import Media
from exr_pipeline.pipeline import Pipeline
from exr_pipeline_tests.functions.runtimes import Context
from exr_pipeline_tests.orchestration.conftest import Workshop
from exr_pipeline_tests.orchestration.instance.page.serving import serving
from exr_pipeline_tests.orchestration.test_media_runs import png
from exr_pipeline_tests.renders import render

FILES = {"shot/a.exr": render(), "shot/a.png": png(), "shot/b.png": png()}
OUTPUTS = {
    *(f"shot/.proxies/a_{ending}" for ending in ("thumb.jpg", "proxy.mp4", "proxy.jpg", "metadata.json")),
    *(f"shot/.proxies/a.png_{ending}" for ending in ("thumb.jpg", "proxy.mp4", "proxy.jpg", "metadata.json")),
    *(f"shot/.proxies/b_{ending}" for ending in ("thumb.jpg", "proxy.mp4", "proxy.jpg", "metadata.json")),
}


@pytest.fixture
def compatible(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop with the setting."""
    settings = workshop.pipeline.settings.model_copy(update={"compatibility": "spaceharbor"})
    monkeypatch.setenv("EXR_PIPELINE_COMPATIBILITY", "spaceharbor")
    monkeypatch.setenv("EXR_PIPELINE_DATABASE", str(settings.database_path))
    pipeline = Pipeline(settings)
    defs = build_defs(settings=settings, resource_overrides={"pipeline": pipeline})
    return Workshop(workshop.instance, pipeline, workshop.bucket, defs)


@pytest.fixture
def function(compatible: Workshop) -> Iterator[Context]:
    context = Context()
    dataengine.init(context)
    yield context
    work: FunctionWork = getattr(context, dataengine._ATTRIBUTE)
    work.close()


def outputs(workshop: Workshop) -> set[str]:
    return {key for key in workshop.objects() if "/.proxies/" in key}


def rows(workshop: Workshop) -> dict[str, dict[str, Any]]:
    return {row["s3_key"]: row for row in workshop.pipeline.tables.read("proxy_outputs").to_pylist()}


def test_a_run_stores_them_and_the_page_leads_to_them(compatible: Workshop) -> None:
    keys = compatible.put(FILES)
    assert compatible.run_range(keys).success
    assert outputs(compatible) == OUTPUTS
    pipeline = compatible.pipeline
    with serving(Media(compatible.instance, pipeline.storage, pipeline.settings)) as served:
        for name in FILES:
            partition = compatible.bucket.child(name).partition_key
            for link, column, kind in (
                (f"thumbnail/{partition}", "thumbnail", "image/jpeg"),
                (f"proxy_mp4/{partition}", "proxy", "video/mp4"),
                (f"proxy_mp4/{partition}/still", "proxy_still", "image/jpeg"),
                (f"proxy_outputs/{partition}/metadata", "metadata", "application/json"),
            ):
                answer = served.ask(f"/{link}")
                row = rows(compatible)[name]
                assert (answer.status, answer.headers["Content-Type"]) == (200, kind), link
                assert len(answer.body) == row[f"{column}_size_bytes"]
                stored = pipeline.storage.read(compatible.bucket.child(row[f"{column}_s3_key"]))[1]
                assert answer.body == stored


def test_a_function_stores_the_same_and_answers_with_their_keys(compatible: Workshop, function: Context) -> None:
    keys = compatible.put(FILES)
    assert compatible.run_range(keys).success
    made = {key: compatible.pipeline.storage.read(compatible.bucket.child(key))[1] for key in outputs(compatible)}
    before = rows(compatible)
    for key in made:
        compatible.pipeline.storage.delete(compatible.bucket.child(key))

    events = [{"data": {"s3_bucket": compatible.bucket.bucket, "s3_key": key}} for key in reversed(FILES)]
    answers = dataengine.batch_handler(function, events)

    assert {key: compatible.pipeline.storage.read(compatible.bucket.child(key))[1] for key in outputs(compatible)} == (
        made
    )
    for answer in answers:
        row = before[answer["source_key"]]
        names = ("thumbnail", "proxy", "proxy_still", "metadata")
        assert [answer[f"{name}_key"] for name in names] == [row[f"{name}_s3_key"] for name in names]
    assert json.loads(before["shot/a.png"]["warnings"])[0].startswith(
        "outputs have the whole name of the file: 'a.exr'"
    )
    assert [len(answer["warnings"]) for answer in answers] == [0, 1, 0]


def test_rules_hold_where_no_rows_are_written(compatible: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXR_PIPELINE_DATABASE")
    compatible.put(FILES)
    context = Context()
    dataengine.init(context)
    for key in reversed(FILES):
        answer = dataengine.handler(context, {"data": {"s3_bucket": compatible.bucket.bucket, "s3_key": key}})
        assert (answer["status"], answer["persistence"]["status"]) == ("success", "skipped")
    getattr(context, dataengine._ATTRIBUTE).close()
    assert outputs(compatible) == OUTPUTS
