"""What trouble of the database means for a caller: another try, a look first, or an error of the program."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.errors import RetryableError, StateUnknownError
from exr_pipeline_tests.services.postgres import PostgresServer


@pytest.fixture
def postgres(postgres_url: str) -> CatalogDatabase:
    return CatalogDatabase(postgres_url)


def end_connection(server: PostgresServer, session: Session) -> None:
    """What a server that is started anew does to a connection."""
    pid = session.scalar(sa.text("SELECT pg_backend_pid()"))
    other = CatalogDatabase(server.url())
    with other.transaction() as elsewhere:
        elsewhere.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    other.close()


def use_ended_connection(server: PostgresServer, session: Session) -> None:
    end_connection(server, session)
    session.execute(sa.text("SELECT 1"))


def test_a_connection_that_is_lost_before_the_commit_is_worth_another_try(
    postgres: CatalogDatabase, postgres_server: PostgresServer
) -> None:
    with pytest.raises(RetryableError), postgres.transaction() as session:
        use_ended_connection(postgres_server, session)
    # The next one has a connection of its own.
    with postgres.transaction() as session:
        assert session.scalar(sa.text("SELECT 1")) == 1
    postgres.close()


def test_of_a_connection_that_is_lost_at_the_commit_nobody_knows_what_was_done(
    postgres: CatalogDatabase, postgres_server: PostgresServer
) -> None:
    with pytest.raises(StateUnknownError), postgres.transaction() as session:
        end_connection(postgres_server, session)
    postgres.close()


def test_a_wrong_statement_is_an_error_of_the_program_and_not_worth_another_try(postgres: CatalogDatabase) -> None:
    with pytest.raises(sa.exc.ProgrammingError), postgres.transaction() as session:
        session.execute(sa.text("SELECT nothing FROM nowhere"))
    postgres.close()
