"""Accounts, their passwords, tokens and roles: how somebody shows who they are.

Belongs here: that, and the limit of failed logins. Not here: what a role may do (`principals`). A secret is shown once,
when it is made; only hashes are kept. Sources: OWASP Password Storage (argon2id), RFC 6750 (bearer tokens).
"""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from exr_pipeline.catalog.errors import (
    ConflictError,
    NotFoundError,
    TooManyAttemptsError,
    UnauthenticatedError,
)
from exr_pipeline.catalog.event_log import record
from exr_pipeline.catalog.ids import new_id
from exr_pipeline.catalog.models import Account, FailedLogin, Grant, Project, Token
from exr_pipeline.catalog.principals import EVERY_PROJECT, PERMISSIONS, ROLES, Permission, Principal, Role, needs
from exr_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exr_pipeline.catalog.database import CatalogDatabase

ADMIN: Final = "admin"
LOGIN_HOURS: Final = 12
SHORTEST_PASSWORD: Final = 12
MOST_FAILURES: Final = 5
FAILURES_SECONDS: Final = 300
_LONGEST_PASSWORD: Final = 256
_PREFIX: Final = "exr_"
# A moment ago is near enough for people, and saves a write at each request.
_USED_SECONDS: Final = 60


def authenticate(session: Session, secret: str) -> Principal:
    """Who bears this token. Raises `UnauthenticatedError` if it is wrong, expired or revoked, without saying which."""
    now = datetime.now(UTC)
    token = session.scalar(sa.select(Token).where(Token.secret_sha256 == _sha256(secret)))
    account = session.get(Account, token.account_id) if token is not None else None
    if token is None or account is None or account.disabled_at is not None or not _is_valid(token, now):
        raise UnauthenticatedError("token", "it is not valid")
    scopes = None if token.scopes is None else frozenset(each for each in PERMISSIONS if each in token.scopes)
    return Principal(account.id, account.name, roles_of(session, account), scopes)


def roles_of(session: Session, account: Account) -> dict[str, Role]:
    """The roles of an account by the identifier of a project, `*` for all."""
    grants: Sequence[Any] = session.scalars(sa.select(Grant).where(Grant.account_id == account.id)).all()
    return {grant.project_id: grant.role for grant in grants if grant.role in ROLES}


def is_use_to_note(session: Session, secret: str) -> bool:
    """Whether the last use of a token that is known is so long ago that `note_use` has something to keep."""
    used = session.scalar(sa.select(Token.last_used_at).where(Token.secret_sha256 == _sha256(secret)))
    return used is None or used < datetime.now(UTC) - timedelta(seconds=_USED_SECONDS)


def note_use(session: Session, secret: str) -> None:
    """Keep that a token is used now."""
    used = sa.update(Token).where(Token.secret_sha256 == _sha256(secret))
    session.execute(used.values(last_used_at=datetime.now(UTC)))


def log_in(database: CatalogDatabase, name: str, password: str, *, label: str = "login") -> tuple[str, Token]:
    """A new token of an account that has this password, and its secret.

    Raises `UnauthenticatedError` if the name or the password is wrong; an unknown name takes as long as a wrong
    password. Raises `TooManyAttemptsError` after five failures within five minutes, whatever the password is.

    No transaction is open while the password is compared, which takes long on purpose: others could not write.
    """
    with database.transaction() as session:
        _count_login(session, name)
        account = session.scalar(sa.select(Account).where(Account.name == name, Account.disabled_at.is_(None)))
    hashed = None if account is None else account.password_hash
    if not _matches(password, hashed or _nobodys_hash()) or account is None or hashed is None:
        raise UnauthenticatedError("login", "the name or the password is wrong")
    with database.transaction() as session:
        session.execute(sa.delete(FailedLogin).where(FailedLogin.name == name))
        return new_login(session, account, label)


def new_login(session: Session, account: Account, label: str) -> tuple[str, Token]:
    """A new token of twelve hours for somebody who has shown who they are, and its secret."""
    expires_at = datetime.now(UTC) + timedelta(hours=LOGIN_HOURS)
    return _new_token(session, account, label, scopes=None, expires_at=expires_at)


def end_login(session: Session, secret: str) -> None:
    """Make a token worthless from now on, if there is one of this secret. Safe to repeat."""
    ended = sa.update(Token).where(Token.secret_sha256 == _sha256(secret), Token.revoked_at.is_(None))
    session.execute(ended.values(revoked_at=datetime.now(UTC)))


