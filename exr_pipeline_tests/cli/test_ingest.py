"""`ingest` and `retry`, end to end through Dagster, on a local folder and on S3."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exr_pipeline.orchestration.partitions import files_partitions
from exr_pipeline_tests.cli.conftest import (
    ODD_NAME,
    Cli,
    Ingested,
    Result,
    bare_environment,
    run_process,
    small_exr,
    write_shot,
)
from exr_pipeline_tests.services.processes import free_port

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.embedded import EmbeddedS3
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.objects import ObjectStorage

COUNTS = "5 of 5 files: 4 ready, 1 rejected, 0 retryable"


def media(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(".proxies/*")}


def states(cli: Cli) -> dict[str, int]:
    answer: dict[str, int] = json.loads(cli("status", "--json").out)["states"]
    return answer


def test_state_is_for_its_user_alone_and_media_are_as_open_as_their_folder(ingested: Ingested) -> None:
    state = [ingested.home / ".state", *(ingested.home / ".state").rglob("*")]
    assert len(state) > 5
    assert [path for path in state if path.stat().st_mode & 0o077] == []
    media = ingested.folder / ".proxies"
    opened = ingested.folder.stat().st_mode & 0o777
    assert {path.stat().st_mode & 0o777 for path in media.iterdir()} == {opened & 0o664}
    assert media.stat().st_mode & 0o777 == opened & 0o775


def test_a_local_folder_is_ingested_and_a_bad_file_in_it_is_an_answer(ingested: Ingested) -> None:
    assert ingested.said.status == 0
    assert ingested.said.out.splitlines() == [
        COUNTS,
        f"Pictures: {ingested.folder}/.proxies/",
        "To see why files were rejected: exr-pipeline status",
    ]
    assert "Traceback" not in ingested.said.err
    assert "5/5" in ingested.said.err, "progress is told"
    stems = ["beauty.1001", "beauty.1002", "beauty.1003", ODD_NAME.removesuffix(".exr")]
    assert {path.name for path in ingested.home.iterdir()} == {"dagster.yaml", "renders", ".state"}
    assert media(ingested.folder) == {f"{stem}_{kind}" for stem in stems for kind in ("thumb.jpg", "proxy.mp4")}


def test_dagster_has_a_partition_per_file_and_its_status(ingested: Ingested, monkeypatch: pytest.MonkeyPatch) -> None:
    import dagster as dg

    monkeypatch.setenv("DAGSTER_HOME", str(ingested.home))
    with dg.DagsterInstance.get() as instance:
        partitions = instance.get_dynamic_partitions("files")
        made = instance.get_materialized_partitions(dg.AssetKey("thumbnail"))
        (run,) = instance.get_runs()
    bad = {key for key in partitions if key.endswith("notes.1004.exr")}
    assert (len(partitions), len(bad)) == (5, 1)
    assert made == set(partitions) - bad
    assert run.status == dg.DagsterRunStatus.FAILURE, "that is how the one bad pair shows as failed"


def test_a_second_ingest_has_nothing_to_do_and_a_changed_file_is_ingested_again(cli: Cli, home: Path) -> None:
    folder = home / "renders"
    folder.mkdir()
    (folder / "a.1001.exr").write_bytes(small_exr())
    (folder / "b.1001.exr").write_text("not yet an EXR")
    assert cli("ingest", "renders").out.startswith("2 of 2 files: 1 ready, 1 rejected, 0 retryable\n")
    assert cli("ingest", "renders").out.startswith("Nothing to do: all 2 files are known and unchanged. ")
    (folder / "a.1001.exr").write_bytes(small_exr(2.0))
    assert cli("ingest", "renders").out.startswith("1 of 2 files: 1 ready, 0 rejected, 0 retryable\n")
    (folder / "b.1001.exr").write_bytes(small_exr())
    assert "elsewhere: no known file is below it" in cli("retry", "elsewhere/").error
    assert cli("retry", "renders").out.startswith("1 of 1 files: 1 ready, 0 rejected, 0 retryable\n")
    assert cli("retry").out == "Nothing to retry.\n"
    assert states(cli) == {"ready": 2}


def test_what_earlier_versions_rejected_for_trouble_of_the_machine_is_tried_again_by_one_command(
    cli: Cli, home: Path
) -> None:
    import duckdb

    folder = home / "renders"
    folder.mkdir()
    reasons = {
        "clock": "took longer than 120 s",
        "killed": "its worker process died (killed by SIGKILL)",
        "broken": "worker processes died 3 times before it was done",
        "full": "no picture could be made: OSError: [Errno 28] No space left on device",
        "crashed": "its worker process died (killed by SIGSEGV)",
        "damaged": "damaged pixels: it took longer than it should",
    }
    for name in reasons:
        (folder / f"{name}.exr").write_bytes(small_exr())
    assert cli("ingest", "renders").status == 0
    with duckdb.connect(str(home / ".state/tables.duckdb")) as tables:
        for name, reason in reasons.items():
            update = "UPDATE files SET state = 'rejected', reason = ? WHERE file_path LIKE ?"
            tables.execute(update, [reason, f"%/{name}.exr"])
    assert states(cli) == {"rejected": 6}

    assert cli("retry", "--doubtful").out.startswith("4 of 4 files: 4 ready, 0 rejected, 0 retryable\n")

    left = json.loads(cli("status", "--json").out)["files"]
    assert sorted(Path(file["uri"]).stem for file in left) == ["crashed", "damaged"]
    assert cli("retry", "--doubtful").out == "Nothing to retry.\n"


def test_one_file_can_be_named(cli: Cli, home: Path) -> None:
    folder = home / "renders"
    folder.mkdir()
    for name in ("a.1001.exr", "a.1002.exr"):
        (folder / name).write_bytes(small_exr())
    assert cli("ingest", "renders/a.1002.exr").out.startswith("1 of 1 files: 1 ready, 0 rejected, 0 retryable\n")
    assert states(cli) == {"ready": 1}


def test_a_prefix_in_s3_is_ingested_beside_itself_and_no_secret_is_left_anywhere(
    home: Path, bucket: Location, storage: ObjectStorage, s3_server: EmbeddedS3
) -> None:
    files = {"a.1001.exr": small_exr(), f"é/{ODD_NAME}": small_exr(), "b.exr": b"no", ".hidden.exr": b"", "c.txt": b""}
    for key, data in files.items():
        storage.write(bucket.child(f"show/{key}"), data, content_type="application/octet-stream", tags={})
    storage.write(bucket.child("elsewhere.exr"), b"", content_type="application/octet-stream", tags={})
    environment = s3_server.environment()
    said = [
        run_process("ingest", bucket.child("show/").url, cwd=home, env=environment),
        run_process("status", cwd=home, env=environment),
    ]
    assert [one.status for one in said] == [0, 0]
    assert said[0].out.splitlines()[:2] == [
        "3 of 3 files: 2 ready, 1 rejected, 0 retryable",
        f"Pictures: in 2 folders under {bucket.child('show/').url}",
    ]
    made = {info.location.key for info in storage.iter_objects(bucket) if "/.proxies/" in info.location.key}
    stem = ODD_NAME.removesuffix(".exr")
    assert made == {
        f"show/{path}_{kind}"
        for path in (".proxies/a.1001", f"é/.proxies/{stem}")
        for kind in ("thumb.jpg", "proxy.mp4")
    }
    left = b"".join(path.read_bytes() for path in (home / ".state").rglob("*") if path.is_file())
    assert b"a.1001.exr" in left
    assert s3_server.secret_key.encode() not in left
    assert s3_server.secret_key not in "".join(one.out + one.err for one in said)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("nosuch", "nosuch: no such file or folder"),
        ("~nobody~renders", "no such file or folder"),
        ("file:///no/such/folder", "folder /no/such/folder does not exist"),
        ("notes.txt", "not a folder, and its extension is not that of a known image, movie or sound"),
        ("ftp://server/show", "not an object storage URL"),
    ],
)
def test_a_source_that_is_not_there_is_said_in_one_line(cli: Cli, home: Path, source: str, problem: str) -> None:
    (home / "notes.txt").write_bytes(b"")
    said = cli("ingest", source)
    assert (said.status, said.out) == (1, "")
    assert problem in said.error


def test_a_folder_with_a_name_that_is_not_utf8_is_ingested_without_it(cli: Cli, home: Path) -> None:
    (home / "shot").mkdir()
    (home / "shot" / "a.exr").write_bytes(b"no picture")
    (home / "shot" / os.fsdecode(b"caf\xe9.exr")).write_bytes(b"no picture")
    cli("ingest", "shot")
    assert states(cli) == {"rejected": 1}


def test_a_folder_without_pictures_is_said_to_be_one(cli: Cli, home: Path) -> None:
    (home / "empty").mkdir()
    said = cli("ingest", "empty")
    assert (said.status, said.out) == (0, f"No files to ingest at {(home / 'empty').as_uri()}/\n")


def test_the_reason_is_said_when_a_run_of_files_fails_as_a_whole(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shot(home / "renders")
    (home / "rules.yaml").write_text("x: [")
    monkeypatch.setenv("EXR_PIPELINE_PICTURE_RULES", str(home / "rules.yaml"))
    said = cli("ingest", "renders")
    assert said.status == 1
    assert said.out == "5 of 5 files: 0 ready, 0 rejected, 5 retryable\n"
    assert said.error.startswith("EXR_PIPELINE_PICTURE_RULES: ")


def test_a_source_beside_which_nothing_can_be_stored_ends_an_ingest_with_what_to_do(cli: Cli, home: Path) -> None:
    write_shot(home / "renders")
    (home / "renders/.proxies").touch()
    said = cli("ingest", "renders")
    assert said.status == 1
    assert said.error.startswith("EXR_PIPELINE_OUTPUT_ROOT: cannot store media in file://")


def test_a_file_behind_a_link_that_media_would_go_through_is_rejected_alone(cli: Cli, home: Path) -> None:
    (home / "renders").mkdir()
    (home / "elsewhere").mkdir()
    for folder in ("renders", "elsewhere"):
        (home / folder / "a.1001.exr").write_bytes(small_exr())
    (home / "renders/link").symlink_to(home / "elsewhere")
    said = cli("ingest", "renders")
    assert said.status == 0
    assert said.out.startswith("2 of 2 files: 1 ready, 1 rejected, 0 retryable\n")
    assert [path.name for path in (home / "elsewhere").iterdir()] == ["a.1001.exr"]
    (rejected,) = json.loads(cli("status", "--json").out)["files"]
    assert "outputs are never written through links" in rejected["reason"]


@pytest.mark.parametrize("command", ["ingest", "retry"])
def test_an_interrupted_command_says_how_far_it_came_and_goes_on_when_repeated(
    cli: Cli, home: Path, command: str
) -> None:
    folder = home / "renders"
    folder.mkdir()
    for frame in range(1, 31):
        (folder / f"a.{frame:04}.exr").write_bytes(b"not yet" if command == "retry" else small_exr())
    if command == "retry":
        cli("ingest", "renders")
        for path in folder.glob("*.exr"):
            path.write_bytes(small_exr())
    arguments = [] if command == "retry" else ["renders"]
    program = str(Path(sys.executable).with_name("exr-pipeline"))
    # As at a terminal: Ctrl-C reaches every process of the group.
    running = subprocess.Popen(
        [program, command, *arguments],
        cwd=home,
        env=bare_environment(EXR_PIPELINE_WORKERS="1"),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    # Not any file: before the run, the command tries whether it can write there.
    while not list(folder.glob(".proxies/*_thumb.jpg")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)
    try:
        out, err = running.communicate(timeout=60)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert (running.returncode, out) == (130, "")
    assert re.fullmatch(
        r"interrupted after \d+ done: run the same command again to resume", Result(130, out, err).error
    )
    again = cli(command, *arguments)
    assert again.status == 0
    assert " ready, 0 rejected, 0 retryable" in again.out
    assert json.loads(cli("status", "--json").out)["states"] == {"ready": 30}


def test_what_a_killed_ingest_left_is_failed_first_and_then_tried_again_by_retry(cli: Cli, home: Path) -> None:
    import dagster as dg

    folder = home / "renders"
    folder.mkdir()
    for frame in range(1, 31):
        (folder / f"a.{frame:04}.exr").write_bytes(small_exr())
    program = str(Path(sys.executable).with_name("exr-pipeline"))
    with subprocess.Popen(
        [program, "ingest", "renders"],
        cwd=home,
        env=bare_environment(EXR_PIPELINE_WORKERS="1"),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        while not media(folder) and running.poll() is None:
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGKILL)
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.STARTED

    again = cli("retry")

    assert again.status == 0
    assert " 0 rejected, 0 retryable" in again.out
    assert states(cli) == {"ready": 30}
    with dg.DagsterInstance.get() as instance:
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS}
        keys = instance.get_dynamic_partitions("files")
        assert len(keys) == 30
        for asset in ("thumbnail", "exr_header"):
            statuses = instance.get_status_by_partition(dg.AssetKey(asset), keys, files_partitions)
            assert {str(status) for status in (statuses or {}).values()} == {"AssetPartitionStatus.MATERIALIZED"}
    assert cli("retry").out == "Nothing to retry.\n"


def test_sequences_that_a_failed_run_did_not_come_to_are_no_success(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers left by other tests are in another folder.
    monkeypatch.setenv("EXR_PIPELINE_STATE_DIR", str(home / ".state"))
    write_shot(home / "renders")
    assert cli("ingest", "renders").status == 0
    monkeypatch.setenv("EXR_PIPELINE_MOVIE_PRESET", "foo")
    said = cli("sequences", "renders")
    assert (said.status, said.out) == (1, "")
    assert said.error.startswith("1 of 1 sequences were not rendered: ")
    assert "unknown preset 'foo'. Fix: choose one of review" in said.error
    monkeypatch.delenv("EXR_PIPELINE_MOVIE_PRESET")
    assert cli("sequences", "renders").out == "1 sequences: 1 ready, 0 rejected, 0 retryable\n"
    assert cli("sequences", "renders").out == "Nothing to do: no sequence is new or changed.\n"
    # Its row of before is of other frames, and no success either.
    (home / "renders/beauty.1002.exr").write_bytes(small_exr(2.0))
    assert cli("ingest", "renders").status == 0
    monkeypatch.setenv("EXR_PIPELINE_MOVIE_PRESET", "foo")
    assert cli("sequences", "renders").error.startswith("1 of 1 sequences were not rendered: ")


def test_sequences_of_a_place_that_has_none_are_an_error(in_ingested: Cli, ingested: Ingested) -> None:
    for place in ("renders/shot_011", f"{ingested.folder.as_uri()}/nosuch/"):
        said = in_ingested("sequences", place)
        assert (said.status, said.out) == (1, "")
        assert place.rpartition("/")[2] in said.error
    assert "no ingested file below it is a frame of a sequence" in said.error


def test_a_wrong_key_is_said_in_one_line_and_not_shown(
    cli: Cli, s3_settings: Settings, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET_KEY", "wrong-and-secret")
    said = cli("ingest", bucket.url)
    assert (said.status, said.out) == (1, "")
    assert said.error.startswith("S3_ACCESS_KEY: ")
    assert "wrong-and-secret" not in said.err


def test_status_tells_of_events_that_wait_to_be_published(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shot(home / "shot")
    cli("ingest", str(home / "shot"), "--only", "header")
    assert json.loads(cli("status", "--json").out)["outbox"] == {"waiting": 0, "oldest": None}
    assert "events wait" not in cli("status").out
    # Nobody listens there.
    monkeypatch.setenv("EXR_PIPELINE_PUBLISH_BROKERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("EXR_PIPELINE_PUBLISH_TYPES", "file.rejected")
    (home / "shot" / "bad.exr").write_bytes(b"not one")
    cli("ingest", str(home / "shot"), "--only", "header")
    outbox = json.loads(cli("status", "--json").out)["outbox"]
    assert outbox["waiting"] == 1
    assert outbox["oldest"].endswith("+00:00")
    assert "1 events wait to be published, the oldest since" in cli("status").out
