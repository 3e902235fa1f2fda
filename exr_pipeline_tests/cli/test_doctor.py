"""`doctor`: right settings are said to be right, and each wrong one is named with its remedy."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from exr_pipeline_tests.cli.conftest import Cli, Result
from exr_pipeline_tests.conftest import STRANGER
from exr_pipeline_tests.orchestration.dagster_homes import configure_postgres
from exr_pipeline_tests.services.kafka import running_tansu
from exr_pipeline_tests.services.processes import free_port

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.embedded import EmbeddedS3
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.objects import ObjectStorage


def findings(said: Result) -> dict[str, tuple[str, str]]:
    """What each check found: `ok` or `failed`, and a sentence."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.out.splitlines() if line.startswith("│")]
    assert "Traceback" not in said.out + said.err
    assert said.err == ""
    return {check: (state, finding) for check, state, finding in rows}


def failed(said: Result) -> dict[str, str]:
    """The failed checks; the command must then have failed."""
    bad = {check: finding for check, (state, finding) in findings(said).items() if state == "failed"}
    assert said.status == (1 if bad else 0)
    return bad


@pytest.fixture
def configured(home: Path, bucket: Location, s3_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source and an output root in a bucket that exists."""
    monkeypatch.setenv("EXR_PIPELINE_SOURCES", f"s3://{bucket.bucket}/show/")
    monkeypatch.setenv("EXR_PIPELINE_OUTPUT_ROOT", f"s3://{bucket.bucket}/media")
    monkeypatch.setenv("EXR_PIPELINE_WORKERS", "1")


def test_everything_right_is_said_to_be_right(
    cli: Cli, configured: None, home: Path, bucket: Location, storage: ObjectStorage
) -> None:
    said = cli("doctor")
    assert failed(said) == {}
    found = findings(said)
    assert found[f"source s3://{bucket.bucket}/show/"] == ("ok", "readable, but empty")
    assert found["settings"][1].endswith(" set, the others at their defaults: exr-pipeline settings")
    assert list(storage.iter_objects(bucket)) == []
    assert found["output root"][1] == f"s3://{bucket.bucket}/media is writable"
    assert found["tables"][1].endswith("tables.duckdb: 0 files")
    assert "studio-config" in found["color"][1]
    assert found["picture workers"][1].startswith("1 processes")
    assert str(home) in found["Dagster"][1]


def test_without_sources_it_says_what_that_means(cli: Cli, home: Path) -> None:
    found = findings(cli("doctor"))
    state, finding = found["sources"]
    assert state == "ok"
    assert "EXR_PIPELINE_SOURCES" in finding
    assert "if your untagged renders are ACEScg" in found["color"][1]
    assert found["color"][1].endswith("set EXR_PIPELINE_DEFAULT_COLOR_SPACE=scene_linear")


def test_a_wrong_key_of_s3_is_named_and_not_shown(
    cli: Cli, configured: None, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET_KEY", "wrong-and-secret")
    said = cli("doctor")
    bad = failed(said)
    assert set(bad) == {f"source s3://{bucket.bucket}/show/", "output root"}
    for finding in bad.values():
        assert finding.startswith("S3_ACCESS_KEY: ")
        assert "Fix: " in finding
        assert "S3_SECRET_KEY" in finding
    assert "wrong-and-secret" not in said.out


def test_keys_without_permission_are_told_from_wrong_ones(
    cli: Cli, configured: None, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ACCESS_KEY", STRANGER["access_key"])
    monkeypatch.setenv("S3_SECRET_KEY", STRANGER["secret_key"])
    assert "the store refuses to list" in failed(cli("doctor"))[f"source s3://{bucket.bucket}/show/"]


def test_an_endpoint_that_does_not_answer_is_named_with_a_fix_and_without_its_password(
    cli: Cli, configured: None, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXR_PIPELINE_REQUEST_RETRIES", "0")
    monkeypatch.setenv("S3_ENDPOINT", "http://me:hush-hush@127.0.0.1:9")
    said = cli("doctor")
    bad = failed(said)
    assert set(bad) == {f"source s3://{bucket.bucket}/show/", "output root"}
    for finding in bad.values():
        assert "no answer from the store. Fix: check that a store answers at http://127.0.0.1:9" in finding
        assert "S3_ENDPOINT" in finding
    assert "hush" not in said.out


def test_a_database_endpoint_that_does_not_answer_is_named_with_a_fix(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXR_PIPELINE_REQUEST_RETRIES", "0")
    keys = {"VAST_DB_ACCESS_KEY": "k", "VAST_DB_SECRET_KEY": "s", "EXR_PIPELINE_WORKERS": "1"}
    for name, value in {"VAST_DB_ENDPOINT": "http://127.0.0.1:9", "VAST_DB_BUCKET": "renders", **keys}.items():
        monkeypatch.setenv(name, value)
    finding = failed(cli("doctor"))["tables"]
    assert "VAST DataBase at http://127.0.0.1:9 cannot be reached" in finding
    assert "Fix: check that it runs and can be reached, or correct VAST_DB_ENDPOINT" in finding


def test_variables_that_are_no_settings_are_named_with_the_nearest_right_name(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXR_PIPELINE_SORCES", "s3://a/b")
    (home / ".env").write_text("EXR_PIPELINE_XYZZY_QQ=1\nEXR_PIPELINE_WORKERS=1\n")
    assert failed(cli("doctor"))["settings"] == (
        "EXR_PIPELINE_SORCES, EXR_PIPELINE_XYZZY_QQ: not settings. "
        "Fix: rename EXR_PIPELINE_SORCES to EXR_PIPELINE_SOURCES; unset EXR_PIPELINE_XYZZY_QQ"
    )


def test_a_source_beside_whose_files_nothing_can_be_stored_is_named(
    cli: Cli, home: Path, s3_settings: Settings, s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    readable = f"open-{uuid4().hex}"
    s3_server.create_bucket(readable)
    for name in ("closed", "open"):
        (home / name).mkdir()
        (home / name / "a.exr").write_bytes(b"")
    (home / "closed/.proxies").touch()
    sources = [f"s3://{readable}/", (home / "closed").as_uri(), (home / "open").as_uri()]
    monkeypatch.setenv("EXR_PIPELINE_SOURCES", ",".join(sources))
    monkeypatch.setenv("EXR_PIPELINE_WORKERS", "1")
    monkeypatch.setenv("S3_ACCESS_KEY", STRANGER["access_key"])
    monkeypatch.setenv("S3_SECRET_KEY", STRANGER["secret_key"])
    said = cli("doctor")
    bad = failed(said)
    assert set(bad) == {f"source {source}" for source in sources[:2]}
    for finding in bad.values():
        assert finding.startswith("EXR_PIPELINE_OUTPUT_ROOT: ")
        assert "Fix: " in finding
    assert findings(said)[f"source {sources[2]}"] == ("ok", "readable; media can be written next to the files")
    assert [path.name for path in (home / "open").iterdir()] == ["a.exr"]


def test_a_database_of_dagster_that_is_down_is_a_row_of_the_table(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    # Dagster's own storage, which would wait for half a minute, is replaced as it is in a deployment.
    configure_postgres(home, f"postgresql://somebody:secret@127.0.0.1:{port}/dagster")
    monkeypatch.setenv("EXR_PIPELINE_WORKERS", "1")
    said = cli("doctor")
    finding = failed(said)["Dagster"]
    assert finding.startswith("Dagster's database does not answer: ")
    assert "Fix: " in finding
    assert "secret" not in said.out


def test_each_source_that_is_not_there_is_named(cli: Cli, configured: None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "s3://no-such-bucket/show": "S3_ENDPOINT",
        "file:///no/such/folder": "EXR_PIPELINE_SOURCES",
        "ftp://server/show": "EXR_PIPELINE_SOURCES",
        "/a/path/without/scheme": "EXR_PIPELINE_SOURCES",
    }
    monkeypatch.setenv("EXR_PIPELINE_SOURCES", ",".join(settings))
    bad = failed(cli("doctor"))
    for source, setting in settings.items():
        assert bad[f"source {source}"].startswith(f"{setting}: ")
        assert "Fix: " in bad[f"source {source}"]


@pytest.mark.parametrize(("variable", "kind"), [("OCIO", "missing"), ("OCIO_CONFIG_PATH", "broken")])
def test_a_bad_ocio_config_is_named(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, kind: str
) -> None:
    config = home / "config.ocio"
    if kind == "broken":
        config.write_text("ocio_profile_version: 2\nroles: [\n")
    monkeypatch.setenv(variable, str(config))
    monkeypatch.setenv("EXR_PIPELINE_WORKERS", "1")
    bad = failed(cli("doctor"))
    assert bad["color"].startswith(f"{variable}: ")
    assert "config.ocio" in bad["color"]
    assert "Fix: " in bad["color"]


def test_a_color_space_that_the_config_lacks_is_named(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXR_PIPELINE_DEFAULT_COLOR_SPACE", "our own")
    monkeypatch.setenv("EXR_PIPELINE_WORKERS", "1")
    assert any(finding.startswith("EXR_PIPELINE_DEFAULT_COLOR_SPACE: ") for finding in failed(cli("doctor")).values())

    monkeypatch.setenv("EXR_PIPELINE_DEFAULT_COLOR_SPACE", "scene_linear")
    assert findings(cli("doctor"))["color"][1].endswith(
        "EXR files that do not state a color space are read as scene_linear"
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("EXR_PIPELINE_MOVIE_PRESET", "foo"),
        ("EXR_PIPELINE_MOVIE_PRESETS", "/nope.yaml"),
        ("EXR_PIPELINE_UDIM_HINT", "("),
    ],
)
def test_a_wrong_setting_of_sequences_is_named(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    monkeypatch.setenv(setting, value)
    monkeypatch.setenv("EXR_PIPELINE_WORKERS", "1")
    finding = failed(cli("doctor"))["sequences"]
    assert finding.startswith(f"{setting}: ")
    assert "Fix: " in finding


def test_a_home_of_dagster_without_its_configuration_is_named(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "nowhere"))
    finding = failed(cli("doctor"))["Dagster"]
    assert finding.startswith("DAGSTER_HOME: ")
    assert f"exr-pipeline init {tmp_path / 'nowhere'}" in finding


def test_a_database_that_is_none_is_named(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "notes.txt").write_text("this is no database " * 1000)
    monkeypatch.setenv("EXR_PIPELINE_DATABASE", "notes.txt")
    finding = failed(cli("doctor"))["tables"]
    assert finding.startswith("EXR_PIPELINE_DATABASE: ")
    assert "notes.txt" in finding


@pytest.mark.parametrize("setting", ["EXR_PIPELINE_STATE_DIR", "EXR_PIPELINE_DATABASE"])
def test_a_folder_that_cannot_be_made_is_named(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    (home / "file").touch()
    monkeypatch.setenv(setting, "file/tables.duckdb" if setting.endswith("DATABASE") else "file/state")
    assert failed(cli("doctor"))["tables"].startswith(f"{setting}: ")


def test_brokers_of_events_are_asked_and_what_waits_is_told(
    cli: Cli, configured: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_tansu(tmp_path, "renders", "exr-pipeline.events", "spaceharbor.proxy") as tansu:
        monkeypatch.setenv("EXR_PIPELINE_EVENTS_KAFKA_BROKERS", tansu.address)
        monkeypatch.setenv("EXR_PIPELINE_EVENTS_KAFKA_TOPICS", "renders")
        monkeypatch.setenv("EXR_PIPELINE_PUBLISH_BROKERS", tansu.address)
        said = cli("doctor")
        assert failed(said) == {}
        assert findings(said)["events in"][1] == f"{tansu.address} answers: topic renders of 1 partitions"
        assert findings(said)["events out"][1].endswith("exr-pipeline.events, spaceharbor.proxy; 0 events wait")
        monkeypatch.setenv("EXR_PIPELINE_PUBLISH_TOPIC", "elsewhere")
        assert "has no topic elsewhere. Fix: create what is missing" in failed(cli("doctor"))["events out"]


def test_a_broker_or_webhook_that_does_not_answer_is_named(
    cli: Cli, configured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("EXR_PIPELINE_EVENTS_KAFKA_BROKERS", address)
    monkeypatch.setenv("EXR_PIPELINE_EVENTS_KAFKA_TOPICS", "renders")
    monkeypatch.setenv("EXR_PIPELINE_PUBLISH_BROKERS", address)
    found = failed(cli("doctor"))
    assert "correct EXR_PIPELINE_EVENTS_KAFKA_BROKERS" in found["events in"]
    assert "correct EXR_PIPELINE_PUBLISH_BROKERS" in found["events out"]
    monkeypatch.delenv("EXR_PIPELINE_PUBLISH_BROKERS")
    monkeypatch.setenv("EXR_PIPELINE_PUBLISH_WEBHOOKS", f"http://{address}/events?secret=x")
    monkeypatch.setenv("EXR_PIPELINE_PUBLISH_WEBHOOK_SECRET", "whsec_" + "A" * 32)
    found = failed(cli("doctor"))
    assert "127.0.0.1 does not answer" in found["events out"]
    assert "secret=x" not in found["events out"]
