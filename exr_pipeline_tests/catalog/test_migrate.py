"""The catalog's tables: made once however many nodes start, as the code expects them, refused if they are newer."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.migrate import migrate
from exr_pipeline.catalog.models import Asset, Model
from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.settings import Settings


def test_revisions_lead_to_the_tables_that_the_code_expects(empty_database: CatalogDatabase) -> None:
    assert migrate(empty_database) == ["0001", "0003", "0004", "0005"]
    assert migrate(empty_database) == []
    with empty_database.engine.connect() as connection:
        # Each database has its own index of texts, which is no table or index of the models.
        context = MigrationContext.configure(
            connection, opts={"include_object": lambda _, name, *__: not str(name).startswith("asset_text_index")}
        )
        assert compare_metadata(context, Model.metadata) == []


def test_nodes_that_start_at_once_make_the_tables_once(empty_database: CatalogDatabase) -> None:
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: migrate(empty_database), range(4)))
    assert sorted(done) == [[], [], [], ["0001", "0003", "0004", "0005"]]


def test_a_catalog_of_a_later_version_is_refused_and_left_alone(database: CatalogDatabase) -> None:
    with database.transaction() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(MisconfiguredError, match="a later version made this catalog"):
        migrate(database)


@pytest.mark.parametrize("url", ["mysql://host/x", "nonsense", "nothing://host/x", ""])
def test_any_other_database_is_refused_by_the_name_of_the_setting(url: str) -> None:
    settings = Settings(_env_file=None, catalog_database=url)
    if not url:
        assert settings.catalog_database is None
        return
    with pytest.raises(MisconfiguredError, match="EXR_PIPELINE_CATALOG_DATABASE"):
        CatalogDatabase.from_settings(settings)


def test_a_database_that_does_not_answer_is_worth_another_try() -> None:
    gone = CatalogDatabase("postgresql://nobody@127.0.0.1:1/catalog")
    with pytest.raises(RetryableError, match="not available"), gone.transaction() as session:
        session.scalars(sa.select(Asset)).all()
    gone.close()


def test_the_embedded_catalog_is_for_its_user_alone(tmp_path: Path) -> None:
    settings: Any = Settings(_env_file=None, state_dir=tmp_path / "state")
    database = CatalogDatabase.from_settings(settings)
    migrate(database)
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
    assert (tmp_path / "state" / "catalog.db").exists()
    database.close()