def _count_login(session: Session, name: str) -> None:
    """Count an attempt as failed until it has succeeded, so that any number of them at once are counted."""
    # SQLite's transactions that write exclude each other.
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(name))))
    now = datetime.now(UTC)
    session.execute(sa.delete(FailedLogin).where(FailedLogin.at < now - timedelta(seconds=FAILURES_SECONDS)))
    failures = session.scalar(sa.select(sa.func.count()).where(FailedLogin.name == name)) or 0
    if failures >= MOST_FAILURES:
        raise TooManyAttemptsError("login", f"too many failed logins, try again in {FAILURES_SECONDS // 60} minutes")
    session.add(FailedLogin(id=new_id(), name=name, at=now))


@needs("tokens:own")
def create_token(
    session: Session,
    principal: Principal,
    label: str,
    *,
    scopes: Collection[Permission] | None = None,
    expires_at: datetime | None = None,
) -> tuple[str, Token]:
    """A new token of the caller's own account, and its secret, which nobody can look up later.

    It can do no more than the token that asks for it.
    """
    return _token_asked_for(
        session, principal, session.get_one(Account, principal.account_id), label, scopes=scopes, expires_at=expires_at
    )


@needs("tokens:own")
def own_tokens(session: Session, principal: Principal) -> Sequence[Token]:
    """The tokens of the caller's account, oldest first, revoked ones too."""
    query = sa.select(Token).where(Token.account_id == principal.account_id).order_by(Token.id)
    return session.scalars(query).all()


@needs("tokens:own")
def revoke_token(session: Session, principal: Principal, token_id: str) -> None:
    """Make a token of the caller's account worthless from now on. Safe to repeat."""
    token = session.get(Token, token_id)
    if token is None or token.account_id != principal.account_id:
        raise NotFoundError("token", token_id)
    if token.revoked_at is None:
        token.revoked_at = datetime.now(UTC)
        record(session, principal.name, "token.revoked", token.id, label=token.label)


@needs("accounts:manage")
def create_account(
    session: Session, principal: Principal, name: str, *, password: str | None = None, is_service: bool = False
) -> Account:
    """A new account without any role. Without a password it can only bear tokens."""
    _require_everywhere(principal)
    if session.scalar(sa.select(Account.id).where(Account.name == name)) is not None:
        raise ConflictError("account", f"there is one named {name!r} already")
    account = Account(
        id=new_id(),
        name=name,
        kind="service" if is_service else "user",
        password_hash=None if password is None else _hash(password),
        created_at=datetime.now(UTC),
    )
    session.add(account)
    session.flush()
    record(session, principal.name, "account.created", account.id, name=name)
    return account


@needs("accounts:manage")
def accounts(session: Session, principal: Principal) -> Sequence[tuple[Account, Sequence[Grant]]]:
    """All accounts by name, each with its roles."""
    _require_everywhere(principal)
    found = session.scalars(sa.select(Account).order_by(Account.name)).all()
    grants = session.scalars(sa.select(Grant).order_by(Grant.project_id)).all()
    return [(account, [grant for grant in grants if grant.account_id == account.id]) for account in found]


@needs("accounts:manage")
def set_role(
    session: Session, principal: Principal, account_name: str, role: Role | None, *, project: str = EVERY_PROJECT
) -> None:
    """Give an account a role in a project, by its name, or in all (`*`), in place of the one it has; or none."""
    _require_everywhere(principal)
    account = _account(session, account_name)
    project_id = project if project == EVERY_PROJECT else _project_id(session, project)
    session.execute(sa.delete(Grant).where(Grant.account_id == account.id, Grant.project_id == project_id))
    if role is not None:
        session.add(Grant(account_id=account.id, project_id=project_id, role=role))
    record(session, principal.name, "account.role_set", account.id, role=role, project=project)


@needs("accounts:manage")
def create_token_for(
    session: Session,
    principal: Principal,
    account_name: str,
    label: str,
    *,
    scopes: Collection[Permission] | None = None,
    expires_at: datetime | None = None,
) -> tuple[str, Token]:
    """A new token of any account, such as a service, and its secret.

    It too can do no more than the token that asks for it.
    """
    _require_everywhere(principal)
    account = _account(session, account_name)
    return _token_asked_for(session, principal, account, label, scopes=scopes, expires_at=expires_at)


