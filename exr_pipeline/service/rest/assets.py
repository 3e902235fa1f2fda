"""Assets, their media objects and tags, and the log of what was done.

Belongs here: those routes. Not here: what they do (`catalog.assets`, `catalog.event_log`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from exr_pipeline.catalog import assets, event_log
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.pages import LONGEST, USUAL_LIMIT
from exr_pipeline.service.calls import Caller, Reading, RequiredVersion, Writes, database_of
from exr_pipeline.service.content import content_of
from exr_pipeline.service.rest import shapes
from exr_pipeline.service.rest.search import Wanted
from exr_pipeline.service.rest.shapes import Word

if TYPE_CHECKING:
    from exr_pipeline.storage.objects import ObjectStorage

router = APIRouter()
Limit = Annotated[int, Query(ge=1, le=LONGEST)]


@router.get("/assets", tags=["assets"])
def list_assets(
    session: Reading,
    principal: Caller,
    wanted: Wanted,
    cursor: Word | None = None,
    limit: Limit = USUAL_LIMIT,
) -> shapes.PageShape[shapes.AssetShape]:
    """Search assets, latest made first."""
    page = assets.assets(session, principal, wanted, cursor=cursor, limit=limit)
    return shapes.PageShape(items=[shapes.of_asset(view) for view in page.items], next=page.next)


@router.post("/assets", tags=["assets"], status_code=201, response_model=shapes.AssetShape)
def create_asset(body: shapes.NewAsset, call: Writes) -> JSONResponse:
    """Make an asset without media."""

    def act(session: Any) -> dict[str, Any]:
        view = assets.create_asset(
            session,
            call.principal,
            body.project,
            body.name,
            kind=body.kind,
            folder=body.folder,
            details=body.details,
        )
        return shapes.of_asset(view).model_dump(mode="json")

    return call.answer(act, body=body)


@router.get("/assets/{asset_id}", tags=["assets"])
def get_asset(asset_id: UUID, session: Reading, principal: Caller, response: Response) -> shapes.AssetShape:
    """Get one asset. Its ETag is its version."""
    view = assets.asset(session, principal, str(asset_id))
    response.headers["ETag"] = f'"{view.asset.version}"'
    return shapes.of_asset(view)


@router.patch("/assets/{asset_id}", tags=["assets"], response_model=shapes.AssetShape)
def change_asset(asset_id: UUID, body: shapes.AssetChange, version: RequiredVersion, call: Writes) -> JSONResponse:
    """Change an asset, if it still is as you have read it."""

    def act(session: Any) -> dict[str, Any]:
        view = assets.change_asset(
            session, call.principal, str(asset_id), version=version, name=body.name, details=body.details
        )
        return shapes.of_asset(view).model_dump(mode="json")

    return call.answer(act, body=body, status=200)


@router.delete("/assets/{asset_id}", tags=["assets"], status_code=204)
def delete_asset(asset_id: UUID, version: RequiredVersion, call: Writes) -> Response:
    """Take an asset out of the catalog. The bytes of its media stay where they are."""
    with call.database.transaction() as session:
        assets.delete_asset(session, call.principal, str(asset_id), version=version)
    return Response(status_code=204)


@router.put("/assets/{asset_id}/tags", tags=["assets"], response_model=shapes.AssetShape)
def set_tags(asset_id: UUID, body: shapes.AssetTags, version: RequiredVersion, call: Writes) -> JSONResponse:
    """Give an asset exactly these tags."""

    def act(session: Any) -> dict[str, Any]:
        view = assets.set_tags(session, call.principal, str(asset_id), body.tags, version=version)
        return shapes.of_asset(view).model_dump(mode="json")

    return call.answer(act, body=body, status=200)


@router.get("/assets/{asset_id}/media", tags=["media"])
def list_media(asset_id: UUID, session: Reading, principal: Caller) -> list[shapes.MediaShape]:
    """List the media objects of an asset."""
    return [shapes.of_media(part) for part in assets.media_of(session, principal, str(asset_id))]


@router.get("/assets/{asset_id}/events", tags=["events"])
def list_events_of_asset(
    asset_id: UUID, session: Reading, principal: Caller, after: Annotated[int, Query(ge=0, le=2**62)] = 0
) -> list[shapes.EventShape]:
    """List what was done to an asset, oldest first."""
    assets.asset(session, principal, str(asset_id))
    found = event_log.events_after(session, principal, after, subject_id=str(asset_id))
    return [shapes.of_event(event) for event in found]


@router.get("/events", tags=["events"])
def list_events(
    session: Reading, principal: Caller, after: Annotated[int, Query(ge=0, le=2**62)] = 0, limit: Limit = USUAL_LIMIT
) -> list[shapes.EventShape]:
    """List what was done in the projects that you may look into, after an event by its number."""
    return [shapes.of_event(event) for event in event_log.events_after(session, principal, after, limit=limit)]


@router.api_route("/media/{media_id}/content", methods=["GET"], tags=["media"], response_class=Response)
def get_content(
    media_id: UUID,
    request: Request,
    database: Annotated[CatalogDatabase, Depends(database_of)],
    principal: Caller,
    download: bool = False,
    through: Annotated[
        Literal["node"] | None, Query(description="`node`: never a link, for callers who do not reach the store.")
    ] = None,
) -> Response:
    """Get the bytes of a media object: from here, or at a link to object storage that is valid for 15 minutes."""
    # Not for as long as the bytes flow.
    with database.transaction(read_only=True) as session:
        found, urls = assets.media(session, principal, str(media_id))
        filename = found.filename
    storage: ObjectStorage = request.app.state.storage
    return content_of(storage, urls, filename, request, download=download, is_linked=through is None)
