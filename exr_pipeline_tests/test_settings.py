"""Settings: where they come from, and that all of them are in docs/settings.md."""

import ast
import re
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from exr_pipeline.settings import Settings
from exr_pipeline_tests.docs.generated import REPOSITORY, setting_name, updated

DOCUMENT = REPOSITORY / "docs" / "settings.md"
PACKAGE = REPOSITORY / "exr_pipeline"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(setting_name(field), raising=False)


def test_the_document_has_every_setting_as_the_code_has_it() -> None:
    assert updated(DOCUMENT) == DOCUMENT.read_text(encoding="utf-8"), "run python -m exr_pipeline_tests.docs.generated"


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_setting_is_read_by_the_name_that_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {bool: "true", str: "text", Path: "/text", int: "1999", float: "7.5", SecretStr: "text"}
    for field, info in Settings.model_fields.items():
        kind = next((kind for kind in texts if kind.__name__ in str(info.annotation)), str)
        listed = {
            "source_kinds": "exr",
            "priorities": "show=1",
            "events_catalog": "/renders=s3://renders/",
            "sequence_missing": "black",
            "compatibility": "spaceharbor",
            "reconcile_dry_run": "false",
            "raise_retryable": "false",
            "local_links": "inside",
            "console_level": "ERROR",
            "log_format": "json",
            "kafka_security": "ssl",
            "kafka_sasl_mechanism": "SCRAM-SHA-512",
        }
        text = listed.get(field) or ("un-tone-mapped" if field.endswith("_view") else texts[kind])
        before = getattr(Settings(), field)
        monkeypatch.setenv(setting_name(field), text)
        assert getattr(Settings(), field) != before, field
        monkeypatch.delenv(setting_name(field))


def test_priorities_are_listed_by_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXR_PIPELINE_PRIORITIES", "a/b=10, c=-5,")
    assert Settings().priorities == {"a/b": 10, "c": -5}
    for wrong in ("a", "a=much"):
        monkeypatch.setenv("EXR_PIPELINE_PRIORITIES", wrong)
        with pytest.raises(ValidationError, match="priorities"):
            Settings()


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    without = Settings()
    optional = [name for name, field in Settings.model_fields.items() if field.default in (None, ())]
    for field in optional:
        monkeypatch.setenv(setting_name(field), "")
    assert len(optional) > 10
    assert Settings() == without


def test_the_environment_wins_over_the_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("S3_REGION=from-file\nEXR_PIPELINE_FETCHES=3\nSOMEBODY_ELSES=1\n")
    monkeypatch.setenv("S3_REGION", "from-environment")
    settings = Settings()
    assert (settings.s3_region, settings.fetches) == ("from-environment", 3)


def test_kinds_of_files_are_separated_by_commas_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXR_PIPELINE_SOURCE_KINDS", "exr, movie")
    assert Settings().source_kinds == ("exr", "movie")
    monkeypatch.setenv("EXR_PIPELINE_SOURCE_KINDS", "exr,films")
    with pytest.raises(ValidationError, match="films"):
        Settings()


def test_sources_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXR_PIPELINE_SOURCES", " s3://renders/show_a , file:///mnt/show b,")
    assert Settings().sources == ("s3://renders/show_a", "file:///mnt/show b")


def test_the_database_lies_in_the_state_folder_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().database_path == Path(".state/tables.duckdb")
    monkeypatch.setenv("EXR_PIPELINE_STATE_DIR", "/state")
    assert Settings().database_path == Path("/state/tables.duckdb")
    monkeypatch.setenv("EXR_PIPELINE_DATABASE", "/elsewhere/t.duckdb")
    assert Settings().database_path == Path("/elsewhere/t.duckdb")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().chunk_size = 1  # type: ignore[misc]


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    assert {"s3_access_key", "s3_secret_key", "s3_session_token", "vast_db_access_key"} < set(secret)
    assert not [name for name in set(Settings.model_fields) - set(secret) if re.search("secret_|password|token", name)]
    for field in secret:
        monkeypatch.setenv(setting_name(field), "hush-hush")
    settings = Settings()
    assert "hush" not in f"{settings} {settings!r} {settings.model_dump_json()}"


def environment_reads(tree: ast.AST) -> set[str]:
    """Names read from the environment; `?` for one that the code does not write down."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr="get" | "pop"), args=[name, *_]) if is_environ(value):
                pass
            case ast.Call(func=ast.Attribute(attr="getenv"), args=[name, *_]):
                pass
            case ast.Subscript(value=value, slice=name, ctx=ast.Load()) if is_environ(value):
                pass
            case ast.Compare(left=name, comparators=[value]) if is_environ(value):
                pass
            case _:
                continue
        found.add(str(name.value) if isinstance(name, ast.Constant) else "?")
    return found


def is_environ(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ"


def test_reads_of_the_environment_are_recognised() -> None:
    code = "os.environ['A']; os.environ.get('B'); os.getenv('C'); 'D' in os.environ; os.environ[x]; os.environ['E'] = 1"
    assert environment_reads(ast.parse(code)) == {"A", "B", "C", "D", "?"}


def test_nothing_is_read_from_the_environment_that_is_not_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8") + "`PATH` `no_proxy`"
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in environment_reads(ast.parse(path.read_text(encoding="utf-8"))):
            assert f"`{name}`" in text, f"{path.relative_to(REPOSITORY)} reads {name}"
