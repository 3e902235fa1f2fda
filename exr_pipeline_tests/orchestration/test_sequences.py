"""Sequences through Dagster: the sensor finds them, a run makes their media, their status is exact."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import av
import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
import sqlalchemy as db
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from exr_pipeline.errors import RetryableError
from exr_pipeline.ingest.discovery.settled_sequences import Watermark, sequences_in
from exr_pipeline.ingest.outdated import outdated_sequences
from exr_pipeline.orchestration.assets.sequence_checks import SEQUENCE_CHECKS
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.orchestration.instance import step_events
from exr_pipeline.orchestration.instance.run_now import make_sequences, retry_sequences
from exr_pipeline.orchestration.partitions import SEQUENCES, sequences_partitions
from exr_pipeline.orchestration.sensors.sequences import tick
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.retries import POLICY
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectInfo, ObjectStorage
from exr_pipeline_tests.cineon_files import cineon_bytes
from exr_pipeline_tests.ingest.relay import Relay
from exr_pipeline_tests.orchestration.conftest import RANGE_END, RANGE_START, Workshop
from exr_pipeline_tests.pictures.files import flat, patches, write_dpx, write_rgb
from exr_pipeline_tests.renders import with_bad_pixels
from exr_pipeline_tests.sequence_movies.frames import decoded
from exr_pipeline_tests.services.processes import free_port


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("frames")
    return [
        write_rgb(folder / f"{level}.exr", flat(64, 36, (level / 8, 0.2, 0.1))).read_bytes() for level in range(1, 7)
    ]


class Shots(Workshop):
    """A workshop with ingested frames."""

    def ingest(self, files: dict[str, bytes], asset: str = "exr_header") -> None:
        keys = self.put(files)
        config = {"ops": {"ingest_selected_files": {"config": {"partitions": keys, "assets": [asset]}}}}
        self.run("ingest_selection", run_config=config)

    def checks(self) -> dict[str, dg.AssetCheckEvaluation]:
        """The latest evaluation of each check of sequence_mp4."""
        keys = [dg.AssetCheckKey(dg.AssetKey("sequence_mp4"), check.name) for check in SEQUENCE_CHECKS]
        records = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        return {key.name: record.event.dagster_event.asset_check_evaluation_data for key, record in records.items()}

    def tick(self, cursor: str | None = None, *, later: float = 60) -> Any:
        return tick(self.instance, self.pipeline, cursor, now=datetime.now(UTC) + timedelta(seconds=later))

    def obey(self, result: Any) -> list[Any]:
        for request in result.dynamic_partitions_requests:
            self.instance.add_dynamic_partitions(SEQUENCES, request.partition_keys)
        return [
            self.run(request.job_name, tags=request.tags, partition_key=request.partition_key)
            for request in result.run_requests
        ]

    def sequence_statuses(self, asset: str) -> dict[str, set[str]]:
        value = get_and_update_asset_status_cache_value(self.instance, dg.AssetKey(asset), sequences_partitions)
        assert value is not None
        with dg.partition_loading_context(dynamic_partitions_store=self.instance):
            failed = set(value.deserialize_failed_partition_subsets(sequences_partitions).get_partition_keys())
            made = set(value.deserialize_materialized_partition_subsets(sequences_partitions).get_partition_keys())
        return {"failed": failed, "materialized": made - failed}

    def use(self, settings: Settings, **policy: Any) -> None:
        """Work with other settings, and with another policy of trying again."""
        self.pipeline = Pipeline(settings, retries=replace(POLICY, **policy))
        self.defs = build_defs(settings=settings, resource_overrides={"pipeline": self.pipeline})

    def rows(self) -> dict[str, dict[str, Any]]:
        found = self.pipeline.tables.read("sequence_outputs").to_pylist()
        return {row["sequence_path"].rpartition("/")[2]: row for row in found}


@pytest.fixture
def shots(workshop: Workshop) -> Shots:
    settings = workshop.pipeline.settings.model_copy(update={"movie_preset": "review", "workers": 2})
    pipeline = Pipeline(settings)
    defs = build_defs(settings=settings, resource_overrides={"pipeline": pipeline})
    return Shots(workshop.instance, pipeline, workshop.bucket, defs)


class OnceAway(ObjectStorage):
    """Does not answer the first listing of a folder."""

    def __init__(self, settings: Settings, folder: str) -> None:
        super().__init__(settings)
        self.away = [folder]

    def iter_objects(self, prefix: Location) -> Iterator[ObjectInfo]:
        if prefix.key.rstrip("/").rpartition("/")[2] in self.away:
            self.away.clear()
            raise RetryableError(f"{prefix.url}: listing failed: no answer from the store")
        return super().iter_objects(prefix)


@pytest.fixture
def relay(shots: Shots, s3_server: EmbeddedS3) -> Iterator[Relay]:
    """What the workshop's store can be cut off with."""
    server = urlsplit(s3_server.endpoint)
    with Relay((str(server.hostname), int(server.port or 0))) as relay:
        shots.use(shots.pipeline.settings.model_copy(update={"s3_endpoint": relay.endpoint, "request_retries": 0}))
        yield relay


