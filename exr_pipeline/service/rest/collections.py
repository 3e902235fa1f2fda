"""What belongs together: collections and lineups, relations between assets, and schemas of details.

Belongs here: those routes. Not here: what they do (`catalog.collections`, `catalog.relations`, `catalog.schemas`).
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from exr_pipeline.catalog import collections, relations, schemas
from exr_pipeline.catalog.pages import LONGEST, USUAL_LIMIT
from exr_pipeline.catalog.relations import RelationKind
from exr_pipeline.service.calls import Caller, Reading, RequiredVersion, Writes
from exr_pipeline.service.rest import shapes
from exr_pipeline.service.rest.shapes import Word

router = APIRouter()


@router.get("/projects/{name}/collections", tags=["collections"])
def list_collections(name: shapes.Name, session: Reading, principal: Caller) -> list[shapes.CollectionShape]:
    """List the collections and lineups of a project."""
    return [shapes.of_collection(each) for each in collections.collections(session, principal, name)]


@router.post(
    "/projects/{name}/collections", tags=["collections"], status_code=201, response_model=shapes.CollectionShape
)
def create_collection(name: shapes.Name, body: shapes.NewCollection, call: Writes) -> JSONResponse:
    """Make a collection to put assets into; with a `query`, a lineup: a saved search."""
    query = None if body.query is None else body.query.model_dump()
    return call.answer(
        lambda session: shapes.of_collection(
            collections.create_collection(session, call.principal, name, body.name, query)
        ).model_dump(mode="json"),
        body=body,
    )


@router.get("/collections/{collection_id}", tags=["collections"])
def get_collection(
    collection_id: UUID, session: Reading, principal: Caller, response: Response
) -> shapes.CollectionShape:
    """Get one collection. Its ETag is its version."""
    found = collections.collection(session, principal, str(collection_id))
    response.headers["ETag"] = f'"{found.version}"'
    return shapes.of_collection(found)


@router.patch("/collections/{collection_id}", tags=["collections"], response_model=shapes.CollectionShape)
def change_collection(
    collection_id: UUID, body: shapes.CollectionChange, version: RequiredVersion, call: Writes
) -> JSONResponse:
    """Change a collection's name, or a lineup's search, if it still is as you have read it."""
    query = None if body.query is None else body.query.model_dump()

    def act(session: Any) -> dict[str, Any]:
        found = collections.change_collection(
            session, call.principal, str(collection_id), version=version, name=body.name, query=query
        )
        return shapes.of_collection(found).model_dump(mode="json")

    return call.answer(act, body=body, status=200)


@router.delete("/collections/{collection_id}", tags=["collections"], status_code=204)
def delete_collection(collection_id: UUID, version: RequiredVersion, call: Writes) -> Response:
    """Delete a collection. Its assets stay."""
    with call.database.transaction() as session:
        collections.delete_collection(session, call.principal, str(collection_id), version=version)
    return Response(status_code=204)


@router.get("/collections/{collection_id}/assets", tags=["collections"])
def list_assets_of_collection(
    collection_id: UUID,
    session: Reading,
    principal: Caller,
    cursor: Word | None = None,
    limit: Annotated[int, Query(ge=1, le=LONGEST)] = USUAL_LIMIT,
) -> shapes.PageShape[shapes.AssetShape]:
    """List a collection in its order, or what a lineup finds now, latest made first."""
    page = collections.assets_of(session, principal, str(collection_id), cursor=cursor, limit=limit)
    return shapes.PageShape(items=[shapes.of_asset(view) for view in page.items], next=page.next)


@router.post("/collections/{collection_id}/assets", tags=["collections"], response_model=shapes.CollectionShape)
def add_assets_to_collection(collection_id: UUID, body: shapes.AddedAssets, call: Writes) -> JSONResponse:
    """Add assets at the end of a collection; those that are in it already stay where they are."""
    added = [str(each) for each in body.assets]
    return call.answer(
        lambda session: shapes.of_collection(
            collections.add_assets(session, call.principal, str(collection_id), added)
        ).model_dump(mode="json"),
        body=body,
        status=200,
    )


@router.delete("/collections/{collection_id}/assets/{asset_id}", tags=["collections"], status_code=204)
def remove_asset_from_collection(collection_id: UUID, asset_id: UUID, call: Writes) -> Response:
    """Take an asset out of a collection."""
    with call.database.transaction() as session:
        collections.remove_asset(session, call.principal, str(collection_id), str(asset_id))
    return Response(status_code=204)


@router.get("/assets/{asset_id}/relations", tags=["assets"])
def list_relations(asset_id: UUID, session: Reading, principal: Caller) -> list[shapes.RelationShape]:
    """List what an asset comes from, and what comes from it."""
    return [
        shapes.RelationShape(kind=each.kind, is_from=each.is_from, other=shapes.of_asset(each.other))
        for each in relations.relations(session, principal, str(asset_id))
    ]


@router.put("/assets/{asset_id}/relations/{kind}/{other_id}", tags=["assets"], status_code=204)
def relate(asset_id: UUID, kind: RelationKind, other_id: UUID, call: Writes) -> Response:
    """Say that an asset is derived from, made of, or a new version of another."""
    with call.database.transaction() as session:
        relations.relate(session, call.principal, str(asset_id), kind, str(other_id))
    return Response(status_code=204)


@router.delete("/assets/{asset_id}/relations/{kind}/{other_id}", tags=["assets"], status_code=204)
def unrelate(asset_id: UUID, kind: RelationKind, other_id: UUID, call: Writes) -> Response:
    """Take back that an asset is related with another."""
    with call.database.transaction() as session:
        relations.unrelate(session, call.principal, str(asset_id), kind, str(other_id))
    return Response(status_code=204)


@router.get("/projects/{name}/schemas", tags=["projects"])
def list_schemas(name: shapes.Name, session: Reading, principal: Caller) -> list[shapes.SchemaShape]:
    """List the JSON Schemas of details, by the kind of asset that each is for."""
    return [shapes.of_schema(each) for each in schemas.schemas(session, principal, name)]


@router.put("/projects/{name}/schemas/{kind}", tags=["projects"], response_model=shapes.SchemaShape)
def set_schema(
    name: shapes.Name, kind: shapes.Name, body: shapes.NewSchema, version: RequiredVersion, call: Writes
) -> JSONResponse:
    """Set the JSON Schema (draft 2020-12) of a kind's details. For the first one, send `If-Match: "0"`."""
    return call.answer(
        lambda session: shapes.of_schema(
            schemas.set_schema(session, call.principal, name, kind, body.document, version=version)
        ).model_dump(mode="json"),
        body=body,
        status=200,
    )


@router.delete("/projects/{name}/schemas/{kind}", tags=["projects"], status_code=204)
def delete_schema(name: shapes.Name, kind: shapes.Name, version: RequiredVersion, call: Writes) -> Response:
    """Take a schema away: details of the kind may be anything again."""
    with call.database.transaction() as session:
        schemas.delete_schema(session, call.principal, name, kind, version=version)
    return Response(status_code=204)
