"""Whom a provider vouches for: one account for each, roles by its claims, and logins that end once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from exr_pipeline.catalog import accounts, identities, projects
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.errors import UnauthenticatedError
from exr_pipeline.catalog.identities import BegunSignIn, RoleRule, parse_role_rules
from exr_pipeline.catalog.models import Account, SignIn
from exr_pipeline.catalog.principals import Principal
from exr_pipeline.errors import MisconfiguredError

ISSUER = "https://id.studio.test"
BEGUN = BegunSignIn("nonce", "verifier", "https://catalog.studio.test/callback", "/runs")


def log_in(database: CatalogDatabase, *rules: str, issuer: str = ISSUER, **claims: object) -> Principal:
    with database.transaction() as session:
        secret, _ = identities.log_in(session, issuer, claims, parse_role_rules(rules), label="browser")
        return accounts.authenticate(session, secret)


def test_a_subject_is_one_account_of_its_issuer(database: CatalogDatabase) -> None:
    first = log_in(database, sub="1", preferred_username="ann")
    assert log_in(database, sub="1", preferred_username="anna").account_id == first.account_id
    other = log_in(database, sub="1", preferred_username="ann", issuer="https://other.test")
    assert (first.name, other.name) == ("ann", "ann (1)")
    assert log_in(database, sub="2", preferred_username="ann").name == "ann (2)"


def test_a_name_is_shown_as_what_it_is(database: CatalogDatabase) -> None:
    assert log_in(database, sub="3", preferred_username="ann\u202e\n\x00" + "x" * 300).name.startswith("ann\\u202e ")
    assert log_in(database, sub="4", preferred_username=" ", email="d@x.test", email_verified=False).name == "4"


def test_rules_give_the_highest_role_that_fits_and_leave_other_projects_alone(
    database: CatalogDatabase, admin: Principal
) -> None:
    ids = {}
    with database.transaction() as session:
        for name in ("a", "b"):
            ids[name] = projects.create_project(session, admin, name).id
    rules = ("groups:x=viewer@a", "groups:y=manager@a", "groups:y=viewer@nowhere", "groups:z=admin")
    found = log_in(database, *rules, sub="5", preferred_username="ann", groups=["x", "y"])
    assert found.grants == {ids["a"]: "manager"}
    with database.transaction() as session:
        accounts.set_role(session, admin, "ann", "editor", project="b")
    assert log_in(database, *rules, sub="5", groups=["z"]).grants == {"*": "admin", ids["b"]: "editor"}
    assert log_in(database, *rules, sub="5", groups="x").grants == {ids["a"]: "viewer", ids["b"]: "editor"}
    assert log_in(database, *rules, sub="5").grants == {ids["b"]: "editor"}


def test_rules_are_read_as_they_are_written() -> None:
    assert parse_role_rules(["https://x.test/groups:a b=editor@show", "realm.roles:lead=admin"]) == [
        RoleRule("https://x.test/groups", "a b", "editor", "show"),
        RoleRule("realm.roles", "lead", "admin", "*"),
    ]
    for wrong in ("", "groups:x", "groups=admin", "groups:x=king", "groups:x=admin@"):
        with pytest.raises(MisconfiguredError, match="EXR_PIPELINE_OIDC_ROLES"):
            parse_role_rules([wrong])


def test_a_disabled_account_stays_out(database: CatalogDatabase, admin: Principal) -> None:
    log_in(database, sub="6", preferred_username="gus")
    with database.transaction() as session:
        accounts.disable_account(session, admin, "gus")
    with pytest.raises(UnauthenticatedError, match="disabled"):
        log_in(database, sub="6")
    with database.transaction() as session, pytest.raises(UnauthenticatedError, match="disabled"):
        identities.principal_of(session, ISSUER, {"sub": "6"}, [])
    with database.transaction() as session, pytest.raises(UnauthenticatedError, match="not known"):
        identities.principal_of(session, ISSUER, {"sub": "7"}, [])


def test_a_login_that_is_under_way_ends_once_however_many_end_it(database: CatalogDatabase) -> None:
    with database.transaction() as session:
        secret = identities.begin_sign_in(session, "state", BEGUN)

    def end(_: int) -> BegunSignIn | None:
        with database.transaction() as session:
            return identities.end_sign_in(session, "state", secret)

    with database.transaction() as session:
        assert identities.end_sign_in(session, "state", "of another browser") is None
        assert identities.end_sign_in(session, "another state", secret) is None
    with ThreadPoolExecutor(4) as threads:
        ended = list(threads.map(end, range(4)))
    assert sorted(ended, key=str) == [BEGUN, None, None, None]


def test_a_login_that_takes_too_long_is_over_and_forgotten(database: CatalogDatabase) -> None:
    with database.transaction() as session:
        secret = identities.begin_sign_in(session, "old", BEGUN)
        session.flush()
        session.execute(sa.update(SignIn).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    with database.transaction() as session:
        assert identities.end_sign_in(session, "old", secret) is None
        identities.begin_sign_in(session, "old", BEGUN)
        session.flush()
        session.execute(sa.update(SignIn).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        identities.begin_sign_in(session, "new", BEGUN)
        session.flush()
        assert session.scalar(sa.select(sa.func.count()).select_from(SignIn)) == 1


def test_a_token_for_whoever_has_the_database_is_the_administrators_and_ends(database: CatalogDatabase) -> None:
    with database.transaction() as session:
        secret = accounts.new_admin_token(session)
        assert accounts.authenticate(session, secret).grants == {"*": "admin"}
        accounts.end_login(session, secret)
        with pytest.raises(UnauthenticatedError):
            accounts.authenticate(session, secret)
        accounts.new_admin_token(session)
        assert session.scalar(sa.select(sa.func.count()).select_from(Account)) == 1