def frame_count(data: bytes, folder: Path) -> int:
    path = folder / "movie.mp4"
    path.write_bytes(data)
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_keys_that_only_the_environment_has_are_enough_for_sequences(
    shots: Shots, frames: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    shots.ingest({f"shot/a.{number:04}.exr": data for number, data in enumerate(frames[:2], 1)})
    settings = shots.pipeline.settings
    assert settings.s3_access_key is not None
    assert settings.s3_secret_key is not None
    for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", settings.s3_access_key.get_secret_value())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", settings.s3_secret_key.get_secret_value())
    keyless = settings.model_copy(update={"s3_access_key": None, "s3_secret_key": None})

    assert make_sequences(shots.bucket, keyless) == {"ready": 1}


def test_a_settled_sequence_becomes_a_movie_a_sheet_and_a_strip_and_again_when_a_frame_changes(
    shots: Shots, frames: list[bytes], tmp_path: Path
) -> None:
    names = ["shot/a.0001.exr", "shot/a.0002.exr", "shot/a.0004.exr"]
    shots.ingest(dict(zip(names, frames, strict=False)) | {"shot/alone.exr": frames[0]})
    assert shots.tick(later=0).run_requests == []

    first = shots.tick()
    (key,) = first.dynamic_partitions_requests[0].partition_keys
    (run,) = shots.obey(first)

    assert run.success
    for asset in ("sequence_mp4", "contact_sheet", "filmstrip"):
        assert shots.sequence_statuses(asset) == {"failed": set(), "materialized": {key}}
    made = {key for key in shots.objects() if "a.@@@@" in key}
    assert {key.rpartition("/")[2] for key in made} == {
        "a.@@@@_sequence.mp4",
        "a.@@@@_contact_sheet.jpg",
        "a.@@@@_filmstrip.jpg",
    }
    row = shots.rows()["a.####.exr"]
    assert (row["state"], row["frame_count"], row["missing_frames"], row["movie_frames"]) == ("ready", 3, "3", 4)
    assert (row["first_frame"], row["last_frame"], row["frame_rate"]) == ("1", "4", "24")
    (told,) = [
        entry.user_message
        for entry in shots.instance.all_logs(run.run_id)
        if entry.user_message.startswith("a.####.exr: 4/4 frames")
    ]
    assert re.fullmatch(r"a\.####\.exr: 4/4 frames, [0-9.]+ frames/s(, about 0 s left)?", told)
    movie = shots.pipeline.storage.read(shots.bucket.child("shot/.proxies/a.@@@@_sequence.mp4"))[1]
    assert len(movie) == row["movie_size_bytes"]
    assert frame_count(movie, tmp_path) == 4
    strip = shots.pipeline.storage.read(shots.bucket.child("shot/.proxies/a.@@@@_filmstrip.jpg"))[1]
    assert simplejpeg.decode_jpeg(strip).shape == (36, 4 * 64, 3)
    (event,) = shots.materializations("contact_sheet")[key]
    assert "data:image/jpeg" in str(event.metadata["preview"].value)
    assert f"](/media/contact_sheet/{key})" in str(event.metadata["picture"].value)

    def outdated(**changes: object) -> list[str]:
        sequences = sequences_in(shots.pipeline.tables, shots.bucket.child("shot/"), udim="")
        settings = shots.pipeline.settings.model_copy(update=changes)
        return [sequence.location.name for sequence in outdated_sequences(shots.pipeline.tables, sequences, settings)]

    assert outdated() == []
    for changes in ({"movie_preset": "prores"}, {"still_view": "un-tone-mapped"}, {"proxy_view": "un-tone-mapped"}):
        assert outdated(**changes) == ["a.####.exr"], changes
    assert outdated(default_color_space="ACEScct") == ["a.####.exr"]
    assert outdated(thumbnail_size=64) == []

    cursor = first.cursor
    again = shots.tick(cursor)
    assert again.run_requests == []
    shots.ingest({"shot/a.0002.exr": frames[4]})
    changed = shots.tick(again.cursor, later=120)
    assert [request.partition_key for request in changed.run_requests] == [key]
    assert changed.dynamic_partitions_requests == []
    shots.obey(changed)
    assert shots.rows()["a.####.exr"]["frames_hash"] != row["frames_hash"]
    assert len(shots.materializations("sequence_mp4")[key]) == 2


