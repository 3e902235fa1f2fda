"""Accounts of those whom a provider of identities vouches for, and the roles that its claims give them.

Belongs here: whose account a subject has, rules from claims to roles, and logins that are under way. Not here: the
provider's protocol (`exr_pipeline.service.sign_on`). Claims are untrusted text until the edge has verified them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import sqlalchemy as sa

from exr_pipeline.catalog import accounts
from exr_pipeline.catalog.errors import UnauthenticatedError
from exr_pipeline.catalog.event_log import record
from exr_pipeline.catalog.ids import new_id
from exr_pipeline.catalog.models import Account, Grant, Identity, Project, SignIn
from exr_pipeline.catalog.principals import EVERY_PROJECT, ROLES, Principal, Role
from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SETTING: Final = "EXR_PIPELINE_OIDC_ROLES"
SIGN_IN_SECONDS: Final = 600
_ACTOR: Final = "single sign-on"
_LONGEST_NAME: Final = 200
_RULE: Final = re.compile(r"(?P<claim>.+):(?P<value>[^:]+)=(?P<role>\w+)(?:@(?P<project>.+))?")
_RANKS: Final = list(ROLES)


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Whoever's claim is, or has, this value has this role in a project, by its name, or in all (`*`)."""

    claim: str
    value: str
    role: Role
    project: str

    def fits(self, claims: Mapping[str, Any]) -> bool:
        """Whether the claims have the value. A claim in an object is named with dots."""
        found: Any = claims.get(self.claim)
        if found is None:
            found = claims
            for step in self.claim.split("."):
                found = found.get(step) if isinstance(found, Mapping) else None
        return self.value in (found if isinstance(found, list) else [found])


@dataclass(frozen=True, slots=True)
class BegunSignIn:
    """What a login at a provider began with, and where the browser goes after it."""

    nonce: str
    code_verifier: str
    redirect_uri: str
    destination: str


def parse_role_rules(texts: Iterable[str]) -> list[RoleRule]:
    """Rules as the setting has them. Raises `MisconfiguredError` for one that cannot be read."""
    rules = []
    for text in texts:
        found = _RULE.fullmatch(text)
        if found is None or found["role"] not in ROLES:
            raise MisconfiguredError(
                SETTING, f"{text!r} is not a rule", f"write CLAIM:VALUE=ROLE@PROJECT; roles are {', '.join(ROLES)}"
            )
        rules.append(
            RoleRule(found["claim"], found["value"], cast("Role", found["role"]), found["project"] or EVERY_PROJECT)
        )
    return rules


def log_in(
    session: Session, issuer: str, claims: Mapping[str, Any], rules: Sequence[RoleRule], *, label: str
) -> tuple[str, Account]:
    """The secret of a new token of the account that a provider's claims are about. The first login makes the account.

    In the projects of `rules`, the account has the roles that they give it from now on; roles elsewhere stay. Raises
    `UnauthenticatedError` if the account is disabled.
    """
    account = _account(session, issuer, claims["sub"]) or _new_account(session, issuer, claims, kind="user")
    _require_enabled(account)
    for project_id, role in _roles_by_rules(session, claims, rules).items():
        _set_role(session, account, project_id, role)
    return accounts.new_login(session, account, label)[0], account


def principal_of(session: Session, issuer: str, claims: Mapping[str, Any], rules: Sequence[RoleRule]) -> Principal:
    """Who bears a token of the provider with these claims. It is not kept: the roles of `rules` hold for this call.

    Raises `UnauthenticatedError` for an account that is disabled or not there: `ensure_account` makes it.
    """
    account = _account(session, issuer, claims["sub"])
    if account is None:
        raise UnauthenticatedError("token", "its account is not known here")
    _require_enabled(account)
    roles: dict[str, Role | None] = {**accounts.roles_of(session, account), **_roles_by_rules(session, claims, rules)}
    grants = {project: role for project, role in roles.items() if role is not None}
    return Principal(account.id, account.name, grants)


def ensure_account(session: Session, issuer: str, claims: Mapping[str, Any]) -> None:
    """Make the account of a service that bears a token of the provider, without any role, if it is not there."""
    if _account(session, issuer, claims["sub"]) is None:
        _new_account(session, issuer, claims, kind="service")


def is_known(session: Session, issuer: str, subject: str) -> bool:
    """Whether a provider's subject has an account."""
    return _account(session, issuer, subject) is not None


