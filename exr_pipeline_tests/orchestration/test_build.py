"""The code location as a whole."""

from pathlib import Path

from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.settings import Settings


def test_the_page_is_told_what_each_resource_is_and_where_it_leads_but_no_secret(tmp_path: Path) -> None:
    settings = Settings(
        _env_file=None,
        sources=("s3://renders/show/",),
        output_root="s3://media",
        database=tmp_path / "tables.duckdb",
        s3_access_key="an-access-key",
        s3_secret_key="a-secret",
    )
    shown = build_defs(settings=settings).get_repository_def().get_top_level_resources()
    texts = {name: str(each.description) for name, each in shown.items()}
    assert "s3://renders/show/" in texts["pipeline"]
    assert str(tmp_path / "tables.duckdb") in texts["table_io"]
    assert "s3://media" in texts["media_io"]
    assert {getattr(each.resource_fn, "__name__", "") for each in shown.values()} == {
        "settings_and_clients",
        "rows_in_tables",
        "media_in_storage",
    }
    assert not any("secret" in text or "an-access-key" in text for text in texts.values())
