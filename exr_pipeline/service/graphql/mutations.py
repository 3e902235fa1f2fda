"""What can be changed. Docstrings are the schema's descriptions.

Belongs here: the fields of `Mutation`. Not here: what they give (`types`), or what they do (`catalog`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import strawberry
from strawberry.scalars import JSON

from exr_pipeline.catalog import accounts, assets, projects
from exr_pipeline.service.graphql import types
from exr_pipeline.service.graphql.arguments import checked
from exr_pipeline.service.graphql.types import Info
from exr_pipeline.service.rest import shapes

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exr_pipeline.catalog.models import Token


@strawberry.type
class Mutation:
    """What can be changed. Each field is a transaction of its own, one after the other; one that fails is null.

    `idempotencyKey`: the same field with the same key and arguments has the same answer within a day, and no effect.
    `version`: what you have read. If it was changed since, nothing is changed.
    """

    # Coroutines, though they wait for nothing: only so, each gives all that it is asked for before the next begins.

    @strawberry.mutation
    async def create_project(
        self, info: Info, name: str, title: str = "", idempotency_key: str | None = None
    ) -> types.Project | None:
        """Make a project."""
        body = checked(shapes.NewProject, name=name, title=title)

        def act(session: Session) -> dict[str, Any]:
            created = projects.create_project(session, info.context.principal, body.name, body.title)
            return shapes.of_project(created).model_dump(mode="json")

        made = info.context.create("createProject", idempotency_key, body, act)
        return types.of_shape(types.Project, shapes.ProjectShape.model_validate(made))

    @strawberry.mutation
    async def update_project(self, info: Info, name: str, version: int, title: str) -> types.Project | None:
        """Change a project, if it still is as you have read it."""
        body = checked(shapes.ProjectChange, title=title)
        found = info.context.write(projects.rename_project, name, body.title, version=version)
        return types.of_shape(types.Project, shapes.of_project(found))

    @strawberry.mutation
    async def create_asset(
        self,
        info: Info,
        project: str,
        name: str,
        kind: str,
        folder: str = "",
        details: JSON | None = None,
        idempotency_key: str | None = None,
    ) -> types.Asset | None:
        """Make an asset without media."""
        body = checked(
            shapes.NewAsset,
            project=project,
            name=name,
            kind=kind,
            folder=folder,
            details={} if details is None else details,
        )

        def act(session: Session) -> dict[str, Any]:
            view = assets.create_asset(
                session,
                info.context.principal,
                body.project,
                body.name,
                kind=body.kind,
                folder=body.folder,
                details=body.details,
            )
            return shapes.of_asset(view).model_dump(mode="json")

        made = info.context.create("createAsset", idempotency_key, body, act)
        return types.of_shape(types.Asset, shapes.AssetShape.model_validate(made))

    @strawberry.mutation
    async def update_asset(
        self,
        info: Info,
        id: strawberry.ID,  # noqa: A002 - the name that callers write
        version: int,
        name: str | None = None,
        details: JSON | None = None,
    ) -> types.Asset | None:
        """Change an asset, if it still is as you have read it. What is left out stays; `details` are replaced."""
        body = checked(shapes.AssetChange, name=name, details=details)
        return types.of_asset(
            info.context.write(assets.change_asset, id, version=version, name=body.name, details=body.details)
        )

    @strawberry.mutation
    async def delete_asset(self, info: Info, id: strawberry.ID, version: int) -> bool | None:  # noqa: A002
        """Take an asset out of the catalog, if it still is as you have read it. The bytes of its media stay."""
        info.context.write(assets.delete_asset, id, version=version)
        return True

    @strawberry.mutation
    async def set_tags(self, info: Info, id: strawberry.ID, version: int, tags: list[str]) -> types.Asset | None:  # noqa: A002
        """Give an asset exactly these tags, if it still is as you have read it."""
        body = checked(shapes.AssetTags, tags=tags)
        return types.of_asset(info.context.write(assets.set_tags, id, body.tags, version=version))

    @strawberry.mutation
    async def color_tag(self, info: Info, project: str, name: str, color: str | None = None) -> bool | None:
        """Give a tag a color (#rrggbb), or none. The tag is made if there is none of that name."""
        body = checked(shapes.TagColor, color=color)
        info.context.write(assets.color_tag, project, name, body.color)
        return True

    @strawberry.mutation
    async def create_token(
        self,
        info: Info,
        label: str,
        scopes: list[str] | None = None,
        expires_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> types.CreatedToken | None:
        """Make a token of your own account. Its secret is shown this once."""
        body = _new_token(label, scopes, expires_at)

        def make(session: Session) -> tuple[str, Token]:
            caller = info.context.principal
            return accounts.create_token(session, caller, body.label, scopes=body.scopes, expires_at=body.expires_at)

        return _created_token(info, "createToken", idempotency_key, body, make)

    @strawberry.mutation
    async def create_token_for(
        self,
        info: Info,
        account: str,
        label: str,
        scopes: list[str] | None = None,
        expires_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> types.CreatedToken | None:
        """Make a token of an account, such as a service. Its secret is shown this once."""
        body = _new_token(label, scopes, expires_at)

        def make(session: Session) -> tuple[str, Token]:
            return accounts.create_token_for(
                session, info.context.principal, account, body.label, scopes=body.scopes, expires_at=body.expires_at
            )

        return _created_token(info, f"createTokenFor {account}", idempotency_key, body, make)

    @strawberry.mutation
    async def revoke_token(self, info: Info, id: strawberry.ID) -> bool | None:  # noqa: A002
        """Make a token of your own account worthless."""
        info.context.write(accounts.revoke_token, id)
        return True

    @strawberry.mutation
    async def create_account(
        self,
        info: Info,
        name: str,
        password: str | None = None,
        is_service: bool = False,
        idempotency_key: str | None = None,
    ) -> types.Account | None:
        """Make an account, without any role."""
        body = checked(shapes.NewAccount, name=name, password=password, is_service=is_service)

        def act(session: Session) -> dict[str, Any]:
            account = accounts.create_account(
                session, info.context.principal, body.name, password=body.password, is_service=body.is_service
            )
            return shapes.of_account(account, ()).model_dump(mode="json")

        made = info.context.create("createAccount", idempotency_key, body, act)
        return types.of_account(shapes.AccountShape.model_validate(made))

    @strawberry.mutation
    async def set_role(self, info: Info, account: str, role: str | None = None, project: str = "*") -> bool | None:
        """Give an account a role in a project, or in all (`*`), or take it away."""
        body = checked(shapes.NewRole, role=role, project=project)
        info.context.write(accounts.set_role, account, body.role, project=body.project)
        return True

    @strawberry.mutation
    async def disable_account(self, info: Info, name: str) -> bool | None:
        """Refuse all logins and tokens of an account from now on."""
        info.context.write(accounts.disable_account, name)
        return True


def _new_token(label: str, scopes: list[str] | None, expires_at: datetime | None) -> shapes.NewToken:
    return checked(shapes.NewToken, label=label, scopes=scopes, expires_at=expires_at)


def _created_token(
    info: Info, field: str, key: str | None, body: shapes.NewToken, make: Callable[[Session], tuple[str, Token]]
) -> types.CreatedToken:
    secret = ""

    def act(session: Session) -> dict[str, Any]:
        nonlocal secret
        secret, token = make(session)
        return shapes.of_token(token).model_dump(mode="json")

    made = info.context.create(field, key, body, act, secret=lambda: {"secret": secret})
    return types.of_shape(types.CreatedToken, shapes.CreatedToken.model_validate(made))