def test_cineon_frames_become_files_with_pictures_and_a_movie_as_dpx_frames_of_the_same_codes_do(
    shots: Shots, tmp_path: Path
) -> None:
    files: dict[str, bytes] = {}
    for number, code in enumerate((300, 445, 600, 685), 1001):
        codes = patches(np.array([[code, 445, 300], [600, code, 500], [95, 300, code]]))
        files[f"scans/roll.{number}.cin"] = cineon_bytes(codes, "<" if number % 2 else ">")
        files[f"scans/roll.{number}.dpx"] = write_dpx(tmp_path / "x.dpx", codes / 1023, transfer=1).read_bytes()
    files["scans/cut.0001.cin"] = cineon_bytes(np.zeros((36, 66, 3)))[:4000]

    keys = shots.put(files)
    assert not shots.run_range(keys).success
    rows = {row["file_path"]: row for row in shots.pipeline.tables.read("files").to_pylist()}
    assert {(row["state"], row["format"]) for path, row in rows.items() if "roll" in path} == {
        ("ready", "cineon"),
        ("ready", "dpx"),
    }
    assert rows["scans/cut.0001.cin"]["reason"].startswith("truncated: the file has 4000 bytes")
    parts = {row["file_path"]: row for row in shots.pipeline.tables.read("parts").to_pylist()}
    part = parts["scans/roll.1001.cin"]
    assert (part["display_width"], part["display_height"], part["frame_rate"]) == (96, 32, "24/1")
    names = [
        row["attr_name"] for row in shots.pipeline.tables.read("attributes").to_pylist() if ".cin" in row["file_path"]
    ]
    assert {"label", "film_prefix", "element2.high_quantity"} <= set(names)

    assert all(run.success for run in shots.obey(shots.tick()))
    sequences = shots.rows()
    assert {name: (row["state"], row["frame_count"], row["color_rule"]) for name, row in sequences.items()} == {
        "roll.####.cin": ("ready", 4, "default (Cineon: printing density)"),
        "roll.####.dpx": ("ready", 4, "dpx:transfer (printing density)"),
    }

    def stored(name: str) -> bytes:
        return shots.pipeline.storage.read(shots.bucket.child(f"scans/.proxies/{name}"))[1]

    for name in ("1001.{}_thumb.jpg", "1004.{}_thumb.jpg"):
        of_cineon, of_dpx = (simplejpeg.decode_jpeg(stored(f"roll.{name.format(kind)}")) for kind in ("cin", "dpx"))
        assert np.abs(of_cineon.astype(int) - of_dpx).max() <= 1
    movies = [_frames(stored(f"roll.@@@@.{kind}_sequence.mp4"), tmp_path) for kind in ("cin", "dpx")]
    assert [len(frames) for frames in movies] == [4, 4]
    assert np.abs(np.stack(movies[0]).astype(int) - np.stack(movies[1])).max() <= 1
    assert len({frame.tobytes() for frame in movies[0]}) == 4


def _frames(data: bytes, folder: Path) -> list[np.ndarray]:
    (folder / "a.mp4").write_bytes(data)
    return decoded(folder / "a.mp4")


