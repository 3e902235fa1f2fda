"""Accounts and tokens: secrets are shown once, only hashes are kept, and what is over or revoked is worth nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from exr_pipeline.catalog import accounts
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.errors import (
    ConflictError,
    NotFoundError,
    TooManyAttemptsError,
    UnauthenticatedError,
)
from exr_pipeline.catalog.models import FailedLogin, Token
from exr_pipeline.catalog.principals import Principal
from exr_pipeline.errors import BadInputError
from exr_pipeline_tests.catalog.conftest import MakeCaller

PASSWORD = "a long enough password"


def everything(database: CatalogDatabase) -> str:
    """All that the database holds, as text."""
    with database.engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        return "".join(str(connection.execute(sa.text(f"SELECT * FROM {name}")).all()) for name in names)


def test_the_first_token_is_made_once_and_its_secret_is_kept_nowhere(database: CatalogDatabase) -> None:
    with database.transaction() as session:
        secret = accounts.ensure_admin(session, None)
        assert accounts.ensure_admin(session, None) is None
    assert secret is not None
    assert secret not in everything(database)
    with database.transaction(read_only=True) as session:
        assert accounts.authenticate(session, secret).grants == {"*": "admin"}


def test_the_token_of_the_setting_is_the_one_that_was_set_last(database: CatalogDatabase) -> None:
    first, second = "first-token-of-the-setting", "second-token-of-the-setting"
    for secret in (first, first, second):
        with database.transaction() as session:
            assert accounts.ensure_admin(session, secret) is None
    with database.transaction(read_only=True) as session:
        assert accounts.authenticate(session, second).name == "admin"
        with pytest.raises(UnauthenticatedError):
            accounts.authenticate(session, first)


def test_a_token_does_no_more_than_its_scopes_nor_does_one_that_it_makes(
    database: CatalogDatabase, make_caller: MakeCaller
) -> None:
    limited = make_caller("reader", "manager", scopes=["assets:read", "tokens:own"])
    assert limited.may("assets:read", "any")
    assert not limited.may("assets:write", "any")
    with database.transaction() as session:
        secret, token = accounts.create_token(session, limited, "child")
        assert token.scopes == ["assets:read", "tokens:own"]
        assert accounts.authenticate(session, secret).scopes == limited.scopes
        with pytest.raises(BadInputError, match="scopes"):
            accounts.create_token(session, limited, "more", scopes=["assets:write"])


def test_tokens_that_expired_or_were_revoked_and_those_of_disabled_accounts_are_refused(
    database: CatalogDatabase, admin: Principal, make_caller: MakeCaller
) -> None:
    caller = make_caller("service", "editor")
    with database.transaction() as session:
        expired, token = accounts.create_token(session, caller, "a", expires_at=datetime.now(UTC) + timedelta(hours=1))
        token.expires_at = datetime.now(UTC) - timedelta(seconds=1)
        revoked, token = accounts.create_token(session, caller, "b")
        accounts.revoke_token(session, caller, token.id)
        accounts.revoke_token(session, caller, token.id)
        with pytest.raises(NotFoundError):
            accounts.revoke_token(session, admin, token.id)
        good, _ = accounts.create_token(session, caller, "c")
    with database.transaction(read_only=True) as session:
        for secret in (expired, revoked, "exr_wrong", "", "\x00", "\ud800"):
            with pytest.raises(UnauthenticatedError, match="it is not valid"):
                accounts.authenticate(session, secret)
        assert accounts.authenticate(session, good).name == "service"
    with database.transaction() as session:
        accounts.disable_account(session, admin, "service")
        with pytest.raises(UnauthenticatedError):
            accounts.authenticate(session, good)
        with pytest.raises(ConflictError):
            accounts.disable_account(session, admin, "admin")


def test_a_limited_token_makes_no_stronger_one_for_anybody(
    database: CatalogDatabase, admin: Principal, make_caller: MakeCaller
) -> None:
    make_caller("strong", "admin")
    limited = make_caller("limited", "admin", scopes=["accounts:manage"])
    with database.transaction() as session:
        secret, token = accounts.create_token_for(session, limited, "strong", "t")
        assert token.scopes == ["accounts:manage"]
        assert not accounts.authenticate(session, secret).may("assets:read", "any")
        with pytest.raises(BadInputError, match="scopes"):
            accounts.create_token_for(session, limited, "strong", "t", scopes=["assets:write"])
        with pytest.raises(BadInputError, match="expires_at"):
            accounts.create_token_for(session, admin, "strong", "t", expires_at=datetime.now(UTC))


def test_when_a_token_was_used_is_kept_to_the_minute(database: CatalogDatabase, make_caller: MakeCaller) -> None:
    caller = make_caller("service", "editor")
    with database.transaction() as session:
        secret, token = accounts.create_token(session, caller, "a")
        assert accounts.is_use_to_note(session, secret)
        accounts.note_use(session, secret)
        assert not accounts.is_use_to_note(session, secret)
    with database.transaction(read_only=True) as session:
        used = session.get_one(Token, token.id).last_used_at
        assert used is not None
        assert datetime.now(UTC) - used < timedelta(minutes=1)


def test_a_password_gives_a_token_and_is_kept_as_a_hash_of_argon2(database: CatalogDatabase, admin: Principal) -> None:
    with database.transaction() as session:
        accounts.create_account(session, admin, "ann", password=PASSWORD)
        with pytest.raises(ConflictError, match="one named 'ann'"):
            accounts.create_account(session, admin, "ann")
        with pytest.raises(BadInputError, match="12 to 256 characters"):
            accounts.create_account(session, admin, "bob", password="short")
    secret, _ = accounts.log_in(database, "ann", PASSWORD)
    with database.transaction(read_only=True) as session:
        assert accounts.authenticate(session, secret).name == "ann"
    assert PASSWORD not in everything(database)
    assert "$argon2id$" in everything(database)


def test_after_five_failures_even_the_right_password_waits(database: CatalogDatabase, admin: Principal) -> None:
    with database.transaction() as session:
        accounts.create_account(session, admin, "ann", password=PASSWORD)
        accounts.create_account(session, admin, "tokens-only")
    accounts.log_in(database, "ann", PASSWORD)
    # As long as the service takes them.
    for name in ("ann", "nobody" * 42, "tokens-only"):
        for _ in range(5):
            with pytest.raises(UnauthenticatedError, match="the name or the password is wrong"):
                accounts.log_in(database, name, "wrong")
        with pytest.raises(TooManyAttemptsError):
            accounts.log_in(database, name, PASSWORD)
    # Five minutes later.
    with database.transaction() as session:
        session.execute(sa.update(FailedLogin).values(at=datetime.now(UTC) - timedelta(minutes=6)))
    accounts.log_in(database, "ann", PASSWORD)


def test_logins_at_once_are_all_counted(database: CatalogDatabase) -> None:
    def guess(_: int) -> str:
        try:
            accounts.log_in(database, "ann", "wrong")
        except (UnauthenticatedError, TooManyAttemptsError) as error:
            return type(error).__name__
        return "in"

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(guess, range(8)))
    assert sorted(answers) == ["TooManyAttemptsError"] * 3 + ["UnauthenticatedError"] * 5


def test_roles_are_given_and_taken_away(database: CatalogDatabase, admin: Principal, make_caller: MakeCaller) -> None:
    make_caller("ann", "viewer", "show-a")
    with database.transaction() as session:
        accounts.set_role(session, admin, "ann", "editor", project="show-a")
        accounts.set_role(session, admin, "ann", "viewer")
        accounts.set_role(session, admin, "ann", None, project="show-a")
        for missing in ({"account_name": "nobody"}, {"account_name": "ann", "project": "nothing"}):
            with pytest.raises(NotFoundError):
                accounts.set_role(session, admin, role="viewer", **missing)
    with database.transaction(read_only=True) as session:
        roles = {
            each.name: [(g.project_id, g.role) for g in grants] for each, grants in accounts.accounts(session, admin)
        }
        assert roles == {"admin": [("*", "admin")], "ann": [("*", "viewer")]}
