"""Runs over real files: what ends as what, in the UI's terms, in the tables and in the bucket."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from dagster import DagsterEventType
from pydantic import SecretStr
from rich.filesize import decimal

from exr_pipeline.errors import RetryableError
from exr_pipeline.orchestration.assets.specs import FILE_ASSETS, MEDIA_IO
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.instance.run_now import IngestListener, ingest_source
from exr_pipeline.orchestration.partitions import files_partitions
from exr_pipeline.orchestration.watched_pipeline import WatchedPipeline
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.retries import POLICY
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectInfo, ObjectStorage
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.ingest.relay import Relay
from exr_pipeline_tests.orchestration.conftest import RANGE_END, RANGE_START, Workshop
from exr_pipeline_tests.renders import render, truncated, with_bad_pixels
from exr_pipeline_tests.vast_emulator.running import running_emulator

ASSETS = [key.path[-1] for key in FILE_ASSETS]
PICTURES = {"thumbnail", "proxy_mp4", "proxy_outputs"}


def states(workshop: Workshop) -> dict[str, tuple[str, str | None]]:
    rows = workshop.pipeline.tables.read("files", columns=["file_path", "state", "reason"]).to_pylist()
    return {row["file_path"]: (row["state"], row["reason"]) for row in rows}


def outputs_of(key: str) -> set[str]:
    folder, _, name = key.rpartition("/")
    stem = name.removesuffix(".exr")
    return {f"{folder}/.proxies/{stem}_thumb.jpg", f"{folder}/.proxies/{stem}_proxy.mp4"}


def test_one_run_over_a_range_shows_exactly_the_failed_pairs_as_failed(workshop: Workshop) -> None:
    files = {
        "shot/a.0001.exr": render(),
        "shot/a.0002.exr": b"not a picture at all",
        "shot/a.0003.exr": with_bad_pixels(),
        "shot/a.0004.exr": render(0.5),
        "shot/a.0005.exr": b"",
    }
    keys = workshop.put(files)
    one, text, pixels, four, empty = keys
    result = workshop.run_range(keys)
    assert not result.success
    for asset in ASSETS:
        failed = {text, empty, pixels} if asset in PICTURES else {text, empty}
        expected = {"failed": failed, "in progress": set(), "materialized": set(keys) - failed}
        assert workshop.statuses(asset) == expected, asset
    assert {path: state for path, (state, _) in states(workshop).items()} == {
        "shot/a.0001.exr": "ready",
        "shot/a.0002.exr": "rejected",
        "shot/a.0003.exr": "rejected",
        "shot/a.0004.exr": "ready",
        "shot/a.0005.exr": "rejected",
    }
    assert all("\n" not in reason for _, reason in states(workshop).values() if reason)
    good = outputs_of("shot/a.0001.exr") | outputs_of("shot/a.0004.exr")
    assert workshop.objects() == set(files) | good, "nothing of a rejected file is left"
    observed = workshop.observations("thumbnail")
    assert set(observed) == {text, empty, pixels}
    assert observed[empty][0].metadata["reason"].value == states(workshop)["shot/a.0005.exr"][1]
    assert (one, four) == tuple(sorted(workshop.materializations("thumbnail")))


@pytest.mark.parametrize("announced", [None, dg.AssetKey("exr_header")])
def test_a_run_that_was_made_by_a_daemon_killed_before_all_was_announced_shows_what_failed(
    workshop: Workshop, announced: dg.AssetKey | None
) -> None:
    good, bad = workshop.put({"a.0001.exr": render(), "b.exr": b"no"})
    run_id = workshop.run_with_announcements_lost("ingest", {RANGE_START: good, RANGE_END: bad}, kept=announced)

    for asset in ASSETS:
        expected = {"failed": {bad}, "in progress": set(), "materialized": {good}}
        assert workshop.statuses(asset) == expected, asset
    announcements = workshop.instance.get_records_for_run(
        run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    assert len(announcements.records) == 2 * len(ASSETS), "nothing is announced twice"


def test_a_run_that_fails_says_which_files_and_why(workshop: Workshop) -> None:
    keys = workshop.put({"a.0001.exr": render(), "b.exr": b"no"})
    failure = workshop.run_range(keys).failure_data_for_node("ingest_files").user_failure_data
    assert failure.description.startswith("1 of 2 files rejected, 0 retryable, the others succeeded: b.exr: ")
    (listed,) = failure.metadata["files"].records
    assert (listed.data["file"].rpartition("/")[2], listed.data["state"]) == ("b.exr", "rejected")
    assert listed.data["reason"]


def test_a_run_without_bad_files_succeeds_and_shows_what_people_look_at(workshop: Workshop) -> None:
    keys = workshop.put({"shot/a.0001.exr": render(size=(640, 360))})
    assert workshop.run_range(keys).success
    metadata: dict[str, Any] = {
        asset: workshop.materializations(asset)[keys[0]][-1].metadata for asset in [*ASSETS, "source_file"]
    }
    assert metadata["thumbnail"]["icon"].value.startswith("![](data:image/webp;base64,")
    assert f"](/media/thumbnail/{keys[0]})" in metadata["thumbnail"]["picture"].value
    for name in ("icon", "picture"):
        assert len(metadata["thumbnail"][name].value) < 1000, "longer ones are not shown in line"
    assert metadata["proxy_mp4"]["movie"].value == f"/media/proxy_mp4/{keys[0]}"
    assert metadata["thumbnail"]["resolution"].value == "256x144"
    assert metadata["proxy_mp4"]["resolution"].value == "640x360"
    assert metadata["proxy_mp4"]["duration"].value == pytest.approx(1.0)
    assert metadata["thumbnail"]["uri"].value.endswith("/shot/.proxies/a.0001_thumb.jpg")
    for asset in ("exr_header", "thumbnail", "proxy_mp4"):
        assert metadata[asset]["color space"].value == "ACEScg (stated in the file as lin_ap1_scene)"
        assert not [name for name, value in metadata[asset].items() if value.value in ("", [], None)], "empty rows"
    assert metadata["exr_header"]["resolution"].value == "640x360"
    assert metadata["exr_header"]["channels"].value == 3
    assert metadata["source_file"]["size"].value == decimal(len(render(size=(640, 360))))


def test_a_single_file_can_be_run_from_the_ui(workshop: Workshop) -> None:
    first, second = workshop.put({"a.0001.exr": render(), "a.0002.exr": render()})
    assert workshop.run(partition_key=second).success
    assert workshop.statuses("thumbnail")["materialized"] == {second}
    assert set(states(workshop)) == {"a.0002.exr"}
    assert first


def test_only_thumbnails_of_some_files_leaves_the_other_assets_alone(workshop: Workshop) -> None:
    keys = workshop.put({f"a.{frame:04d}.exr": render() for frame in range(1, 6)})
    assert workshop.run_range(keys[1:3], asset_selection=[dg.AssetKey("thumbnail")]).success
    assert workshop.statuses("thumbnail")["materialized"] == set(keys[1:3])
    assert {key for key in workshop.objects() if ".proxies" in key} == {
        ".proxies/a.0002_thumb.jpg",
        ".proxies/a.0003_thumb.jpg",
    }
    for asset in set(ASSETS) - {"thumbnail"}:
        assert not workshop.materializations(asset)
    assert workshop.select(partitions=[keys[0], keys[4]], assets=["thumbnail"]).success
    assert workshop.statuses("thumbnail")["materialized"] == {keys[0], keys[1], keys[2], keys[4]}
    rows = workshop.pipeline.tables.read("proxy_outputs").to_pylist()
    assert {row["s3_key"] for row in rows} == {"a.0001.exr", "a.0002.exr", "a.0003.exr", "a.0005.exr"}
    assert all(row["thumbnail_s3_key"] and not row["proxy_s3_key"] for row in rows)


def test_headers_alone_need_no_pixels_and_do_not_absolve_a_file(workshop: Workshop) -> None:
    keys = workshop.put({"good.exr": render(), "pixels.exr": with_bad_pixels()})
    workshop.run_range(keys)
    assert states(workshop)["pixels.exr"][0] == "rejected"
    before = workshop.objects()
    assert workshop.run_range(keys, asset_selection=[dg.AssetKey("exr_header")]).success is False
    assert states(workshop)["pixels.exr"][0] == "rejected", "the header can't know about the pixels"
    assert states(workshop)["good.exr"][0] == "ready"
    assert workshop.objects() == before


def test_what_failed_is_tried_again_in_one_run_however_scattered(workshop: Workshop) -> None:
    files = {f"a.{frame:04d}.exr": render() if frame % 3 else b"bad" for frame in range(1, 10)}
    keys = workshop.put(files)
    bad = {keys[2], keys[5], keys[8]}
    workshop.run_range(keys)
    assert workshop.statuses("exr_header")["failed"] == bad
    workshop.put({"a.0003.exr": render(), "a.0009.exr": render()})
    result = workshop.run("retry_failed_files")
    assert not result.success
    for asset in ASSETS:
        assert workshop.statuses(asset)["failed"] == {keys[5]}, asset
        assert workshop.statuses(asset)["materialized"] == set(keys) - {keys[5]}, asset
    counts = {key: len(events) for key, events in workshop.materializations("thumbnail").items()}
    assert set(counts.values()) == {1}, "nothing that was done is done again"


def test_a_selection_narrows_by_prefix_state_and_sql(workshop: Workshop) -> None:
    keys = workshop.put({"x/a.0001.exr": render(), "x/b.exr": b"bad", "y/a.0001.exr": render(size=(128, 72))})
    workshop.run_range(keys)

    def touched(**selection: Any) -> set[str]:
        before = {key: len(events) for key, events in workshop.materializations("source_file").items()}
        workshop.select(assets=["exr_header"], **selection)
        after = {key: len(events) for key, events in workshop.materializations("source_file").items()}
        return {key for key, count in after.items() if count > before.get(key, 0)}

    assert touched(url_prefix=f"{workshop.bucket.url}x/") == {keys[0], keys[1]}
    assert touched(states=["rejected"]) == {keys[1]}
    assert touched(where="file_id IN (SELECT file_id FROM parts WHERE width = 128)") == {keys[2]}
    assert touched(where="width = 128 -- of the first part") == {keys[2]}
    assert touched(url_prefix=f"{workshop.bucket.url}x/", states=["ready"]) == {keys[0]}
    (new,) = workshop.put({"z.exr": render()})
    assert touched(states=["unfinished"]) == {new}
    assert touched(all=True) == {*keys, new}


def test_a_selection_that_names_nothing_or_fits_nothing_is_refused_in_one_sentence(workshop: Workshop) -> None:
    workshop.put({"a.exr": render()})

    def refusal(job: str = "ingest_selection", **selection: object) -> str:
        failure = workshop.select(job, **selection).failure_data_for_node("ingest_selected_files")
        assert failure.user_failure_data is not None
        assert failure.error.cause is None
        return str(failure.user_failure_data.description)

    assert refusal(assets=["exr_header"]).startswith("url_prefix: no files are selected. Fix: ")
    assert refusal(partitions=["nowhere~a.exr"]) == "nowhere~a.exr: no such partition"
    nowhere = f"{workshop.bucket.url}shto_010/"
    for job in ("ingest_selection", "retry_failed_files"):
        assert refusal(job, url_prefix=nowhere).startswith(f"{nowhere}: no known file is below it")
    assert refusal(where="width = 7", all=True) == "width = 7: no file in the tables matches it"
    assert refusal(states=["rejected"]) == "states=['rejected']: no known file is selected"
    assert not workshop.select(assets=["thumbnails"], all=True).success
    assert not workshop.materializations("exr_header")
    assert workshop.select("retry_failed_files", states=["rejected"]).success, "that nothing has failed is good news"


def test_a_file_that_is_uploaded_again_has_one_current_row_and_new_pictures(workshop: Workshop) -> None:
    keys = workshop.put({"shot/a.0001.exr": render(0.1)})
    workshop.run_range(keys)
    old = workshop.pipeline.storage.read(workshop.bucket.child("shot/.proxies/a.0001_thumb.jpg"))[1]
    workshop.put({"shot/a.0001.exr": render(4.0)})
    workshop.run_range(keys)
    new = workshop.pipeline.storage.read(workshop.bucket.child("shot/.proxies/a.0001_thumb.jpg"))[1]
    assert old != new
    for table in ("files", "proxy_outputs"):
        assert workshop.pipeline.tables.read(table).num_rows == 1
    thumbnails: dict[str, Any] = workshop.materializations("thumbnail")
    versions = [events[-1].tags["dagster/data_version"] for events in thumbnails.values()]
    etag = workshop.pipeline.tables.read("files").to_pylist()[0]["etag"]
    assert versions == [version for version in versions if version.startswith(etag)]


def test_pictures_of_a_version_that_a_broken_one_replaced_do_not_stay(workshop: Workshop) -> None:
    keys = workshop.put({"shot/a.0001.exr": render()})
    workshop.run_range(keys)
    assert outputs_of("shot/a.0001.exr") <= workshop.objects()
    workshop.put({"shot/a.0001.exr": truncated()})
    workshop.run_range(keys)
    assert workshop.objects() == {"shot/a.0001.exr"}
    assert workshop.pipeline.tables.read("proxy_outputs").num_rows == 0
    assert states(workshop)["shot/a.0001.exr"][0] == "rejected"


def test_a_file_that_vanished_is_rejected_and_its_neighbours_go_on(workshop: Workshop) -> None:
    keys = workshop.put({"a.0001.exr": render(), "a.0002.exr": render()})
    workshop.pipeline.storage.delete(workshop.bucket.child("a.0001.exr"))
    assert not workshop.run_range(keys).success
    assert states(workshop)["a.0002.exr"] == ("ready", None)
    state, reason = states(workshop)["a.0001.exr"]
    assert state == "rejected"
    assert reason == "the file does not exist, or no longer exists"
    assert workshop.statuses("exr_header")["failed"] == {keys[0]}


def test_a_resumed_run_does_only_what_is_left_and_keeps_the_rest_materialized(workshop: Workshop) -> None:
    keys = workshop.put({"a.0001.exr": render(), "a.0002.exr": b"bad", "a.0003.exr": render()})
    first = workshop.run_range(keys)
    inspected = workshop.pipeline.tables.read("files", columns=["file_path", "inspection_count"]).to_pylist()
    assert {row["inspection_count"] for row in inspected} == {1}
    workshop.put({"a.0002.exr": render()})
    tags = {
        RANGE_START: keys[0],
        RANGE_END: keys[-1],
        "dagster/parent_run_id": first.run_id,
        "dagster/root_run_id": first.run_id,
        "dagster/is_resume_retry": "true",
    }
    assert workshop.run(tags=tags).success
    counts = {
        row["file_path"]: row["inspection_count"]
        for row in workshop.pipeline.tables.read("files", columns=["file_path", "inspection_count"]).to_pylist()
    }
    assert counts["a.0001.exr"] == counts["a.0003.exr"] == 1, "finished files are not read again"
    for asset in ASSETS:
        assert workshop.statuses(asset) == {"failed": set(), "in progress": set(), "materialized": set(keys)}


def test_a_store_that_is_down_makes_files_retryable_and_the_step_tries_again(
    workshop: Workshop, no_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = workshop.put({"a.0001.exr": render(), "a.0002.exr": render()})
    broken = workshop.pipeline.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    from exr_pipeline.storage.objects import ObjectStorage

    good = workshop.pipeline.storage
    monkeypatch.setitem(workshop.pipeline.__dict__, "storage", ObjectStorage(broken))
    result = workshop.run_range(keys)
    assert not result.success
    assert {state for state, _ in states(workshop).values()} == {"retryable"}
    retries = [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
    assert len(retries) == 2
    assert workshop.statuses("thumbnail")["failed"] == set(keys)
    monkeypatch.setitem(workshop.pipeline.__dict__, "storage", good)
    assert workshop.run("retry_failed_files").success
    assert {state for state, _ in states(workshop).values()} == {"ready"}
    assert workshop.statuses("thumbnail") == {"failed": set(), "in progress": set(), "materialized": set(keys)}


def test_a_wrong_setting_fails_the_run_with_its_name_and_touches_no_file(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = workshop.put({"a.0001.exr": render()})
    monkeypatch.setitem(
        workshop.pipeline.__dict__,
        "settings",
        workshop.pipeline.settings.model_copy(update={"ocio_config_path": "/nowhere/config.ocio"}),
    )
    result = workshop.run_range(keys)
    assert "OCIO_CONFIG_PATH" in result.failure_data_for_node("ingest_files").user_failure_data.description
    assert states(workshop) == {}


# Dagster warns of a parameter that it passes itself when it copies a sensor for merged definitions.
@pytest.mark.filterwarnings("ignore:Parameter `owners`")
def test_a_users_own_asset_takes_the_rows_of_its_partitions_as_pandas_polars_or_arrow(workshop: Workshop) -> None:
    keys = workshop.put({f"a.{frame:04d}.exr": render() for frame in range(1, 4)})
    workshop.run_range(keys)
    seen: dict[str, Any] = {}

    @dg.asset(partitions_def=files_partitions)
    def widths(exr_header: pd.DataFrame) -> None:
        seen["pandas"] = exr_header

    @dg.asset(partitions_def=files_partitions)
    def heights(exr_header: pl.DataFrame, proxy_mp4: pl.LazyFrame) -> None:
        seen.update(polars=exr_header, lazy=proxy_mp4)

    @dg.asset(
        partitions_def=files_partitions,
        ins={"exr_header": dg.AssetIn(metadata={"table": "parts"})},
    )
    def arrow(exr_header: pa.Table, thumbnail: pa.Table, channel_fingerprint: pa.Table) -> None:
        seen.update(parts=exr_header, outputs=thumbnail, channels=channel_fingerprint)

    @dg.asset(partitions_def=files_partitions, io_manager_key=MEDIA_IO, metadata={"extension": "txt"})
    def note(exr_header: pd.DataFrame) -> bytes:
        return str(len(exr_header)).encode()

    defs = dg.Definitions.merge(
        build_defs(settings=workshop.pipeline.settings, resource_overrides={"pipeline": workshop.pipeline}),
        dg.Definitions(
            assets=[widths, heights, arrow, note],
            jobs=[
                dg.define_asset_job("users", [widths, heights, arrow], executor_def=dg.in_process_executor),
                dg.define_asset_job("notes", [note], executor_def=dg.in_process_executor),
            ],
        ),
    )
    workshop.defs = defs
    assert workshop.run("users", tags={RANGE_START: keys[0], RANGE_END: keys[1]}).success
    frame = seen["pandas"]
    assert isinstance(frame, pd.DataFrame)
    assert sorted(frame["file_path"]) == ["a.0001.exr", "a.0002.exr"]
    assert isinstance(seen["polars"], pl.DataFrame)
    assert seen["polars"].sort("file_path")["file_path"].to_list() == ["a.0001.exr", "a.0002.exr"]
    assert isinstance(seen["lazy"], pl.LazyFrame)
    assert seen["lazy"].select(pl.len()).collect().item() == 2
    assert isinstance(seen["parts"], pa.Table)
    assert seen["parts"].column("width").to_pylist() == [64, 64]
    assert seen["channels"].num_rows == 6
    assert set(seen["outputs"].column("thumbnail_s3_key").to_pylist()) == {
        ".proxies/a.0001_thumb.jpg",
        ".proxies/a.0002_thumb.jpg",
    }
    assert workshop.run("notes", partition_key=keys[2]).success
    _, data = workshop.pipeline.storage.read(workshop.bucket.child(".proxies/a.0003_note.txt"))
    assert data == b"1"


def test_rows_go_to_vast_when_it_is_configured(workshop: Workshop) -> None:
    keys = workshop.put({"a.0001.exr": render(), "a.0002.exr": b"bad"})
    with running_emulator() as emulator:
        settings = workshop.pipeline.settings.model_copy(
            update={
                "vast_db_endpoint": emulator.url,
                "vast_db_access_key": SecretStr("test"),
                "vast_db_secret_key": SecretStr("a secret"),
                "vast_db_bucket": "vastdb",
            }
        )
        workshop.pipeline = Pipeline(settings)
        workshop.defs = build_defs(settings=settings, resource_overrides={"pipeline": workshop.pipeline})
        workshop.run_range(keys)
        assert {path: state for path, (state, _) in states(workshop).items()} == {
            "a.0001.exr": "ready",
            "a.0002.exr": "rejected",
        }
        assert len(emulator.rows("files", "exr_metadata")["rows"]) == 2
        assert len(emulator.rows("proxy_outputs", "exr_metadata")["rows"]) == 1
    assert workshop.statuses("exr_header") == {"failed": {keys[1]}, "in progress": set(), "materialized": {keys[0]}}


class Unreachable(ObjectStorage):
    """One file never answers."""

    def download(self, location: Location, path: Path, **more: Any) -> ObjectInfo:
        if location.name == "away.exr":
            raise RetryableError(f"{location.url}: no answer")
        return super().download(location, path, **more)


@pytest.mark.usefixtures("no_pauses")
def test_attempts_of_a_step_never_count_a_file_twice(workshop: Workshop) -> None:
    keys = workshop.put({"a.exr": render(), "away.exr": render(), "text.exr": b"no picture"})
    told: list[tuple[str, int]] = []
    pipeline = WatchedPipeline(
        workshop.pipeline.settings, on_progress=lambda run, one: told.append((run, one.earlier + one.done))
    )
    pipeline.__dict__["storage"] = Unreachable(pipeline.settings)
    defs = build_defs(settings=pipeline.settings, resource_overrides={"pipeline": pipeline})

    result = replace(workshop, pipeline=pipeline, defs=defs).run_range(keys)

    assert not result.success
    assert len([event for event in result.all_events if event.event_type == DagsterEventType.STEP_RESTARTED]) == 2
    assert {run for run, _ in told} == {result.run_id}
    assert max(done for _, done in told) == 3
    assert told[-1] == (result.run_id, 3)


@pytest.mark.usefixtures("no_pauses")
def test_an_ingest_whose_tables_cannot_be_written_stops_with_its_first_run(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RetryableError("cannot write to the database: No space left on device")

    workshop.put({f"{number:03}.exr": b"" for number in range(9)})
    monkeypatch.setattr(DuckDBStore, "write", full)

    report = ingest_source(workshop.bucket, workshop.pipeline.settings.model_copy(update={"chunk_size": 3}))

    assert len(report.run_ids) == 1
    assert report.problem is not None
    assert "No space left on device" in report.problem


def test_an_ingest_whose_store_goes_away_for_good_says_so_and_stops(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, s3_server: EmbeddedS3
) -> None:
    impatient = replace(POLICY, first_pause_seconds=0.01, step_pause_seconds=0, patience_seconds=0)
    monkeypatch.setattr("exr_pipeline.pipeline.POLICY", impatient)
    workshop.put({f"{number:03}.exr": b"" for number in range(120)})
    server = urlsplit(s3_server.endpoint)
    told: list[int] = []
    with Relay((str(server.hostname), int(server.port or 0))) as relay:
        changes = {"s3_endpoint": relay.endpoint, "request_retries": 0, "chunk_size": 40}
        settings = workshop.pipeline.settings.model_copy(update=changes)
        listener = IngestListener(on_found=lambda _: relay.down(), on_progress=lambda done, _: told.append(done))
        report = ingest_source(workshop.bucket, settings, listener)

    assert len(report.run_ids) == 1, "another run would have had no better luck"
    assert report.problem is not None
    assert re.search("no file could be read .* in a row: .*no answer from the store", report.problem)
    assert report.states == {"retryable": 120}
    assert max(told, default=0) <= 120