def test_a_sequence_that_cannot_be_made_fails_alone_with_its_reason(shots: Shots, frames: list[bytes]) -> None:
    settings = shots.pipeline.settings.model_copy(update={"sequence_missing": "error"})
    shots.pipeline = Pipeline(settings)
    shots.defs = build_defs(settings=settings, resource_overrides={"pipeline": shots.pipeline})
    gap = {"b/gap.1.exr": frames[0], "b/gap.3.exr": frames[1]}
    shots.ingest({"a/good.1.exr": frames[0], "a/good.2.exr": frames[1], **gap})

    result = shots.tick()
    (run,) = shots.obey(result)

    assert not run.success
    tags = shots.instance.get_run_by_id(run.run_id).tags
    assert (tags["ready"], tags["rejected"], tags["retryable"]) == ("1", "1", "0")
    good, bad = sorted(key for request in result.dynamic_partitions_requests for key in request.partition_keys)
    assert shots.sequence_statuses("sequence_mp4") == {"failed": {bad}, "materialized": {good}}
    assert shots.sequence_statuses("filmstrip") == {"failed": set(), "materialized": {good, bad}}
    row = shots.rows()["gap.#.exr"]
    assert row["state"] == "rejected"
    assert "1 frames are missing: 2" in row["reason"]
    assert row["movie_s3_key"] is None
    assert row["filmstrip_s3_key"].endswith("/.proxies/gap.@_filmstrip.jpg")
    made = shots.rows()["good.#.exr"]
    assert made["movie_view"] == "Rec.1886 Rec.709 - Display / ACES 1.0 - SDR Video"
    assert "libx264" in made["encoder"]
    assert (row["movie_view"], row["encoder"]) == (None, None)
    for each in (row, made):
        assert (each["source_colorspace"], each["color_rule"]) == (
            "Linear Rec.709 (sRGB)",
            "default (lin_rec709_scene)",
        )
        assert each["still_view"] == "sRGB - Display / ACES 1.0 - SDR Video"
        assert each["contact_sheet_encoder"] == "libjpeg-turbo, quality 88, 4:4:4"
        assert each["filmstrip_encoder"] == "libjpeg-turbo, quality 85, 4:2:0"
        assert each["ocio_config"]
        assert each["ocio_config_hash"]
        assert "OpenColorIO" in json.loads(each["library_versions"])
        assert json.loads(each["warnings"]) == []
    (told,) = shots.observations("sequence_mp4")[bad]
    assert "missing" in str(told.description)
    assert shots.tick().run_requests == []


