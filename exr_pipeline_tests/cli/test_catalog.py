"""Tokens from the command line: for whoever has the catalog's database, on a terminal, and never in a log."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from exr_pipeline.catalog import accounts
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.cli import demo
from exr_pipeline.settings import Settings
from exr_pipeline_tests.cli.conftest import bare_environment, make_home, run_process

TOKEN = re.compile(r"exr_[\w-]{43}")


def roles(database: CatalogDatabase, secret: str) -> dict[str, str]:
    with database.transaction(read_only=True) as session:
        return dict(accounts.authenticate(session, secret).grants)


def test_the_command_prints_a_token_each_time_and_nothing_else(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    said = [run_process("catalog", "token", cwd=home, env=bare_environment()) for _ in range(2)]
    secrets = [each.out.strip() for each in said]
    assert all(TOKEN.fullmatch(secret) for secret in secrets)
    assert len(set(secrets)) == 2
    assert [each.err for each in said] == ["", ""]
    database = CatalogDatabase.from_settings(Settings(_env_file=None, state_dir=home / ".state"))
    assert [roles(database, secret) for secret in secrets] == [{"*": "admin"}] * 2
    database.close()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_demonstration_ends_with_the_catalogs_address_and_on_a_terminal_with_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(demo, "stdout", Console(file=written, force_terminal=is_terminal, width=200, color_system=None))
    settings = Settings(_env_file=None, state_dir=tmp_path / ".state")
    demo.print_catalog(settings)
    text = written.getvalue()
    assert "make ui" in text
    assert "http://127.0.0.1:3000/v1/assets" in text
    found = TOKEN.search(text)
    assert ("exr-pipeline catalog token" in text) is not is_terminal
    if not is_terminal:
        assert found is None
        return
    database = CatalogDatabase.from_settings(settings)
    assert roles(database, found[0]) == {"*": "admin"}  # type: ignore[index]
    database.close()