def begin_sign_in(session: Session, state: str, begun: BegunSignIn, secret: str | None = None) -> str:
    """Keep a login that begins, for ten minutes. Returns the secret that only the browser which began it has.

    `secret`: the one that the browser has from a login in another tab, which may end later.
    """
    now = datetime.now(UTC)
    session.execute(sa.delete(SignIn).where(SignIn.expires_at < now))
    secret = secret or secrets.token_urlsafe(32)
    session.add(
        SignIn(
            state_sha256=_sha256(state),
            browser_sha256=_sha256(secret),
            nonce=begun.nonce,
            code_verifier=begun.code_verifier,
            redirect_uri=begun.redirect_uri,
            destination=begun.destination,
            expires_at=now + timedelta(seconds=SIGN_IN_SECONDS),
        )
    )
    return secret


def end_sign_in(session: Session, state: str, secret: str) -> BegunSignIn | None:
    """What a login began with, once; None if it is over, was never begun, or was begun in another browser."""
    found = session.get(SignIn, _sha256(state))
    if found is None or not hmac.compare_digest(found.browser_sha256, _sha256(secret)):
        return None
    # Of two that end it at once, one deletes the row.
    gone = session.execute(sa.delete(SignIn).where(SignIn.state_sha256 == found.state_sha256))
    if cast("Any", gone).rowcount != 1 or found.expires_at < datetime.now(UTC):
        return None
    return BegunSignIn(found.nonce, found.code_verifier, found.redirect_uri, found.destination)


def _account(session: Session, issuer: str, subject: str) -> Account | None:
    identity = session.get(Identity, (issuer, subject))
    return None if identity is None else session.get_one(Account, identity.account_id)


def _require_enabled(account: Account) -> None:
    if account.disabled_at is not None:
        raise UnauthenticatedError("login", "the account is disabled")


def _new_account(session: Session, issuer: str, claims: Mapping[str, Any], *, kind: str) -> Account:
    account = Account(id=new_id(), name=_free_name(session, claims), kind=kind, created_at=datetime.now(UTC))
    session.add(account)
    session.flush()
    session.add(Identity(issuer=issuer, subject=claims["sub"], account_id=account.id))
    session.flush()
    record(session, _ACTOR, "account.created", account.id, name=account.name, issuer=issuer, subject=claims["sub"])
    return account


def _free_name(session: Session, claims: Mapping[str, Any]) -> str:
    """The name that a provider gives somebody, or that name and the subject. It never means an account that is there.

    Accounts of this catalog and of its provider have nothing to do with each other: who may choose a name at the
    provider could have anybody's roles.
    """
    email = claims.get("email") if claims.get("email_verified", True) is True else None
    given = (claims.get("preferred_username"), email, claims.get("client_id"), claims["sub"])
    name = next(visible_line(each)[:_LONGEST_NAME] for each in given if isinstance(each, str) and each.strip())
    for candidate in (name, f"{name} ({visible_line(claims['sub'])})"[:255]):
        if session.scalar(sa.select(Account.id).where(Account.name == candidate)) is None:
            return candidate
    return f"{name} ({new_id()})"


def _roles_by_rules(
    session: Session, claims: Mapping[str, Any], rules: Sequence[RoleRule]
) -> Mapping[str, Role | None]:
    """The highest role in each project that rules name and that is there; None where no rule fits."""
    names = {rule.project for rule in rules}
    rows = session.execute(sa.select(Project.name, Project.id).where(Project.name.in_(names))).all()
    ids: dict[str, str] = {EVERY_PROJECT: EVERY_PROJECT, **{row.name: row.id for row in rows}}
    found: dict[str, Role | None] = {}
    for name in names & ids.keys():
        fitting = [rule.role for rule in rules if rule.project == name and rule.fits(claims)]
        highest = sorted(fitting, key=_RANKS.index)[-1:]
        found[ids[name]] = highest[0] if highest else None
    return found


def _set_role(session: Session, account: Account, project_id: str, role: Role | None) -> None:
    grant = session.get(Grant, (account.id, project_id))
    if (None if grant is None else grant.role) == role:
        return
    if grant is not None:
        session.delete(grant)
        session.flush()
    if role is not None:
        session.add(Grant(account_id=account.id, project_id=project_id, role=role))
    record(session, _ACTOR, "account.role_set", account.id, role=role, project=project_id)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
