"""What can be asked for. Docstrings are the schema's descriptions.

Belongs here: the fields of `Query`. Not here: what they give (`types`), or what they do (`catalog`).
"""

from __future__ import annotations

import strawberry

from exr_pipeline.catalog import accounts, assets, projects
from exr_pipeline.catalog.pages import USUAL_LIMIT
from exr_pipeline.catalog.search import AssetFilter
from exr_pipeline.service.graphql import types
from exr_pipeline.service.graphql.arguments import Search, checked
from exr_pipeline.service.graphql.types import BEGINNING, Info, Long
from exr_pipeline.service.rest import shapes


@strawberry.type
class Query:
    """What can be asked for. A field that fails is null, and its error is in `errors`; the other fields are there."""

    @strawberry.field
    def me(self, info: Info) -> types.Me | None:
        """Who the token says that you are."""
        caller = info.context.principal
        scopes = None if caller.scopes is None else sorted(map(str, caller.scopes))
        return types.Me(name=caller.name, roles=types.of_roles(caller.grants), scopes=scopes)

    @strawberry.field
    def projects(self, info: Info) -> list[types.Project] | None:
        """The projects that you may look into."""
        found = info.context.read(projects.projects)
        return [types.of_shape(types.Project, shapes.of_project(each)) for each in found]

    @strawberry.field
    def project(self, info: Info, name: str) -> types.Project | None:
        """One project by its name."""
        return types.of_shape(types.Project, shapes.of_project(info.context.read(projects.project, name)))

    @strawberry.field
    def assets(
        self,
        info: Info,
        project: str | None = None,
        kind: str | None = None,
        status: str | None = None,
        q: str = "",
        tag: list[str] | None = None,
        parent: strawberry.ID | None = None,
        cursor: str | None = None,
        limit: int = USUAL_LIMIT,
    ) -> types.AssetPage | None:
        """Search assets, latest made first.

        `q`: words that are part of the folder or the name, whatever their case. `tag`: tags that an asset has, all of
        them. `parent`: the asset whose parts are listed, such as a sequence.
        """
        wanted = checked(
            Search,
            project=project,
            kind=kind,
            status=status,
            tag=tag or [],
            q=q,
            parent=parent,
            cursor=cursor,
            limit=limit,
        )
        info.context.charge(wanted.limit)
        found = AssetFilter(
            project=wanted.project,
            kind=wanted.kind,
            status=wanted.status,
            tags=wanted.tag,
            words=wanted.q,
            parent_id=wanted.parent,
        )
        return types.of_page(info.context.read(assets.assets, found, cursor=wanted.cursor, limit=wanted.limit))

    @strawberry.field
    def asset(self, info: Info, id: strawberry.ID) -> types.Asset | None:  # noqa: A002 - the name that callers write
        """One asset."""
        return types.of_asset(info.context.read(assets.asset, id))

    @strawberry.field
    def tags(self, info: Info, project: str) -> list[types.Tag] | None:
        """The tags of a project, and how many assets have each."""
        return types.tags_of(info, project)

    @strawberry.field
    def events(self, info: Info, after: Long = BEGINNING, limit: int = USUAL_LIMIT) -> list[types.Event] | None:
        """What was done in the projects that you may look into, oldest first, after an event by its number."""
        return types.events_after(info, after, limit)

    @strawberry.field
    def tokens(self, info: Info) -> list[types.Token] | None:
        """The tokens of your own account."""
        found = info.context.read(accounts.own_tokens)
        return [types.of_shape(types.Token, shapes.of_token(each)) for each in found]

    @strawberry.field
    def accounts(self, info: Info) -> list[types.Account] | None:
        """All accounts and their roles."""
        found = info.context.read(accounts.accounts)
        return [types.of_account(shapes.of_account(account, grants)) for account, grants in found]
