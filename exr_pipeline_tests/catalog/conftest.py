"""An empty catalog in each of the databases that it may be in, and who calls it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exr_pipeline.catalog import accounts, projects
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.migrate import migrate
from exr_pipeline.catalog.principals import Principal, Role

# Gives an account a role in a project, or in all, and returns it as it calls.
MakeCaller = Callable[..., Principal]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CatalogDatabase]:
    """A database without tables."""
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'catalog.db'}" if is_sqlite else request.getfixturevalue("postgres_url")
    found = CatalogDatabase(url)
    yield found
    found.close()


@pytest.fixture
def database(empty_database: CatalogDatabase) -> CatalogDatabase:
    """The same with the tables of this version."""
    migrate(empty_database)
    return empty_database


@pytest.fixture
def admin(database: CatalogDatabase) -> Principal:
    """The first administrator."""
    with database.transaction() as session:
        secret = accounts.ensure_admin(session, None)
        assert secret is not None
        return accounts.authenticate(session, secret)


@pytest.fixture
def make_caller(database: CatalogDatabase, admin: Principal) -> MakeCaller:
    """Makes accounts, and projects where they are missing."""

    def make(name: str, role: Role, project: str = "*", scopes: list[str] | None = None) -> Principal:
        with database.transaction() as session:
            names = {each.name for each in projects.projects(session, admin)}
            if project != "*" and project not in names:
                projects.create_project(session, admin, project)
            accounts.create_account(session, admin, name)
            accounts.set_role(session, admin, name, role, project=project)
            secret, _ = accounts.create_token_for(session, admin, name, "test", scopes=scopes)  # type: ignore[arg-type]
            return accounts.authenticate(session, secret)

    return make