def test_a_wrong_color_setting_fails_the_run_with_its_name_and_touches_no_sequence(
    shots: Shots, frames: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    shots.ingest({"a.1.exr": frames[0], "a.2.exr": frames[1]})
    wrong = shots.pipeline.settings.model_copy(update={"ocio_config_path": "/nowhere/config.ocio"})
    monkeypatch.setitem(shots.pipeline.__dict__, "settings", wrong)

    (run,) = shots.obey(shots.tick())

    assert not run.success
    (failed,) = [event for event in run.all_events if event.is_step_failure]
    assert "OCIO_CONFIG_PATH" in str(failed.step_failure_data.user_failure_data.description)
    assert shots.rows() == {}
    assert not [key for key in shots.objects() if ".proxies/a." in key]


def test_what_a_viewer_should_know_is_in_the_row_even_if_only_the_sheets_were_made(
    shots: Shots, tmp_path: Path
) -> None:
    settings = shots.pipeline.settings.model_copy(update={"sequence_missing": "error"})
    shots.pipeline = Pipeline(settings)
    shots.defs = build_defs(settings=settings, resource_overrides={"pipeline": shots.pipeline})
    frame = write_rgb(tmp_path / "a.exr", flat(64, 36, (0.5, 0.2, 0.1)), colorspace="made up").read_bytes()
    shots.ingest({f"{name}.{number}.exr": frame for name, last in (("gap", 3), ("good", 2)) for number in (1, last)})

    shots.obey(shots.tick())

    for name, last in (("gap", 3), ("good", 2)):
        (warning,) = json.loads(shots.rows()[f"{name}.#.exr"]["warnings"])
        assert "'made up'" in warning
        assert warning.endswith(f"(frames 1, {last})")


def test_progress_tells_sequences_of_one_name_in_two_folders_apart(shots: Shots, frames: list[bytes]) -> None:
    shots.ingest({f"{folder}/a.{number}.exr": frames[0] for folder in ("x", "y") for number in (1, 2)})
    told: set[str] = set()

    made = make_sequences(shots.bucket, shots.pipeline.settings, on_progress=lambda of, _: told.add(of.key))

    assert made == {"ready": 2}
    assert told == {shots.bucket.child(key).key for key in ("x/a.#.exr", "y/a.#.exr")}


def test_a_sequence_shows_as_failed_though_nobody_announced_it(shots: Shots) -> None:
    # Dagster's daemon may be killed between making a run and saying what it will make.
    (key,) = shots.put({"nothing/there.#.exr": b""})
    shots.instance.add_dynamic_partitions(SEQUENCES, [key])

    shots.run_with_announcements_lost("sequences", {RANGE_START: key, RANGE_END: key})

    for asset in ("sequence_mp4", "contact_sheet", "filmstrip"):
        assert shots.sequence_statuses(asset) == {"failed": {key}, "materialized": set()}


def test_making_one_medium_again_keeps_what_the_row_says_of_the_others(shots: Shots, frames: list[bytes]) -> None:
    shots.ingest({"a.1.exr": frames[0], "a.2.exr": frames[1]})
    made = make_sequences(shots.bucket, shots.pipeline.settings)
    before = shots.rows()["a.#.exr"]
    (key,) = shots.instance.get_dynamic_partitions(SEQUENCES)

    run = shots.run("sequences", tags={RANGE_START: key, RANGE_END: key}, asset_selection=[dg.AssetKey("filmstrip")])

    assert made == {"ready": 1}
    assert run.success
    after = shots.rows()["a.#.exr"]
    changed = {name for name, value in after.items() if value != before[name]}
    assert changed <= {"processing_time_seconds", "generated_timestamp"}
    assert len(shots.materializations("filmstrip")[key]) == 2
    assert len(shots.materializations("sequence_mp4")[key]) == 1
    assert make_sequences(shots.bucket, shots.pipeline.settings) == {}


def test_gaps_and_bad_frames_are_asset_checks_that_pass_once_they_are_mended(
    shots: Shots, frames: list[bytes], tmp_path: Path
) -> None:
    pixels = flat(64, 36, (0.2, 0.2, 0.2))
    pixels[3, 4] = (np.nan, 0.2, np.inf)
    black = write_rgb(tmp_path / "black.exr", flat(64, 36, (0, 0, 0))).read_bytes()
    nonfinite = write_rgb(tmp_path / "nan.exr", pixels).read_bytes()
    bad = {"a.1.exr": frames[0], "a.3.exr": black, "a.4.exr": nonfinite, "a.5.exr": with_bad_pixels()}
    good = {"good/b.1.exr": frames[0], "good/b.2.exr": frames[1]}
    shots.ingest(
        {f"bad/{name}": data for name, data in bad.items()} | good,
        "thumbnail",
    )
    make_sequences(shots.bucket, shots.pipeline.settings)

    row = shots.rows()["a.#.exr"]
    assert (row["missing_frames"], row["black_frames"], row["nonfinite_frames"]) == ("2", "3", "4")
    found = shots.checks()
    assert {name: (check.passed, check.severity.value) for name, check in found.items()} == {
        "no_missing_frames": (False, "WARN"),
        "frames_are_readable": (False, "ERROR"),
        "no_black_frames": (False, "WARN"),
        "pixels_are_finite": (False, "ERROR"),
    }
    assert found["no_black_frames"].description == "1 of 2 sequences"
    (listed,) = cast("dg.TableMetadataValue", found["no_black_frames"].metadata["sequences"]).records
    assert listed.data == {"uri": row["uri"], "frames": "3"}

    shots.ingest({f"bad/a.{number}.exr": frames[number] for number in range(1, 6)}, "thumbnail")
    make_sequences(shots.bucket, shots.pipeline.settings)
    assert all(check.passed for check in shots.checks().values())


def test_a_sequence_that_changes_while_a_run_is_at_it_is_looked_at_again(shots: Shots, frames: list[bytes]) -> None:
    shots.ingest({"a.1.exr": frames[0], "a.2.exr": frames[1]})
    result = shots.tick()
    (key,) = result.dynamic_partitions_requests[0].partition_keys
    shots.instance.add_dynamic_partitions(SEQUENCES, [key])
    job = shots.defs.resolve_job_def("sequences")
    run = shots.instance.create_run_for_job(
        job, tags={RANGE_START: key, RANGE_END: key}, status=dg.DagsterRunStatus.STARTED
    )

    waiting = shots.tick(result.cursor)
    fresh = shots.tick(None)

    assert waiting.run_requests == []
    assert fresh.run_requests == []
    assert Watermark(**json.loads(fresh.cursor)).again == [
        shots.bucket.url + ("" if shots.bucket.url.endswith("/") else "/")
    ]
    shots.instance.report_run_failed(run)
    assert [request.partition_key for request in shots.tick(fresh.cursor).run_requests] == [key]


def test_a_sequence_made_while_the_database_was_away_is_shown_as_made(
    shots: Shots, frames: list[bytes], no_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots.ingest({f"shot/a.{number}.exr": frames[0] for number in (1, 2)})
    nobody_there = db.create_engine(f"postgresql+psycopg2://tester@127.0.0.1:{free_port()}/none")
    in_tables: list[dict[str, Any]] = []

    def away_once(*arguments: Any) -> None:
        if not in_tables:
            in_tables.append(shots.rows()["a.#.exr"])
            nobody_there.connect()
        step_events.log_asset_events(*arguments)

    monkeypatch.setattr("exr_pipeline.orchestration.assets.sequences.log_asset_events", away_once)
    wanted = shots.tick()
    (run,) = shots.obey(wanted)

    assert in_tables[0]["state"] == "ready"
    assert run.success
    for asset in ("sequence_mp4", "contact_sheet", "filmstrip"):
        made = set(wanted.dynamic_partitions_requests[0].partition_keys)
        assert shots.sequence_statuses(asset) == {"failed": set(), "materialized": made}


def test_a_sequence_whose_store_was_away_is_made_by_ticks_alone_once_it_is_back(
    shots: Shots, frames: list[bytes], relay: Relay
) -> None:
    shots.ingest({"shot/a.1.exr": frames[0], "shot/a.2.exr": frames[1]})
    shots.use(shots.pipeline.settings, attempts=1, step_attempts=1)
    relay.down()
    first = shots.tick()
    (key,) = first.dynamic_partitions_requests[0].partition_keys
    (run,) = shots.obey(first)

    assert not run.success
    before = shots.rows()["a.#.exr"]
    assert before["state"] == "retryable"
    assert "no answer from the store" in before["reason"]
    assert before["retryable_since"]
    early = shots.tick(first.cursor, later=290)
    assert early.run_requests == [], "nothing changes, and the wait is not over"
    due = shots.tick(early.cursor, later=310)
    assert [request.partition_key for request in due.run_requests] == [key]
    shots.obey(due)
    still = shots.rows()["a.#.exr"]
    assert (still["state"], still["retryable_since"]) == ("retryable", before["retryable_since"])
    assert still["generated_timestamp"] > before["generated_timestamp"]

    relay.up()
    again = shots.tick(due.cursor, later=700)
    (run,) = shots.obey(again)

    assert run.success
    made = shots.rows()["a.#.exr"]
    assert (made["state"], made["reason"], made["retryable_since"]) == ("ready", None, None)
    for asset in ("sequence_mp4", "contact_sheet", "filmstrip"):
        assert shots.sequence_statuses(asset) == {"failed": set(), "materialized": {key}}
    assert shots.tick(again.cursor, later=9000).run_requests == []


def test_retryable_sequences_beside_each_other_share_a_run_and_wait_while_one_is_at_them(
    shots: Shots, frames: list[bytes], relay: Relay
) -> None:
    shots.ingest({f"{name}.{number}.exr": frames[0] for name in "abc" for number in (1, 2)})
    shots.use(shots.pipeline.settings, attempts=1, step_attempts=1)
    relay.down()
    first = shots.tick()
    keys = first.dynamic_partitions_requests[0].partition_keys
    shots.obey(first)
    assert {row["state"] for row in shots.rows().values()} == {"retryable"}

    due = shots.tick(first.cursor, later=400)
    (request,) = due.run_requests
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (keys[0], keys[-1])
    job = shots.defs.resolve_job_def("sequences")
    run = shots.instance.create_run_for_job(job, tags=request.tags, status=dg.DagsterRunStatus.STARTED)
    assert shots.tick(due.cursor, later=500).run_requests == []

    shots.instance.report_run_failed(run)
    long_ago = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    rows = [row | {"generated_timestamp": long_ago} for row in shots.rows().values()]
    shots.pipeline.tables.write({"sequence_outputs": pa.Table.from_pylist(rows)}, now=datetime.now(UTC))
    early = shots.tick(due.cursor, later=290)
    assert early.run_requests == [], "the run has failed without a word about them"
    (request,) = shots.tick(early.cursor, later=310).run_requests
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (keys[0], keys[-1])


def test_a_store_that_is_back_in_time_costs_a_sequence_a_pause_and_no_other_step(
    shots: Shots, frames: list[bytes]
) -> None:
    shots.ingest({"shot/a.1.exr": frames[0], "shot/a.2.exr": frames[1]})
    shots.use(shots.pipeline.settings, first_pause_seconds=0.01, step_attempts=1)
    shots.pipeline.__dict__["storage"] = OnceAway(shots.pipeline.settings, "shot")

    (run,) = shots.obey(shots.tick())

    assert run.success
    assert shots.pipeline.__dict__["storage"].away == []
    assert shots.rows()["a.#.exr"]["state"] == "ready"
    told = [entry.user_message for entry in shots.instance.all_logs(run.run_id)]
    assert [text for text in told if text.startswith("1 sequences failed, trying again in 0.01 s: ")]


def test_a_step_that_is_run_again_makes_only_the_sequences_that_are_left(shots: Shots, frames: list[bytes]) -> None:
    shots.ingest({f"{folder}/a.{number}.exr": frames[0] for folder in ("near", "far") for number in (1, 2)})
    shots.use(shots.pipeline.settings, attempts=1, step_attempts=2, step_pause_seconds=0)
    shots.pipeline.__dict__["storage"] = OnceAway(shots.pipeline.settings, "far")

    (run,) = shots.obey(shots.tick())

    assert run.success
    assert shots.pipeline.__dict__["storage"].away == []
    assert {row["uri"]: row["state"] for row in shots.pipeline.tables.read("sequence_outputs").to_pylist()} == {
        f"{shots.bucket.child(folder).url}/a.#.exr": "ready" for folder in ("near", "far")
    }
    assert [len(made) for made in shots.materializations("sequence_mp4").values()] == [1, 1]


def test_a_rejected_sequence_is_not_tried_again_until_its_frames_change(shots: Shots, frames: list[bytes]) -> None:
    shots.use(shots.pipeline.settings.model_copy(update={"sequence_missing": "error"}))
    shots.ingest({"gap.1.exr": frames[0], "gap.3.exr": frames[1]})
    first = shots.tick()
    shots.obey(first)
    assert shots.rows()["gap.#.exr"]["state"] == "rejected"

    later = shots.tick(first.cursor, later=90_000)
    assert later.run_requests == []
    shots.ingest({"gap.2.exr": frames[2]})
    changed = shots.tick(first.cursor)

    assert [request.partition_key for request in changed.run_requests] == first.dynamic_partitions_requests[
        0
    ].partition_keys
    shots.obey(changed)
    assert shots.rows()["gap.#.exr"]["state"] == "ready"


def test_a_sequence_that_a_failed_run_never_came_to_is_asked_for_again(shots: Shots, frames: list[bytes]) -> None:
    shots.ingest({"a.1.exr": frames[0], "a.2.exr": frames[1]})
    first = shots.tick()
    (key,) = first.dynamic_partitions_requests[0].partition_keys
    shots.instance.add_dynamic_partitions(SEQUENCES, [key])
    job = shots.defs.resolve_job_def("sequences")
    run = shots.instance.create_run_for_job(job, tags={RANGE_START: key, RANGE_END: key})
    shots.instance.report_run_failed(run)

    early = shots.tick(first.cursor, later=290)
    assert early.run_requests == []
    due = shots.tick(early.cursor, later=310)
    assert [request.partition_key for request in due.run_requests] == [key]
    assert shots.tick(due.cursor, later=900).run_requests == [], "one run was asked for, and none has failed since"


def test_retry_tries_sequences_again_at_once(shots: Shots, frames: list[bytes], relay: Relay) -> None:
    shots.ingest({f"{folder}/a.{number}.exr": frames[0] for folder in ("x", "y") for number in (1, 2)})
    shots.use(shots.pipeline.settings, attempts=1, step_attempts=1)
    relay.down()
    shots.obey(shots.tick())
    relay.up()

    assert retry_sequences(shots.pipeline.settings, shots.bucket.child("x/").url) == {"ready": 1}
    (left,) = shots.pipeline.tables.read("sequence_outputs", state="retryable").to_pylist()
    assert left["uri"] == f"{shots.bucket.child('y').url}/a.#.exr"
    assert retry_sequences(shots.pipeline.settings) == {"ready": 1}
    assert retry_sequences(shots.pipeline.settings) == {}