@needs("accounts:manage")
def disable_account(session: Session, principal: Principal, name: str) -> None:
    """Refuse all logins and tokens of an account from now on. Safe to repeat."""
    _require_everywhere(principal)
    account = _account(session, name)
    if account.id == principal.account_id:
        raise ConflictError("account", "nobody disables their own")
    if account.disabled_at is None:
        account.disabled_at = datetime.now(UTC)
        record(session, principal.name, "account.disabled", account.id, name=name)


def ensure_admin(session: Session, secret: str | None) -> str | None:
    """Make the first administrator; returns the secret of its token if it was made here and now.

    With `secret`, that is its token, whatever was set before; only the latest one that was set is valid.
    """
    account, is_new = _ensure_admin_account(session)
    if secret is not None:
        _set_admin_token(session, account, secret)
        return None
    return _new_token(session, account, "first", scopes=None, expires_at=None)[0] if is_new else None


def new_admin_token(session: Session) -> str:
    """The secret of a new token of the first administrator, of twelve hours: for whoever has the database anyway."""
    account, _ = _ensure_admin_account(session)
    return new_login(session, account, "command line")[0]


def _ensure_admin_account(session: Session) -> tuple[Account, bool]:
    """The first administrator's account, and whether it was made now."""
    account = session.scalar(sa.select(Account).where(Account.name == ADMIN))
    if account is not None:
        return account, False
    account = Account(id=new_id(), name=ADMIN, kind="service", created_at=datetime.now(UTC))
    session.add(account)
    session.flush()
    session.add(Grant(account_id=account.id, project_id=EVERY_PROJECT, role="admin"))
    return account, True


def _set_admin_token(session: Session, account: Account, secret: str) -> None:
    label, hashed = "EXR_PIPELINE_ADMIN_TOKEN", _sha256(secret)
    others = sa.and_(Token.account_id == account.id, Token.label == label, Token.secret_sha256 != hashed)
    session.execute(sa.delete(Token).where(others))
    if session.scalar(sa.select(Token.id).where(Token.secret_sha256 == hashed)) is None:
        _add_token(session, account, label, secret, scopes=None, expires_at=None)


def _token_asked_for(
    session: Session,
    principal: Principal,
    account: Account,
    label: str,
    *,
    scopes: Collection[Permission] | None,
    expires_at: datetime | None,
) -> tuple[str, Token]:
    if principal.scopes is not None:
        if scopes is not None and not principal.scopes.issuperset(scopes):
            raise BadInputError("scopes", "they are more than those of the token that asks")
        scopes = principal.scopes if scopes is None else scopes
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise BadInputError("expires_at", "it is over already")
    secret, token = _new_token(session, account, label, scopes=scopes, expires_at=expires_at)
    record(session, principal.name, "token.created", token.id, label=label, account=account.name)
    return secret, token


def _require_everywhere(principal: Principal) -> None:
    principal.require("accounts:manage", EVERY_PROJECT)


def _account(session: Session, name: str) -> Account:
    account = session.scalar(sa.select(Account).where(Account.name == name))
    if account is None:
        raise NotFoundError("account", name)
    return account


def _project_id(session: Session, name: str) -> str:
    found = session.scalar(sa.select(Project.id).where(Project.name == name))
    if found is None:
        raise NotFoundError("project", name)
    return found


def _new_token(
    session: Session,
    account: Account,
    label: str,
    *,
    scopes: Collection[Permission] | None,
    expires_at: datetime | None,
) -> tuple[str, Token]:
    secret = _PREFIX + secrets.token_urlsafe(32)
    return secret, _add_token(session, account, label, secret, scopes=scopes, expires_at=expires_at)


def _add_token(
    session: Session,
    account: Account,
    label: str,
    secret: str,
    *,
    scopes: Collection[Permission] | None,
    expires_at: datetime | None,
) -> Token:
    token = Token(
        id=new_id(),
        account_id=account.id,
        label=label,
        secret_sha256=_sha256(secret),
        scopes=None if scopes is None else sorted(scopes),
        created_at=datetime.now(UTC),
        expires_at=expires_at,
    )
    session.add(token)
    session.flush()
    return token


def _is_valid(token: Token, now: datetime) -> bool:
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > now)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _hash(password: str) -> str:
    from argon2 import PasswordHasher

    if not SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise BadInputError("password", f"it does not have {SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} characters")
    return PasswordHasher().hash(password)


@functools.cache
def _nobodys_hash() -> str:
    return _hash(secrets.token_urlsafe())


def _matches(password: str, hashed: str) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return len(password) <= _LONGEST_PASSWORD and PasswordHasher().verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
