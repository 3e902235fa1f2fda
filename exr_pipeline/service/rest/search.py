"""Search beyond a page of assets: counts, the attributes there are, and assets that are like another.

Belongs here: those routes. Not here: pages of assets (`rest.assets`), or what search means (`catalog.search`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import StringConstraints

from exr_pipeline.catalog import attributes, search, similar
from exr_pipeline.catalog.search import AssetFilter
from exr_pipeline.catalog.where import LONGEST
from exr_pipeline.service.calls import Caller, Reading
from exr_pipeline.service.rest import shapes
from exr_pipeline.service.rest.shapes import Word

if TYPE_CHECKING:
    from exr_pipeline.catalog.similar import SimilarIndex

router = APIRouter()
Condition = Annotated[str, StringConstraints(max_length=LONGEST, pattern=r"^[^\x00]*$")]


def wanted_assets(
    project: Word | None = None,
    kind: Word | None = None,
    status: Word | None = None,
    q: Annotated[Word, Query(description="Words that are part of the folder or the name, whatever their case.")] = "",
    tag: Annotated[list[Word] | None, Query(max_length=20, description="Tags that it has, all of them.")] = None,
    parent: Annotated[UUID | None, Query(description="The asset whose parts are listed, such as a sequence.")] = None,
    where: Annotated[
        Condition, Query(description="A condition on attributes: compression = 'dwaa' and nan_pixels > 0")
    ] = "",
    parts: Annotated[bool, Query(description="Parts of others too, such as frames.")] = False,
) -> AssetFilter:
    """What a request looks for."""
    return AssetFilter(
        project=project,
        kind=kind,
        status=status,
        tags=tag or (),
        words=q,
        parent_id=None if parent is None else str(parent),
        where=where,
        parts=parts,
    )


Wanted = Annotated[AssetFilter, Depends(wanted_assets)]


@router.get("/attributes", tags=["assets"])
def list_attributes(session: Reading, principal: Caller, project: Word | None = None) -> list[shapes.AttributeShape]:
    """List the attributes that `where` compares, and whether each is a number or a text."""
    found = attributes.attributes(session, principal, project)
    return [shapes.AttributeShape(name=each.name, type=each.type) for each in found]


@router.get("/facets", tags=["assets"])
def count_assets(session: Reading, principal: Caller, wanted: Wanted) -> shapes.FacetsShape:
    """Count what a search finds by kind, status, project, tag and format: of the latest 5,000 of it."""
    return shapes.of_facets(search.facets(session, principal, wanted))


@router.get("/assets/{asset_id}/similar", tags=["assets"])
def list_similar(
    asset_id: UUID,
    request: Request,
    session: Reading,
    principal: Caller,
    limit: Annotated[int, Query(ge=1, le=similar.MOST)] = 20,
) -> list[shapes.SimilarShape]:
    """List the assets that are most like one: those of identical content, then those of the nearest metadata."""
    index: SimilarIndex = request.app.state.similar
    found = similar.similar(session, principal, str(asset_id), index, limit=limit)
    return [
        shapes.SimilarShape(asset=shapes.of_asset(each.view), distance=each.distance, is_identical=each.is_identical)
        for each in found
    ]
