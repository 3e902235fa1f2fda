"""One GraphQL request as the services see it: who calls, and how much it has asked for.

Belongs here: calling services for fields, and loading what many objects of an answer need at once. Not here: fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from strawberry.dataloader import DataLoader

from exr_pipeline.catalog import assets
from exr_pipeline.catalog.pages import LONGEST
from exr_pipeline.errors import BadInputError
from exr_pipeline.service.calls import Writing

if TYPE_CHECKING:
    from pydantic import BaseModel
    from sqlalchemy.orm import Session

    from exr_pipeline.catalog.assets import AssetView, MediaOfAsset
    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.catalog.principals import Principal

# A page of 60 with a page of 60 for each fits.
MOST_ENTRIES: Final = 5_000

P = ParamSpec("P")
T = TypeVar("T")


class Context:
    """A request. All its fields are resolved in one thread, one after the other."""

    def __init__(self, database: CatalogDatabase, principal: Principal) -> None:
        self.principal = principal
        self._database = database
        self._entries = 0
        self.asset: DataLoader[str, AssetView | None] = DataLoader(self._assets, max_batch_size=LONGEST)
        self.media: DataLoader[str, Sequence[MediaOfAsset]] = DataLoader(self._media, max_batch_size=LONGEST)

    def charge(self, entries: int) -> None:
        """Count what a list may have in it. Raises `BadInputError` once the request asks for too much."""
        self._entries += entries
        if self._entries > MOST_ENTRIES:
            raise BadInputError(
                "query", f"its lists may have more than {MOST_ENTRIES} entries together: ask for smaller pages"
            )

    def read(self, service: Callable[Concatenate[Session, Principal, P], T], *args: P.args, **options: P.kwargs) -> T:
        """What a service that only reads gives."""
        self.charge(1)
        with self._database.transaction(read_only=True) as session:
            return service(session, self.principal, *args, **options)

    def write(self, service: Callable[Concatenate[Session, Principal, P], T], *args: P.args, **options: P.kwargs) -> T:
        """What a service that changes something gives, in a transaction of its own."""
        self._forget()
        with self._database.transaction() as session:
            return service(session, self.principal, *args, **options)

    def create(
        self,
        field: str,
        key: str | None,
        body: BaseModel,
        action: Callable[[Session], dict[str, Any]],
        *,
        secret: Callable[[], dict[str, Any]] = dict,
    ) -> dict[str, Any]:
        """What an action makes; with a key, what it made when it was asked for with that key before."""
        self._forget()
        call = Writing(self._database, self.principal, key, f"graphql {field}")
        return call.act(action, body=body, secret=secret)[1]

    def _forget(self) -> None:
        """Have what a mutation gives loaded after it, and not as it was before."""
        self.asset.clear_all()
        self.media.clear_all()

    async def _assets(self, asset_ids: list[str]) -> list[AssetView | None]:
        found: Mapping[str, AssetView] = self.read(assets.assets_by_id, asset_ids)
        return [found.get(each) for each in asset_ids]

    async def _media(self, asset_ids: list[str]) -> list[Sequence[MediaOfAsset]]:
        found: Mapping[str, Sequence[MediaOfAsset]] = self.read(assets.media_of_each, asset_ids)
        return [found.get(each, ()) for each in asset_ids]
