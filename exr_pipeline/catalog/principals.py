"""Who calls, and what they may do: permissions, the roles that hold them, and the check that every service has.

Belongs here: those rules. Default deny: a function of the catalog's services is marked with `needs`, and sees nothing
of projects that `Principal.projects` does not name. Not here: how somebody shows who they are (`accounts`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Final, Literal, ParamSpec, TypeVar, cast, get_args

import sqlalchemy as sa

from exr_pipeline.catalog.errors import ForbiddenError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Permission = Literal[
    "projects:read",
    "projects:write",
    "assets:read",
    "assets:write",
    "assets:delete",
    "events:read",
    "tokens:own",
    "accounts:manage",
    # Of Dagster's page, which knows no projects: a proxy asks for it in all of them.
    "runs:manage",
    "places:manage",
]
PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)
Role = Literal["viewer", "editor", "manager", "admin"]

_READ: Final[frozenset[Permission]] = frozenset({"projects:read", "assets:read", "events:read", "tokens:own"})
_EDIT: Final[frozenset[Permission]] = _READ | {"assets:write"}
ROLES: Final[Mapping[Role, frozenset[Permission]]] = {
    "viewer": _READ,
    "editor": _EDIT,
    "manager": _EDIT | {"assets:delete", "projects:write", "runs:manage"},
    "admin": frozenset(PERMISSIONS),
}
# The project of a grant that holds in all of them.
EVERY_PROJECT: Final = "*"

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: the account, its roles by project, and the permissions that its token is limited to, if it is."""

    account_id: str
    name: str
    grants: Mapping[str, Role]
    scopes: frozenset[Permission] | None = None

    def may(self, permission: Permission, project_id: str) -> bool:
        """Whether something is allowed in a project; in `EVERY_PROJECT`, what is no project's."""
        if self.scopes is not None and permission not in self.scopes:
            return False
        roles = (self.grants.get(project_id), self.grants.get(EVERY_PROJECT))
        return any(role is not None and permission in ROLES[role] for role in roles)

    def may_anywhere(self, permission: Permission) -> bool:
        """Whether something is allowed in at least one project."""
        return any(self.may(permission, project) for project in self.grants)

    def require(self, permission: Permission, project_id: str) -> None:
        """Raise `ForbiddenError` unless it is allowed in this project, of which the caller may know."""
        if not self.may(permission, project_id):
            raise ForbiddenError(self.name, f"this needs the permission {permission} in the project")

    def sees(self, project: sa.SQLColumnExpression[Any], permission: Permission) -> sa.ColumnElement[bool]:
        """The condition of rows, by their project, that this permission reaches."""
        if self.may(permission, EVERY_PROJECT):
            return sa.true()
        return project.in_([each for each in self.grants if self.may(permission, each)])


def needs(
    permission: Permission,
) -> Callable[[Callable[Concatenate[Session, Principal, P], T]], Callable[Concatenate[Session, Principal, P], T]]:
    """Mark a service with the permission that it needs; without it anywhere, it raises `ForbiddenError` at once.

    Where the permission holds in some projects only, the service itself looks at no others.
    """

    def mark(
        service: Callable[Concatenate[Session, Principal, P], T],
    ) -> Callable[Concatenate[Session, Principal, P], T]:
        @functools.wraps(service)
        def checked(session: Session, principal: Principal, *args: P.args, **options: P.kwargs) -> T:
            if not principal.may_anywhere(permission):
                raise ForbiddenError(principal.name, f"this needs the permission {permission}")
            return service(session, principal, *args, **options)

        # For the test that walks all services.
        cast("Any", checked).needs = permission
        return cast("Callable[Concatenate[Session, Principal, P], T]", checked)

    return mark
